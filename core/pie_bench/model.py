"""The text-to-image model that a benchmark runs: a listed one, any on the Hub, or a folder of this machine."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import ModelUnavailable
from ..models import pipelines
from ..models.cards import Folder, Hub
from ..models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from ..text_to_image import TextToImage, missing_words

STABLE_DIFFUSION_1_4 = "CompVis/stable-diffusion-v1-4"  # that of PIE-Bench's published figures
REVISIONS = {STABLE_DIFFUSION_1_4: "133a221b8aa7292a167afc5127cb63fb5005638b"}


def card_of(name: str) -> TextToImageCard:
    """Of a listed model by its id, of a folder by its path, of a repository by OWNER/NAME or OWNER/NAME@REVISION."""
    if name in TEXT_TO_IMAGE:
        return TEXT_TO_IMAGE[name]
    source: Folder | Hub
    if Path(name).is_dir():
        source = Folder(str(Path(name).resolve()))
    else:
        repository, _, revision = name.partition("@")
        source = Hub(repository, revision or REVISIONS.get(repository, "main"))
    return TextToImageCard(
        id=name,
        title=name,
        description="",
        source=source,
        resolution=0,  # read from its configuration
        prompt="",
        perceptual="lpips-alex",
        licence="",
    )


def load(name: str) -> TextToImage:
    """In float32, as the published figures. Raises ModelUnavailable."""
    card = card_of(name)
    if words := missing_words(card):
        raise ModelUnavailable(words)
    loaded = pipelines.load(card, dtype=torch.float32)
    return TextToImage.from_pipeline(loaded.pipeline, card.id, loaded.fingerprint)

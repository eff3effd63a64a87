"""A text-to-image model with a prompt and guidance bound to it, as the kind of model that every method takes.

What is left of it is a function of (x_t, t) with an h-space, so editing, anchored paths, Discover and presets work as
they do with unconditional models.
"""

from __future__ import annotations

from dataclasses import replace

from .conditional_unet import Prompt, PromptedUNet, ShiftedBranch
from .errors import RequestError
from .models.cards import MODELS, Drawn, InMemory, ModelCard, OpenClip
from .models.loader import DiffusionModel
from .models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from .text_to_image import TextToImage, read_prompt

MAX_GUIDANCE = 30


def with_prompt(
    model: TextToImage,
    prompt: str,
    guidance: float = 1.0,
    shifted: ShiftedBranch = "both",
    empty: str = "",
) -> DiffusionModel:
    """The model as one of the pictures that a prompt describes. Networks are shared; nothing is computed but the
    prompt's embedding.

    prompt: what the picture shows. guidance: G, 1 is none. shifted: where directions act under guidance, see
    `core.conditional_unet.Prompt`. empty: what guidance pushes away from.

    Raises:
        RequestError: the prompt is empty or too long, or the guidance out of range.
    """
    prompt = read_prompt(prompt, "Write a prompt: what the picture shows.")
    if not 1 <= guidance <= MAX_GUIDANCE:
        raise RequestError(f"The guidance must lie between 1 and {MAX_GUIDANCE}, not {guidance}.")
    text, away = model.embed([prompt, empty]).split(1)
    bound = Prompt(text, away, float(guidance), shifted, prompt, empty)
    conditioning = f"“{prompt}”"
    if guidance != 1:
        conditioning += f", guidance {guidance:g} from “{empty}”, {shifted}"
    return DiffusionModel(
        h_space_card(model),
        PromptedUNet(model.unet, bound),
        model.schedule,
        model.codec,
        model.device,
        model.dtype,
        model.fingerprint,
        conditioning=conditioning,
    )


def h_space_card(model: TextToImage) -> ModelCard:
    """What is known of the h-space of a text-to-image model: of a listed one what its card says, and the shapes of the
    network that is here."""
    config = model.unet.config
    side = config.sample_size
    for _ in range(model.unet.num_upsamplers):
        side = (side + 1) // 2
    card = TEXT_TO_IMAGE.get(model.id) or TextToImageCard(
        id=model.id,
        title=model.id,
        description="A text-to-image model that was given from outside.",
        source=InMemory(),
        resolution=model.resolution,
        prompt="",
        perceptual="lpips-alex",
        licence="unknown",
        half=False,
    )
    h_shape = config.block_out_channels[-1], side, side
    return replace(listed_h_space(card), resolution=model.resolution, h_shape=h_shape)


def listed_h_space(card: TextToImageCard) -> ModelCard:
    """The same from the card of a text-to-image model alone, as a list of models shows it. What depends on the pictures
    that it has learned is that of the unconditional model that has learned the same, if there is one."""
    like = MODELS.get(card.known_by or "")
    captions = like.drawn.captions if like and like.drawn else None
    return ModelCard(
        id=card.id,
        title=card.title,
        description=card.description,
        source=card.source,
        resolution=card.resolution,
        h_shape=card.h_shape or (0, 0, 0),
        codec="kl",
        domain_word=like.domain_word if like else "picture",
        clip=like.clip if like else OpenClip("ViT-B-16", "openai"),
        perceptual=card.perceptual,
        curves=None,
        licence=card.licence,
        instruments=card.instruments,
        half=card.half,
        unit=card.unit,
        accumulation=card.accumulation,
        drawn=Drawn(card.id, captions) if card.id in TEXT_TO_IMAGE else None,
        framing=like.framing if like else None,
        parts=like.parts if like else None,
        domain_limit=like.domain_limit if like else None,
        shows=like.shows if like else "",
    )

"""What an image-text model reads off a face where no probe was trained: pairs of statements against each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..clip import ImageText, text_embedding

TEMPERATURE = 100.0  # at which CLIP's similarities are probabilities, as it was trained
TEMPLATES = ("a photo of {}", "a close-up photo of {}", "a portrait of {}")
ATTRIBUTES: dict[str, tuple[str, str]] = {
    "Smiling": ("a smiling face", "a face with a neutral expression"),
    "Open mouth": ("a face with an open mouth", "a face with a closed mouth"),
    "Closed eyes": ("a face with closed eyes", "a face with open eyes"),
    "Glasses": ("a face with glasses", "a face without glasses"),
    "Beard": ("a face with a beard", "a clean-shaven face"),
    "Old": ("an old face", "a young face"),
    "Angry": ("an angry face", "a calm face"),
    "Gray hair": ("a face with gray hair", "a face with dark hair"),
}


@dataclass(frozen=True)
class ReadOut:
    """How much more likely the first statement of a pair is than the second, in [0, 1], before and after."""

    name: str
    before: float
    after: float


@torch.no_grad()
def read_out(image_text: ImageText, before: Tensor, after: Tensor) -> list[ReadOut]:
    """Every attribute of `ATTRIBUTES`, the most changed first. before, after: pixels (1, 3, R, R) in [-1, 1]."""
    pictures = image_text.embed_images(torch.cat([before.cpu().float(), after.cpu().float()]))
    read = []
    for name, pair in ATTRIBUTES.items():
        texts = torch.stack([text_embedding(image_text, text, TEMPLATES) for text in pair])
        was, now = (TEMPERATURE * pictures @ texts.T).softmax(-1)[:, 0].tolist()
        read.append(ReadOut(name, was, now))
    return sorted(read, key=lambda one: -abs(one.after - one.before))

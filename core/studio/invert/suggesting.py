"""What a picture shows, for whoever has not written it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import ModelUnavailable
from ...models.t2i_cards import TextToImageCard
from .. import measuring
from ..device import DEVICE
from .captions import describe


def suggestion(card: TextToImageCard, pixels: Tensor) -> str:
    """A source prompt for a picture (1, 3, R, R), where the model has a probe that reads it; else ""."""
    try:
        probe = measuring.probe(card)
    except ModelUnavailable:
        return ""
    if probe is None:
        return ""
    with DEVICE.turn(), torch.no_grad():
        return describe(probe, pixels)

"""Pictures put into their model once, for all visitors and all tabs."""

from __future__ import annotations

from torch import Tensor

from ..editing import invert
from ..latents import Latent, LatentCache
from ..models.loader import DiffusionModel
from ..progress import Job, stage
from .device import exclusively

LATENTS = LatentCache()


def latent_of(model: DiffusionModel, pixels: Tensor, steps: int, total: int | None = None) -> Job[Latent]:
    """The noise that pictures (B, 3, R, R) come from; at once if they were inverted before.

    total: steps of the whole that this is the first part of.
    """
    job = exclusively(invert(model, pixels, steps, cache=LATENTS))
    return (yield from stage(job, "Reading the picture" if len(pixels) == 1 else "Reading the pictures", total=total))

"""Pictures put into their model once, for all visitors and all tabs, and edited together with those of others."""

from __future__ import annotations

from torch import Tensor

from ..editing import EditSettings, Weighted, invert
from ..latents import Latent
from ..models.loader import DiffusionModel
from ..process import Kept, Process, edit_pictures
from ..progress import Job, stage
from .device import DEVICE, Urgency

KEPT = Kept()


def latent_of(model: DiffusionModel, pixels: Tensor, steps: int, total: int | None = None) -> Job[Latent]:
    """The noise that pictures (B, 3, R, R) come from; at once if they were inverted before.

    total: steps of the whole that this is the first part of.
    """
    with DEVICE.shared(model) as shared:
        job = invert(shared, pixels, steps, cache=KEPT.latents)
        note = "Reading the picture" if len(pixels) == 1 else "Reading the pictures"
        return (yield from stage(job, note, total=total))


def edit_together(
    model: DiffusionModel, pixels: Tensor, rows: int, weighted: Weighted, settings: EditSettings, process: Process
) -> Job[Tensor]:
    """`core.process.edit_pictures`, its steps computed together with those of other visitors."""
    with DEVICE.shared(model, Urgency.of_pictures(rows * len(pixels))) as shared:
        return (yield from edit_pictures(shared, pixels, rows, weighted, settings, process, KEPT))

"""The ways to edit pictures, behind one door: in few anchored steps, as in the papers, or as Asyrp was published."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from .algorithm_1 import as_published, invert_as_published
from .anchoring import PathCache, edit_anchored, source_path
from .calibration import calibrated, grid
from .editing import EditSettings, Weighted, edit, invert
from .latents import LatentCache
from .models.loader import DiffusionModel
from .progress import Job, stage

Process = Literal["anchored", "paper", "published"]
USUAL_STEPS: dict[Process, int] = {"anchored": 7, "paper": 40, "published": 40}


@dataclass(frozen=True)
class Kept:
    """What is kept of pictures for the next edit: their paths, or their noise."""

    paths: PathCache = field(default_factory=PathCache)
    latents: LatentCache = field(default_factory=LatentCache)


def edit_pictures(
    model: DiffusionModel,
    pixels: Tensor,
    rows: int,
    weighted: Weighted,
    settings: EditSettings,
    process: Process = "anchored",
    kept: Kept | None = None,
) -> Job[Tensor]:
    """Pictures (B, 3, R, R) in [-1, 1], each of them edited `rows` times: (B rows, 3, R, R).

    "anchored": on a path of one evaluation per level (`core.anchoring`), with strengths that mean what they mean in
    the papers' process of 40 steps (`core.calibration`). "paper": DDIM inversion and the asymmetric reverse process
    (Asyrp, Algorithm 1), `settings.steps` each; the inversion takes eps where a step arrives, which reconstructs far
    better. "published": the same with the inversion and the timesteps of the authors (`core.algorithm_1`).

    Raises: see `core.editing.edit`.
    """
    about = "Reading the picture" if len(pixels) == 1 else "Reading the pictures"
    steps, total = settings.steps, 2 * settings.steps
    if process in ("paper", "published"):
        up = invert if process == "paper" else invert_as_published
        model = model if process == "paper" else as_published(model)
        latent = yield from stage(up(model, pixels, steps, cache=kept.latents if kept else None), about, total=total)
        return (yield from stage(edit(model, latent.repeat(rows), weighted, settings), str.capitalize, steps, total))

    with_effect = [direction for direction, c in weighted if torch.as_tensor(c).any()]
    timesteps = grid(model.schedule, steps, with_effect, settings)
    steps, total = len(timesteps), 2 * len(timesteps)
    settings = replace(settings, steps=steps)
    strengths = [(calibrated(model.schedule, timesteps, direction, settings), c) for direction, c in weighted]
    path_job = source_path(model, pixels, timesteps, cache=kept.paths if kept else None)
    path = yield from stage(path_job, about, total=total)
    return (
        yield from stage(edit_anchored(model, path.repeat(rows), strengths, settings), str.capitalize, steps, total)
    )

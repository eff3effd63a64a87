"""Asyrp's plain process, as its Algorithm 1 and the authors' released code have it, beside ours (`core.editing`).

Two things differ. A step up takes eps at the level that it leaves, from t = 0 on: the picture counts as x_0, which has
a little noise already (lines 4 to 6). And timesteps are cut to whole numbers, where ours are rounded. Editing,
denoising and boosting are `core.editing.edit`, on these timesteps.

Line 6 is printed as x_{s+1} = sqrt(a_s) x_s + sqrt(1 - a_s) eps, which would add noise to a picture that has some. The
released code has x_{s+1} = sqrt(a_{s+1}) P_s + sqrt(1 - a_{s+1}) eps, the DDIM step of Eq. 3 upwards, which is meant.
The loop of lines 11 to 30 is printed down to t = 0; the released code has one more step, to the clean picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from .ascent import Step
from .editing import predict
from .latents import Latent, LatentCache, latent_key
from .models.codec import pictures, previews_of
from .models.loader import DiffusionModel
from .progress import Job, Progress
from .schedule import Schedule

PUBLISHED = -1  # in place of the iterations of each step, in the keys of latents that were made this way


def as_published(model: DiffusionModel) -> DiffusionModel:
    """The same model with timesteps cut to whole numbers, for `edit` as for `invert_as_published`."""
    return replace(model, schedule=replace(model.schedule, truncated=True))


def ascend_as_published(
    schedule: Schedule, eps: Callable[[Tensor, int], Tensor], x: Tensor, timesteps: Sequence[int]
) -> Iterator[Step]:
    """Lines 4 to 6, from x (B, C, h, w) at the first of the ascending timesteps: (x at each of the others, the eps that
    led there)."""
    for t, t_next in pairwise(timesteps):
        e = eps(x, t)
        x = schedule.invert_step(x, e, t, t_next)
        yield x, e


def invert_as_published(
    model: DiffusionModel, pixels: Tensor, steps: int = 40, chunk: int | None = None, cache: LatentCache | None = None
) -> Job[Latent]:
    """Pixels (B, 3, H, W) in [-1, 1] up to x_T, at the timesteps of `as_published`: S levels, so S - 1 steps.

    Raises:
        RequestError: steps out of range. ResourceError: out of memory.
    """
    key = latent_key(pixels, model.key, steps, PUBLISHED)
    known = cache.get(key) if cache is not None else None
    if known is not None:
        yield Progress(steps, steps, "inverting", pixels)
        return known

    schedule, previews = as_published(model).schedule, previews_of(model.codec)
    timesteps = schedule.timesteps(steps)
    x = model.codec.encode(pixels.to(model.device, torch.float32))
    climbed = ascend_as_published(schedule, lambda x, t: predict(model, x, t, chunk), x, timesteps)
    for k, (x, eps) in enumerate(climbed, start=1):
        x0 = schedule.predicted_x0(x, eps, timesteps[k])
        shown = previews.after(k, steps, partial(pictures, model.codec, x0))
        yield Progress(k, steps, "inverting", shown)
    yield Progress(steps, steps, "inverting", pixels)

    latent = Latent(x, steps, model.card.id, key)
    if cache is not None:
        cache.keep(latent)
    return latent

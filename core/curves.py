"""A model's perceptual curves along its own inversions, from which its intervals are read (Asyrp, Figure 19)."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from .ascent import ascend
from .editing import predict
from .intervals import BOOST_THRESHOLD, EDIT_THRESHOLD, Curves
from .models.loader import DiffusionModel
from .progress import Job, Progress


def measure_curves(
    model: DiffusionModel,
    pixels: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    steps: int = 100,
    chunk: int | None = None,
    iterations: int = 1,
    edit_threshold: float = EDIT_THRESHOLD,
    boost_threshold: float = BOOST_THRESHOLD,
) -> Job[Curves]:
    """Mean distance of P_t and of x_t from the image, at each of `steps` noise levels.

    pixels: (B, 3, H, W) in [-1, 1]; the paper takes 100 pictures and LPIPS-Alex. distance: two batches of pixels to
    (B,). iterations: as in `core.ascent.ascend`. The thresholds go with the distance. P_t and x_t are compared as they
    are, without clipping.

    Raises:
        RequestError: steps out of range. ResourceError: out of memory.
    """
    timesteps = model.schedule.timesteps(steps)
    clean = model.codec.encode(pixels.to(model.device, torch.float32))
    means: list[tuple[float, float]] = []
    eps = partial(predict, model, chunk=chunk)
    for k, (x, _) in enumerate(ascend(model.schedule, eps, clean, timesteps, iterations)):
        t = timesteps[k]
        x0 = model.schedule.predicted_x0(x, predict(model, x, t, chunk), t)
        means.append((_mean(distance, pixels, model.codec.decode(x0)), _mean(distance, pixels, model.codec.decode(x))))
        yield Progress(k + 1, steps, "measuring")
    predicted_x0, noisy = np.array(means).T
    return Curves(np.array(timesteps), predicted_x0, noisy, edit_threshold, boost_threshold)


@torch.no_grad()
def _mean(distance: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    pieces = zip(a.split(16), b.to(a.device).split(16), strict=True)
    return torch.cat([distance(p, q).flatten() for p, q in pieces]).mean().item()

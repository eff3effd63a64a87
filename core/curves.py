"""A model's perceptual curves along its own inversions, from which its intervals are read (Asyrp, Figure 19)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from core.editing import ascend, predict
from core.intervals import BOOST_THRESHOLD, EDIT_THRESHOLD, Curves
from core.models.loader import DiffusionModel
from core.progress import Job, Progress


def measure_curves(
    model: DiffusionModel,
    pixels: Tensor,
    distance: Callable[[Tensor, Tensor], Tensor],
    steps: int = 100,
    chunk: int | None = None,
    iterations: int = 1,
    edit_threshold: float = EDIT_THRESHOLD,
    boost_threshold: float = BOOST_THRESHOLD,
) -> Job:
    """Mean distance of P_t and of x_t from the image, at each of `steps` noise levels. Result: `Curves`.

    pixels: (B, 3, H, W) in [-1, 1]; the paper takes 100 pictures and LPIPS-Alex. distance: two batches of pixels to
    (B,). iterations: as in `core.editing.ascend`. The thresholds go with the distance. P_t and x_t are compared as they
    are, without clipping.

    Raises:
        RequestError: steps out of range. ResourceError: out of memory.
    """
    timesteps = model.schedule.timesteps(steps)
    clean = model.codec.encode(pixels.to(model.device, torch.float32))
    means: list[tuple[float, float]] = []
    for k, (x, _) in enumerate(ascend(model, clean, timesteps, iterations, chunk)):
        t = timesteps[k]
        x0 = model.schedule.predicted_x0(x, predict(model, x, t, chunk), t)
        means.append((_mean(distance, pixels, model.codec.decode(x0)), _mean(distance, pixels, model.codec.decode(x))))
        if k + 1 < steps:
            yield Progress(k + 1, steps, "measuring")
    predicted_x0, noisy = np.array(means).T
    curves = Curves(np.array(timesteps), predicted_x0, noisy, edit_threshold, boost_threshold)
    yield Progress(steps, steps, "measuring", result=curves)


@torch.no_grad()
def _mean(distance: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> float:
    pieces = zip(a.split(16), b.to(a.device).split(16), strict=True)
    return torch.cat([distance(p, q).flatten() for p, q in pieces]).mean().item()

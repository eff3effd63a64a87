"""New pictures: DPM-Solver++ (Lu et al. 2022), with autoguidance (Karras et al. 2024) where a model has a guide.

A guide is a smaller network that was trained for a fraction of the steps. It errs where the model errs, only more, so
the model's prediction is moved away from the guide's: eps + w (eps - eps_guide). What is smeared becomes decided. The
mean of that difference is left out: moved in the same direction at every step, colours end at extremes.
"""

from __future__ import annotations

import numpy as np
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from core.editing import predict, preview, sample_latent
from core.models.loader import DiffusionModel
from core.progress import Job, Progress
from core.schedule import Schedule

STEPS = 25
GUIDANCE = 0.5  # w


def sample(
    model: DiffusionModel,
    seed: int,
    count: int = 1,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    chunk: int | None = None,
) -> Job:
    """New pictures. Result: pixels (count, 3, H, W). Picture i comes from the noise of seed + i, whatever `count` is.

    Raises:
        RequestError: steps out of range. ResourceError: out of memory.
    """
    model.schedule.timesteps(steps)  # in range
    x, scheduler = sample_latent(model, seed, count).x_T, solver(model.schedule)
    scheduler.set_timesteps(steps)
    for k, t in enumerate(scheduler.timesteps.tolist()):
        eps = guided(model, x, t, guidance, chunk)
        if k + 1 < steps:
            yield Progress(k + 1, steps, "sampling", preview(model, model.schedule.predicted_x0(x, eps, t), k, steps))
        x = scheduler.step(eps, t, x).prev_sample
    pixels = model.codec.decode(x).clamp(-1, 1)
    yield Progress(steps, steps, "done", pixels, pixels)


def solver(schedule: Schedule) -> DPMSolverMultistepScheduler:
    """Of second order, for predictions of the noise, from the last timestep down to the picture."""
    a = schedule.alphas_cumprod.double().cpu().numpy()
    return DPMSolverMultistepScheduler(
        num_train_timesteps=schedule.T,
        trained_betas=1 - a / np.concatenate(([1.0], a[:-1])),
        algorithm_type="dpmsolver++",
        prediction_type="epsilon",
        solver_order=2,
        timestep_spacing="trailing",
    )


def guided(model: DiffusionModel, x: Tensor, t: int, guidance: float, chunk: int | None = None) -> Tensor:
    """eps + guidance (eps - eps_guide), less the mean of that difference over each channel. x: (B, C, h, w)."""
    eps = predict(model, x, t, chunk)
    if model.guide is None or guidance == 0:
        return eps
    away = eps - predict(model.by_guide(), x, t, chunk)
    return eps + guidance * (away - away.mean((2, 3), keepdim=True))

"""New pictures: DPM-Solver++ (Lu et al. 2022), with autoguidance (Karras et al. 2024) where a model has a guide, moved
to where the halves of a face agree where it has a network that can tell, and with colours and shades set right from
afar where it has a network that knows them better (`coarse.py`).

A model that is made for editing need not draw best: `avatars` leans on h, and for new pictures has a network of its own
on the same noise schedule, an expert for this task as in Balaji et al. 2022 (eDiff-I). What it draws is then inverted
and edited like any other picture.

A guide is a smaller network that was trained for a fraction of the steps. It errs where the model errs, only more, so
the model's prediction is moved away from the guide's: eps + w (eps - eps_guide). What is smeared becomes decided. The
mean of that difference is left out: moved in the same direction at every step, colours end at extremes.

Two eyes that are decided far apart are not always a pair. With log p the density of no difference between the halves of
the predicted x_0 (`agreement.py`), eps - s sqrt(1 - a_t) grad_x log p is classifier guidance (Dhariwal and Nichol 2021,
Algorithm 2) by a classifier that looks at the prediction of x_0 (universal guidance, Bansal et al. 2023, Eq. 6).
"""

from __future__ import annotations

from math import sqrt

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from core.editing import predict, preview, rows_for, running_out, sample_latent
from core.group_norm import quick_group_norm
from core.models.loader import DiffusionModel
from core.progress import Job, Progress
from core.schedule import Schedule

STEPS = 25
DENSER = 1.6  # of 1 for even timesteps: grain comes from the last steps, and with more of them there is less
GUIDANCE = 0.5  # w
AGREEMENT = 6.0  # s
GRADIENT = 8  # how much more memory a prediction takes whose gradient is wanted


def sample(
    model: DiffusionModel,
    seed: int,
    count: int = 1,
    steps: int = STEPS,
    guidance: float = GUIDANCE,
    agreement: float = AGREEMENT,
    from_afar: bool = True,
    chunk: int | None = None,
) -> Job:
    """New pictures. Result: pixels (count, 3, H, W). Picture i comes from the noise of seed + i, whatever `count` is.

    guidance: w; agreement: s; from_afar: whether to correct what predictions look like from afar. Each is left out
    where the model has no network for it.

    Raises:
        RequestError: steps out of range. ResourceError: out of memory.
    """
    model, times = model.by_sampler(), timesteps(model.schedule, steps)
    x, scheduler = sample_latent(model, seed, count).x_T, solver(model.schedule, times)
    for k, t in enumerate(times):
        eps = guided(model, x, t, guidance, agreement, chunk)
        if from_afar and model.coarse is not None and t <= model.coarse.last:
            eps = corrected(model, x, eps, t)
        if k + 1 < len(times):
            seen = preview(model, model.schedule.predicted_x0(x, eps, t), k, len(times))
            yield Progress(k + 1, len(times), "sampling", seen)
        x = scheduler.step(eps, t, x).prev_sample
    pixels = model.codec.decode(x).clamp(-1, 1)
    yield Progress(len(times), len(times), "done", pixels, pixels)


def timesteps(schedule: Schedule, steps: int) -> list[int]:
    """T u^1.6 - 1 for even u from 1 down to 1/S, rounded; fewer than S where S is so large that some coincide.

    Raises:
        RequestError: fewer than 2 steps or more than T.
    """
    schedule.timesteps(steps)  # in range
    times = (round(schedule.T * (1 - k / steps) ** DENSER) - 1 for k in range(steps))
    return sorted({t for t in times if t >= 0}, reverse=True)


def solver(schedule: Schedule, times: list[int]) -> DPMSolverMultistepScheduler:
    """Of second order, for predictions of the noise, down these timesteps to the picture."""
    a = schedule.alphas_cumprod.double().cpu().numpy()
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=schedule.T,
        trained_betas=1 - a / np.concatenate(([1.0], a[:-1])),
        algorithm_type="dpmsolver++",
        prediction_type="epsilon",
        solver_order=2,
    )
    scheduler.set_timesteps(timesteps=times)
    return scheduler


def guided(
    model: DiffusionModel, x: Tensor, t: int, guidance: float, agreement: float, chunk: int | None = None
) -> Tensor:
    """eps + w (eps - eps_guide) - s sqrt(1 - a_t) grad_x log p, the difference less its mean over each channel.
    x: (B, C, h, w). guidance: w; agreement: s."""
    if model.agreement is None or agreement == 0 or t > model.agreement.last:
        eps, up = predict(model, x, t, chunk), torch.zeros(())
    else:
        eps, up = with_agreement(model, x, t, chunk)
    moved = eps - agreement * sqrt(1 - model.schedule.alpha(t)) * up
    if model.guide is None or guidance == 0:
        return moved
    away = eps - predict(model.by_guide(), x, t, chunk)
    return moved + guidance * (away - away.mean((2, 3), keepdim=True))


def corrected(model: DiffusionModel, x: Tensor, eps: Tensor, t: int) -> Tensor:
    """eps whose predicted x_0 is as `model.coarse` says from afar. x, eps: (B, C, h, w), of a model whose codec is
    linear."""
    a, x0 = model.schedule.alpha(t), model.schedule.predicted_x0(x, eps, t)
    pixels = model.codec.decode(x0)
    better = pixels + model.coarse.correction(model.codec.decode(x / sqrt(a)), pixels, a, t)
    return eps - sqrt(a / (1 - a)) * (model.codec.encode(better) - x0)


def with_agreement(model: DiffusionModel, x: Tensor, t: int, chunk: int | None = None) -> tuple[Tensor, Tensor]:
    """eps of x (B, C, h, w), and grad_x log p of the x_0 that it predicts, both (B, C, h, w)."""
    made = []
    for rows in x.split(max(1, rows_for(model, chunk) // GRADIENT)):
        with running_out(), torch.enable_grad(), quick_group_norm(model.unet.unet):
            point = rows.detach().requires_grad_()
            eps = model.eps(model.features(point, t), point, t)
            pixels = model.codec.decode(model.schedule.predicted_x0(point, eps, t)).clamp(-1, 1)
            (up,) = torch.autograd.grad(model.agreement.log_density(pixels).sum(), point)
        made.append((eps.detach(), up))
    eps, up = (torch.cat(parts) for parts in zip(*made, strict=True))
    return eps, up

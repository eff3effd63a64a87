"""New pictures by DPM-Solver++ (Lu et al. 2022): an unconditional model's from noise alone, and a text-to-image model's
from noise and words, with classifier-free guidance (Ho and Salimans 2022).

A model that is made for editing need not draw best. What `avatars` predicts of a face leans on h, and it draws two eyes
that are no pair; its card names a text-to-image model that draws for it, and descriptions to draw from. Such a picture
is inverted and edited like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from torch import Tensor

from .editing import predict, sample_latent, seeded_noise
from .models.codec import pictures, previews_of
from .models.loader import DiffusionModel
from .progress import Job, Previews, Progress
from .schedule import Schedule
from .text_to_image import TextToImage

STEPS = 25  # of a model's own pictures
DRAWING_STEPS = 12  # from words; with 25 new portraits are no nearer to renders
TIMESTEP_POWER = 1.6  # of 1 for even timesteps: grain comes from the last steps, and with more of them there is less
GUIDANCE = 2.0  # more brings what words say and takes variety


def sample(
    model: DiffusionModel, seed: int, count: int = 1, steps: int = STEPS, chunk: int | None = None
) -> Job[Tensor]:
    """New pictures: pixels (count, 3, H, W). Picture i comes from the noise of seed + i, whatever `count` is.

    Raises:
        RequestError: steps out of range. ResourceError: out of memory.
    """
    x_T = sample_latent(model, seed, count).x_T
    predicted, previews = partial(predict, model, chunk=chunk), previews_of(model.codec)
    return _descend(model.schedule, x_T, steps, predicted, partial(pictures, model.codec), previews)


def draw(
    model: TextToImage, prompts: Sequence[str], seed: int, steps: int = DRAWING_STEPS, guidance: float = GUIDANCE
) -> Job[Tensor]:
    """New pictures of what prompts say: pixels (n, 3, R, R). Picture i comes from the noise of seed + i.

    Raises:
        RequestError: steps out of range. ResourceError: out of memory.
    """
    noise = seeded_noise(model.latent_shape, seed, len(prompts))
    text, empty = model.embed(prompts), model.embed([""])

    @torch.no_grad()
    def eps(x: Tensor, t: int) -> Tensor:
        return model.guided(x, t, text, empty, guidance)

    return _descend(model.schedule, noise.to(model.device), steps, eps, model.decode, previews_of(model.codec))


def _descend(
    schedule: Schedule,
    x: Tensor,
    steps: int,
    eps: Callable[[Tensor, int], Tensor],
    decode: Callable[[Tensor], Tensor],
    previews: Previews,
) -> Job[Tensor]:
    """From x_T (B, C, h, w) to pixels."""
    times = timesteps(schedule, steps)
    scheduler = solver(schedule, times)

    def seen(x: Tensor, predicted: Tensor, t: int) -> Tensor:
        return decode(schedule.predicted_x0(x, predicted, t))

    for k, t in enumerate(times):
        predicted = eps(x, t)
        if k + 1 < len(times):
            shown = previews.after(k + 1, len(times), partial(seen, x, predicted, t))
            yield Progress(k + 1, len(times), "sampling", shown)
        x = scheduler.step(predicted, t, x).prev_sample
    pixels = decode(x)
    yield Progress(len(times), len(times), "done", pixels)
    return pixels


def timesteps(schedule: Schedule, steps: int) -> list[int]:
    """T u^1.6 - 1 for even u from 1 down to 1/S, rounded; fewer than S where S is so large that some coincide.

    Raises:
        RequestError: fewer than 2 steps or more than T.
    """
    schedule.timesteps(steps)  # in range
    times = (round(schedule.T * (1 - k / steps) ** TIMESTEP_POWER) - 1 for k in range(steps))
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

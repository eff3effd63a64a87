"""Whether a picture is one that a model can make, and the nearest one that it can.

A diffusion model is trained to predict x_0 from x_t, and how badly it does so for a picture is, summed over t, a bound
of the picture's likelihood (Ho et al. 2020, Eq. 12 to 14). One call of the network at one noise level is enough: there
the picture is still to be seen, but its details are not, and the model fills in its own. Measured as a perceptual
distance this tells pictures that the model has learned from others better than squared errors, the likelihood's, or
the norm and the autocorrelation of x_T: noise in a picture leads those astray (`python -m benchmarks.domain`).

The nearest picture is that of SDEdit (Meng et al. 2022, Algorithm 1): noised to a level at which what the model does
not know is drowned, and denoised from there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .editing import predict, seeded_noise
from .models.codec import pictures
from .models.loader import DiffusionModel
from .progress import Job, Progress

LEVEL = 0.4  # share of T at which pictures are looked at
NEAREST_LEVEL, NEAREST_STEPS = 0.6, 8


def denoised(model: DiffusionModel, pixels: Tensor, level: float = LEVEL, seed: int = 0) -> Tensor:
    """What a model makes of pictures (B, 3, H, W) in [-1, 1] that are noised to t = level T: the predicted x_0 of one
    call, in the same form. All pictures get the same noise.

    Raises:
        ResourceError: out of memory.
    """
    schedule = model.schedule
    t = round(level * (schedule.T - 1))
    x0 = model.codec.encode(pixels.to(model.device, torch.float32))
    x_t = schedule.noised(x0, seeded_noise(tuple(x0.shape[1:]), seed, 1).to(x0), t)
    return pictures(model.codec, schedule.predicted_x0(x_t, predict(model, x_t, t), t))


def nearest(model: DiffusionModel, pixels: Tensor, seed: int = 0) -> Job[Tensor]:
    """Pictures (B, 3, H, W) in [-1, 1] that a model can make, near to the given ones.

    Raises:
        ResourceError: out of memory.
    """
    schedule, top = model.schedule, NEAREST_LEVEL * (model.schedule.T - 1)
    timesteps = torch.linspace(0, top, NEAREST_STEPS, dtype=torch.float64).round().long().tolist()
    x0 = model.codec.encode(pixels.to(model.device, torch.float32))
    x = schedule.noised(x0, seeded_noise(tuple(x0.shape[1:]), seed, 1).to(x0), timesteps[-1])
    for k in range(NEAREST_STEPS - 1, -1, -1):
        eps = predict(model, x, timesteps[k])
        x = schedule.reverse_step(x, eps, eps, timesteps[k], timesteps[k - 1] if k else -1)
        yield Progress(NEAREST_STEPS - k, NEAREST_STEPS, "drawing the nearest picture")
    return pictures(model.codec, x)

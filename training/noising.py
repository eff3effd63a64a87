"""The target of diffusion training: v of a noised picture, at timesteps and in places where there is most to learn."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.portraits import from_vector, part_mask

FOCUS = 8.0  # weight of the places of eyes, brows and mouth; elsewhere 1


def v_target(x0: Tensor, alphas: Tensor, noise: torch.Generator, power: float = 1.7) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and v = sqrt(a) e - sqrt(1 - a) x0 (Salimans and Ho 2022) for x0 (B, C, h, w) at random timesteps t (B,).

    Timesteps are drawn as T u^power, u uniform: half of the linear schedule's steps have more noise than four times the
    picture, and a short training learns more from the others. The u of a batch are spread evenly, one random shift for
    all, which lowers the variance of the loss (Kingma et al. 2021, Appendix I.1). alphas: cumulative products (T,).
    """
    at = noise.device
    u = (torch.rand(1, generator=noise, device=at) + torch.arange(len(x0), device=at) / len(x0)) % 1
    t = (len(alphas) * u**power).long().clamp(max=len(alphas) - 1).to(x0.device)
    e = torch.randn(x0.shape, generator=noise, device=at).to(x0.device)
    a = alphas[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * e, t, a.sqrt() * e - (1 - a).sqrt() * x0


def focus(parameters: np.ndarray, side: int, most: int = 300) -> Tensor:
    """Weights (1, 1, side, side) of places in the loss, mean 1: higher where people have eyes, brows and mouths.

    These parts say the most, and are a tenth of the picture. The weights are the same for every portrait (the mean of
    `most` masks), so the network's best answer is the same as without them.
    """
    people = [from_vector(row) for row in parameters[:most]]
    masks = [np.any([part_mask(person, part) for part in ("eyes", "brows", "mouth")], axis=0) for person in people]
    share = torch.from_numpy(np.mean(masks, axis=0)).float()[None, None]
    weights = 1 + (FOCUS - 1) * F.adaptive_avg_pool2d(share, side)
    return weights / weights.mean()

"""The target of diffusion training: v of a noised picture, at timesteps drawn where there is most to learn."""

from __future__ import annotations

import torch
from torch import Tensor


def v_target(x0: Tensor, alphas: Tensor, noise: torch.Generator, power: float = 1.7) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and v = sqrt(a) e - sqrt(1 - a) x0 (Salimans and Ho 2022) for x0 (B, C, h, w) at random timesteps t (B,).

    Timesteps are drawn as T u^power, u uniform: half of the linear schedule's steps have more noise than four times the
    picture, and a short training learns more from the others. The u of a batch are spread evenly, one random shift for
    all, which lowers the variance of the loss (Kingma et al. 2021, Appendix I.1). alphas: cumulative products (T,).
    """
    u = (torch.rand(1, generator=noise) + torch.arange(len(x0)) / len(x0)) % 1
    t = (len(alphas) * u**power).long().clamp(max=len(alphas) - 1).to(x0.device)
    e = torch.randn(x0.shape, generator=noise).to(x0.device)
    a = alphas[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1 - a).sqrt() * e, t, a.sqrt() * e - (1 - a).sqrt() * x0

"""CycleDiffusion (Wu and De la Torre 2022): the noise of a stochastic sampler as the latent of a picture."""

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from ..progress import Job, Progress
from ..schedule import Schedule
from .anchored import AnchoredStep
from .solution import InversionMethod, Solution, Task


def invert(task: Task) -> Job[Solution]:
    """The DPM-Encoder (section 3.2, Eq. 5): x_T ~ q(x_T | x_0), x_{t-1} ~ q(x_{t-1} | x_t, x_0), and
    z_t = (x_{t-1} - mu(x_t)) / sigma_t, which `AnchoredStep` takes from the source and carries to targets.

    guidance of the encoder: 1, as in section 4.3; targets are decoded at the working guidance. The last step has no
    noise; what it lacks is carried all the same. Needs no network evaluation of its own.
    """
    settings = task.settings
    guidance = 1.0 if settings.source_guidance is None else settings.source_guidance
    trajectory = posterior_sample(task.model.schedule, task.x0, task.levels, settings.eta, task.generator())
    yield Progress(1, 1, "sampling")
    return Solution(trajectory, guidance, task.empty, AnchoredStep(carry=1.0, eta=settings.eta))


def posterior_sample(
    schedule: Schedule, x0: Tensor, levels: Sequence[int], eta: float, generator: torch.Generator
) -> Tensor:
    """x_{0..T} (S + 1, C, h, w) given x_0 (1, C, h, w): DDIM's posterior, Song et al. 2020a, Eq. 7."""

    def normal() -> Tensor:
        return torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)

    xs = [schedule.noised(x0, normal(), levels[-1])]
    for t, t_prev in zip(levels[:1:-1], levels[-2:0:-1], strict=True):
        a = schedule.alpha(t)
        eps = (xs[-1] - sqrt(a) * x0) / sqrt(1 - a)
        xs.append(schedule.reverse_step(xs[-1], eps, eps, t, t_prev, eta, normal()))
    return torch.cat([x0, *reversed(xs)])


METHOD = InversionMethod(
    "CycleDiffusion",
    "CycleDiffusion",
    "Finds the random numbers with which a sampler that draws lots at every step makes just this picture; an edit uses "
    "the same ones with other words.",
    invert,
    AnchoredStep,
)

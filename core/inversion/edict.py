"""EDICT: Exact Diffusion Inversion via Coupled Transformations (Wallace et al. 2022).

Two sequences x, y take turns: each step of one uses eps at the other, which is known in both directions, and mixing
layers with p keep them together. The algebra is inverted exactly; in float64, because 1 / p is applied at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor

from ..precision import widest
from ..progress import Job
from ..schedule import Schedule
from .decoding import Decoder, ReverseStep, State
from .solution import RANGES, InversionMethod, Solution, Task

Eps = Callable[[Tensor], Tensor]


def invert(task: Task) -> Job[Solution]:
    """Section 4.2, Eq. 15, with the source prompt at the working guidance (source_guidance if that is set)."""
    settings, schedule, levels = task.settings, task.model.schedule, task.levels
    guidance = settings.guidance if settings.source_guidance is None else settings.source_guidance
    x0, S = widest(task.x0), settings.steps
    done: list[tuple[Tensor, Tensor]] = task.checkpoint.part("coupled")
    if not done:
        done.append((x0, x0))
    for i in range(len(done) - 1, S):
        t_prev, t = levels[i], levels[i + 1]

        @torch.no_grad()
        def eps(z: Tensor, t: int = t) -> Tensor:
            return task.model.guided(z, t, task.text, task.empty, guidance)

        done.append(noise(schedule, *done[-1], t_prev, t, eps, settings.mixing, x_first=i % 2 == 0))
        e = schedule.eps_between(done[-1][0], done[-2][0], t, t_prev)
        yield task.event(i + 1, S, "inverting", schedule.predicted_x0(done[-1][0], e, t))
    trajectory, partner = (torch.cat(sequence) for sequence in zip(*done, strict=True))
    return Solution(trajectory, guidance, task.empty, CoupledStep(partner, settings.mixing))


@dataclass(frozen=True)
class CoupledStep(Decoder):
    """Both sequences down, Eq. 14; x is the solution's trajectory, y beside it.

    partner: (S + 1, C, h, w), the path of y by level. mixing: p.
    """

    partner: Tensor
    mixing: float

    kind = "coupled"
    numbers = {"mixing": RANGES["mixing"]}
    tensors = ("partner",)

    def start(self, trajectory: Tensor, level: int) -> State:
        return trajectory[level : level + 1], self.partner[level : level + 1]

    def step(self, step: ReverseStep, state: State) -> tuple[State, Tensor]:
        (x, y), schedule, t, t_prev = state, step.schedule, step.t, step.t_prev
        x_prev, y_prev = denoise(schedule, x, y, t, t_prev, step.eps, self.mixing, x_first=step.i % 2 == 0)
        if t_prev < 0:
            return (x_prev, y_prev), x_prev
        return (x_prev, y_prev), schedule.predicted_x0(x, schedule.eps_between(x, x_prev, t, t_prev), t)

    def to(self, device: torch.device | str) -> CoupledStep:
        return replace(self, partner=self.partner.to(device))


def denoise(
    schedule: Schedule, x: Tensor, y: Tensor, t: int, t_prev: int, eps: Eps, p: float, x_first: bool = True
) -> tuple[Tensor, Tensor]:
    """(x_{t-1}, y_{t-1}), Eq. 14. eps(z) is the network's at (z, t). The two change places every other step."""
    if not x_first:
        y, x = denoise(schedule, y, x, t, t_prev, eps, p)
        return x, y
    a, b = _coefficients(schedule, t, t_prev)
    x_inter = a * x + b * eps(y)
    y_inter = a * y + b * eps(x_inter)
    x = p * x_inter + (1 - p) * y_inter
    y = p * y_inter + (1 - p) * x
    return x, y


def noise(
    schedule: Schedule, x: Tensor, y: Tensor, t_prev: int, t: int, eps: Eps, p: float, x_first: bool = True
) -> tuple[Tensor, Tensor]:
    """(x_t, y_t), Eq. 15: `denoise` backwards, line by line."""
    if not x_first:
        y, x = noise(schedule, y, x, t_prev, t, eps, p)
        return x, y
    a, b = _coefficients(schedule, t, t_prev)
    y_inter = (y - (1 - p) * x) / p
    x_inter = (x - (1 - p) * y_inter) / p
    y = (y_inter - b * eps(x_inter)) / a
    x = (x_inter - b * eps(y)) / a
    return x, y


def _coefficients(schedule: Schedule, t: int, t_prev: int) -> tuple[float, float]:
    """x_{t-1} = a x_t + b eps, DDIM (Eq. 6)."""
    a = sqrt(schedule.alpha(t_prev) / schedule.alpha(t))
    return a, sqrt(1 - schedule.alpha(t_prev)) - a * sqrt(1 - schedule.alpha(t))


METHOD = InversionMethod(
    "EDICT",
    "EDICT",
    "Keeps two copies of the picture that take turns, each changed by what the model sees in the other: such steps can "
    "be undone exactly.",
    invert,
    CoupledStep,
)

"""The optimisation shared by null-text, latent-TOP and the teacher-forced method: few iterations, best kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ..memory import explain_memory_errors
from ..text_to_image import FEWER_PROMPTS
from .solution import Task
from .trajectory import reverse_steps

Objective = Callable[..., tuple[Tensor, Tensor]]  # parameters -> losses (B,) and outputs (B, ...)
Minimum = tuple[list[Tensor], Tensor, Tensor]  # parameters, losses (B,), outputs (B, ...)

TEXT_RATE = 2e-2  # of the text bias of latent-TOP and the teacher-forced method

SCALE = 1e4  # of the loss in the backward pass: gradients stay within half precision, and Adam does not see it


def minimise(
    objective: Objective,
    start: Sequence[Tensor],
    rates: Sequence[float],
    iterations: int,
    tolerance: float,
    optimiser: Literal["adam", "lbfgs"] = "adam",
    stop: Callable[[], bool] = lambda: False,
) -> Minimum:
    """Minimises the sum of `objective(*parameters) -> (losses (B,), outputs (B, ...))` for B independent rows.

    Parameters have a row for each loss, or a single one for all. Float32 (or float64), whatever the network runs in.
    Stops after `iterations`, when every loss is below `tolerance`, or when `stop()`. Returns, per row, the parameters
    of the smallest loss met (the start's included), that loss and its output: never worse than the start.
    """
    parameters = [value.detach().clone().requires_grad_(True) for value in start]
    best: list[Tensor] = []

    def evaluate() -> Tensor:
        losses, outputs = objective(*parameters)
        met = [losses.detach(), outputs.detach(), *(value.detach().clone() for value in parameters)]
        if not best:
            best.extend(met)
        else:
            independent = all(len(value) == len(losses) for value in parameters)
            better = met[0] < best[0] if independent else (met[0].sum() < best[0].sum()).expand(len(losses))
            for n, (new, old) in enumerate(zip(met, best, strict=True)):
                chosen = better[: len(new)].view(-1, *[1] * (new.ndim - 1))
                best[n] = torch.where(chosen, new, old)
        return losses

    def closure() -> float:
        method.zero_grad()
        with torch.enable_grad():
            losses = evaluate()
            if bool((best[0] < tolerance).all()):
                raise _Converged
            return backward(losses)

    method = _optimiser(parameters, rates, optimiser)
    with suppress(_Converged):
        for _ in range(iterations):
            if best and stop():
                raise _Converged
            method.step(closure)
        with torch.no_grad():
            evaluate()
    return best[2:], best[0], best[1]


def minimise_in_time(
    task: Task,
    objective: Objective,
    start: Sequence[Tensor],
    rates: Sequence[float],
    iterations: int,
    tolerance: float | None = None,
) -> Minimum:
    """`minimise` with the task's settings; nothing is optimised once its time is up."""
    settings = task.settings
    return minimise(
        objective,
        start,
        rates,
        0 if task.out_of_time() else iterations,
        settings.tolerance if tolerance is None else tolerance,
        settings.optimiser,
        task.out_of_time,
    )


class _Converged(Exception):
    """Nothing more is to be optimised."""


def backward(losses: Tensor) -> float:
    """Gradients of the sum of losses (B,), `SCALE` times as large. Returns that sum, scaled as well.

    Raises:
        ResourceError: out of memory.
    """
    loss = SCALE * losses.sum()
    with explain_memory_errors(FEWER_PROMPTS):
        loss.backward()
    return loss.item()


def _optimiser(parameters: list[Tensor], rates: Sequence[float], name: str) -> torch.optim.Optimizer:
    if name == "lbfgs":
        return torch.optim.LBFGS(parameters, max_iter=1, max_eval=25, line_search_fn="strong_wolfe")
    groups = [{"params": [value], "lr": rate} for value, rate in zip(parameters, rates, strict=True)]
    return torch.optim.Adam(groups)


def trajectory_objective(task: Task, x: Tensor, goal: Tensor, steps: Sequence[int]) -> Objective:
    """The trajectory loss of unconditional embeddings: |x*_{t-1} - x_{t-1}|^2 per row, and x*_{t-1} (latent-TOP,
    section 2.2; null-text inversion, Eq. 3).

    x, goal: (B, C, h, w), row n at the start and the end of step steps[n]. Only the unconditional branch depends on the
    embedding (B, L, E): the conditional prediction is computed here, once.
    """
    model = task.model
    timesteps = [task.levels[i + 1] for i in steps]
    with torch.no_grad():
        eps_text = model.eps(x, timesteps, task.text)

    def objective(null: Tensor) -> tuple[Tensor, Tensor]:
        return trajectory_loss(task, x, goal, steps, model.eps(x, timesteps, null), eps_text)

    return objective


def trajectory_loss(
    task: Task, x: Tensor, goal: Tensor, steps: Sequence[int], eps_null: Tensor, eps_text: Tensor
) -> tuple[Tensor, Tensor]:
    """Losses (B,) and x*_{t-1} of `trajectory_objective` from both predictions (B, C, h, w) at x."""
    x_prev = reverse_steps(task, x, eps_null + task.settings.guidance * (eps_text - eps_null), steps)
    return mean_square(x_prev - goal), x_prev


def mean_square(difference: Tensor) -> Tensor:
    """Per row (B,)."""
    return difference.square().flatten(1).mean(dim=1)


def gaussianity(x: Tensor, scales: int = 3) -> Tensor:
    """How far noise (1, C, h, w) is from white and normal, 0 in expectation if it is (pix2pix-zero, Eq. 4).

    KL divergence of N(mean, variance) from N(0, 1), and squared correlations between neighbours at `scales` scales.
    """
    mean, variance = x.mean(), x.var()
    total = (mean.square() + variance - 1 - variance.log()) / 2
    for _ in range(scales):
        if min(x.shape[-2:]) < 4:
            break
        for axis in (-1, -2):
            total = total + (x * x.roll(1, dims=axis)).mean().square()
        x = 2 * F.avg_pool2d(x, 2)
    return total

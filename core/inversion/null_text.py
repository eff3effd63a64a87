"""Null-text inversion (Mokady et al. 2022)."""

import torch
from torch import Tensor

from ..progress import Job
from .optimise import minimise_in_time, trajectory_objective
from .solution import InversionMethod, Solution, Task
from .trajectory import ddim_trajectory, reverse_steps


def invert(task: Task) -> Job[Solution]:
    """Algorithm 1: DDIM inversion at guidance 1 gives the pivots; then, from t = T down at the working guidance, the
    empty embedding of each step is optimised so that the step ends at its pivot (Eq. 3), from that of the step before.

    As released, for 50 steps: Adam with a rate that falls by a hundredth of its first value per step, and a tolerance
    that grows by 2e-5 per step. More steps go through the same values (`schedule_at`).
    """
    settings, S = task.settings, task.settings.steps
    pivots = yield from ddim_trajectory(task)
    done: list[tuple[Tensor, Tensor]] = task.checkpoint.part("null-text")
    for n in range(len(done), S):
        i = S - 1 - n
        x, null = done[-1] if done else (pivots[-1:], task.empty)

        objective = trajectory_objective(task, x, pivots[i : i + 1], [i])
        share, growth = schedule_at(n, S)
        rate, tolerance = settings.rate_or(1e-2) * share, settings.tolerance + growth
        (null,), loss, _ = minimise_in_time(task, objective, [null], [rate], settings.iterations, tolerance)

        done.append((_step(task, x, null, i), null))
        yield task.event(n + 1, S, "optimising", done[-1][0], loss.item())
    trajectory = torch.cat([*(x for x, _ in reversed(done)), pivots[-1:]])
    return Solution(trajectory, settings.guidance, torch.cat([null for _, null in reversed(done)]))


def schedule_at(n: int, S: int) -> tuple[float, float]:
    """The share of the rate that is left at the n-th of S steps, and what is added to the tolerance. Released are
    1 - n/100 and 2e-5 n, for 50 steps; with more than 100 steps that rate would be negative."""
    n_of_50 = n * min(1.0, 50 / S)
    return 1 - n_of_50 / 100, 2e-5 * n_of_50


@torch.no_grad()
def _step(task: Task, x: Tensor, null: Tensor, i: int) -> Tensor:
    eps = task.model.guided(x, task.levels[i + 1], task.text, null, task.settings.guidance)
    return reverse_steps(task, x, eps, [i])


METHOD = InversionMethod(
    "null-text",
    "Null-text",
    "Learns another empty prompt for each step, one after another, so that the way back with strong words follows the "
    "way to noise.",
    invert,
)

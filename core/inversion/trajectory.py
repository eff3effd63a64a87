"""DDIM trajectories of a task: up with a solver per step, and the reverse steps that optimisation needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..ascent import G, Solver, Step, ascend
from ..precision import in_float64
from ..progress import Job
from .solution import Task


def ddim_trajectory(
    task: Task, guidance: float = 1.0, iterations: int = 0, depth: int = 0, tolerance: float = 0.0
) -> Job[Tensor]:
    """DDIM inversion with the source prompt: the trajectory (S + 1, C, h, w), clean image first.

    iterations: 0 for plain DDIM inversion; else the network evaluations per step, at most, of `anderson` from a
    predicted x_t (`core.ascent.ascend`); one when the time is up. depth, tolerance: of `anderson`.
    """
    schedule, levels, S = task.model.schedule, task.levels, task.settings.steps
    accelerated = anderson(depth, tolerance)

    @torch.no_grad()
    def eps(x: Tensor, t: int) -> Tensor:
        return task.model.guided(x, t, task.text, task.empty, guidance)

    def solve(g: G, x: Tensor, evaluations: int) -> Step:
        if task.out_of_time():
            evaluations -= iterations - 1  # leaves one, and in the first step the one that nothing could predict
        return accelerated(g, x, evaluations)

    done: list[Step] = task.checkpoint.part("prior")
    for x, e in ascend(schedule, eps, task.x0, levels[1:], iterations, solve, tuple(done)):
        done.append((x, e))
        yield task.event(len(done), S, "inverting", schedule.predicted_x0(x, e, levels[len(done)]))
    return torch.cat([task.x0, *(x for x, _ in done)])


def anderson(depth: int, tolerance: float) -> Solver:
    """Solves x = g(x) by Anderson acceleration (Walker and Ni 2011, Eq. 2.1-2.2; AIDI, Pan et al. 2023, Algorithm 1).

    depth: earlier iterates that are combined; 0 is plain iteration. tolerance: of the relative residual
    ||g(x) - x|| / ||g(x)|| at which it stops. The solver gives the g(x) of the smallest residual met.
    """

    def solve(g: G, x: Tensor, evaluations: int) -> Step:
        best: Step | None = None
        smallest = float("inf")
        xs: list[Tensor] = []
        gs: list[Tensor] = []
        for _ in range(evaluations):
            step = gx, _ = g(x)
            residual = ((gx - x).norm() / gx.norm()).item()
            if best is None or residual < smallest:
                best, smallest = step, residual
            if residual <= tolerance:
                break
            xs, gs = [*xs, x][-depth - 1 :], [*gs, gx][-depth - 1 :]
            x = _mix(xs, gs)
        assert best is not None, "there is at least one evaluation"
        return best

    return solve


def _mix(xs: list[Tensor], gs: list[Tensor]) -> Tensor:
    """sum_i w_i g_i, sum_i w_i = 1, for the weights that make sum_i w_i (g_i - x_i) smallest."""
    if len(xs) == 1:
        return gs[-1]
    f = in_float64(torch.stack([(g - x).flatten() for g, x in zip(gs, xs, strict=True)], dim=1))
    differences = f[:, 1:] - f[:, :-1]
    gamma = torch.linalg.pinv(differences.T @ differences, hermitian=True) @ (differences.T @ f[:, -1])
    mixed = gs[-1]
    for k, weight in enumerate(gamma.tolist()):
        mixed = mixed - weight * (gs[k + 1] - gs[k])
    return mixed


def reverse_steps(task: Task, x: Tensor, eps: Tensor, steps: Sequence[int]) -> Tensor:
    """DDIM steps down; row n does step steps[n], from level steps[n] + 1 to level steps[n]."""
    levels = task.levels
    rows = zip(x.split(1), eps.split(1), steps, strict=True)
    return torch.cat([task.model.schedule.reverse_step(x, e, e, levels[i + 1], levels[i]) for x, e, i in rows])

"""The way up: DDIM inversion with a solver per step; and the reverse steps that optimisation needs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from ..progress import Progress
from ..schedule import extrapolate
from .solution import Task


def ascend(
    task: Task, guidance: float = 1.0, iterations: int = 0, depth: int = 0, tolerance: float = 0.0
) -> Generator[Progress, None, Tensor]:
    """DDIM inversion with the source prompt. Returns the trajectory (S + 1, C, h, w), clean image first.

    The inverse of a reverse step needs eps at the x_t that is sought: x_t = g(x_t), g(x) = invert_step(x_{t-1},
    eps(x, t)). iterations = 0 takes g(x_{t-1}), plain DDIM inversion (latent-TOP Eq. 8), one evaluation as well. Else
    x_t is predicted from the eps of the two steps before, and `fixed_point` evaluates g up to `iterations` times from
    there (once more in the first step, which has nothing to be predicted from); once when the time is up.
    """
    schedule, levels, S = task.model.schedule, task.levels, task.settings.steps
    done: list[tuple[Tensor, Tensor | None]] = task.checkpoint.part("prior")  # (x, the eps that led there)
    if not done:
        done.append((task.x0, None))
    for i in range(len(done) - 1, S):
        x_prev, t_prev, t = done[-1][0], levels[i], levels[i + 1]

        @torch.no_grad()
        def g(x: Tensor, x_prev: Tensor = x_prev, t_prev: int = t_prev, t: int = t) -> Tensor:
            eps = task.model.guided(x, t, task.text, task.empty, guidance)
            return schedule.invert_step(x_prev, eps, t_prev, t)

        if iterations == 0:
            x = g(x_prev)
        else:
            guess = x_prev
            if i > 0:
                known = [eps for _, eps in done[1:]][-2:]
                eps = extrapolate(known[0], known[-1], levels[i - 1], t_prev, t)
                guess = schedule.invert_step(x_prev, eps, t_prev, t)
            most = 1 if task.out_of_time() else iterations
            x, _ = fixed_point(g, guess, most + (i == 0), depth, tolerance)

        eps = schedule.eps_between(x, x_prev, t, t_prev)
        done.append((x, eps))
        yield task.event(i + 1, S, "inverting", schedule.predicted_x0(x_prev, eps, t_prev))
    return torch.cat([x for x, _ in done])


def fixed_point(
    g: Callable[[Tensor], Tensor], x: Tensor, iterations: int, depth: int, tolerance: float
) -> tuple[Tensor, float]:
    """Solves x = g(x) by Anderson acceleration (Walker and Ni 2011, Eq. 2.1-2.2; AIDI, Pan et al. 2023, Algorithm 1).

    depth: earlier iterates that are combined; 0 is plain iteration. tolerance: of ||g(x) - x|| / ||g(x)||. Returns the
    g(x) of the smallest relative residual met, and that residual; `iterations` evaluations of g at most.
    """
    xs, gs = [], []
    best, smallest = x, float("inf")
    for _ in range(iterations):
        gx = g(x)
        residual = ((gx - x).norm() / gx.norm()).item()
        if residual < smallest:
            best, smallest = gx, residual
        if residual <= tolerance:
            break
        xs, gs = [*xs, x][-depth - 1 :], [*gs, gx][-depth - 1 :]
        x = _mix(xs, gs)
    return best, smallest


def _mix(xs: list[Tensor], gs: list[Tensor]) -> Tensor:
    """sum_i w_i g_i, sum_i w_i = 1, for the weights that make sum_i w_i (g_i - x_i) smallest."""
    if len(xs) == 1:
        return gs[-1]
    f = torch.stack([(g - x).flatten() for g, x in zip(gs, xs, strict=True)], dim=1).double()
    differences = f[:, 1:] - f[:, :-1]
    gamma = torch.linalg.pinv(differences.T @ differences, hermitian=True) @ (differences.T @ f[:, -1])
    mixed = gs[-1]
    for k, weight in enumerate(gamma.tolist()):
        mixed = mixed - weight * (gs[k + 1] - gs[k])
    return mixed


def reverse(task: Task, x: Tensor, eps: Tensor, steps: Sequence[int]) -> Tensor:
    """DDIM steps down; row n does step steps[n], from level steps[n] + 1 to level steps[n]."""
    levels = task.levels
    rows = zip(x.split(1), eps.split(1), steps, strict=True)
    return torch.cat([task.model.schedule.reverse_step(x, e, e, levels[i + 1], levels[i]) for x, e, i in rows])

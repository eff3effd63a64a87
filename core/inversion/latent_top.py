"""latent-TOP: latent trajectory optimisation with a prior (On the Robustness of Diffusion Inversion in Image
Manipulation, section 2.2).

The prior is the trajectory x_0, ..., x_T of DDIM inversion at guidance 1 with the source prompt C. Learned are a bias
z_null of the empty embedding in every step and a bias z_T of x_T, so that the trajectory x*_t guided by G stays close:

    min |x*_{t-1} - x_{t-1}|^2,   x*_T = x_T + z_T,   x*_{t-1} = step(x*_t, eps*),
    eps* = eps(x*_t, null) + G (eps(x*_t, C) - eps(x*_t, null)),   null = empty + z_null.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..progress import Job
from .optimise import (
    TEXT_RATE,
    Objective,
    backward,
    gaussianity,
    mean_square,
    minimise_in_time,
    trajectory_loss,
    trajectory_objective,
)
from .solution import InversionMethod, InversionSettings, Solution, Task
from .trajectory import ddim_trajectory, reverse_steps


class Point(NamedTuple):
    """x*_t (1, C, h, w), the biased empty embedding (1, L, E) of the step that led there, and that step's loss.

    drift: eps(x*, C) less the prior's eps, of the last step that computed it (`_single_iteration`).
    """

    x: Tensor
    null: Tensor
    loss: float
    drift: Tensor


def as_published(task: Task) -> Job[Solution]:
    """The paper's algorithm: T = 50 steps, m = 10 iterations at every one, G = 7.5, 20 samples of starts.

    Of the settings it takes those four, `rate`, `noise_rate`, `start_scale` and `optimiser`, on which the paper is
    silent, and no other. Nor does the paper say whether the last or the best bias of a step is kept: the best is.
    """
    published: dict[str, Any] = {
        "late": 1.0,
        "prior_iterations": 0,
        "tolerance": 0.0,
        "start": "empty",
        "gaussian": 0.0,
    }
    task = replace(task, settings=replace(task.settings, **published))
    S = task.settings.steps

    # Optimisation with a prior: the trajectory x_0, ..., x_T of plain DDIM inversion at guidance 1.
    prior = yield from ddim_trajectory(task)

    # Multiple starts, and t = T: m iterations of z_null and z_T.
    path: list[Point] = task.checkpoint.part("latent-TOP as published")  # x*_T, x*_{T-1}, ...
    if not path:
        null, z_T = start_with_hops(task, prior)
        path += optimise_first_step(task, prior, null, z_T)
        yield task.event(1, S, "optimising", path[-1].x, path[-1].loss)

    # Trajectory optimisation, t < T: m iterations of z_null, from that of the step before.
    for i in range(S - len(path), -1, -1):
        path.append(optimise_step(task, path[-1], prior, i))
        yield task.event(S - i, S, "optimising", path[-1].x, path[-1].loss)
    return _solution(task, path)


HOPS = 3  # of each initialisation; the paper says "several". Its 20 samples are then 5 initialisations with 3 hops each


@torch.no_grad()
def start_with_hops(task: Task, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Multiple starts "with several hops within each initialization" (section 2.2, third point): the empty embedding
    + z_null and z_T, of all samples those with the smallest first loss.

    `starts` samples in all. The first initialisation has no bias, the others are drawn; from each, hops of the same
    deviation are taken one after another, and one that makes the loss larger is taken back, as in basin hopping (Wales
    and Doye 1997) at temperature zero. Nothing is minimised in between: the paper chooses by the initial loss.
    """
    settings, generator = task.settings, task.generator()
    samples = settings.starts if not task.out_of_time() else 1
    count = -(-samples // (1 + HOPS))

    def hop(bias: Tensor) -> Tensor:
        return bias + settings.start_scale * torch.randn(bias.shape, generator=generator).to(bias)

    null, z_T = task.empty.repeat(count, 1, 1), torch.zeros_like(task.x0).repeat(count, 1, 1, 1)
    null[1:], z_T[1:] = hop(null[1:]), hop(z_T[1:])
    losses, _ = _first_loss(task, prior, null, z_T)
    left = samples - count
    while left > 0:
        rows = min(count, left)
        moved = hop(null[:rows]), hop(z_T[:rows])
        reached, _ = _first_loss(task, prior, *moved)
        for n in (reached < losses[:rows]).nonzero().flatten().tolist():
            null[n], z_T[n], losses[n] = moved[0][n], moved[1][n], reached[n]
        left -= rows
    best = int(losses.argmin())
    return null[best : best + 1], z_T[best : best + 1]


def invert(task: Task) -> Job[Solution]:
    """`as_published` made faster: the prior is predicted (`fixed_point`), at the same cost, starts are drawn without
    hops, and most steps are made by what follows under "Accelerations"."""
    settings, S = task.settings, task.settings.steps

    # The prior trajectory x_0, ..., x_T.
    prior = yield from ddim_trajectory(task, iterations=settings.prior_iterations, depth=settings.depth)

    # t = T: m iterations of z_null and z_T, from the best of several starts.
    path: list[Point] = task.checkpoint.part("latent-TOP")  # x*_T, x*_{T-1}, ...
    if not path:
        null, z_T = choose_start(task, prior)
        path += optimise_first_step(task, prior, null, z_T)
        yield task.event(1, S, "optimising", path[-1].x, path[-1].loss)
    if settings.shared:
        null = yield from _shared_bias(task, prior, path[0].null)
        return Solution(torch.cat((prior[:-1], path[0].x)), settings.guidance, null)

    # t < T: m iterations of z_null, from that of the step before.
    for i in range(S - len(path), -1, -1):
        optimise = optimise_step if iterations_at(settings, i) > 1 else _try_one_iteration
        path.append(optimise(task, path[-1], prior, i))
        yield task.event(S - i, S, "optimising", path[-1].x, path[-1].loss)
    return _solution(task, path)


def _solution(task: Task, path: Sequence[Point]) -> Solution:
    trajectory = torch.cat([point.x for point in reversed(path)])
    return Solution(trajectory, task.settings.guidance, torch.cat([point.null for point in reversed(path[1:])]))


@torch.no_grad()
def choose_start(task: Task, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Multiple starts: of no bias and sampled ones, (empty embedding + z_null, z_T) with the smallest first loss."""
    settings, generator = task.settings, task.generator()
    around = task.text if settings.start == "source" else task.empty
    n = settings.starts if not task.out_of_time() else 1
    null, z_T = around.repeat(n, 1, 1), torch.zeros_like(task.x0).repeat(n, 1, 1, 1)
    for bias in (null, z_T):
        bias[1:] += settings.start_scale * torch.randn(bias[1:].shape, generator=generator).to(bias)
    if n == 1:
        return null, z_T
    losses, _ = _first_loss(task, prior, null, z_T)
    best = int(losses.argmin())
    return null[best : best + 1], z_T[best : best + 1]


def optimise_first_step(task: Task, prior: Tensor, null: Tensor, z_T: Tensor) -> tuple[Point, Point]:
    """x*_T and x*_{T-1} after m iterations of both biases, which act together through this step alone."""
    settings = task.settings

    def objective(null: Tensor, z_T: Tensor) -> tuple[Tensor, Tensor]:
        losses, x_prev = _first_loss(task, prior, null, z_T)
        if settings.gaussian:
            losses = losses + settings.gaussian * gaussianity(prior[-1:] + z_T)
        return losses, x_prev

    rates, m = [settings.rate_or(TEXT_RATE), settings.noise_rate], iterations_at(settings, settings.steps - 1)
    (null, z_T), loss, x_prev = minimise_in_time(task, objective, [null, z_T], rates, m)
    still = torch.zeros_like(x_prev)
    return Point(prior[-1:] + z_T, null, loss.item(), still), Point(x_prev, null, loss.item(), still)


def _first_loss(task: Task, prior: Tensor, null: Tensor, z_T: Tensor) -> tuple[Tensor, Tensor]:
    """Of B starts: (B,) losses and x*_{T-1}."""
    x, last = prior[-1:] + z_T, task.settings.steps - 1
    eps = task.model.guided(x, task.levels[-1], task.text, null, task.settings.guidance)
    x_prev = reverse_steps(task, x, eps, [last] * len(x))
    return mean_square(x_prev - prior[last : last + 1]), x_prev


def optimise_step(task: Task, point: Point, prior: Tensor, i: int, iterations: int | None = None) -> Point:
    """x*_{t-1}, step i from x*_t, after m iterations (or fewer) of z_null; the best that was met is kept. The
    conditional prediction is computed once, because z_null does not act on it."""
    m = task.settings.iterations if iterations is None else iterations
    objective, rate = trajectory_objective(task, point.x, prior[i : i + 1], [i]), task.settings.rate_or(TEXT_RATE)
    (null,), loss, x_prev = minimise_in_time(task, objective, [point.null], [rate], m)
    return Point(x_prev, null, loss.item(), point.drift)


# ------------------------------------------------------------------------------------------------------ accelerations

DIVERGED_MSE = 1e-2  # mean squared error of a step; two to four times the most that is met on the embedded model


def iterations_at(settings: InversionSettings, i: int) -> int:
    """With which step i begins: m in the `late` share of the steps, the last, and one before; what a step leaves, the
    next can mend."""
    return settings.iterations if i < round(settings.late * settings.steps) else min(1, settings.iterations)


def _try_one_iteration(task: Task, point: Point, prior: Tensor, i: int) -> Point:
    """As `optimise_step` with one iteration, and with the rest of the m where the path diverges."""
    settings, first = task.settings, min(1, task.settings.iterations)
    if first == 1 and settings.optimiser == "adam" and not task.out_of_time():
        reached = _single_iteration(task, point, prior, i)
    else:
        reached = optimise_step(task, point, prior, i, first)
    if first < settings.iterations and reached.loss > DIVERGED_MSE:
        start = point._replace(null=reached.null, drift=reached.drift)
        reached = optimise_step(task, start, prior, i, settings.iterations - first)
    return reached


def _single_iteration(task: Task, point: Point, prior: Tensor, i: int) -> Point:
    """As `optimise_step` with one iteration, in two network calls in place of three.

    Only the gradient needs eps(x*, C) beforehand, and for that an estimate is good enough: the prior's eps, moved by as
    much as eps(x*, C) was away from it in the step before. The exact one is computed in the same call as eps at the new
    bias, and of both biases that is kept which it finds better.
    """
    model, settings, x = task.model, task.settings, point.x
    t, t_prev = task.levels[i + 1], task.levels[i]
    goal = prior[i : i + 1]
    eps_prior = model.schedule.eps_between(prior[i + 1 : i + 2], goal, t, t_prev)

    # The gradient, with an estimate of eps(x*, C).
    null = point.null.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        eps_null = model.eps(x, t, null)
        loss, _ = trajectory_loss(task, x, goal, [i], eps_null, eps_prior + point.drift)
        if loss.item() >= settings.tolerance:
            backward(loss)

    # The loss at both biases, with eps(x*, C) itself.
    eps_null, nulls = eps_null.detach(), null.detach()
    with torch.no_grad():
        if null.grad is None:
            eps_text = model.eps(x, t, task.text)
        else:
            step = null.grad / (null.grad.abs() + 1e-8)  # the first of Adam
            moved = nulls - settings.rate_or(TEXT_RATE) * step
            eps_text, eps_moved = model.eps(torch.cat((x, x)), t, torch.cat((task.text, moved))).chunk(2)
            eps_null, nulls = torch.cat((eps_null, eps_moved)), torch.cat((nulls, moved))
        steps = [i] * len(nulls)
        losses, x_prev = trajectory_loss(task, x.expand_as(eps_null), goal, steps, eps_null, eps_text)
    best = losses.argmin(dim=0, keepdim=True)
    return Point(x_prev[best], nulls[best], losses[best].item(), eps_text - eps_prior)


def _shared_bias(task: Task, prior: Tensor, null: Tensor) -> Job[Tensor]:
    """One embedding (1, L, E) for all steps: m passes of one optimiser step per step of the prior trajectory."""
    settings, S = task.settings, task.settings.steps
    null = null.detach().clone().requires_grad_(True)
    method = torch.optim.Adam([null], settings.rate_or(TEXT_RATE))
    objectives: list[Objective] = []
    for n in range(settings.iterations):
        losses = []
        for i in range(S - 1, -1, -1):
            if task.out_of_time():
                return null.detach()
            if n == 0:
                objectives.append(trajectory_objective(task, prior[i + 1 : i + 2], prior[i : i + 1], [i]))
            losses.append(_optimiser_step(objectives[S - 1 - i], null, method))
            yield task.event(n * S + S - i, settings.iterations * S, "optimising", prior[:1], losses[-1])
        if sum(losses) / S < settings.tolerance:
            break
    return null.detach()


def _optimiser_step(objective: Objective, null: Tensor, method: torch.optim.Optimizer) -> float:
    method.zero_grad()
    with torch.enable_grad():
        loss, _ = objective(null)
        backward(loss)
    method.step()
    return loss.item()


PUBLISHED = InversionMethod(
    "latent-TOP as published",
    "latent-TOP as published",
    "The paper's own algorithm: the same corrections, learned at every step with all attempts, which takes about three "
    "times as long.",
    as_published,
)

METHOD = InversionMethod(
    "latent-TOP",
    "latent-TOP",
    "Learns small corrections of the empty prompt, for each step, and of the noise, so that the way back with strong "
    "words follows the way to noise.",
    invert,
)

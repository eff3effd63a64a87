"""latent-TOP: latent trajectory optimisation with a prior (On the Robustness of Diffusion Inversion in Image
Manipulation, section 2.2).

The prior is the trajectory x_t of DDIM inversion at guidance 1 with the source prompt. A bias z_null of the empty
embedding and a bias z_T of x_T are learned so that the guided trajectory x*_t stays close to it.
"""

from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor

from ..progress import Progress
from ..text_to_image import memory
from .optimise import (
    SCALE,
    TEXT_RATE,
    Objective,
    fit_in_time,
    follow,
    gaussianity,
    mean_square,
    trajectory_loss,
)
from .solution import Settings, Solution, Solving, Task
from .trajectory import ascend, reverse

DIVERGED_MSE = 1e-2  # mean squared error of a step; two to four times the most that is met on the embedded model


def invert(task: Task) -> Solving:
    """min |x*_{t-1} - x_{t-1}|^2 from t = T down, starting from the best of several starts.

    The paper has m iterations at every step and a prior of plain DDIM inversion (late = 1, prior_iterations = 0). Here
    the last fifth of the steps has them, and the prior is predicted (`fixed_point`) at the same cost.

    z_T acts through the first step, where it is learned together with z_null; from then on the conditional prediction
    is computed once per step. Each step starts at the bias of the step before and keeps the best it met. With `shared`,
    one bias serves all steps: m passes over the prior trajectory instead.
    """
    settings, S = task.settings, task.settings.steps
    prior = yield from ascend(task, iterations=settings.prior_iterations, depth=settings.depth)

    done: list[Reached] = task.checkpoint.part("latent-TOP")
    if not done:
        null, z_T = choose_start(task, prior)
        null, x_T, x_prev, loss = _first_step(task, prior, null, z_T)
        done += [Reached(x, null, torch.zeros_like(x)) for x in (x_T, x_prev)]
        yield task.event(1, S, "optimising", x_prev, loss)
    if settings.shared:
        null = yield from _shared_bias(task, prior, done[0].null)
        return Solution(torch.cat((prior[:-1], done[0].x)), settings.guidance, null)

    for i in range(S - len(done), -1, -1):
        reached, loss = _step(task, done[-1], prior, i)
        done.append(reached)
        yield task.event(S - i, S, "optimising", reached.x, loss)
    trajectory = torch.cat([reached.x for reached in reversed(done)])
    return Solution(trajectory, settings.guidance, torch.cat([reached.null for reached in reversed(done[1:])]))


class Reached(NamedTuple):
    """A point x*_t of the guided trajectory, the empty embedding with its bias that led there, and how far eps(x*, C)
    was from the prior's eps in the step that did (of the last step that tells)."""

    x: Tensor
    null: Tensor
    drift: Tensor


def _step(task: Task, start: Reached, prior: Tensor, i: int) -> tuple[Reached, float]:
    """x*_{t-1} and its loss, step i.

    What a step leaves the next can mend, so the last steps have all iterations, and those before a single one unless
    the path goes astray.
    """
    settings, first = task.settings, iterations_of(task.settings, i)
    if first == 1 and settings.optimiser == "adam" and not task.out_of_time():
        reached, loss = _single_iteration(task, start, prior, i)
    else:
        reached, loss = _iterations(task, start, prior, i, first)
    if first < settings.iterations and loss > DIVERGED_MSE:
        start = start._replace(null=reached.null, drift=reached.drift)
        reached, loss = _iterations(task, start, prior, i, settings.iterations - first)
    return reached, loss


def _iterations(task: Task, start: Reached, prior: Tensor, i: int, iterations: int) -> tuple[Reached, float]:
    objective, rate = follow(task, start.x, prior[i : i + 1], [i]), task.settings.rate_or(TEXT_RATE)
    (null,), loss, x_prev = fit_in_time(task, objective, [start.null], [rate], iterations)
    return Reached(x_prev, null, start.drift), loss.item()


def _single_iteration(task: Task, start: Reached, prior: Tensor, i: int) -> tuple[Reached, float]:
    """As `_iterations` with one, in two network calls in place of three.

    Only the gradient needs eps(x*, C) beforehand, and for that an estimate is good enough: the prior's eps, moved by as
    much as eps(x*, C) was away from it in the step before. The exact one is computed in the same call as eps at the new
    bias, and of both biases that is kept which it finds better.
    """
    model, settings, x = task.model, task.settings, start.x
    t, t_prev = task.levels[i + 1], task.levels[i]
    goal = prior[i : i + 1]
    known = model.schedule.eps_between(prior[i + 1 : i + 2], goal, t, t_prev)

    null = start.null.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        eps_null = model.eps(x, t, null)
        loss, _ = trajectory_loss(task, x, goal, [i], eps_null, known + start.drift)
        if loss.item() >= settings.tolerance:
            with memory():
                (SCALE * loss.sum()).backward()
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
    return Reached(x_prev[best], nulls[best], eps_text - known), losses[best].item()


def iterations_of(settings: Settings, i: int) -> int:
    """With which step i begins."""
    return settings.iterations if i < round(settings.late * settings.steps) else min(1, settings.iterations)


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


def _first_step(task: Task, prior: Tensor, null: Tensor, z_T: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """(empty embedding with its bias, x*_T, x*_{T-1}, loss)."""
    settings = task.settings

    def objective(null: Tensor, z_T: Tensor) -> tuple[Tensor, Tensor]:
        losses, x_prev = _first_loss(task, prior, null, z_T)
        if settings.gaussian:
            losses = losses + settings.gaussian * gaussianity(prior[-1:] + z_T)
        return losses, x_prev

    rates, iterations = [settings.rate_or(TEXT_RATE), settings.noise_rate], iterations_of(settings, settings.steps - 1)
    (null, z_T), loss, x_prev = fit_in_time(task, objective, [null, z_T], rates, iterations)
    return null, prior[-1:] + z_T, x_prev, loss.item()


def _first_loss(task: Task, prior: Tensor, null: Tensor, z_T: Tensor) -> tuple[Tensor, Tensor]:
    """Of B starts: (B,) losses and x*_{T-1}."""
    x, last = prior[-1:] + z_T, task.settings.steps - 1
    eps = task.model.guided(x, task.levels[-1], task.text, null, task.settings.guidance)
    x_prev = reverse(task, x, eps, [last] * len(x))
    return mean_square(x_prev - prior[last : last + 1]), x_prev


def _shared_bias(task: Task, prior: Tensor, null: Tensor) -> Generator[Progress, None, Tensor]:
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
                objectives.append(follow(task, prior[i + 1 : i + 2], prior[i : i + 1], [i]))
            losses.append(_optimiser_step(objectives[S - 1 - i], null, method))
            yield task.event(n * S + S - i, settings.iterations * S, "optimising", prior[:1], losses[-1])
        if sum(losses) / S < settings.tolerance:
            break
    return null.detach()


def _optimiser_step(objective: Objective, null: Tensor, method: torch.optim.Optimizer) -> float:
    method.zero_grad()
    with torch.enable_grad():
        loss, _ = objective(null)
        with memory():
            (SCALE * loss.sum()).backward()
    method.step()
    return loss.item()

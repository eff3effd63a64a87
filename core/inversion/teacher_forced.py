"""All steps of a trajectory optimised at once: every step starts from the prior trajectory, not from the one before.

The loss of latent-TOP, |step(x_t) - x_{t-1}|^2 at the prior's x_t, splits into one problem per step. They are solved in
batches, each batch started at the embedding of the batch before, and the small errors that remain are not passed on
while optimising.
"""

import torch
from torch import Tensor

from ..progress import Job
from .optimise import TEXT_RATE, minimise_in_time, trajectory_objective
from .solution import InversionMethod, Solution, Task
from .trajectory import ddim_trajectory


def invert(task: Task) -> Job[Solution]:
    """One empty embedding per step, from the prior (`prior_iterations`), at the working guidance."""
    settings, S = task.settings, task.settings.steps
    prior = yield from ddim_trajectory(task, iterations=settings.prior_iterations, depth=settings.depth)
    done: list[Tensor] = task.checkpoint.part("teacher-forced")  # embeddings, from T down
    while (n := sum(len(null) for null in done)) < S:
        steps = range(S - 1 - n, max(-1, S - 1 - n - task.model.rows), -1)
        start = task.text if settings.start == "source" else task.empty
        null = (done[-1][-1:] if done else start).repeat(len(steps), 1, 1)
        objective = trajectory_objective(task, prior[[i + 1 for i in steps]], prior[list(steps)], steps)
        rate = settings.rate_or(TEXT_RATE)
        (null,), losses, x_prev = minimise_in_time(task, objective, [null], [rate], settings.iterations)
        done.append(null)
        yield task.event(n + len(steps), S, "optimising", x_prev[-1:], losses.mean().item())
    return Solution(prior, settings.guidance, torch.cat(done).flip(0))


METHOD = InversionMethod(
    "teacher-forced",
    "Teacher-forced",
    "Learns the corrections of latent-TOP for all steps side by side, each from where it should start, not from where "
    "the step before it ended.",
    invert,
)

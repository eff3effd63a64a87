"""Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2023)."""

import torch

from ..progress import Job, Progress
from .anchored import AnchoredStep
from .solution import InversionMethod, Solution, Task


def invert(task: Task) -> Job[Solution]:
    """Algorithm 1: x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e_t with independent e_t; the noise maps that make a DDPM pass
    through them, z_t = (x_{t-1} - mu(x_t)) / sigma_t, `AnchoredStep` takes from the source and carries to targets.

    Source guidance 3.5, and edits skip the first 36% of the steps (section 5). The maps are those of LEDITS++ in
    diffusers with its DDIM scheduler; the last step has no noise, and what it lacks is carried all the same. Needs no
    network evaluation of its own.
    """
    settings, generator, xs = task.settings, task.generator(), [task.x0]
    guidance = 3.5 if settings.source_guidance is None else settings.source_guidance
    for t in task.levels[1:]:
        e = torch.randn(task.x0.shape, generator=generator, dtype=task.x0.dtype).to(task.x0.device)
        xs.append(task.model.schedule.noised(task.x0, e, t))
    yield Progress(1, 1, "sampling")
    return Solution(torch.cat(xs), guidance, task.empty, AnchoredStep(carry=1.0, eta=1.0, skip=settings.skip))


METHOD = InversionMethod(
    "edit-friendly DDPM",
    "Edit-friendly DDPM",
    "Adds fresh noise to the picture for every step, and notes the random numbers with which a sampler (DDPM) passes "
    "through all of these.",
    invert,
    AnchoredStep,
)

"""DDIB: Dual Diffusion Implicit Bridges for Image-to-Image Translation (Su et al. 2022)."""

from .solution import Solution, Solving, Task
from .trajectory import ascend


def invert(task: Task) -> Solving:
    """Algorithm 1: up the ODE of the source model, eps(x, source prompt), and down that of the target model.

    The target model is the guided one, so a reconstruction goes down with the source prompt at the working guidance.
    """
    return Solution((yield from ascend(task)), task.settings.guidance, task.empty)

"""DDIB: Dual Diffusion Implicit Bridges for Image-to-Image Translation (Su et al. 2022)."""

from ..progress import Job
from .solution import InversionMethod, Solution, Task
from .trajectory import ddim_trajectory


def invert(task: Task) -> Job[Solution]:
    """Algorithm 1: up the ODE of the source model, eps(x, source prompt), and down that of the target model.

    The target model is the guided one, so a reconstruction goes down with the source prompt at the working guidance.
    """
    return Solution((yield from ddim_trajectory(task)), task.settings.guidance, task.empty)


METHOD = InversionMethod(
    "DDIB",
    "DDIB",
    "Steps from the picture to noise as in DDIM, and back with words that count as strongly as in an edit. Nothing is "
    "corrected.",
    invert,
)

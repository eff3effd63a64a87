"""Plain DDIM inversion (Song et al. 2020a; latent-TOP, Appendix A.1.2 and A.1.3)."""

from ..progress import Job
from .solution import InversionMethod, Solution, Task
from .trajectory import ddim_trajectory


def invert(task: Task) -> Job[Solution]:
    """Up and down at guidance 1: approximate, and weak edits."""
    return Solution((yield from ddim_trajectory(task)), 1.0, task.empty)


def invert_guided(task: Task) -> Job[Solution]:
    """Up and down at the working guidance, which amplifies the error of every step (Eq. 8)."""
    guidance = task.settings.guidance
    return Solution((yield from ddim_trajectory(task, guidance)), guidance, task.empty)


METHOD = InversionMethod(
    "DDIM",
    "DDIM",
    "The plain way: steps from the picture to noise and back, with words that count once (guidance 1). Nothing is "
    "corrected.",
    invert,
)
GUIDED = InversionMethod(
    "DDIM, guided",
    "DDIM, guided",
    "Steps from the picture to noise and back, both with words that count as strongly as in an edit. Nothing is "
    "corrected.",
    invert_guided,
)

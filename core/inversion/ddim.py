"""Plain DDIM inversion (Song et al. 2020a; latent-TOP, Appendix A.1.2 and A.1.3)."""

from .solution import Solution, Solving, Task
from .trajectory import ascend


def invert(task: Task) -> Solving:
    """Up and down at guidance 1: approximate, and weak edits."""
    return Solution((yield from ascend(task)), 1.0, task.empty)


def invert_guided(task: Task) -> Solving:
    """Up and down at the working guidance, which amplifies the error of every step (Eq. 8)."""
    guidance = task.settings.guidance
    return Solution((yield from ascend(task, guidance)), guidance, task.empty)

"""Negative-prompt inversion (Miyake et al. 2023): the source prompt takes the place of the empty one."""

from .solution import Solution, Solving, Task
from .trajectory import ascend


def invert(task: Task) -> Solving:
    """Section 3.2: null-text inversion would make the unconditional prediction equal the conditional one; so does this,
    without optimising. What is left is the error of plain DDIM inversion, at any guidance."""
    return Solution((yield from ascend(task)), task.settings.guidance, task.text)

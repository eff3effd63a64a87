"""Negative-prompt inversion (Miyake et al. 2023): the source prompt takes the place of the empty one."""

from ..progress import Job
from .solution import InversionMethod, Solution, Task
from .trajectory import ddim_trajectory


def invert(task: Task) -> Job[Solution]:
    """Section 3.2: null-text inversion would make the unconditional prediction equal the conditional one; so does this,
    without optimising. What is left is the error of plain DDIM inversion, at any guidance."""
    return Solution((yield from ddim_trajectory(task)), task.settings.guidance, task.text)


METHOD = InversionMethod(
    "negative prompt",
    "Negative prompt",
    "Strong words push away from an empty prompt; here they push away from the description of the picture, which "
    "leaves alone what both say.",
    invert,
)

"""Anchored inversion: a source that comes back exactly, guided like its targets but less, and what that takes given to
targets.

Ours, after direct inversion (Ju et al. 2023) and edit-friendly DDPM (Huberman-Spiegelglas et al. 2023).
"""

from .solution import Solution, Solving, Task
from .trajectory import ascend

SHARE = 0.6  # of the guidance of targets that the source has, beyond 1: 4.9 at 7.5


def invert(task: Task) -> Solving:
    """Plain DDIM inversion at guidance 1. Going down, the source is guided too and put back on that path at every step,
    as in direct inversion; what puts it back is added to targets as well, as the noise maps of edit-friendly DDPM are,
    and edits leave out as many of the first steps.

    Guided as much as its targets, the source prompt as a target would be the picture again, and another target would
    differ from it by what guidance makes of its words and not of the source's. But guided less, there is less to put
    back, and targets say their words more clearly: on portraits that the benchmark does not have, more edits succeeded
    and more of the person and of the surroundings stayed. Exact steps, as in `fixed_point`, would leave less to put
    back, too; but their noise is whiter, and edits of it kept less of the person.
    """
    settings = task.settings
    trajectory = yield from ascend(task)
    return Solution(
        trajectory,
        settings.guidance,
        task.empty,
        anchored=True,
        share=SHARE,
        carry=1.0,
        skip=settings.skip,
    )

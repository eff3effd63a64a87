"""Anchored inversion: a source that comes back exactly at any guidance, and what that takes given to targets.

Ours, after direct inversion (Ju et al. 2023) and edit-friendly DDPM (Huberman-Spiegelglas et al. 2023).
"""

from core.inversion.solution import Solution, Solving, Task
from core.inversion.trajectory import ascend


def invert(task: Task) -> Solving:
    """Plain DDIM inversion at guidance 1. Going down, the source is guided as its targets are and put back on that path
    at every step, as in direct inversion; what puts it back is added to targets as well, as the noise maps of
    edit-friendly DDPM are, and edits leave out as many of the first steps.

    So the source prompt as a target is the picture again, and another target differs from it by what guidance makes of
    its words and not of the source's. (Exact steps, as in `fixed_point`, would leave less to put back; but their noise
    is whiter, and edits of it kept less of the person.)
    """
    settings = task.settings
    trajectory = yield from ascend(task)
    return Solution(
        trajectory,
        settings.guidance,
        task.empty,
        anchored=True,
        any_guidance=True,
        carry=1.0,
        skip=settings.skip,
    )

"""Direct inversion (PnP inversion, Ju et al. 2023): the source's deviation is put right at every step."""

from .solution import Solution, Solving, Task
from .trajectory import ascend


def invert(task: Task) -> Solving:
    """Algorithm 1: the source goes down at the working guidance with o_t = x_{t-1} - step(x_t) added at every step,
    which holds it on the trajectory of guidance 1; targets go their own way (carry 0)."""
    trajectory = yield from ascend(task)
    return Solution(trajectory, task.settings.guidance, task.empty, anchored=True, carry=0.0)

"""Direct inversion (PnP inversion, Ju et al. 2023): the source's deviation is put right at every step."""

from ..progress import Job
from .anchored import AnchoredStep
from .solution import InversionMethod, Solution, Task
from .trajectory import ddim_trajectory


def invert(task: Task) -> Job[Solution]:
    """Algorithm 1: the source goes down at the working guidance with o_t = x_{t-1} - step(x_t) added at every step,
    which holds it on the trajectory of guidance 1; targets go their own way (carry 0)."""
    trajectory = yield from ddim_trajectory(task)
    return Solution(trajectory, task.settings.guidance, task.empty, AnchoredStep(carry=0.0))


METHOD = InversionMethod(
    "direct",
    "Direct",
    "Steps from the picture to noise, and notes how far each step back misses that path; on the way back this is "
    "added.",
    invert,
    AnchoredStep,
)

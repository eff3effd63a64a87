"""Fixed-point DDIM inversion with Anderson acceleration (AIDI, Pan et al. 2023), predicted.

The prediction from the eps of the steps before is ours: with one evaluation per step, as many as plain DDIM inversion,
it leaves far less of the linearisation error.
"""

from ..progress import Job
from .solution import InversionMethod, Solution, Task
from .trajectory import ddim_trajectory


def invert(task: Task) -> Job[Solution]:
    """Sections 3.2 and 3.3: each step inverted exactly, at the working guidance, as far as the iteration converges."""
    settings = task.settings
    guidance = settings.guidance if settings.source_guidance is None else settings.source_guidance
    trajectory = yield from ddim_trajectory(
        task, guidance, settings.solver_iterations, settings.depth, settings.solver_tolerance
    )
    return Solution(trajectory, guidance, task.empty)


METHOD = InversionMethod(
    "fixed point",
    "Fixed point",
    "Repeats each step to noise until the step back undoes it (AIDI), with words that count as strongly as in an edit.",
    invert,
)

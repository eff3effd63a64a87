"""Fixed-point DDIM inversion with Anderson acceleration (AIDI, Pan et al. 2023), predicted; and its anchored form.

The prediction from the eps of the steps before is ours: with one evaluation per step, as many as plain DDIM inversion,
it leaves far less of the linearisation error.
"""

from core.inversion.solution import Solution, Solving, Task
from core.inversion.trajectory import ascend


def invert(task: Task) -> Solving:
    """Sections 3.2 and 3.3: each step inverted exactly, at the working guidance, as far as the iteration converges."""
    settings = task.settings
    guidance = settings.guidance if settings.source_guidance is None else settings.source_guidance
    trajectory = yield from ascend(
        task, guidance, settings.solver_iterations, settings.depth, settings.solver_tolerance
    )
    return Solution(trajectory, guidance, task.empty)


def invert_anchored(task: Task) -> Solving:
    """Exact steps at guidance 1, where the iteration converges fast; the source prompt in place of the empty one, so
    that they stay exact at the working guidance; and the source anchored, for the little that is left.

    The picture comes back exactly, and the path to it is the model's own: what an anchored step adds is small, and
    targets get it too.
    """
    settings = task.settings
    trajectory = yield from ascend(task, 1.0, settings.solver_iterations, settings.depth, settings.solver_tolerance)
    return Solution(trajectory, settings.guidance, task.text, anchored=True, carry=1.0)

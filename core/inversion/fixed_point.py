"""Fixed-point DDIM inversion with Anderson acceleration (AIDI, Pan et al. 2023), predicted; and its anchored form.

The prediction from the eps of the steps before is ours: with one evaluation per step, as many as plain DDIM inversion,
it leaves far less of the linearisation error.
"""

from core.inversion.solution import Solution, Solving, Task
from core.inversion.trajectory import ascend

SKIP = 0.28  # of the steps of an edit


def invert(task: Task) -> Solving:
    """Sections 3.2 and 3.3: each step inverted exactly, at the working guidance, as far as the iteration converges."""
    settings = task.settings
    guidance = settings.guidance if settings.source_guidance is None else settings.source_guidance
    trajectory = yield from ascend(
        task, guidance, settings.solver_iterations, settings.depth, settings.solver_tolerance
    )
    return Solution(trajectory, guidance, task.empty)


def invert_anchored(task: Task) -> Solving:
    """Exact steps at guidance 1, where the iteration converges fast; the source held on that path at the guidance of
    its targets, and what that takes given to them too.

    The picture comes back exactly, and so does the source prompt as a target: what a target becomes differs from the
    picture by what guidance makes of its prompt and not of the source's. Edits leave out the first 28% of the steps, in
    which a guidance of 7.5 turns one person into another (`python -m benchmarks.inversion skip`).
    """
    settings = task.settings
    trajectory = yield from ascend(task, 1.0, settings.solver_iterations, settings.depth, settings.solver_tolerance)
    skip = SKIP if settings.skip is None else settings.skip
    return Solution(trajectory, settings.guidance, task.empty, anchored=True, any_guidance=True, carry=1.0, skip=skip)

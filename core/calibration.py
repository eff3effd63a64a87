"""How strong a direction has to be in a process of few steps to do what it does in the papers' process.

Asyrp keeps the sum of the shifts when the number of steps changes (delta_h S / S~, section 3.4). That is not enough:
steps at large noise forget, those before the last acting one count less the longer they are, and a symmetric shift
counts by the length of its step, not once per step. What a unit shift of eps does to the picture can be computed for
pictures that are Gaussian with standard deviation s. With z = x / sqrt(a) and sigma^2 = (1 - a) / a, a step from sigma
to sigma' takes a deviation d to

    d' = (J + (1 - J) sigma' / sigma) d + u,    J = s^2 / (s^2 + sigma^2),

where J is how much of d a network that is right about such pictures takes for the picture's own, and u what the shift
adds: sigma in an asymmetric step (it acts on P_t), sigma - sigma' in a symmetric one (on P_t and D_t). The response of
a process is the d that is left in the end; strengths are multiplied with the ratio of two responses.

What remains is measured. A direction may have a `gain` of its own. Symmetric shifts, which a network takes up and does
not forget as this d is forgotten, do less in few steps than that. They get (40 / steps)^(1/2): the directions that
Discover finds then do in 7 steps, on the mean, about what they do in 40; single ones up to half more
(`python -m benchmarks.samplers_further discovered`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from .directions import CompositeDirection, Direction, Part, parts_of
from .editing import EditSettings, acts, injection_of
from .schedule import Schedule

REFERENCE_STEPS = 40  # of the process in which strengths are meant
SPREAD = 0.33  # s, fitted: the shipped directions make about the change that they make in 40 steps
TAKEN_UP = 0.5  # power of the step count by which symmetric shifts do less in few steps
LOW = 0.75  # of T: below, directions act and details are made
ABOVE = 8  # of so many steps one lies above


def response(schedule: Schedule, timesteps: Sequence[int], part: Part, settings: EditSettings) -> float:
    """What a unit shift of eps at the acting ones of the ascending timesteps does to a picture, in units of it."""
    d, levels = 0.0, [-1, *timesteps]
    for t, t_prev in zip(levels[:0:-1], levels[-2::-1], strict=True):
        sigma, sigma_prev = _sigma(schedule, t), _sigma(schedule, t_prev)
        J = SPREAD**2 / (SPREAD**2 + sigma**2)
        d = (J + (1 - J) * sigma_prev / sigma) * d
        if acts(part, t, settings):
            d += sigma - (sigma_prev if injection_of(part, settings) == "symmetric" else 0.0)
    return d


def calibrated(
    schedule: Schedule, timesteps: Sequence[int], direction: Direction, settings: EditSettings
) -> CompositeDirection:
    """The direction with weights that make it do in a process at these timesteps what it does in the papers' process of
    40 steps: by their responses, and by its own gain. What never acts in one of the two keeps its weight.

    timesteps: ascending; as many as `settings.steps`.
    """
    reference = schedule.timesteps(min(REFERENCE_STEPS, schedule.T))
    parts, weights = parts_of(direction), []
    for part in parts:
        here = response(schedule, timesteps, part, settings) * len(reference)  # as delta_h S / S~ is applied
        there = response(schedule, reference, part, settings) * len(timesteps)
        lost = (len(reference) / len(timesteps)) ** TAKEN_UP if injection_of(part, settings) == "symmetric" else 1.0
        weights.append(part.weight * (part.direction.gain * lost * there / here if here and there else 1.0))
    return CompositeDirection(
        tuple(part.direction for part in parts),
        tuple(weights),
        tuple(part.t_edit for part in parts),
        tuple(injection_of(part, settings) for part in parts),
    )


def grid(schedule: Schedule, steps: int, directions: Sequence[Direction], settings: EditSettings) -> tuple[int, ...]:
    """Ascending timesteps: those of `uneven_timesteps`, and where all of them miss the interval of a part one in the
    middle of it. Raises as `Schedule.timesteps`."""
    timesteps = set(uneven_timesteps(schedule, steps))
    reference = schedule.timesteps(min(REFERENCE_STEPS, schedule.T))
    for part in (part for direction in directions for part in parts_of(direction)):
        acting = [t for t in reference if acts(part, t, settings)]
        if acting and not any(acts(part, t, settings) for t in timesteps):
            timesteps.add(acting[len(acting) // 2])
    return tuple(sorted(timesteps))


def uneven_timesteps(schedule: Schedule, steps: int) -> list[int]:
    """`steps` ascending timesteps from 0 to T - 1: evenly up to 0.75 T, but the last eighth of them, at least one,
    evenly from there.

    The same for all directions, so that a picture has one path. Measured on the shipped directions, of grids of 5 to 8
    steps: one that is denser below or above, or ends below T - 1, changes more of the picture for the same change of
    the direction's own attribute.

    Raises:
        RequestError: fewer than 2 steps or more than T.
    """
    even, low = schedule.timesteps(steps), round(LOW * schedule.T)
    above = max(1, steps // ABOVE)
    below = steps - above
    if below < 2:
        return even
    lower = [round(low * k / (below - 1)) for k in range(below)]
    upper = [round(low + (schedule.T - 1 - low) * (k + 1) / above) for k in range(above)]
    timesteps = sorted({*lower, *upper})
    return timesteps if len(timesteps) == steps else even


def _sigma(schedule: Schedule, t: int) -> float:
    a = schedule.alpha(t)
    return sqrt((1 - a) / a)

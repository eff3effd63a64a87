"""How strong a direction has to be in a process of few steps to do what it does in the papers' process.

Asyrp keeps the sum of the shifts when the number of steps changes (delta_h S / S~, section 3.4). That is not enough:
steps at large noise forget, and those before the last acting one count less the longer they are. What a unit shift of
eps does to the picture in an asymmetric step can be computed for pictures that are Gaussian with standard deviation s.
With z = x / sqrt(a) and sigma^2 = (1 - a) / a, a step from sigma to sigma' takes a deviation d to

    d' = (J + (1 - J) sigma' / sigma) d + u,    J = s^2 / (s^2 + sigma^2),

where J is how much of d a network that is right about such pictures takes for the picture's own, and u = sigma what the
shift of P_t adds. The response of a process is the d that is left in the end; strengths are multiplied with the ratio
of two responses.

A symmetric shift is another matter: it changes the vector field that the process follows. With more steps its effect
converges without being divided by their number, and it counts by the part of the process in which it acts. Few steps
do less, to second order: by 1 / (1 + (C / S)^2), with C fitted. It also takes more of them until all directions do what
they do in 40 steps, and not only their mean: such directions get twice the steps (`python -m
benchmarks.samplers_further discovered`).

What remains is measured: a direction may have a `gain` of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from math import sqrt

from .directions import CompositeDirection, Direction, Injection, Part, parts_of
from .editing import EditSettings, acts, injection_of
from .schedule import Schedule

REFERENCE_STEPS = 40  # of the process in which strengths are meant
SPREAD = 0.33  # s, fitted: the shipped directions make about the change that they make in 40 steps
SYMMETRIC_STEPS = 2  # times as many for symmetric shifts
COARSE = 6.6  # C, fitted: the directions of three regions of two portraits, in 14 steps, by the median portrait
LOW = 0.75  # of T: below, directions act and details are made
ABOVE = 8  # of so many steps one lies above


def response(schedule: Schedule, timesteps: Sequence[int], part: Part, settings: EditSettings) -> float:
    """What a unit shift does in a process at the acting ones of the ascending timesteps. asymmetric: to a picture, in
    units of eps. symmetric: the part of the process in which it acts, less what is lost in few steps."""
    if injection_of(part, settings) == "symmetric":
        levels = [-1, *timesteps]
        acting = sum(t - t_prev for t_prev, t in pairwise(levels) if acts(part, t, settings))
        return acting / schedule.T / (1 + (COARSE / len(timesteps)) ** 2)
    d, levels = 0.0, [-1, *timesteps]
    for t, t_prev in zip(levels[:0:-1], levels[-2::-1], strict=True):
        sigma, sigma_prev = _sigma(schedule, t), _sigma(schedule, t_prev)
        J = SPREAD**2 / (SPREAD**2 + sigma**2)
        d = (J + (1 - J) * sigma_prev / sigma) * d + (sigma if acts(part, t, settings) else 0.0)
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
        weights.append(part.weight * (part.direction.gain * there / here if here and there else 1.0))
    return CompositeDirection(
        tuple(part.direction for part in parts),
        tuple(weights),
        tuple(part.t_edit for part in parts),
        tuple(injection_of(part, settings) for part in parts),
    )


def steps_taken(steps: int, injections: Collection[Injection]) -> int:
    """Steps that are made of `steps` where the parts of directions act so: symmetric ones need more of them."""
    return SYMMETRIC_STEPS * steps if "symmetric" in injections else steps


def grid(schedule: Schedule, steps: int, directions: Sequence[Direction], settings: EditSettings) -> tuple[int, ...]:
    """Ascending timesteps: those of `uneven_timesteps`, of twice the steps where a shift is symmetric; and where all of
    them miss the interval of a part one in the middle of it. Raises as `Schedule.timesteps`."""
    parts = [part for direction in directions for part in parts_of(direction)]
    taken = steps_taken(steps, [injection_of(part, settings) for part in parts])
    timesteps = set(uneven_timesteps(schedule, max(steps, min(taken, schedule.T))))
    reference = schedule.timesteps(min(REFERENCE_STEPS, schedule.T))
    for part in parts:
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

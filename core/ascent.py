"""The way up: DDIM inversion from a clean x to x_T, with a solver for each step.

The inverse of a reverse step needs eps at the x_t that is sought: x_t = g(x_t), g(x) = invert_step(x_{t-1}, eps(x, t)).
Plain DDIM inversion takes g(x_{t-1}), as diffusers does and latent-TOP's Eq. 8. Fixed-point inversion (Pan et al. 2023,
AIDI, section 3.2) applies g several times, here from an x_t that is predicted from the eps of the two steps before.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from .schedule import Schedule, extrapolate

Step = tuple[Tensor, Tensor]  # x_t, and the eps that leads there from x_{t-1}
G = Callable[[Tensor], Step]  # x -> (g(x), eps(x, t))
Solver = Callable[[G, Tensor, int], Step]  # (g, guess, evaluations of g at most)


def iterate(g: G, x: Tensor, evaluations: int) -> Step:
    """Plain fixed-point iteration: g applied `evaluations` times, once at least."""
    x, eps = g(x)
    for _ in range(evaluations - 1):
        x, eps = g(x)
    return x, eps


def ascend(
    schedule: Schedule,
    eps: Callable[[Tensor, int], Tensor],
    x: Tensor,
    timesteps: Sequence[int],
    iterations: int = 1,
    solve: Solver = iterate,
    done: Sequence[Step] = (),
) -> Iterator[Step]:
    """The steps of an inversion from a clean x (B, C, h, w) upwards: for every timestep x_t and the eps to get there.

    eps: (x, t) -> the network's prediction. timesteps: ascending. iterations: 0 for plain DDIM inversion; else the x_t
    that is predicted from the two steps before is improved by `solve` in so many evaluations. With 1 it evaluates the
    network as often as plain inversion, and once more in the first step, which has nothing to be predicted from.
    done: the first steps, where they are known; the rest follows.
    """
    levels, known = [-1, *timesteps], list(done)
    for k, (t_prev, t) in enumerate(pairwise(levels)):
        if k < len(done):
            continue
        x_prev = known[-1][0] if known else x

        def g(x: Tensor, x_prev: Tensor = x_prev, t_prev: int = t_prev, t: int = t) -> Step:
            e = eps(x, t)
            return schedule.invert_step(x_prev, e, t_prev, t), e

        if iterations == 0:
            step = g(x_prev)
        elif k == 0:
            step = solve(g, x_prev, iterations + 1)
        else:
            (_, earlier), (_, latest) = known[-2:] if len(known) > 1 else known * 2
            predicted = extrapolate(earlier, latest, levels[k - 1], t_prev, t)
            step = solve(g, schedule.invert_step(x_prev, predicted, t_prev, t), iterations)
        yield step
        known = [*known[-1:], step]

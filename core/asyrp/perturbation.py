"""Random shifts of the size of a direction's own (Asyrp, section 5.3 "Robustness", figure 9, appendix D.2).

In h-space a random direction of equal size changes little, or something else that still is a picture; in eps-space it
destroys the picture. A direction in eps is one of the model that `core.layers.at_layer(model, "eps")` gives; of that of
"rescaled eps" the shifted eps is brought back to its size (appendix D.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ..directions import Direction, PerTimestepDirection
from ..editing import EditSettings, edit
from ..errors import RequestError
from ..models.loader import DiffusionModel
from ..progress import Job
from .forms import along_edit

Space = Literal["h", "eps"]
MAX_FACTOR = 1000.0  # of a strength that is looked for
TOLERANCE = 0.02  # of the change that is wanted
MAX_TRIES = 24


def random_like(direction: PerTimestepDirection, seed: int = 0) -> PerTimestepDirection:
    """At each timestep a random direction, uniform over all, with the Euclidean norm of the shift in its place.

    Of an f_t take `mean_direction` of one latent first, as figure 9 does: the size is that of an example.
    """
    z = torch.randn(direction.deltas.shape, generator=torch.Generator().manual_seed(seed))
    return PerTimestepDirection(
        direction.timesteps, of_norms(z, norms(direction.deltas)), direction.steps, direction.t_start, direction.gain
    )


def random_of_equal_share(
    model: DiffusionModel, direction: Direction, x_T: Tensor, t_edit: int, space: Space, seed: int = 0
) -> PerTimestepDirection:
    """At each timestep at which a direction edits the latents x_T (N, C, h, w) a random shift of h, or of eps, that is
    as large a share of what it shifts as delta_h is of h: ||delta|| / ||h|| or ||delta|| / ||eps||, mean over N. So
    both spaces are disturbed equally.

    Raises:
        RequestError: the direction does nothing at noise levels from t_edit up.
    """
    steps = list(along_edit(model, direction, x_T, t_edit))[::-1]
    sizes = []
    for step in steps:
        h = step.features.h.float()
        share = (norms(step.delta_h) / norms(h)).mean()
        sizes.append((share * norms(h if space == "h" else step.eps).mean()).cpu())
    shape = model.card.h_shape if space == "h" else model.x_shape
    z = torch.randn((len(steps), *shape), generator=torch.Generator().manual_seed(seed))
    timesteps = torch.tensor([step.t for step in steps])
    return PerTimestepDirection(timesteps, of_norms(z, torch.stack(sizes)), direction.steps, direction.t_start)


def gaussian(
    shape: tuple[int, ...], timesteps: Tensor, steps: int, sigma: float, seed: int = 0
) -> PerTimestepDirection:
    """z ~ N(0, sigma^2 I) at each of the ascending timesteps (K,), for the curve of damage against its size (figure 13
    e). shape: (C, H, W). steps: S, the number of steps of the process that these are all or some of."""
    z = torch.randn((len(timesteps), *shape), generator=torch.Generator().manual_seed(seed))
    return PerTimestepDirection(timesteps, sigma * z, steps)


def strength_of_equal_change(
    model: DiffusionModel, direction: Direction, x_T: Tensor, settings: EditSettings, change: float
) -> Job[float]:
    """The strength at which a direction changes the pictures of latents x_T (N, C, h, w) by a root mean square of
    `change`, in pixels of [-1, 1]: so that what it does in eps is compared with what another does in h where both do as
    much (figures 6 and 13 show how, not how much). For eps give `core.layers.at_layer(model, "eps")`, or "rescaled
    eps", as the model.

    Raises:
        RequestError: it never changes them so much. What `edit` raises.
    """
    before = yield from edit(model, x_T, [], settings)

    def changed(strength: float) -> Job[float]:
        after = yield from edit(model, x_T, [(direction, strength)], settings)
        return float((after - before).square().mean().sqrt())

    return (yield from rising_to(change, changed))


def rising_to(wanted: float, value: Callable[[float], Job[float]]) -> Job[float]:
    """Where a function of a positive number that is 0 at 0 and rises reaches a value, to within `TOLERANCE` of it: by
    the secant through the origin, kept between what is known to be too small and too large.

    Raises:
        RequestError: it does not up to `MAX_FACTOR`.
    """
    c, low, high = 1.0, 0.0, float("inf")
    for _ in range(MAX_TRIES):
        found = yield from value(c)
        if abs(found - wanted) <= TOLERANCE * wanted:
            return c
        low, high = (max(low, c), high) if found < wanted else (low, min(high, c))
        if low >= MAX_FACTOR:
            break
        c = min(c * min(8.0, wanted / found) if found else 8 * c, MAX_FACTOR)
        if not low < c < high:  # the secant has left what is known
            c = (low + high) / 2 if high < float("inf") else 2 * low
    raise RequestError("This direction does not change pictures by so much, however strong it is. Ask for less.")


def norms(deltas: Tensor) -> Tensor:
    """Euclidean norms (K,) of shifts (K, C, H, W)."""
    return deltas.flatten(1).norm(dim=1)


def of_norms(deltas: Tensor, lengths: Tensor) -> Tensor:
    """Shifts (K, C, H, W) in the same directions with other norms (K,)."""
    return deltas * (lengths / norms(deltas).clamp(min=1e-30))[:, None, None, None].to(deltas)

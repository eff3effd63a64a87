"""How local a direction is, and how strong to apply it.

Strengths. The paper edits with a = 50 along a unit vector at every step and does not say how many steps
(Local editing, supplement A.2). A direction found here counts as made with S = the model's own step count (40, Asyrp's
S), so a strength of a adds a * delta at each of 40 steps and a * delta * 40 / S~ at each of S~: the sum is preserved as
in Asyrp (section 3.4). What a = 50 changes differs by model and direction, so `strength_for` chooses a by the change
in the picture; on the avatars that comes to 40 to 80.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from ..directions import GlobalDirection
from ..regions import Region
from .found import Found
from .linear import Jacobian

PAPER_STRENGTH = 50.0
PLAIN_CHANGE = 0.12  # root mean square inside the region, pixels in [-1, 1]: plain to see, not yet broken
ACCUMULATION = 2.3  # change of the finished picture over that of P_t in one step (avatars: 1.4 to 2.8)
MIN_STRENGTH, MAX_STRENGTH = 0.1, 100.0


def strength_for(found: Found, region: Region, change: float = PLAIN_CHANGE) -> float:
    """The strength at which the picture is expected to change by a root mean square of `change` inside the region.

    The linearised change of P_t at the direction's timestep, times what injection at every step adds up to.

    Rounded to two digits and kept between `MIN_STRENGTH` and `MAX_STRENGTH`; `PAPER_STRENGTH` where `inside` is
    unknown.
    """
    if not found.inside:
        return PAPER_STRENGTH
    strength = change * sqrt(3 * region.mask.sum()) / (ACCUMULATION * found.inside)
    return float(f"{min(MAX_STRENGTH, max(MIN_STRENGTH, strength)):.2g}")


def measure(jacobian: Jacobian, found: Sequence[Found], region: Region) -> list[Found]:
    """The same directions with `inside` and `ratio` for a region, by one forward product each.

    For directions that lie outside the basis, or that come from elsewhere. Directions that are not global are
    evaluated at the Jacobian's timestep.
    """
    rows = [_at(one, jacobian) for one in found]
    changes = jacobian.forward(torch.cat(rows)) if rows else torch.zeros(0)
    inside, outside = (_norms(changes, mask) for mask in (region.mask, ~region.mask))
    return [
        replace(one, inside=i, ratio=o / i if i > 0 else float("inf"), region=region.label)
        for one, i, o in zip(found, inside, outside, strict=True)
    ]


def roir(before: Tensor, after: Tensor, mask: np.ndarray) -> Tensor:
    """||(1 - M)(x - x')|| / ||M (x - x')|| per picture, the smaller the more local (Local editing, section 5).

    before, after: (B, 3, R, R). mask: boolean (R, R). Returns (B,), infinity where nothing changes inside.
    """
    difference = (after - before).float()
    return torch.tensor(_norms(difference, ~mask)) / torch.tensor(_norms(difference, mask))


def mean_squares(before: Tensor, after: Tensor, mask: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean squared change inside and outside a mask, of pixels in [-1, 1]: two of (B,)."""
    difference = (after - before).float()
    inside, outside = (torch.tensor(_norms(difference, m)).square() / max(1, 3 * int(m.sum())) for m in (mask, ~mask))
    return inside, outside


def _at(found: Found, jacobian: Jacobian) -> Tensor:
    """delta_h (1, C, H, W) at the Jacobian's timestep."""
    if isinstance(found.direction, GlobalDirection):
        return found.direction.delta
    h = torch.zeros(1, *jacobian.h_shape)
    return found.direction.delta_h(h, torch.zeros(1, 1), jacobian.t)


def _norms(images: Tensor, mask: np.ndarray) -> list[float]:
    M = torch.from_numpy(mask).to(images.device)
    return (images * M).flatten(1).double().norm(dim=1).tolist()

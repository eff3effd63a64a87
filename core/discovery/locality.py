"""How local a direction is, and how strong to apply it.

The paper edits with a = 50 along a unit vector at every step and does not say how many steps (Local editing, supplement
A.2). A direction found here counts as made with S = the model's own step count (40, Asyrp's S): a strength of a adds
a * delta at each of 40 steps and a * delta * 40 / S~ at each of S~ steps, so that the sum is preserved (Asyrp, section
3.4). What a = 50 changes differs by model and direction, so `strength_for` chooses a by the change in the picture; on
the avatars that comes to 40 to 80.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np
import torch
from torch import Tensor

from ..directions import Direction
from ..models.cards import ACCUMULATION
from ..precision import in_float64
from ..regions import Region
from .interface import FoundDirection
from .jacobian_operator import Jacobian

PAPER_STRENGTH = 50.0
VISIBLE_CHANGE = 0.12  # root mean square inside the region, pixels in [-1, 1]: clearly visible, nothing broken yet
MIN_STRENGTH, MAX_STRENGTH = 0.1, 100.0


def strength_for(
    found: FoundDirection, region: Region, change: float = VISIBLE_CHANGE, accumulation: float = ACCUMULATION
) -> float:
    """The strength at which the picture is expected to change by a root mean square of `change` inside the region.

    The linearised change of P_t at one timestep, times `accumulation`, because the direction is added at every step; a
    model's card says how much that is. Rounded to two digits and kept between `MIN_STRENGTH` and `MAX_STRENGTH`;
    `PAPER_STRENGTH` where `found.inside` is unknown.
    """
    if not found.inside:
        return PAPER_STRENGTH
    strength = change * sqrt(3 * region.mask.sum()) / (accumulation * found.inside)
    return float(f"{min(MAX_STRENGTH, max(MIN_STRENGTH, strength)):.2g}")


def delta_at(direction: Direction, jacobian: Jacobian) -> Tensor:
    """delta_h (1, C, H, W) of a direction that does not depend on h, at the Jacobian's timestep and in its unit."""
    h = torch.zeros(1, *jacobian.h_shape)
    return direction.delta_h(h, torch.zeros(1, 1), jacobian.t) / jacobian.unit


def measure_locality(jacobian: Jacobian, found: Sequence[FoundDirection], region: Region) -> list[FoundDirection]:
    """The same directions with `inside` and `ratio` for a region, by one forward product each.

    For directions that lie outside the basis, or that come from elsewhere. Directions that are not global are
    evaluated at the Jacobian's timestep.
    """
    if not found:
        return []
    changes = jacobian.forward(torch.cat([delta_at(direction.direction, jacobian) for direction in found]))
    inside, outside = (_norms(changes, mask) for mask in (region.mask, ~region.mask))
    return [
        replace(direction, inside=i, ratio=o / i if i > 0 else float("inf"), region=region.label)
        for direction, i, o in zip(found, inside, outside, strict=True)
    ]


def roir(before: Tensor, after: Tensor, mask: np.ndarray) -> Tensor:
    """||(1 - M)(x - x')|| / ||M (x - x')|| per picture, the smaller the more local (Local editing, section 5).

    before, after: (B, 3, R, R). mask: boolean (R, R), or one for each picture (B, R, R). Returns (B,), infinity where
    nothing changes inside, and no number where nothing changes at all.
    """
    difference = (after - before).float()
    return torch.tensor(_norms(difference, ~mask)) / torch.tensor(_norms(difference, mask))


def mean_squares(before: Tensor, after: Tensor, mask: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean squared change inside and outside a mask (R, R) or (B, R, R), of pixels in [-1, 1]: two of (B,); 0 where the
    mask leaves no pixel."""
    difference = (after - before).float()
    inside, outside = (
        torch.tensor(_norms(difference, m)).square() / torch.as_tensor(3 * m.sum((-2, -1))).clamp(min=1)
        for m in (mask, ~mask)
    )
    return inside, outside


def _norms(images: Tensor, mask: np.ndarray) -> list[float]:
    M = torch.from_numpy(mask).to(images.device)
    M = M[:, None] if M.ndim == 3 else M
    return in_float64((images * M).flatten(1)).norm(dim=1).tolist()

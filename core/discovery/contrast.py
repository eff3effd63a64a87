"""Contrast: the directions that change a region most per change of everything else.

The ratio ||J_m v||^2 / (||J_u v||^2 + mu ||v||^2) is stationary at the generalised eigenvectors of
(J_m^T J_m, J_u^T J_u + mu I): linearised ROIR, optimised directly. Without the ridge mu the best ratio would be that of
a direction that changes next to nothing anywhere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..regions import Region
from .basis import Basis
from .found import Found, Settings, describe, leading, require_regions

NAME = "contrast"


def directions(basis: Basis, regions: Sequence[Region], settings: Settings) -> list[Found]:
    """Per region, the leading generalised eigenvectors in the span of the basis. value: root of the eigenvalue.

    They are orthogonal in the metric of the pencil, not in h-space.

    Raises:
        RequestError: there are no regions.
    """
    require_regions(regions)
    found = []
    for region in regions:
        inside = basis.gram(region.mask)
        ratios, Y = leading(inside, settings.count, outside(basis, inside, settings.mu))
        found += describe(basis, region, Y, ratios.clamp(min=0).sqrt(), NAME)
    return found


def outside(basis: Basis, inside: Tensor, mu: float) -> Tensor:
    """J_u^T J_u + mu s_1^2 I in the basis, s_1 the largest singular value inside. inside: (k, k)."""
    ridge = max(mu * torch.linalg.eigvalsh(inside)[-1].item(), 1e-12 * basis.whole[0, 0].item())
    return basis.whole - inside + ridge * torch.eye(len(inside), dtype=inside.dtype)

"""Contrast: the directions that change a region most per change of everything else.

The ratio ||J_m v||^2 / (||J_u v||^2 + mu ||v||^2) is stationary at the generalised eigenvectors of
(J_m^T J_m, J_u^T J_u + mu I): linearised ROIR, optimised directly. Without the ridge mu the best ratio would be that of
a direction that changes next to nothing anywhere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..progress import Job
from ..regions import Region
from .algebra import directions_of, leading_eigenvectors
from .basis import Basis
from .interface import DiscoveryMethod, DiscoverySettings, FoundDirection
from .jacobian_operator import Jacobian
from .refinement import refine

NAME = "contrast"


def directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """Per region, the leading generalised eigenvectors in the span of the basis. value: root of the eigenvalue.

    They are orthogonal in the metric of the pencil, not in h-space.
    """
    found = []
    for region in regions:
        inside = basis.gram(region.mask)
        ratios, Y = leading_eigenvectors(inside, settings.count, outside_with_ridge(basis, inside, settings.mu))
        found += directions_of(basis, region, Y, ratios.clamp(min=0).sqrt(), NAME)
    return found


def outside_with_ridge(basis: Basis, inside: Tensor, mu: float) -> Tensor:
    """J_u^T J_u + mu s_1^2 I in the basis, s_1 the largest singular value inside. inside: J_m^T J_m, (k, k)."""
    ridge = max(mu * torch.linalg.eigvalsh(inside)[-1].item(), 1e-12 * basis.whole[0, 0].item())
    return basis.whole - inside + ridge * torch.eye(len(inside), dtype=inside.dtype)


def refine_contrast(jacobian: Jacobian, basis: Basis, region: Region, settings: DiscoverySettings) -> Job[Basis]:
    """The generalised eigenvectors of a region, converged. Returns the larger basis; raises as `refine`."""
    return refine(jacobian, basis, region.mask, settings.count, settings.mu)


def aim_contrast(jacobian: Jacobian, basis: Basis, region: Region, settings: DiscoverySettings) -> Job[Basis]:
    """One round of the same: what little changes outside is not among the region's leading singular vectors."""
    return refine(jacobian, basis, region.mask, settings.count, settings.mu, rounds=1)


METHOD = DiscoveryMethod(
    name=NAME,
    label="Contrast: much inside, little outside",
    find=directions,
    value_name="contrast",
    value_help="Change inside per change outside, by which the rows are ordered.",
    refine=refine_contrast,
    aim=aim_contrast,
)

"""Region-based projection: directions of a region, made orthogonal to those of its outside.

Region-based editing, Eq. 14. As printed it is one Gram-Schmidt step of a masked direction against the unmasked one;
the text around it speaks of the subspace: V_m <- V_m - (V_m V_u^T) V_u.
"""

from collections.abc import Sequence

from ..regions import Region
from .basis import Basis
from .found import Found, Settings, describe, leading, require_regions

NAME = "projection"
MIN_KEPT = 1e-3  # of a direction's length after the projection


def directions(basis: Basis, regions: Sequence[Region], settings: Settings) -> list[Found]:
    """Per region, V_m projected off the `projection_rank` leading right singular vectors V_u of everything outside it.

    Rank 1 is the printed equation. A direction of which nothing is left is left out.

    Raises:
        RequestError: there are no regions.
    """
    require_regions(regions)
    found = []
    for region in regions:
        inside = basis.gram(region.mask)
        _, V_m = leading(inside, settings.count)
        _, V_u = leading(basis.whole - inside, settings.projection_rank)
        V = V_m - V_u @ (V_u.T @ V_m)
        left = V.norm(dim=0)
        V = V[:, left > MIN_KEPT] / left[left > MIN_KEPT]
        found += describe(basis, region, V, (V * (inside @ V)).sum(0).clamp(min=0).sqrt(), NAME)
    return found

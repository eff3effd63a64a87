"""Region-based projection: directions of a region, made orthogonal to those of its outside.

Region-based editing, Eq. 14. As printed it is one Gram-Schmidt step of a masked direction against the unmasked one;
the text around it speaks of the subspace: V_m <- V_m - (V_m V_u^T) V_u.
"""

from collections.abc import Sequence

from ..regions import Region
from .algebra import directions_of, leading_eigenvectors
from .basis import Basis
from .interface import DiscoveryMethod, DiscoverySettings, FoundDirection
from .refinement import refine_singular_vectors

NAME = "projection"
MIN_KEPT = 1e-3  # of a direction's length after the projection


def directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """Per region, V_m projected off the `projection_rank` leading right singular vectors V_u of everything outside it.

    Rank 1 is the printed equation. A basis of few vectors has room for `count` directions beside those of the outside;
    a direction of which nothing remains is left out.
    """
    rank = min(settings.projection_rank, max(1, len(basis) - settings.count))
    found = []
    for region in regions:
        inside = basis.gram(region.mask)
        _, V_m = leading_eigenvectors(inside, settings.count)
        _, V_u = leading_eigenvectors(basis.whole - inside, rank)
        V = V_m - V_u @ (V_u.T @ V_m)
        length = V.norm(dim=0)
        V = V[:, length > MIN_KEPT] / length[length > MIN_KEPT]
        found += directions_of(basis, region, V, (V * (inside @ V)).sum(0).clamp(min=0).sqrt(), NAME)
    return found


METHOD = DiscoveryMethod(
    name=NAME, label="Projection: freed of what changes outside", find=directions, refine=refine_singular_vectors
)

"""Directions of a region: right singular vectors of its Jacobian (Local editing, section 4.1)."""

from collections.abc import Sequence

from ..regions import Region
from .algebra import directions_of, leading_eigenvectors
from .basis import Basis
from .interface import DiscoveryMethod, DiscoverySettings, FoundDirection
from .refinement import refine_singular_vectors

NAME = "jacobian"


def directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """Per region m, the v that maximise ||J_m v||; nothing keeps the rest of the image as it is."""
    found = []
    for region in regions:
        energies, Y = leading_eigenvectors(basis.gram(region.mask), settings.count)
        found += directions_of(basis, region, Y, energies.clamp(min=0).sqrt(), NAME)
    return found


METHOD = DiscoveryMethod(
    name=NAME, label="Jacobian: whatever changes here most", find=directions, refine=refine_singular_vectors
)

"""Directions of a region: right singular vectors of its Jacobian (Local editing, section 4.1)."""

from collections.abc import Sequence

from ..regions import Region
from .basis import Basis
from .found import Found, Settings, describe, leading, require_regions

NAME = "jacobian"


def directions(basis: Basis, regions: Sequence[Region], settings: Settings) -> list[Found]:
    """Per region m, the v that maximise ||J_m v||; nothing keeps the rest of the image as it is.

    Raises:
        RequestError: there are no regions.
    """
    require_regions(regions)
    found = []
    for region in regions:
        energies, Y = leading(basis.gram(region.mask), settings.count)
        found += describe(basis, region, Y, energies.clamp(min=0).sqrt(), NAME)
    return found

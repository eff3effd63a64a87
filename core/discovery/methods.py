"""The methods by name, in the order in which the page offers them. A new one is a file, and a line here."""

from collections.abc import Sequence

from ..errors import RequestError
from ..regions import Region
from . import boundary, contrast, global_jacobian, jive, pca, projection, region_jacobian
from .basis import Basis
from .interface import DEFAULT_SETTINGS, DiscoveryMethod, DiscoverySettings, FoundDirection, require_regions

METHODS: dict[str, DiscoveryMethod] = {
    method.name: method
    for method in (
        contrast.METHOD,
        jive.INDIVIDUAL,
        projection.METHOD,
        region_jacobian.METHOD,
        jive.JOINT,
        global_jacobian.METHOD,
        pca.METHOD,
        boundary.METHOD,
    )
}
DEFAULT_METHOD = contrast.METHOD.name


def find_method(name: str) -> DiscoveryMethod:
    """The method of a name. Raises RequestError: there is none."""
    if name not in METHODS:
        raise RequestError(f"There is no method {name!r}. Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]


def discover(
    basis: Basis, regions: Sequence[Region], method: str, settings: DiscoverySettings = DEFAULT_SETTINGS
) -> list[FoundDirection]:
    """Directions by the method of a name, per region the best first.

    Raises:
        RequestError: there is no such method, or it cannot be used with these regions and settings.
    """
    chosen = find_method(method)
    if chosen.needs_region:
        require_regions(regions)
    return chosen.find(basis, regions, settings)

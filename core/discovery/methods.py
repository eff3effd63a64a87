"""The methods by name. A new one is a file with a function, and a line here."""

from collections.abc import Callable, Sequence

from ..errors import RequestError
from ..regions import Region
from . import contrast, global_jacobian, jacobian, jive, pca, projection
from .basis import Basis
from .found import DEFAULTS, Found, Settings

Method = Callable[[Basis, Sequence[Region], Settings], list[Found]]

METHODS: dict[str, Method] = {
    contrast.NAME: contrast.directions,
    jive.INDIVIDUAL: jive.individual_directions,
    projection.NAME: projection.directions,
    jacobian.NAME: jacobian.directions,
    jive.JOINT: jive.joint_directions,
    global_jacobian.NAME: global_jacobian.directions,
    pca.NAME: pca.directions,
}
WITHOUT_REGION = (global_jacobian.NAME, pca.NAME)


def discover(basis: Basis, regions: Sequence[Region], method: str, settings: Settings = DEFAULTS) -> list[Found]:
    """Directions by the method of a name, per region the best first.

    Raises:
        RequestError: there is no such method, or it cannot be used with these regions and settings.
    """
    if method not in METHODS:
        raise RequestError(f"There is no method {method!r}. Choose one of: {', '.join(METHODS)}.")
    return METHODS[method](basis, regions, settings)

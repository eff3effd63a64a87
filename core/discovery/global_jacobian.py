"""Directions of the whole image: right singular vectors of J, without a mask (Haas et al. 2024, section 4.1)."""

from collections.abc import Sequence

import torch

from ..regions import Region, union
from .algebra import directions_of
from .basis import Basis
from .interface import DiscoveryMethod, DiscoverySettings, FoundDirection

NAME = "global"


def directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """The unsupervised baseline of both papers on local editing: the same whatever is drawn. The ratio, if there are
    regions, is that of all of them together."""
    Y = torch.eye(len(basis), dtype=torch.float64)[:, : settings.count]
    return directions_of(basis, union(regions), Y, basis.values[: settings.count], NAME)


METHOD = DiscoveryMethod(
    name=NAME,
    label="Global: whatever changes the picture most",
    find=directions,
    needs_region=False,
    per_region=False,
)

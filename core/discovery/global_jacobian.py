"""Directions of the whole image: right singular vectors of J, without a mask (Haas et al. 2024, section 4.1)."""

from collections.abc import Sequence

import torch

from ..regions import Region
from .basis import Basis
from .found import Found, Settings, describe, union

NAME = "global"


def directions(basis: Basis, regions: Sequence[Region], settings: Settings) -> list[Found]:
    """The unsupervised baseline of both papers on local editing: the same whatever is drawn. The ratio, if there are
    regions, is that of all of them together."""
    Y = torch.eye(len(basis), dtype=torch.float64)[:, : settings.count]
    return describe(basis, union(regions), Y, basis.values[: settings.count], NAME)

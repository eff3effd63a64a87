"""What every method takes and gives, and the small dense algebra that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..directions import Direction
from ..errors import RequestError
from ..regions import Region, rest
from .basis import Basis

NEGLIGIBLE = 1e-6  # of the largest singular value: below, a direction changes nothing


@dataclass(frozen=True)
class Settings:
    """Settings of all methods.

    count: directions per region. rank: r, singular vectors kept of each region (JIVE). joint_rank, individual_rank:
    r_C and r_A; the paper has 50, 30 and 5, which asks more of a basis of 64 vectors than it holds.
    projection_rank: vectors of the outside that are projected out; 1 is the printed equation. mu: ridge of contrast, as
    a share of the largest eigenvalue inside the region. components: of h over samples, for PCA.

    Raises:
        RequestError: a number is out of range.
    """

    count: int = 5
    rank: int = 40
    joint_rank: int = 20
    individual_rank: int = 5
    projection_rank: int = 10
    mu: float = 0.05
    components: PrincipalComponents | None = None

    def __post_init__(self) -> None:
        for name, most in (
            ("count", 50),
            ("rank", 512),
            ("joint_rank", 512),
            ("individual_rank", 512),
            ("projection_rank", 512),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise RequestError(f"{name.replace('_', ' ')} must be a whole number from 1 to {most}, not {value}.")
        if not 1e-6 <= self.mu <= 10:
            raise RequestError(f"mu must lie between 0.000001 and 10, not {self.mu}.")


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of h over samples, per timestep.

    timesteps: (T,), ascending. components: float32 (T, n, C, H, W), unit norm, the largest first. deviations: (T, n),
    standard deviations along them. steps: of the trajectories.
    """

    timesteps: tuple[int, ...]
    components: Tensor
    deviations: Tensor
    steps: int


DEFAULTS = Settings()


@dataclass(frozen=True)
class Found:
    """A direction of unit norm.

    value: what the method ranks by (a singular value, a standard deviation, or the square root of a ratio of energies).
    inside: ||J_m v||, linearised change inside the region per unit, in pixel units. ratio: linearised ROIR,
    ||J_u v|| / ||J_m v||; the smaller the more local. region: "" where none was asked for. y: coordinates in the basis.
    The last three are None where the direction lies outside the basis (PCA); `locality.measure` gives them.
    """

    direction: Direction
    value: float
    method: str
    region: str
    inside: float | None = None
    ratio: float | None = None
    y: Tensor | None = None


def leading(A: Tensor, count: int, B: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues (n,) of A y = l B y and their vectors (k, n) of unit norm. B: I if None.

    A, B: float64 (k, k), symmetric, B positive definite. With B = L L^T it is L^-1 A L^-T z = l z, y = L^-T z.
    """
    if B is None:
        values, Y = torch.linalg.eigh(A)
    else:
        L = torch.linalg.cholesky(B)
        half = torch.linalg.solve_triangular(L, A, upper=False)
        values, Z = torch.linalg.eigh(torch.linalg.solve_triangular(L, half.T, upper=False))
        Y = torch.linalg.solve_triangular(L.T, Z, upper=True)
    values, Y = values.flip(0)[:count], Y.flip(1)[:, :count]
    return values, Y / Y.norm(dim=0)


def describe(basis: Basis, region: Region | None, Y: Tensor, values: Tensor, method: str) -> list[Found]:
    """`Found` of each column of Y (k, n), signed so that the region gets brighter; columns that change nothing in it
    are left out. region None: the whole image, without a ratio."""
    mask = np.ones((basis.resolution,) * 2, bool) if region is None else region.mask
    inside = basis.gram(mask)
    outside, bright = basis.whole - inside, basis.brightness(mask)
    negligible = NEGLIGIBLE * basis.values[0].item()
    made = []
    for y, value in zip(Y.double().T, values.tolist(), strict=True):
        length = y.norm()
        y = y / length if length > 0 else y
        change = (y @ inside @ y).clamp(min=0).sqrt().item()
        if change <= negligible:
            continue
        y = -y if bright @ y < 0 else y
        ratio = None if region is None else (y @ outside @ y).clamp(min=0).sqrt().item() / change
        made.append(Found(basis.direction(y), value, method, region.label if region else "", change, ratio, y))
    return made


def require_regions(regions: Sequence[Region]) -> None:
    """Raises RequestError if there are none."""
    if not regions:
        raise RequestError("Draw a region first: this method looks for directions of a region.")


def with_rest(regions: Sequence[Region]) -> list[Region]:
    """The regions and what they leave of the picture.

    Raises:
        RequestError: there are no regions, or only one that leaves nothing.
    """
    require_regions(regions)
    left = rest(regions)
    covering = [*regions, left] if left is not None else list(regions)
    if len(covering) < 2:
        raise RequestError("The region covers the whole picture. Leave something outside it.")
    return covering


def union(regions: Sequence[Region]) -> Region | None:
    """All regions as one, without a label; None if there are none or nothing is left outside."""
    if not regions or rest(regions) is None:
        return None
    return Region("", np.logical_or.reduce([region.mask for region in regions]))

"""The small dense algebra that methods share, in the coordinates of a basis."""

import numpy as np
import torch
from torch import Tensor

from ..regions import Region
from .basis import Basis
from .interface import FoundDirection

NEGLIGIBLE = 1e-6  # of the largest singular value: a direction that changes less changes nothing


def leading_eigenvectors(A: Tensor, count: int, B: Tensor | None = None) -> tuple[Tensor, Tensor]:
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


def directions_of(basis: Basis, region: Region | None, Y: Tensor, values: Tensor, method: str) -> list[FoundDirection]:
    """The direction of each column of Y (k, n), coordinates in the basis, signed so that the region gets brighter.

    Columns that change nothing in the region are left out. region None: the whole image, without a ratio. values: (n,).
    """
    mask = np.ones((basis.resolution,) * 2, bool) if region is None else region.mask
    inside = basis.gram(mask)
    outside, brightness = basis.whole - inside, basis.brightness(mask)
    negligible = NEGLIGIBLE * basis.values[0].item()
    found = []
    for y, value in zip(Y.double().T, values.tolist(), strict=True):
        length = y.norm()
        y = y / length if length > 0 else y
        change = (y @ inside @ y).clamp(min=0).sqrt().item()
        if change <= negligible:
            continue
        y = -y if brightness @ y < 0 else y
        ratio = None if region is None else (y @ outside @ y).clamp(min=0).sqrt().item() / change
        label = region.label if region else ""
        found.append(FoundDirection(basis.direction(y), value, method, label, change, ratio, y))
    return found

"""Joint and individual variation of the regions' Jacobians (Local editing, section 4.2 and Algorithms 1 and 3).

X_i = S_i V_i^T keeps of region i's Jacobian its r leading singular values and right singular vectors. The stack of all
X_i is split into a joint part C of rank r_C and individual parts A_i of rank r_A whose rows are orthogonal to those of
C; the individual part of a region varies it alone. Rows are derivatives, not samples: nothing is centred.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..regions import Region, union
from .algebra import directions_of, leading_eigenvectors
from .basis import Basis
from .interface import DiscoveryMethod, DiscoverySettings, FoundDirection, with_rest
from .refinement import refine_singular_vectors

INDIVIDUAL_NAME, JOINT_NAME = "jive_individual", "jive_joint"
TOLERANCE, MAX_ITERATIONS = 1e-5, 300
RANK_TOLERANCE = 1e-7


@dataclass(frozen=True)
class Decomposition:
    """X_i = C_i + A_i + rest. joint: C_i, individual: A_i, each (r, k). V: (k, r_C), rows of C lie in its span.
    residuals: ||X - C - A||_F after each iteration."""

    joint: list[Tensor]
    individual: list[Tensor]
    V: Tensor
    residuals: list[float]


def jive(
    X: Sequence[Tensor],
    joint_rank: int,
    individual_rank: int,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> Decomposition:
    """Algorithm 3. X: matrices (r_i, k) in float64. Stops when the residual changes by less than `tolerance` of ||X||.

    The paper names no rule; comparing singular vectors element by element would depend on their signs and rotations.
    """
    norm = torch.cat(list(X)).norm().item()
    A = [torch.zeros_like(x) for x in X]
    residuals: list[float] = []
    for _ in range(max_iterations):
        joint = torch.cat([x - a for x, a in zip(X, A, strict=True)])
        V = _row_space(joint, joint_rank)
        C = ((joint @ V) @ V.T).split([len(x) for x in X])
        # (X_i - C_i)(I - V V^T) = X_i - X_i V V^T: the rows of C_i lie in the span of V.
        A = []
        for x in X:
            orthogonal = x - (x @ V) @ V.T
            W = _row_space(orthogonal, individual_rank)
            A.append((orthogonal @ W) @ W.T)
        residuals.append(sum((x - c - a).square().sum().item() for x, c, a in zip(X, C, A, strict=True)) ** 0.5)
        if len(residuals) > 1 and abs(residuals[-2] - residuals[-1]) <= tolerance * norm:
            break
    return Decomposition(list(C), A, V, residuals)


def _row_space(X: Tensor, rank: int) -> Tensor:
    """The leading right singular vectors (k, rank) of X (r, k), from the smaller Gram matrix: several times as fast as
    a singular value decomposition. Columns beyond the rank of X are zero."""
    if len(X) >= X.shape[1]:
        return torch.linalg.eigh(X.T @ X)[1].flip(1)[:, :rank]
    V = X.T @ torch.linalg.eigh(X @ X.T)[1].flip(1)[:, :rank]
    s = V.norm(dim=0)
    return torch.where(s > RANK_TOLERANCE * s.max(), V / s, 0.0)


def decompose(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> Decomposition:
    """JIVE of the regions and the rest of the image, in the coordinates of the basis; the rest is the last.

    Ranks beyond what the basis holds are cut: r_C + r_A <= k.

    Raises:
        RequestError: there are no regions, or nothing is left outside.
    """
    X = []
    for region in with_rest(regions):
        energies, Y = leading_eigenvectors(basis.gram(region.mask), settings.rank)
        X.append(energies.clamp(min=0).sqrt()[:, None] * Y.T)
    individual_rank = min(settings.individual_rank, max(1, len(basis) - 1))
    return jive(X, min(settings.joint_rank, max(1, len(basis) - individual_rank)), individual_rank)


def individual_directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """Local directions: per region, right singular vectors of A_i. Up to r_A of them.

    Raises:
        RequestError: there are no regions, or nothing is left outside.
    """
    found = []
    parts = decompose(basis, regions, settings).individual
    for region, A in zip(regions, parts, strict=False):  # the last part is that of the rest
        _, s, Vh = torch.linalg.svd(A, full_matrices=False)
        n = min(settings.count, settings.individual_rank)
        found += directions_of(basis, region, Vh[:n].T, s[:n], INDIVIDUAL_NAME)
    return found


def joint_directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """Directions that change the regions together: right singular vectors of C, the same for every region.

    Raises:
        RequestError: there are no regions, or nothing is left outside.
    """
    _, s, Vh = torch.linalg.svd(torch.cat(decompose(basis, regions, settings).joint), full_matrices=False)
    n = min(settings.count, settings.joint_rank)
    return directions_of(basis, union(regions), Vh[:n].T, s[:n], JOINT_NAME)


INDIVIDUAL = DiscoveryMethod(
    name=INDIVIDUAL_NAME,
    label="JIVE individual: what changes here alone",
    find=individual_directions,
    refine=refine_singular_vectors,
)
JOINT = DiscoveryMethod(
    name=JOINT_NAME,
    label="JIVE joint: what changes here and elsewhere",
    find=joint_directions,
    per_region=False,
)

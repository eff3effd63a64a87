"""Refinement: the basis extended by products aimed at one region, until its directions are converged.

Each round applies J^T to what the sought directions change (reverse), adds to the basis what is new in it, with its
responses (forward), and solves again in the larger span (Rayleigh-Ritz): a subspace iteration that drops no vector, so
that every other region gains too. Converged when the residual ||J_m^T u - s v|| / s is small; singular vectors are
never compared element by element, which would depend on signs and rotations.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import RequestError
from ..progress import Job, Progress
from ..regions import Region
from .algebra import leading_eigenvectors
from .basis import MAX_BASIS_SIZE, RESPONSE_BYTES, Basis, in_precision_of, orthonormalise, rayleigh_ritz
from .interface import DiscoverySettings
from .jacobian_operator import Jacobian, by_calls

TOLERANCE = 0.05  # residual; the error of the captured energy goes with its square
MAX_ROUNDS = 12


def refine(
    jacobian: Jacobian,
    basis: Basis,
    mask: np.ndarray,
    count: int = 5,
    mu: float | None = None,
    tolerance: float = TOLERANCE,
    rounds: int = MAX_ROUNDS,
    memory: int = RESPONSE_BYTES,
) -> Job[Basis]:
    """A larger basis in which the `count` leading directions of a region are converged; events carry the residual.

    mask: boolean (R, R). mu: None for the singular vectors of J_m; else the ridge of contrast, whose generalised
    eigenvectors are then sought, with the residual ||A v - l B v|| / ||A v||. Stops early after `rounds` rounds or
    `MAX_BASIS_SIZE` vectors, with the basis as it is then. memory: see `basis.rayleigh_ritz`.
    Responses that are less precise than the Jacobian's are computed anew first.

    Raises:
        RequestError: nothing in the region changes. ResourceError: out of memory.
    """
    done = 0

    def event(_: int) -> Progress:
        return Progress(done, rounds, "refining")

    basis = yield from in_precision_of(jacobian, basis, event, memory)
    for done in range(rounds):
        Y, cotangents, shifts, scale = _residual_parts(basis, mask, count, mu)
        W = yield from by_calls(jacobian, jacobian.reverse, cotangents, event)
        v = torch.tensordot(Y.T.to(basis.vectors), basis.vectors, dims=1)
        residual = W - shifts.to(W)[:, None, None, None] * v.to(W)
        sizes = residual.flatten(1).norm(dim=1).cpu().double() / scale
        largest = sizes.max().item()
        new = W[(sizes > tolerance).to(W.device)][: MAX_BASIS_SIZE - len(basis)]
        if len(new):
            new = orthonormalise(new, basis.vectors.to(new))
        if not len(new):
            break
        yield Progress(done, rounds, "refining", loss=largest)
        Q = torch.cat((basis.vectors.to(new), new))
        responses = yield from by_calls(jacobian, jacobian.forward, new, event)
        extended = rayleigh_ritz(jacobian, Q, torch.cat((basis.responses.to(new), responses)), memory)
        basis = replace(extended, newest=basis.newest)
    yield Progress(rounds, rounds, "refining", loss=largest)
    return basis


def refine_singular_vectors(
    jacobian: Jacobian, basis: Basis, region: Region, settings: DiscoverySettings
) -> Job[Basis]:
    """The leading singular vectors of a region's Jacobian, converged. Returns the larger basis; raises as `refine`."""
    return refine(jacobian, basis, region.mask, settings.count)


def _residual_parts(
    basis: Basis, mask: np.ndarray, count: int, mu: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The eigenpairs A v = l B v in the basis, in the parts that their residuals A v - l B v are made of.

    A = J_m^T J_m; B = I (mu None), or J_u^T J_u + r I with the ridge r. With images C = M_m J v - l M_u J v (without
    the second term if B = I) the residual is J^T C - s v, where s = l if B = I and s = r l otherwise.

    Returns v in coordinates of the basis (k, n); C (n, 3, R, R); s (n,); ||A v|| within the basis (n,).
    """
    inside = basis.gram(mask)
    outside_weight, ridge, B = 0.0, 1.0, None
    if mu is not None:
        ridge = mu * torch.linalg.eigvalsh(inside)[-1].item()
        outside_weight, B = 1.0, basis.whole - inside + ridge * torch.eye(len(inside), dtype=inside.dtype)
    values, Y = leading_eigenvectors(inside, count, B)
    scale = (inside @ Y).norm(dim=0)
    effective = scale > 1e-8 * basis.whole[0, 0]
    if not effective.any():
        raise RequestError("Nothing in this region changes with h. Draw it elsewhere.")
    values, Y, scale = values[effective], Y[:, effective], scale[effective]
    change = torch.tensordot(Y.T.to(basis.responses.device, torch.float32), basis.responses.float(), dims=1)
    M = torch.from_numpy(mask).to(change.device)
    factor = -outside_weight * values.to(change)[:, None, None, None]
    return Y, torch.where(M, change, factor * change), ridge * values, scale

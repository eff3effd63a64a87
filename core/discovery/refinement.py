"""Refinement: the basis extended by products aimed at one region, until its directions are converged.

Started from the basis, each round makes J^T of what the wanted directions change (reverse), adds what is new to the
basis with its responses (forward), and solves again in the larger span (Rayleigh-Ritz): a subspace iteration that
forgets nothing, so every other region gains too. Converged when the residual ||J_m^T u - s v|| / s is small; singular
vectors are never compared element by element, which would depend on signs and rotations.
"""

import numpy as np
import torch
from torch import Tensor

from ..errors import RequestError
from ..progress import Job, Progress
from .basis import MAX_SIZE, MEMORY, Basis, orthonormalise, rayleigh_ritz
from .found import leading
from .linear import Jacobian

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
    memory: int = MEMORY,
) -> Job:
    """A larger `Basis` in which the `count` leading directions of a region are converged; events carry the residual.

    mask: boolean (R, R). mu: None for the singular vectors of J_m; else the ridge of contrast, whose generalised
    eigenvectors are then the wanted ones, with the residual ||A v - l B v|| / ||A v||. Stops early at `rounds` rounds
    or `MAX_SIZE` vectors, with what is there.

    Raises:
        RequestError: nothing in the region changes. ResourceError: out of memory.
    """
    for done in range(rounds + 1):
        Y, cotangents, subtract, scale = _wanted(basis, mask, count, mu)
        W = jacobian.reverse(cotangents)
        v = torch.tensordot(Y.T.to(basis.vectors), basis.vectors, dims=1)
        residual = W - subtract.to(W)[:, None, None, None] * v.to(W)
        sizes = residual.flatten(1).norm(dim=1).double().cpu() / scale
        worst = sizes.max().item()
        new = W[(sizes > tolerance).to(W.device)][: MAX_SIZE - len(basis)]
        if len(new):
            new = orthonormalise(new, basis.vectors.to(new))
        if done == rounds or not len(new):
            yield Progress(rounds, rounds, "refining", result=basis, loss=worst)
            return
        yield Progress(done, rounds, "refining", loss=worst)
        Q = torch.cat((basis.vectors.to(new), new))
        basis = rayleigh_ritz(jacobian, Q, torch.cat((basis.responses.to(new), jacobian.forward(new))), memory)


def _wanted(basis: Basis, mask: np.ndarray, count: int, mu: float | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of A v = l B v in the basis: v's coordinates (k, n); images whose J^T is A v - l (B v less its ridge), (n, 3, R,
    R); ridge l (n,); ||A v|| within the basis (n,). A = J_m^T J_m; B = I, or J_u^T J_u + ridge I."""
    inside = basis.gram(mask)
    weight, ridge, B = 0.0, 1.0, None
    if mu is not None:
        ridge = mu * torch.linalg.eigvalsh(inside)[-1].item()
        weight, B = 1.0, basis.whole - inside + ridge * torch.eye(len(inside), dtype=inside.dtype)
    values, Y = leading(inside, count, B)
    scale = (inside @ Y).norm(dim=0)
    kept = scale > 1e-8 * basis.whole[0, 0]
    if not kept.any():
        raise RequestError("Nothing in this region changes with h. Draw it elsewhere.")
    values, Y, scale = values[kept], Y[:, kept], scale[kept]
    change = torch.tensordot(Y.T.to(basis.responses.device, torch.float32), basis.responses.float(), dims=1)
    M = torch.from_numpy(mask).to(change.device)
    outside = -weight * values.to(change)[:, None, None, None]
    return Y, torch.where(M, change, outside * change), ridge * values, scale

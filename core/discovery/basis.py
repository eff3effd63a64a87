"""One basis of h-space for every region: block Krylov for the whole-image Jacobian, its image responses kept.

The Jacobian of a region m is M_m J, so with an orthonormal Q and J Q in memory the small matrix (M_m J Q)^T (M_m J Q)
has everything the methods need of any region drawn later: no further U-Net call. Block Krylov reaches an accuracy eps
in about 1/sqrt(eps) passes where subspace iteration needs 1/eps (Musco and Musco 2015, Theorem 1).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..directions import GlobalDirection
from ..errors import RequestError, ResourceError
from ..precision import in_float64, name_of
from ..progress import Job, Progress
from .jacobian_operator import Jacobian, by_calls

# 64 vectors hold 97 to 99% of the energy of the leading five directions of eyes, mouth and hair, 96 hold 99%, in half
# as much time again (`python -m benchmarks.discovery speed`). Small blocks do as well as large ones for the same
# products (Chen et al. 2025).
BASIS_SIZE, BLOCK_SIZE = 64, 8
MAX_BASIS_SIZE = 512
MAX_GRAMS = 32  # kept per basis
RESPONSE_BYTES = 64 * 2**20  # of responses in float32; beyond, they are kept in bfloat16
MAX_DISAGREEMENT = 0.02  # of forward and reverse products; in bfloat16 it is about 0.001
DEPENDENT = 1e-4  # a new vector is dropped if less than this share of it is new


@dataclass(frozen=True)
class Basis:
    """Approximate right singular vectors of J, the largest first, with their image responses.

    vectors: float32 (k, C, H, W), orthonormal rows. responses: (k, 3, R, R), J q of each row, in float32 or bfloat16.
    whole: float64 (k, k), the Gram matrix of the responses over the whole image, diagonal but for their rounding. t:
    timestep. steps: S, the step count at which a strength of 1 adds a direction once per step (see `locality`).
    forwards, reverses: how many products were made for it. dtype: the precision of these products. newest:
    (b, 3, R, R), the responses that `krylov_basis` goes on from; None where it has to begin anew. unit: of h, in which
    the vectors are written.
    """

    vectors: Tensor
    responses: Tensor
    whole: Tensor
    t: int
    steps: int
    forwards: int = 0
    reverses: int = 0
    dtype: torch.dtype = torch.float32
    newest: Tensor | None = None
    unit: float = 1.0
    _grams: dict[bytes, Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def values(self) -> Tensor:
        """float64 (k,): the singular values ||J q||."""
        return self.whole.diagonal().sqrt()

    @property
    def resolution(self) -> int:
        return self.responses.shape[-1]

    @property
    def nbytes(self) -> int:
        """With the Gram matrices that it may come to keep."""
        held = (x for x in (self.vectors, self.responses, self.newest) if x is not None)
        own = sum(x.numel() * x.element_size() for x in held)
        return own + (1 + MAX_GRAMS) * self.whole.numel() * self.whole.element_size()

    def gram(self, mask: np.ndarray) -> Tensor:
        """(M J Q)^T (M J Q), float64 (k, k), on the CPU; kept for the next method. mask: boolean (R, R).

        The smaller of the mask and its complement is summed: the Gram matrices of a partition add up to the whole's.

        Raises:
            ValueError: the mask has another shape.
        """
        if mask.shape != self.responses.shape[-2:]:
            raise ValueError(f"a mask of {tuple(self.responses.shape[-2:])} is needed, not {mask.shape}")
        if mask.mean() > 0.5:
            return self.whole - self.gram(~mask)
        key = np.packbits(mask).tobytes()
        if key not in self._grams:
            while len(self._grams) >= MAX_GRAMS:
                self._grams.pop(next(iter(self._grams)), None)
            rows = self.responses.flatten(2)[:, :, self._pixels(mask)].flatten(1).float()
            self._grams[key] = (rows @ rows.T).cpu().double()
        return self._grams[key]

    def brightness(self, mask: np.ndarray) -> Tensor:
        """Sum of each response over a region, float64 (k,). mask: boolean (R, R)."""
        rows = self.responses.flatten(2)[:, :, self._pixels(mask)]
        return rows.sum((1, 2), dtype=torch.float32).cpu().double()

    def _pixels(self, mask: np.ndarray) -> Tensor:
        """Indices of the pixels of a mask in a flattened image."""
        return torch.from_numpy(np.flatnonzero(mask)).to(self.responses.device)

    def direction(self, y: Tensor) -> GlobalDirection:
        """The unit vector sum_j y_j q_j, in units of h. y: (k,), not zero."""
        delta = self.unit * torch.tensordot(y.to(self.vectors) / y.norm().to(self.vectors), self.vectors, dims=1)
        return GlobalDirection(delta[None].cpu(), self.steps)

    def response(self, y: Tensor) -> Tensor:
        """Change of the predicted image per unit along y: float32 (3, R, R) in pixel units. y: (k,)."""
        unit = (y / y.norm()).to(self.responses.device, torch.float32)
        return torch.tensordot(unit, self.responses.float(), dims=1).cpu()


def krylov_basis(
    jacobian: Jacobian,
    size: int = BASIS_SIZE,
    block: int = BLOCK_SIZE,
    seed: int = 0,
    memory: int = RESPONSE_BYTES,
    start: Basis | None = None,
    mask: np.ndarray | None = None,
) -> Job[Basis]:
    """Block Krylov basis of `size` vectors from random pictures; fewer where the Jacobian has a smaller rank.

    Musco and Musco 2015, Algorithm 2, with full reorthogonalisation and Rayleigh-Ritz at the end: the span of
    J^T Y, (J^T J) J^T Y, ... takes `size` forward and `size` reverse products. A start in the range of J^T costs one
    block of reverse products more than a random block of h, of which next to nothing lies in that range.

    start: a smaller basis, which is extended; its responses are computed anew if they are less precise than the
    Jacobian's. Without a mask the iteration goes on as if it had never ended: a basis that was interrupted between
    blocks is, to rounding, the one that was built at once. mask: boolean (R, R); the iteration is that of M J, from
    pictures that are random within the mask, so that few vectors hold most of what changes in this region. Nothing of
    such vectors' own J^T J is known yet, so a basis that is extended without a mask goes on from all of them.

    Raises:
        RequestError: size or block out of range. ResourceError: out of memory, or the products' precision is too low.
    """
    if not 1 <= block <= size <= MAX_BASIS_SIZE:
        raise RequestError(f"A basis has between 1 and {MAX_BASIS_SIZE} vectors, in blocks of no more than that.")
    total = 2 * size
    Q, JQ = torch.zeros(0, *jacobian.h_shape), torch.zeros(0, *jacobian.image_shape)
    newest = None
    if start is not None:
        start = yield from in_precision_of(jacobian, start, lambda n: Progress(n, total, "analysing"), memory)
        Q, JQ, newest = start.vectors, start.responses, start.newest
    before = jacobian.forwards, jacobian.reverses

    def made(n: int, reverse: int = 0) -> Progress:
        """So many products after those of the vectors that there are."""
        return Progress(2 * len(Q) + reverse + n, total, "analysing")

    Y = newest if mask is None and newest is not None else random_pictures(jacobian, block, seed, mask)
    while len(Q) < size:
        Y = Y[: size - len(Q)]
        W = yield from by_calls(jacobian, jacobian.reverse, Y, made)
        yield made(len(W))
        new = orthonormalise(W, Q.to(W))
        if not len(new):  # the range is exhausted
            break
        Z = yield from by_calls(jacobian, jacobian.forward, new, partial(made, reverse=len(W)))
        if disagreement(new, Z, Y, W) > MAX_DISAGREEMENT:
            raise ResourceError(
                f"The analysis is too rough in {name_of(jacobian.dtype)}. Use another picture or noise level."
            )
        Q, JQ = torch.cat((Q.to(new), new)), torch.cat((JQ.to(Z), Z))
        if mask is None:
            Y = newest = Z
        else:
            Y = Z * torch.from_numpy(mask).to(Z.device)
            newest = Z if newest is None else torch.cat((newest.to(Z), Z))
        yield made(0)
    forwards, reverses = jacobian.forwards - before[0], jacobian.reverses - before[1]
    if start is not None:
        forwards, reverses = start.forwards + forwards, start.reverses + reverses
    basis = rayleigh_ritz(jacobian, Q, JQ, memory)
    return replace(basis, newest=newest, forwards=forwards, reverses=reverses)


def in_precision_of(
    jacobian: Jacobian, basis: Basis, tell: Callable[[int], Progress], memory: int = RESPONSE_BYTES
) -> Job[Basis]:
    """The same span with responses as precise as the Jacobian's products: computed anew if they are less precise.

    tell: the event after so many of them.

    Raises:
        ResourceError: out of memory.
    """
    if torch.finfo(basis.dtype).eps <= torch.finfo(jacobian.dtype).eps:
        return basis
    JQ = yield from by_calls(jacobian, jacobian.forward, basis.vectors, tell)
    made = rayleigh_ritz(jacobian, basis.vectors, JQ, memory)
    return replace(made, newest=basis.newest, forwards=basis.forwards + len(JQ), reverses=basis.reverses)


def disagreement(V: Tensor, JV: Tensor, Y: Tensor, W: Tensor) -> float:
    """How far forward and reverse products are from being each other's transposes.

    The norm of <J v, y> - <v, J^T y> over all pairs, relative to that of all J^T y; 0 in exact arithmetic.

    V: (n, C, H, W), JV = J V: (n, 3, R, R), Y: (m, 3, R, R), W = J^T Y: (m, C, H, W).
    """
    forward = in_float64(JV.flatten(1)) @ in_float64(Y.flatten(1).to(JV)).T
    reverse = in_float64(V.flatten(1)) @ in_float64(W.flatten(1)).T
    return ((forward - reverse).norm() / in_float64(W).norm().clamp(min=1e-300)).item()


def random_pictures(jacobian: Jacobian, count: int, seed: int, mask: np.ndarray | None = None) -> Tensor:
    """Pictures (count, 3, R, R) of Gaussian noise, zero outside a mask (R, R) if there is one."""
    Y = torch.randn((count, *jacobian.image_shape), generator=torch.Generator().manual_seed(seed))
    return Y if mask is None else Y * torch.from_numpy(mask)


def orthonormalise(W: Tensor, Q: Tensor) -> Tensor:
    """An orthonormal basis (m <= n rows) of the part of W (n, C, H, W) that is orthogonal to Q (k, C, H, W).

    Q has orthonormal rows. Gram-Schmidt twice in float64 (Giraud et al. 2005: twice is enough). Rows of which less than
    `DEPENDENT` of their length remains are dropped.
    """
    w, q = in_float64(W.flatten(1)), in_float64(Q.flatten(1))
    w = w / w.norm(dim=1, keepdim=True).clamp(min=1e-300)
    for _ in range(2):
        w = w - (w @ q.T) @ q
        U, s, Vh = torch.linalg.svd(w, full_matrices=False)
        w = Vh[s > DEPENDENT * max(1.0, s[0].item() if len(s) else 0.0)]
    return w.to(W).unflatten(1, W.shape[1:])


def rayleigh_ritz(jacobian: Jacobian, Q: Tensor, JQ: Tensor, memory: int = RESPONSE_BYTES) -> Basis:
    """The `Basis` of the span of Q, rotated so that J Q has orthogonal columns: approximate right singular vectors.

    Q: (k, C, H, W), orthonormal rows. JQ: (k, 3, R, R). memory: bytes of responses in float32; if they would take
    more, they are kept in bfloat16.
    """
    rows = JQ.flatten(1).float()
    _, rotation = torch.linalg.eigh(in_float64(rows @ rows.T))
    rotation = rotation.flip(1).T.to(Q)
    vectors = (rotation @ Q.flatten(1)).view_as(Q).float()
    responses = (rotation.to(rows) @ rows).view_as(JQ)
    if responses.numel() * 4 > memory:
        responses = responses.bfloat16()
    rows = responses.flatten(1).float()
    whole = (rows @ rows.T).cpu().double()
    steps, counts = jacobian.model.card.steps, (jacobian.forwards, jacobian.reverses)
    return Basis(vectors, responses, whole, jacobian.t, steps, *counts, jacobian.dtype, unit=jacobian.unit)

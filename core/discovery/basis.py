"""One basis of h-space for every region: block Krylov for the whole-image Jacobian, its image responses kept.

The Jacobian of a region m is M_m J, so with an orthonormal Q and J Q in memory the small matrix (M_m J Q)^T (M_m J Q)
has everything the methods need of any region drawn later: no further U-Net call. Block Krylov reaches an accuracy eps
in about 1/sqrt(eps) passes where subspace iteration needs 1/eps (Musco and Musco 2015, Theorem 1).
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..directions import GlobalDirection
from ..errors import RequestError
from ..progress import Job, Progress
from .jacobian_operator import Jacobian

# 64 vectors hold 97 to 99% of the energy of the leading five directions of eyes, mouth and hair, 96 hold 99%, in half
# as much time again (`python -m benchmarks.discovery speed`). Small blocks do as well as large ones for the same
# products (Chen et al. 2025).
BASIS_SIZE, BLOCK_SIZE = 64, 8
MAX_BASIS_SIZE = 512
MAX_GRAMS = 32  # kept per basis
RESPONSE_BYTES = 64 * 2**20  # of responses in float32; beyond, they are kept in bfloat16
DEPENDENT = 1e-4  # a new vector is dropped if less than this share of it is new


@dataclass(frozen=True)
class Basis:
    """Approximate right singular vectors of J, the largest first, with their image responses.

    vectors: float32 (k, C, H, W), orthonormal rows. responses: (k, 3, R, R), J q of each row, in float32 or bfloat16.
    whole: float64 (k, k), the Gram matrix of the responses over the whole image, diagonal but for their rounding. t:
    timestep. steps: S, the step count at which a strength of 1 adds a direction once per step (see `locality`).
    forwards, reverses: how many products were made for it.
    """

    vectors: Tensor
    responses: Tensor
    whole: Tensor
    t: int
    steps: int
    forwards: int = 0
    reverses: int = 0
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
        own = sum(x.numel() * x.element_size() for x in (self.vectors, self.responses))
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
            self._grams[key] = (rows @ rows.T).double().cpu()
        return self._grams[key]

    def brightness(self, mask: np.ndarray) -> Tensor:
        """Sum of each response over a region, float64 (k,). mask: boolean (R, R)."""
        rows = self.responses.flatten(2)[:, :, self._pixels(mask)]
        return rows.sum((1, 2), dtype=torch.float32).double().cpu()

    def _pixels(self, mask: np.ndarray) -> Tensor:
        """Indices of the pixels of a mask in a flattened image."""
        return torch.from_numpy(np.flatnonzero(mask)).to(self.responses.device)

    def direction(self, y: Tensor) -> GlobalDirection:
        """The unit vector sum_j y_j q_j of h-space. y: (k,), not zero."""
        delta = torch.tensordot(y.to(self.vectors) / y.norm().to(self.vectors), self.vectors, dims=1)
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
) -> Job[Basis]:
    """Block Krylov basis of `size` vectors from random pictures; fewer where the Jacobian has a smaller rank.

    Musco and Musco 2015, Algorithm 2, with full reorthogonalisation and Rayleigh-Ritz at the end: the span of
    J^T Y, (J^T J) J^T Y, ... takes `size` forward and `size` reverse products. A start in the range of J^T costs one
    block of reverse products more than a random block of h, of which next to nothing lies in that range.

    Raises:
        RequestError: size or block out of range. ResourceError: out of memory.
    """
    if not 1 <= block <= size <= MAX_BASIS_SIZE:
        raise RequestError(f"A basis has between 1 and {MAX_BASIS_SIZE} vectors, in blocks of no more than that.")
    generator = torch.Generator().manual_seed(seed)
    Y = torch.randn((block, *jacobian.image_shape), generator=generator)
    Q, JQ, done = torch.zeros(0, *jacobian.h_shape), torch.zeros(0, *jacobian.image_shape), 0
    while done < size:
        W = jacobian.reverse(Y[: size - done])
        yield Progress(2 * done + len(W), 2 * size, "analysing")
        new = orthonormalise(W, Q.to(W))
        if not len(new):  # the range is exhausted
            break
        Y = jacobian.forward(new)
        Q = torch.cat((Q.to(new), new))
        JQ = torch.cat((JQ.to(Y), Y))
        done += len(W)
        yield Progress(2 * done, 2 * size, "analysing")
    return rayleigh_ritz(jacobian, Q, JQ, memory)


def orthonormalise(W: Tensor, Q: Tensor) -> Tensor:
    """An orthonormal basis (m <= n rows) of the part of W (n, C, H, W) that is orthogonal to Q (k, C, H, W).

    Q has orthonormal rows. Gram-Schmidt twice in float64 (Giraud et al. 2005: twice is enough). Rows of which less than
    `DEPENDENT` of their length remains are dropped.
    """
    w, q = W.flatten(1).double(), Q.flatten(1).double()
    w = w / w.norm(dim=1, keepdim=True).clamp(min=1e-300)
    for _ in range(2):
        w = w - (w @ q.T) @ q
        U, s, Vh = torch.linalg.svd(w, full_matrices=False)
        w = Vh[s > DEPENDENT * max(1.0, s[0].item() if len(s) else 0.0)]
    return w.to(W.dtype).unflatten(1, W.shape[1:])


def rayleigh_ritz(jacobian: Jacobian, Q: Tensor, JQ: Tensor, memory: int = RESPONSE_BYTES) -> Basis:
    """The `Basis` of the span of Q, rotated so that J Q has orthogonal columns: approximate right singular vectors.

    Q: (k, C, H, W), orthonormal rows. JQ: (k, 3, R, R). memory: bytes of responses in float32; if they would take
    more, they are kept in bfloat16.
    """
    rows = JQ.flatten(1).float()
    _, rotation = torch.linalg.eigh((rows @ rows.T).double())
    rotation = rotation.flip(1).T.to(Q)
    vectors = (rotation @ Q.flatten(1)).view_as(Q).float()
    responses = (rotation.to(rows) @ rows).view_as(JQ)
    if responses.numel() * 4 > memory:
        responses = responses.bfloat16()
    rows = responses.flatten(1).float()
    whole = (rows @ rows.T).double().cpu()
    steps = jacobian.model.card.steps
    return Basis(vectors, responses, whole, jacobian.t, steps, jacobian.forwards, jacobian.reverses)

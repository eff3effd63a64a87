"""Muon for the matrices inside a network, AdamW for the rest (Jordan et al. 2024, "Muon: an optimizer for hidden
layers in neural networks"; one learning rate for both as in Liu et al. 2025, "Muon is scalable for LLM training",
section 2.2).

The momentum of a matrix is replaced by the nearest matrix whose singular values are all one, so that rare directions
of the weights move as far as common ones. Filters (O, I, h, w) count as matrices (O, h w I). `torch.optim.Muon` is the
same for two dimensions and takes nothing else; the test compares them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn

# Coefficients of an iteration that brings singular values near one, into 0.7 .. 1.2, in five rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """U V^T of matrices (..., m, n) with the singular value decompositions U S V^T, approximately, in bfloat16: Newton
    and Schulz's iteration X <- a X + (b X X^T + c (X X^T)^2) X."""
    a, b, c = QUINTIC
    x = matrices.bfloat16()
    if tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for matrices (m, n) and filters (O, I, h, w); those of the same shape together.

    A step is scaled by sqrt(max(m, n)) to a root mean square of one, about what AdamW's steps have.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            if not learning:
                continue
            means = [self._mean(p) for p in learning]
            gradients = [p.grad for p in learning]
            torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
            steps = torch._foreach_lerp(gradients, means, group["momentum"])
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for p, step in zip(learning, steps, strict=True):
                alike.setdefault(p.shape, []).append((p, as_matrix(step)))
            for shape, pairs in alike.items():
                moves = orthogonalised(torch.stack([matrix for _, matrix in pairs]))
                scale = max(moves.shape[-2:]) ** 0.5
                for (p, _), move in zip(pairs, moves, strict=True):
                    p.sub_(from_matrix(move.to(p.dtype), shape), alpha=group["lr"] * scale)

    def _mean(self, p: Tensor) -> Tensor:
        state = self.state[p]
        if not state:
            state["mean"] = torch.zeros_like(p)
        return state["mean"]


def as_matrix(weight: Tensor) -> Tensor:
    """A matrix as it is, filters (O, I, h, w) as (O, h w I): the order of columns does not matter, so that of memory is
    taken, channels last."""
    return weight.permute(0, 2, 3, 1).flatten(1) if weight.ndim == 4 else weight


def from_matrix(matrix: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `as_matrix`."""
    if len(shape) == 2:
        return matrix
    outputs, inputs, height, width = shape
    return matrix.view(outputs, height, width, inputs).permute(0, 3, 1, 2)


def muon_and_adamw(network: nn.Module, lr: float, outer: Collection[str]) -> list[torch.optim.Optimizer]:
    """Optimisers of all that learns in a network. outer: beginnings of the names of parameters at its ends (first and
    last layers, embeddings), which are no maps between hidden states; like vectors they go by AdamW."""
    learning = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    inner = {name for name, p in learning if p.ndim > 1 and not name.startswith(tuple(outer))}
    rest = [p for name, p in learning if name not in inner]
    return [
        Muon([p for name, p in learning if name in inner], lr),
        torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=(0.9, 0.99)),
    ]

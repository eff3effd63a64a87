"""Group normalisation with a quick backward pass for channels-last tensors on a CPU.

PyTorch's own backward is slow there for large feature maps with few channels; the same derivative as two reductions
and one fused expression takes a fraction of the time (see benchmarks/group_norm.py). Reverse mode only: code that
differentiates forward keeps PyTorch's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_POSITIONS = 32 * 32  # positions; below, PyTorch's own is as quick


class _GroupNorm(torch.autograd.Function):
    """y = (x - mean) rstd w + b per group; x: (N, C, H, W) in channels-last memory, w, b: (C,)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, groups: int, eps: float) -> Tensor:
        N, C, H, W = x.shape
        y, mean, rstd = torch.native_group_norm(x, w, b, N, C, H * W, groups, eps)
        ctx.save_for_backward(x, mean, rstd, w)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None, None]:
        x, mean, rstd, w = ctx.saved_tensors
        (N, C, H, W), G = x.shape, mean.shape[1]
        D, M = C // G, C // G * H * W
        rows, seen = (v.permute(0, 2, 3, 1).reshape(N, H * W, C) for v in (dy.to(x.dtype), x))
        mean, rstd, g = mean.float().view(N, G, 1), rstd.float().view(N, G, 1), w.float().view(1, G, D)

        # Sums over positions of dy and of dy (x - mean), per channel; then over each group, weighted.
        s = rows.sum(1, dtype=torch.float32).view(N, G, D)
        q = (rows * seen).sum(1, dtype=torch.float32).view(N, G, D) - mean * s
        a = (s * g).sum(2, keepdim=True) / M
        c = (q * g).sum(2, keepdim=True) * rstd.square() / M

        # dx = rstd (w dy - a - (x - mean) c), as k1 dy + k2 x + k3 with one coefficient per channel.
        k1, k2, k3 = rstd * g, (-rstd * c).expand(N, G, D), (rstd * (mean * c - a)).expand(N, G, D)
        k1, k2, k3 = (k.reshape(N, 1, C).to(x.dtype) for k in (k1, k2, k3))
        dx = torch.addcmul(k3, rows, k1).addcmul_(seen, k2).view(N, H, W, C).permute(0, 3, 1, 2)
        if not ctx.needs_input_grad[1]:
            return dx, None, None, None, None
        return dx, (q * rstd).sum(0).view(C).to(w.dtype), s.sum(0).view(C).to(w.dtype), None, None


def group_norm(x: Tensor, groups: int, w: Tensor, b: Tensor, eps: float) -> Tensor:
    """Like `F.group_norm`, with the quick backward where it pays. x: (N, C, H, W); w, b: (C,)."""
    large = x.ndim == 4 and x.device.type == "cpu" and x.shape[2] * x.shape[3] >= MIN_POSITIONS
    if large and x.is_contiguous(memory_format=torch.channels_last):
        return _GroupNorm.apply(x, w, b, groups, eps)
    return F.group_norm(x, groups, w, b, eps)


def _quick_forward(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)


@contextmanager
def quick_group_norm(network: nn.Module) -> Iterator[None]:
    """Within the block, the group norms of `network` have the quick backward."""
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm) and module.affine]
    for norm in norms:
        norm.forward = partial(_quick_forward, norm)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward

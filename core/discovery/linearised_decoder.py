"""A decoder to first order at one point, as a network that is linear.

Convolutions, linear layers, upsampling and sums are linear apart from constants; group norms, activations and attention
are not. One pass at the point records the input of each of these nonlinear operations. From then on each is replaced by
its derivative at that input, and constants are left out. The network is then its own derivative: products with the
Jacobian are forward passes, products with the transpose are backward passes, all through the same graph.
`torch.func.jvp` and `vjp` make the same products, but repeat the pass at the point for every batch and go over memory a
dozen times for every group norm.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..unet import Features, SplitUNet

DECODER = ("up_blocks", "conv_norm_out", "conv_act", "conv_out")
ACTIVATIONS = (nn.SiLU, nn.Mish, nn.GELU, nn.ReLU)

Operation = Callable[..., Tensor]
Linearise = Callable[..., Operation]


class LinearisedDecoder:
    """V (n, C, H, W) -> dG_dec/dh V (n, C_out, h, w), differentiable in V.

    G_dec(h) is the raw output of a network's decoder, dG_dec/dh its derivative at `features`, which are those of one
    picture. `unet` stays as it is, and weights are shared with it where the precision is the same.
    """

    def __init__(self, unet: UNet2DModel, features: Features, dtype: torch.dtype) -> None:
        self._derivatives: list[Operation] = []  # of the nonlinear operations, in the order of their execution
        self._next: Iterator[Operation] | None = None  # None while they are recorded
        twin = _copy_with_own_decoder(unet, dtype)
        modules = [module for name in DECODER for module in twin._modules[name].modules()]
        for module in modules:
            if isinstance(module, nn.GroupNorm):
                linearise: Linearise = partial(_linear_norm, module)
                module.forward = partial(self._apply, module.forward, linearise)  # type: ignore[method-assign]
            elif isinstance(module, ACTIVATIONS):
                linearise = partial(_linear_activation, module.forward)
                module.forward = partial(self._apply, module.forward, linearise)  # type: ignore[method-assign]
            elif isinstance(module, Attention):
                module.set_processor(_LinearisedAttention(self._apply))
        self._split = SplitUNet(twin)
        features = replace(
            features,
            h=features.h.to(dtype),
            skips=tuple(skip.to(dtype) for skip in features.skips),
            emb=features.emb.to(dtype),
        )
        with torch.no_grad():
            self._split.decode(features)
            _drop_constants(modules, features.emb)
        # From here on only the shapes of h and the skips are needed.
        empty = tuple(skip.new_empty((0, *skip.shape[1:])) for skip in features.skips)
        self._features = replace(features, h=features.h[:0], skips=empty)

    def __call__(self, V: Tensor) -> Tensor:
        V = V.contiguous(memory_format=torch.channels_last)
        skips = tuple(_zeros_like(skip, len(V)) for skip in self._features.skips)
        self._next = iter(self._derivatives)
        return self._split.decode(replace(self._features, h=torch.zeros_like(V), skips=skips), V)

    def _apply(self, exact: Operation, linearise: Callable[..., Operation], *x: Tensor) -> Tensor:
        """A nonlinear operation: in the first pass the exact one, whose derivative at x is kept; then the derivative.

        linearise: x -> the derivative there.
        """
        if x[0].ndim == 2:  # the time embedding, which does not depend on h
            return exact(*x)
        if self._next is not None:
            return next(self._next)(*x)
        self._derivatives.append(linearise(*x))
        return exact(*x)


def _zeros_like(skip: Tensor, rows: int) -> Tensor:
    return skip.new_zeros((rows, *skip.shape[1:])).contiguous(memory_format=torch.channels_last)


def _copy_with_own_decoder(unet: UNet2DModel, dtype: torch.dtype) -> UNet2DModel:
    """The same network with its own copies of the decoder's modules in `dtype`; equal weights are shared."""
    shared = {id(p): p for p in unet.parameters()} if dtype == unet.dtype else {}
    twin = copy.copy(unet)
    twin._modules = dict(unet._modules)
    for name in DECODER:
        module = copy.deepcopy(unet._modules[name], dict(shared))
        twin._modules[name] = module if shared else nn.Module.to(module, dtype)
    return twin


def _drop_constants(modules: Sequence[nn.Module], emb: Tensor) -> None:
    """Remove biases, and the time embedding where it is added; where it scales, the scale stays. emb: (1, E)."""
    for block in (module for module in modules if isinstance(module, ResnetBlock2D)):
        if block.time_embedding_norm == "scale_shift":
            scale = block.time_emb_proj(emb if block.skip_time_act else block.nonlinearity(emb)).chunk(2, dim=1)[0]
            block.time_emb_proj = _Constant(torch.cat((scale, torch.zeros_like(scale)), dim=1))
        else:
            block.time_emb_proj = None
            block.forward = partial(_without_embedding, block.forward)
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bias = None


def _without_embedding(forward: Callable[..., Tensor], x: Tensor, emb: Tensor | None = None) -> Tensor:
    return forward(x, None)


class _Constant(nn.Module):
    """The same value for every input."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: Tensor) -> Tensor:
        return self.value


# ---------------------------------------------------------------------------------------------------------- activations


def _linear_activation(forward: Operation, x: Tensor) -> Operation:
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(forward(point).sum(), point)
    return slope.mul


# ---------------------------------------------------------------------------------------------------------- group norms


def _linear_norm(norm: nn.GroupNorm, x: Tensor) -> Operation:
    wide = torch.promote_types(x.dtype, torch.float32)
    groups = x.reshape(1, norm.num_groups, -1).to(wide)
    mean = groups.mean(2)
    rstd = ((groups - mean[..., None]).square().mean(2) + norm.eps).rsqrt()
    D = x.shape[1] // norm.num_groups
    shape = (1, -1, *[1] * (x.ndim - 2))
    centre, scale = (v.repeat_interleave(D, dim=1) for v in (mean, rstd))
    normalised = ((x - centre.view(shape)) * scale.view(shape)).to(x.dtype)
    w = torch.ones_like(scale) if norm.weight is None else norm.weight.to(wide)[None]
    return lambda v: _NormDerivative.apply(v, normalised, scale, w, norm.num_groups)


class _NormDerivative(torch.autograd.Function):
    """v -> w N v with N v = (v - mean(v) - x mean(x v)) / std, means over a group, x the normalised input at the point.

    N is symmetric, so the transpose is N w. v, x: (n or 1, C, ...). scale: 1 / std, w: (1, C).
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, x: Tensor, scale: Tensor, w: Tensor, groups: int) -> Tensor:
        ctx.point = x, scale, w, groups
        return _scaled_norm_derivative(v, x, scale, torch.ones_like(w), w, groups)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, scale, w, groups = ctx.point
        return _scaled_norm_derivative(dy, x, scale, w, torch.ones_like(w), groups), None, None, None, None


def _scaled_norm_derivative(v: Tensor, x: Tensor, scale: Tensor, inner: Tensor, outer: Tensor, groups: int) -> Tensor:
    """outer N inner v, as k1 v + k2 x + k3 with one coefficient per channel. inner, outer: (1, C)."""
    n, C = v.shape[:2]
    pixels, shape = tuple(range(2, v.ndim)), (n, C, *[1] * (v.ndim - 2))
    count = v[0, 0].numel() * C // groups

    def mean(sums: Tensor) -> Tensor:
        """Mean over each channel's group, (n, C). sums: over the pixels of each channel, (n, C)."""
        per_group = (sums * inner).view(n, groups, -1).sum(2, keepdim=True) / count
        return per_group.expand(n, groups, C // groups).reshape(n, C)

    a, c = mean(v.sum(pixels, dtype=scale.dtype)), mean((v * x).sum(pixels, dtype=scale.dtype))
    k1 = (outer * inner * scale).expand(n, C)
    k2, k3 = -outer * scale * c, -outer * scale * a
    k1, k2, k3 = (k.reshape(shape).to(v.dtype) for k in (k1, k2, k3))
    return torch.addcmul(k3, v, k1).addcmul_(x, k2)


# ------------------------------------------------------------------------------------------------------------ attention


class _LinearisedAttention:
    """Self-attention over the pixels as in diffusers' `AttnProcessor`, with softmax(scale q k^T) v linearised."""

    def __init__(self, apply: Callable[..., Tensor]) -> None:
        self._apply = apply

    def __call__(self, attn: Attention, x: Tensor, **_: object) -> Tensor:
        rows = x.flatten(2)
        if attn.group_norm is not None:
            rows = attn.group_norm(rows)
        rows = rows.transpose(1, 2)
        q, k, v = (attn.head_to_batch_dim(project(rows)) for project in (attn.to_q, attn.to_k, attn.to_v))
        heads = self._apply(partial(_attend, attn), partial(_linear_attention, attn), q, k, v)
        output = attn.to_out[0](attn.batch_to_head_dim(heads)).transpose(1, 2).reshape(x.shape)
        return (output + x if attn.residual_connection else output) / attn.rescale_output_factor


def _attend(attn: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attn.get_attention_scores(q, k) @ v


def _linear_attention(attn: Attention, q: Tensor, k: Tensor, v: Tensor) -> Operation:
    """The derivative of softmax(scale q k^T) v: with p the softmax at the point, dp = p (ds - sum(p ds)).

    q, k, v: (heads, L, d).
    """
    p = attn.get_attention_scores(q, k)

    def derivative(dq: Tensor, dk: Tensor, dv: Tensor) -> Tensor:
        dq, dk, dv = (rows.view(-1, *q.shape) for rows in (dq, dk, dv))
        ds = attn.scale * (dq @ k.mT + q @ dk.mT)
        dp = p * (ds - (p * ds).sum(-1, keepdim=True))
        return (dp @ v + p @ dv).flatten(0, 1)

    return derivative

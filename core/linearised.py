"""Networks to first order at one point, as networks that are linear.

Convolutions, linear layers, upsampling and sums are linear apart from constants; norms, activations, gated units and
attention are not. One pass at the point records the input of each of these nonlinear operations. From then on each is
replaced by its derivative at that input, and constants are left out. The network is then its own derivative: products
with the Jacobian are forward passes, products with the transpose are backward passes, all through the same graph.
`torch.func.jvp` and `vjp` make the same products, but repeat the pass at the point for every batch and go over memory a
dozen times for every group norm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS = (nn.SiLU, nn.Mish, nn.GELU, nn.ReLU)

Operation = Callable[..., Tensor]
Linearise = Callable[..., Operation]
Apply = Callable[..., Tensor]


class Linearisation:
    """Takes hold of the nonlinear operations of some modules, which belong to nobody else: copies.

    While `record` runs them they are exact, and their derivatives are kept. After that `apply` runs them with the
    derivatives in their place.

    Raises:
        ValueError: a module computes something whose derivative is not known here.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._derivatives: list[Operation] = []  # of the nonlinear operations, in the order of their execution
        self._next: Iterator[Operation] | None = None  # None while they are recorded
        self._modules = [inner for module in modules for inner in module.modules()]
        for module in self._modules:
            if isinstance(module, nn.GroupNorm):
                linearise: Linearise = partial(_linear_norm, module)
                module.forward = partial(self._operation, module.forward, linearise)  # type: ignore[method-assign]
            elif isinstance(module, nn.LayerNorm):
                linearise = partial(_linear_layer_norm, module)
                module.forward = partial(self._operation, module.forward, linearise)  # type: ignore[method-assign]
            elif isinstance(module, ACTIVATIONS):
                linearise = partial(_linear_activation, module.forward)
                module.forward = partial(self._operation, module.forward, linearise)  # type: ignore[method-assign]
            elif isinstance(module, GEGLU):
                module.forward = partial(self._gate, module.proj)
            elif isinstance(module, FeedForward) and not isinstance(module.net[0], GEGLU):
                raise ValueError(f"feed-forward layers of the kind {type(module.net[0]).__name__} are not supported")
            elif isinstance(module, Attention):
                module.set_processor(_LinearisedAttention(self._operation))

    @torch.no_grad()
    def record(self, run: Callable[[], object], emb: Tensor | None = None) -> None:
        """`run` calls the modules at the point. emb: (1, E), the time embedding that it gives them, if it does."""
        run()
        _drop_constants(self._modules, emb)

    def apply(self, run: Callable[[], Tensor]) -> Tensor:
        """What `run`, which calls the modules as in `record`, returns of their derivatives."""
        self._next = iter(self._derivatives)
        return run()

    def _operation(self, exact: Operation, linearise: Linearise, *x: Tensor) -> Tensor:
        """A nonlinear operation: while recording the exact one, whose derivative at x is kept; then the derivative.

        linearise: x -> the derivative there.
        """
        if x[0].ndim == 2:  # the time embedding, which does not depend on h
            return exact(*x)
        if self._next is not None:
            return next(self._next)(*x)
        self._derivatives.append(linearise(*x))
        return exact(*x)

    def _gate(self, project: nn.Module, x: Tensor, *_: object, **__: object) -> Tensor:
        return self._operation(_gated, _linear_gated, project(x))


def _drop_constants(modules: Sequence[nn.Module], emb: Tensor | None) -> None:
    """Remove biases, and the time embedding where it is added; where it scales, the scale stays. emb: (1, E)."""
    for block in (module for module in modules if isinstance(module, ResnetBlock2D)):
        if block.time_embedding_norm == "scale_shift" and emb is not None:
            scale = block.time_emb_proj(emb if block.skip_time_act else block.nonlinearity(emb)).chunk(2, dim=1)[0]
            block.time_emb_proj = _Constant(torch.cat((scale, torch.zeros_like(scale)), dim=1))
        else:
            block.time_emb_proj = None
            block.forward = partial(_without_embedding, block.forward)
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.bias = None


def _without_embedding(forward: Callable[..., Tensor], x: Tensor, emb: Tensor | None = None, **_: object) -> Tensor:
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


# -------------------------------------------------------------------------------------------------------- gated units


def _gated(x: Tensor) -> Tensor:
    """GEGLU of diffusers after its projection: half of the channels times gelu of the other half."""
    values, gate = x.chunk(2, dim=-1)
    return values * F.gelu(gate)


def _linear_gated(x: Tensor) -> Operation:
    values, gate = x.chunk(2, dim=-1)
    slope = _linear_activation(F.gelu, gate)
    opened = F.gelu(gate)

    def derivative(v: Tensor) -> Tensor:
        dvalues, dgate = v.chunk(2, dim=-1)
        return dvalues * opened + values * slope(dgate)

    return derivative


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


def _linear_layer_norm(norm: nn.LayerNorm, x: Tensor) -> Operation:
    """The same over the last axis: v -> w (v - mean(v) - x mean(x v)) / std. x: (1, L, C)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    rows = x.to(wide)
    centred = rows - rows.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    normalised = centred * scale
    scale = scale if norm.weight is None else scale * norm.weight.to(wide)

    def derivative(v: Tensor) -> Tensor:
        dv = v.to(wide)
        dv = dv - dv.mean(-1, keepdim=True) - normalised * (normalised * dv).mean(-1, keepdim=True)
        return (scale * dv).to(v.dtype)

    return derivative


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
    """Attention as in diffusers' `AttnProcessor`, over the pixels or over the words of a prompt, with
    softmax(scale q k^T) v linearised. A prompt is constant: its keys and values are those of the first pass."""

    def __init__(self, apply: Apply) -> None:
        self._apply = apply

    def __call__(
        self,
        attn: Attention,
        x: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        channels_first = x.ndim == 4
        rows = x.flatten(2) if channels_first else x.mT
        if attn.group_norm is not None:
            rows = attn.group_norm(rows)
        rows = rows.mT
        q = attn.head_to_batch_dim(attn.to_q(rows))
        if encoder_hidden_states is None:
            k, v = (attn.head_to_batch_dim(project(rows)) for project in (attn.to_k, attn.to_v))
            heads = self._apply(partial(_attend, attn), partial(_linear_attention, attn), q, k, v)
        else:
            heads = self._apply(
                partial(_attend_words, attn, encoder_hidden_states),
                partial(_linear_cross_attention, attn, encoder_hidden_states),
                q,
            )
        output = attn.to_out[0](attn.batch_to_head_dim(heads))
        if channels_first:
            output = output.mT.reshape(x.shape)
        return (output + x if attn.residual_connection else output) / attn.rescale_output_factor


def _attend(attn: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return attn.get_attention_scores(q, k) @ v


def _linear_attention(attn: Attention, q: Tensor, k: Tensor, v: Tensor) -> Operation:
    """The derivative of softmax(scale q k^T) v: with p the softmax at the point, dp = p (ds - sum(p ds)).

    q, k, v: (heads, L, d).
    """
    point = attn.get_attention_scores(q, k), q, k, v, attn.scale

    def derivative(dq: Tensor, dk: Tensor, dv: Tensor) -> Tensor:
        dq, dk, dv = (rows.view(-1, *q.shape) for rows in (dq, dk, dv))
        return _AttentionDerivative.apply(dq, dk, dv, point).flatten(0, 1)

    return derivative


class _AttentionDerivative(torch.autograd.Function):
    """Written out in both directions, so that no maps of the rows are kept: at 64x64 pixels those of a row and eight
    heads have half a gigabyte. dq, dk, dv: (n, heads, L, d); dk and dv None: keys and values are constant."""

    @staticmethod
    def forward(ctx: Any, dq: Tensor, dk: Tensor | None, dv: Tensor | None, point: Any) -> Tensor:
        ctx.point, ctx.cross = point, dk is None
        p, q, k, v, scale = point
        ds = scale * (dq @ k.mT)
        if dk is not None:
            ds = ds + scale * (q @ dk.mT)
        change = _softmax_derivative(p, ds) @ v
        return change if dv is None else change + p @ dv

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        p, q, k, v, scale = ctx.point
        ds = scale * _softmax_derivative(p, dy @ v.mT)  # symmetric: the transpose is the same
        if ctx.cross:
            return ds @ k, None, None, None
        return ds @ k, ds.mT @ q, p.mT @ dy, None


def _softmax_derivative(p: Tensor, ds: Tensor) -> Tensor:
    ds = p * ds
    return ds - p * ds.sum(-1, keepdim=True)


def _words(attn: Attention, text: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a prompt (1, L, E), per head."""
    if attn.norm_cross:
        text = attn.norm_encoder_hidden_states(text)
    return attn.head_to_batch_dim(attn.to_k(text)), attn.head_to_batch_dim(attn.to_v(text))


def _attend_words(attn: Attention, text: Tensor, q: Tensor) -> Tensor:
    return _attend(attn, q, *_words(attn, text))


def _linear_cross_attention(attn: Attention, text: Tensor, q: Tensor) -> Operation:
    """The same with constant keys and values. q: (heads, L, d), text: (1, L', E)."""
    k, v = _words(attn, text)
    point = attn.get_attention_scores(q, k), q, k, v, attn.scale

    def derivative(dq: Tensor) -> Tensor:
        return _AttentionDerivative.apply(dq.view(-1, *q.shape), None, None, point).flatten(0, 1)

    return derivative

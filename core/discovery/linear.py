"""The decoder's linearisation at one point: products with the Jacobian of P_t with respect to h, and its transpose.

J = d codec.decode(P_t(G(h, skips, emb))) / dh at fixed (x_t, skips, emb), from h-space (C, H, W) to pixels (3, R, R).
The Jacobian of eps is the same matrix times a scalar, -sqrt(a_t / (1 - a_t)) (Region-based editing, Eq. 9 and 10): the
right singular vectors are the same, and a row of J is the change of one pixel of the predicted image.
"""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F

from core.editing import predict
from core.errors import RequestError, ResourceError
from core.models.loader import DiffusionModel
from core.progress import Job, Progress
from core.unet import SplitUNet

MOST_ROWS = 16  # per call; more rows are no faster
DECODER = ("up_blocks", "conv_norm_out", "conv_act", "conv_out")


class Jacobian:
    """J at (x_t, t) as an operator; `forward` is V -> J V, `reverse` is Y -> J^T Y, for batches of rows.

    x_t: (1, C, h, w) in network space. dtype: in which the decoder is differentiated, float32 by default: on a CPU
    bfloat16 is at most a third faster and wrong by some per cent (see benchmarks/discovery.py). chunk: rows per call,
    by default what fits in memory. forwards, reverses: how many products were made.

    Raises:
        ValueError: x_t has more than one row.
    """

    def __init__(
        self,
        model: DiffusionModel,
        x_t: Tensor,
        t: int,
        dtype: torch.dtype = torch.float32,
        chunk: int | None = None,
    ) -> None:
        if len(x_t) != 1:
            raise ValueError(f"the Jacobian is that of one image, not of {len(x_t)}")
        wide = torch.promote_types(dtype, torch.float32)
        self.model, self.t, self.dtype = model, t, dtype
        self.x_t = x_t.to(model.device, wide)
        with torch.no_grad():
            features = model.features(self.x_t, t)
        cast = [skip.to(dtype) for skip in features.skips]
        self._features = replace(features, h=features.h.to(dtype), skips=tuple(cast), emb=features.emb.to(dtype))
        self._decoder = _differentiable_decoder(model.unet.unet, dtype)
        self._chunk = chunk
        self._pull: Callable[[Tensor], tuple[Tensor]] | None = None
        self.forwards = self.reverses = 0
        self.h_shape = tuple(features.h.shape[1:])
        self.image_shape = tuple(model.codec.decode(self.x_t).shape[1:])

    def predicted_image(self, delta_h: Tensor) -> Tensor:
        """P_t at h + delta_h, in pixels. delta_h: (1, C, H, W)."""
        schedule, x = self.model.schedule, self.x_t
        output = self._decoder.decode(self._features, delta_h)[:, : x.shape[1]].to(x.dtype)
        return self.model.codec.decode(schedule.predicted_x0(x, schedule.eps_from_output(output, x, self.t), self.t))

    def forward(self, V: Tensor) -> Tensor:
        """J v of each row. V: (n, C, H, W) -> (n, 3, R, R), in float32 at least.

        Raises:
            ResourceError: out of memory, or half precision overflowed.
        """
        self.forwards += len(V)
        origin = torch.zeros_like(self._features.h)

        def push(v: Tensor) -> Tensor:
            return torch.func.jvp(self.predicted_image, (origin,), (v[None],))[1][0]

        with torch.no_grad():
            return self._by_chunks(push, V, self.dtype)

    def reverse(self, Y: Tensor) -> Tensor:
        """J^T y of each row. Y: (n, 3, R, R) -> (n, C, H, W), in float32 at least.

        Raises:
            ResourceError: out of memory, or half precision overflowed.
        """
        self.reverses += len(Y)
        if self._pull is None:  # the graph at the point is made once and kept
            with torch.enable_grad():
                self._pull = torch.func.vjp(self.predicted_image, torch.zeros_like(self._features.h))[1]
        return self._by_chunks(lambda y: self._pull(y[None])[0][0], Y, self.x_t.dtype)

    def _by_chunks(self, product: Callable[[Tensor], Tensor], rows: Tensor, dtype: torch.dtype) -> Tensor:
        """`product` of each row, at unit root mean square so that half precision neither overflows nor underflows."""
        rows = rows.to(self.model.device, self.x_t.dtype)
        size = rows.flatten(1).square().mean(1).sqrt().clamp(min=torch.finfo(rows.dtype).tiny)[:, None, None, None]
        chunk = self._chunk or min(MOST_ROWS, max(1, self.model.rows_per_call() // 2))
        batched = torch.func.vmap(product)
        try:
            parts = [batched(part) for part in (rows / size).to(dtype).split(chunk)]
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise ResourceError("The machine ran out of memory. Choose a smaller model.") from error
        made = torch.cat(parts).to(rows.dtype) * size
        if not made.isfinite().all():
            raise ResourceError(f"The analysis overflowed in {self.dtype}. Use float32.")
        return made


def _differentiable_decoder(unet: UNet2DModel, dtype: torch.dtype) -> SplitUNet:
    """The same network with a decoder of its own in `dtype`, made for forward and reverse differentiation.

    Attention is written out and group norms get contiguous input: forward mode passes through neither fused attention
    nor the group norm of channels-last tensors. Weights are shared where the precision is the same; the model itself
    stays as it is.
    """
    shared = {id(p): p for p in unet.parameters()} if dtype == unet.dtype else {}
    twin = copy.copy(unet)
    twin._modules = dict(unet._modules)
    for name in DECODER:
        part = copy.deepcopy(unet._modules[name], dict(shared))
        twin._modules[name] = part if shared else nn.Module.to(part, dtype)
        for module in part.modules():
            if isinstance(module, Attention):
                module.set_processor(AttnProcessor())
            if isinstance(module, nn.GroupNorm):
                module.forward = _contiguous_norm(module)
    return SplitUNet(twin)


def _contiguous_norm(norm: nn.GroupNorm) -> Callable[[Tensor], Tensor]:
    return lambda x: F.group_norm(x.contiguous(), norm.num_groups, norm.weight, norm.bias, norm.eps)


def nearest_timestep(model: DiffusionModel, steps: int, fraction: float = 0.6) -> int:
    """The timestep of the trajectory nearest to fraction * T, by default 0.6 T (Local editing, section 5).

    Raises:
        RequestError: the fraction is not between 0 and 1, or the step count is out of range.
    """
    if not 0 <= fraction <= 1:
        raise RequestError(f"The timestep must lie between 0 and 1 of the whole, not at {fraction}.")
    return min(model.schedule.timesteps(steps), key=lambda t: abs(t - fraction * model.schedule.T))


def descend(model: DiffusionModel, x_T: Tensor, t: int, steps: int) -> Job:
    """From x_T (B, C, h, w) to x_t with plain DDIM (Local editing, Algorithm 1, line 3). Result: x_t in float32.

    Raises:
        RequestError: t is not one of the trajectory's timesteps, or the step count is out of range.
        ResourceError: out of memory.
    """
    timesteps = model.schedule.timesteps(steps)[::-1]
    if t not in timesteps:
        raise RequestError(f"The timestep {t} is not on the way of {steps} steps.")
    x, total = x_T.to(model.device, torch.float32), timesteps.index(t)
    for k, (s, s_prev) in enumerate(zip(timesteps[:total], timesteps[1 : total + 1], strict=True)):
        eps = predict(model, x, s, None)
        x = model.schedule.reverse_step(x, eps, eps, s, s_prev)
        if k + 1 < total:
            yield Progress(k + 1, total, "denoising")
    yield Progress(total, total, "denoising", result=x)

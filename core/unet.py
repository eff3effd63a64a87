"""h-space: a `UNet2DModel` split at the output of its mid block.

`encode(x_t, t) -> (h, skips, emb)` and `decode(features, delta_h) -> output` are the two halves of the network's own
forward, made of its own modules. The encoder runs once per sampling step, however many shifts of h are decoded.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn


@dataclass(frozen=True)
class Features:
    """What the decoder needs of a noisy batch: h, the skip connections, the time embedding and the timesteps.

    h: (B, C, H, W), output of the mid block. skips: the down blocks' outputs, each (B, c, h, w), in the order they
    were made. emb: (B, E), the time embedding that the residual blocks receive. timesteps: (B,) integers, on the CPU.
    """

    h: Tensor
    skips: tuple[Tensor, ...]
    emb: Tensor
    timesteps: Tensor

    @property
    def t(self) -> int:
        """The timestep of all rows.

        Raises:
            ValueError: they have different ones.
        """
        first, *others = self.timesteps.unique().tolist()
        if others:
            raise ValueError(f"these rows have different timesteps: {[first, *others]}")
        return first

    def select(self, rows: Tensor | slice) -> "Features":
        """The given rows, by index tensor, boolean mask or slice (rows may repeat)."""
        skips = tuple(skip[rows] for skip in self.skips)
        timesteps = self.timesteps[rows.cpu() if isinstance(rows, Tensor) else rows]
        return Features(self.h[rows], skips, self.emb[rows], timesteps)

    def to(self, dtype: torch.dtype) -> Self:
        """The same in another precision."""
        skips = tuple(skip.to(dtype) for skip in self.skips)
        return replace(self, h=self.h.to(dtype), skips=skips, emb=self.emb.to(dtype))

    def repeat(self, n: int) -> "Features":
        """Every row n times in a row: (B, ...) -> (B n, ...)."""
        return self.select(torch.arange(len(self.h), device=self.h.device).repeat_interleave(n))

    def expand(self, n: int) -> "Features":
        """A single row seen as n rows, without copying.

        Raises:
            ValueError: there is more than one row.
        """
        if len(self.h) != 1:
            raise ValueError(f"expand needs one row, got {len(self.h)}")
        skips = tuple(skip.expand(n, -1, -1, -1) for skip in self.skips)
        h, emb = self.h.expand(n, -1, -1, -1), self.emb.expand(n, -1)
        return replace(self, h=h, skips=skips, emb=emb, timesteps=self.timesteps.expand(n))


def row_timesteps(t: int | Sequence[int], rows: int) -> Tensor:
    """(rows,) integers, on the CPU. t: one timestep for all rows, or one each.

    Raises:
        ValueError: another number of timesteps than of rows.
    """
    timesteps = torch.full((rows,), t) if isinstance(t, int) else torch.tensor(t)
    if len(timesteps) != rows:
        raise ValueError(f"{len(timesteps)} timesteps for {rows} rows")
    return timesteps


class SplitNetwork(ABC):
    """A frozen network as everything above sees it: two halves, whatever family it is of.

    Differentiable in x and in delta_h. Forward-mode differentiation (`torch.func.jvp`) does not pass through fused
    attention: call `use_plain_attention()` first.

    passes: how many rows the network computes for one.
    """

    passes = 1

    def __init__(self, unet: Any) -> None:
        self.unet = unet.eval().requires_grad_(False)
        self._wide: Self | None = None

    @abstractmethod
    def encode(self, x: Tensor, t: int | Sequence[int]) -> Features:
        """Down path and mid block. x: (B, C, H, W) in the network's dtype. t: one timestep for all rows, or one each.

        Raises:
            ValueError: another number of timesteps than of rows.
        """

    @abstractmethod
    def decode(self, features: Features, delta_h: Tensor | None = None) -> Tensor:
        """Up path at h + delta_h. delta_h: broadcastable to h, or None. Returns the raw output (B, C_out, H, W)."""

    def of(self, unet: nn.Module) -> Self:
        """The same halves of another network of the same shape."""
        return type(self)(unet)

    def shifted_branches(self, features: Features) -> "list[tuple[float, SplitNetwork, Features]]":
        """Plain decoders whose weighted outputs add up to this one's, but for what does not depend on delta_h."""
        return [(1.0, self, features)]

    def in_float32(self) -> Self:
        """The same network computing in float32, for what half precision cannot hold; made once and kept."""
        if self.dtype in (torch.float32, torch.float64):
            return self
        if self._wide is None:
            self._wide = self.of(nn.Module.to(copy.deepcopy(self.unet), torch.float32))
        return self._wide

    @property
    def nbytes(self) -> int:
        """Of its weights, and of those in float32 where they are kept as well."""
        own = sum(p.numel() * p.element_size() for p in self.unet.parameters())
        return own + (self._wide.nbytes if self._wide is not None else 0)

    @property
    def in_channels(self) -> int:
        return self.unet.config.in_channels

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of the network's input."""
        size = self.unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return self.in_channels, height, width

    @property
    def dtype(self) -> torch.dtype:  # diffusers walks through all parameters for it, at every pass
        return next(self.unet.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    def use_plain_attention(self, plain: bool = True) -> None:
        """Choose the attention written out in plain matrix products (jvp-able), or the fused one (faster)."""
        for module in self.unet.modules():
            if isinstance(module, Attention):
                module.set_processor(AttnProcessor() if plain else AttnProcessor2_0())


class SplitUNet(SplitNetwork):
    """Encoder and decoder of a frozen diffusers `UNet2DModel`; `decode(encode(x, t))` equals `unet(x, t).sample`.

    Raises:
        ValueError: the network is class-conditional.
    """

    def __init__(self, unet: UNet2DModel) -> None:
        if unet.class_embedding is not None:
            raise ValueError("class-conditional networks are not supported")
        super().__init__(unet)

    def encode(self, x: Tensor, t: int | Sequence[int]) -> Features:
        """Down path and mid block. x: (B, C, H, W) in the network's dtype. t: one timestep for all rows, or one each.

        Raises:
            ValueError: another number of timesteps than of rows.
        """
        unet = self.unet
        timesteps = row_timesteps(t, len(x))
        emb = unet.time_embedding(unet.time_proj(timesteps.to(x.device)).to(x.dtype))

        skip_sample = 2 * x - 1.0 if unet.config.center_input_sample else x
        sample = unet.conv_in(skip_sample)
        skips = (sample,)
        for block in unet.down_blocks:
            if hasattr(block, "skip_conv"):
                sample, outputs, skip_sample = block(hidden_states=sample, temb=emb, skip_sample=skip_sample)
            else:
                sample, outputs = block(hidden_states=sample, temb=emb)
            skips += outputs

        h = sample if unet.mid_block is None else unet.mid_block(sample, emb)
        return Features(h, skips, emb, timesteps)

    def decode(self, features: Features, delta_h: Tensor | None = None) -> Tensor:
        """Up path at h + delta_h. delta_h: broadcastable to h, or None. Returns the raw output (B, C_out, H, W)."""
        unet = self.unet
        sample = features.h if delta_h is None else features.h + delta_h.to(features.h.dtype)
        skips, skip_sample = features.skips, None
        for block in unet.up_blocks:
            n = len(block.resnets)
            skips, outputs = skips[:-n], skips[-n:]
            if hasattr(block, "skip_conv"):
                sample, skip_sample = block(sample, outputs, features.emb, skip_sample)
            else:
                sample = block(sample, outputs, features.emb)

        sample = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
        if skip_sample is not None:
            sample = sample + skip_sample
        if unet.config.time_embedding_type == "fourier":
            sample = sample / features.timesteps.to(sample)[:, None, None, None]
        return sample

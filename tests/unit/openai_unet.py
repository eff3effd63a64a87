"""The networks of iDDPM and ADM, written out with torch's functions alone, for tests: random tensors, and what they do.

After the papers and OpenAI's description of `UNetModel` (Dhariwal and Nichol 2021, appendix and section 3); independent
of the conversion and of diffusers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    model_channels: int = 32
    mult: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    attention: tuple[int, ...] = (4,)  # at these downsampling factors
    out_channels: int = 6
    heads: int | None = None
    head_channels: int | None = 16
    scale_shift: bool = True
    resampling: str = "resnet"
    new_order: bool = False
    classes: int = 0


class _Maker:
    """Random tensors by name, about as large as those of a trained network."""

    def __init__(self, seed: int, shapes_alone: bool) -> None:
        self.weights: Weights = {}
        self.generator = None if shapes_alone else torch.Generator().manual_seed(seed)

    def random(self, name: str, *shape: int, scale: float = 1.0, around: float = 0.0) -> None:
        if self.generator is None:
            self.weights[name] = torch.empty(*shape, device="meta")
        else:
            self.weights[name] = torch.randn(*shape, generator=self.generator).mul_(scale).add_(around)

    def layer(self, name: str, c_in: int, c_out: int, *kernel: int) -> None:
        self.random(f"{name}.weight", c_out, c_in, *kernel, scale=1 / math.sqrt(c_in * math.prod(kernel)))
        self.random(f"{name}.bias", c_out, scale=0.1)

    def norm(self, name: str, c: int) -> None:
        self.random(f"{name}.weight", c, scale=0.2, around=1.0)
        self.random(f"{name}.bias", c, scale=0.2)

    def residual(self, name: str, c_in: int, c_out: int, s: Settings) -> None:
        self.norm(f"{name}.in_layers.0", c_in)
        self.layer(f"{name}.in_layers.2", c_in, c_out, 3, 3)
        self.layer(f"{name}.emb_layers.1", 4 * s.model_channels, c_out * (1 + s.scale_shift))
        self.norm(f"{name}.out_layers.0", c_out)
        self.layer(f"{name}.out_layers.3", c_out, c_out, 3, 3)
        if c_in != c_out:
            self.layer(f"{name}.skip_connection", c_in, c_out, 1, 1)

    def attention(self, name: str, c: int) -> None:
        self.norm(f"{name}.norm", c)
        self.layer(f"{name}.qkv", c, 3 * c, 1)
        self.layer(f"{name}.proj_out", c, c, 1)


def random_weights(s: Settings, seed: int = 0, shapes_alone: bool = False) -> Weights:
    """Tensors under the names of a released checkpoint. shapes_alone: on the meta device."""
    make = _Maker(seed, shapes_alone)
    width = 4 * s.model_channels
    make.layer("time_embed.0", s.model_channels, width)
    make.layer("time_embed.2", width, width)
    if s.classes:
        make.random("label_emb.weight", s.classes, width)
    c = s.mult[0] * s.model_channels
    make.layer("input_blocks.0.0", 3, c, 3, 3)
    n, skips = 1, [c]
    for level, mult in enumerate(s.mult):
        for _ in range(s.blocks):
            make.residual(f"input_blocks.{n}.0", c, mult * s.model_channels, s)
            c = mult * s.model_channels
            if 2**level in s.attention:
                make.attention(f"input_blocks.{n}.1", c)
            skips.append(c)
            n += 1
        if level + 1 < len(s.mult):
            if s.resampling == "resnet":
                make.residual(f"input_blocks.{n}.0", c, c, s)
            elif s.resampling == "conv":
                make.layer(f"input_blocks.{n}.0.op", c, c, 3, 3)
            skips.append(c)
            n += 1
    make.residual("middle_block.0", c, c, s)
    make.attention("middle_block.1", c)
    make.residual("middle_block.2", c, c, s)
    n = 0
    for level, mult in reversed(list(enumerate(s.mult))):
        for i in range(s.blocks + 1):
            make.residual(f"output_blocks.{n}.0", c + skips.pop(), mult * s.model_channels, s)
            c, part = mult * s.model_channels, 1
            if 2**level in s.attention:
                make.attention(f"output_blocks.{n}.1", c)
                part = 2
            if level and i == s.blocks:
                if s.resampling == "resnet":
                    make.residual(f"output_blocks.{n}.{part}", c, c, s)
                elif s.resampling == "conv":
                    make.layer(f"output_blocks.{n}.{part}.conv", c, c, 3, 3)
            n += 1
    make.norm("out.0", c)
    make.layer("out.2", c, s.out_channels, 3, 3)
    return make.weights


def embedded(w: Weights, s: Settings, t: int) -> Tensor:
    """The time embedding (1, 4 model_channels)."""
    half = s.model_channels // 2
    angles = t * torch.exp(-math.log(10000) * torch.arange(half) / half).to(w["time_embed.0.weight"])
    emb = torch.cat((angles.cos(), angles.sin()))[None]
    emb = F.linear(emb, w["time_embed.0.weight"], w["time_embed.0.bias"])
    return F.linear(F.silu(emb), w["time_embed.2.weight"], w["time_embed.2.bias"])


def forward(
    w: Weights, s: Settings, x: Tensor, t: int, label: int | None = None, shift: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """(output, h): what the network says of x (B, 3, H, W) at t, and the output of its middle block. shift: added to h
    for the output."""
    emb = embedded(w, s, t).expand(len(x), -1)
    if label is not None:
        emb = emb + w["label_emb.weight"][label]

    def conv(name: str, h: Tensor, **how: int) -> Tensor:
        return F.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], **how)

    def norm(name: str, h: Tensor) -> Tensor:
        return F.group_norm(h, 32, w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    def down(h: Tensor) -> Tensor:
        return F.avg_pool2d(h, 2)

    def up(h: Tensor) -> Tensor:
        return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def residual(name: str, h: Tensor, resample=lambda h: h) -> Tensor:
        inner = conv(f"{name}.in_layers.2", resample(F.silu(norm(f"{name}.in_layers.0", h))), padding=1)
        shift = F.linear(F.silu(emb), w[f"{name}.emb_layers.1.weight"], w[f"{name}.emb_layers.1.bias"])[..., None, None]
        if s.scale_shift:
            scale, shift = shift.chunk(2, dim=1)
            inner = norm(f"{name}.out_layers.0", inner) * (1 + scale) + shift
        else:
            inner = norm(f"{name}.out_layers.0", inner + shift)
        inner = conv(f"{name}.out_layers.3", F.silu(inner), padding=1)
        h = resample(h)
        return inner + (conv(f"{name}.skip_connection", h) if f"{name}.skip_connection.weight" in w else h)

    def attention(name: str, h: Tensor) -> Tensor:
        B, C, H, W = h.shape
        heads = s.heads or C // s.head_channels
        width = C // heads
        qkv = F.conv1d(norm(f"{name}.norm", h.flatten(2)), w[f"{name}.qkv.weight"], w[f"{name}.qkv.bias"])
        out = []
        for head in range(heads):  # row by row, as the two orders are described
            if s.new_order:
                q, k, v = (qkv[:, i * C + head * width : i * C + (head + 1) * width] for i in range(3))
            else:
                q, k, v = (qkv[:, (3 * head + i) * width : (3 * head + i + 1) * width] for i in range(3))
            weight = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(width), dim=-1)
            out.append((weight @ v.transpose(1, 2)).transpose(1, 2))
        result = F.conv1d(torch.cat(out, dim=1), w[f"{name}.proj_out.weight"], w[f"{name}.proj_out.bias"])
        return h + result.view(B, C, H, W)

    h = conv("input_blocks.0.0", x, padding=1)
    n, skips = 1, [h]
    for level in range(len(s.mult)):
        for _ in range(s.blocks):
            h = residual(f"input_blocks.{n}.0", h)
            h = attention(f"input_blocks.{n}.1", h) if 2**level in s.attention else h
            skips.append(h)
            n += 1
        if level + 1 < len(s.mult):
            if s.resampling == "resnet":
                h = residual(f"input_blocks.{n}.0", h, down)
            elif s.resampling == "conv":
                h = conv(f"input_blocks.{n}.0.op", h, stride=2, padding=1)
            else:
                h = down(h)
            skips.append(h)
            n += 1
    h = residual("middle_block.2", attention("middle_block.1", residual("middle_block.0", h)))
    middle, h = h, h + shift
    n = 0
    for level in reversed(range(len(s.mult))):
        for i in range(s.blocks + 1):
            h = residual(f"output_blocks.{n}.0", torch.cat((h, skips.pop()), dim=1))
            attends = 2**level in s.attention
            h = attention(f"output_blocks.{n}.1", h) if attends else h
            if level and i == s.blocks:
                if s.resampling == "resnet":
                    h = residual(f"output_blocks.{n}.{1 + attends}", h, up)
                else:
                    h = up(h)
                    h = conv(f"output_blocks.{n}.{1 + attends}.conv", h, padding=1) if s.resampling == "conv" else h
            n += 1
    return conv("out.2", F.silu(norm("out.0", h)), padding=1), middle

"""The map between pixels and the space in which a model's network works. Everything above is written against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from diffusers import VQModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor
from torch.nn import functional as F

from ..progress import Previews

CodecName = Literal["identity", "gray", "haar", "vq", "kl"]


class Codec(Protocol):
    """encode: pixels (B, 3, H, W) in [-1, 1] -> x (B, C, h, w); decode: back. Differentiable, any float dtype.

    derivative: of `decode` at a point x (1, C, h, w): changes of x (n, C, h, w) to those of the pixels, linear and
    differentiable. rows: how many pictures it takes at once, None: any number. nbytes: of its weights. lossless: what
    is encoded comes back, to rounding, if it is what the network works on.
    """

    @property
    def lossless(self) -> bool: ...

    @property
    def rows(self) -> int | None: ...

    @property
    def nbytes(self) -> int: ...

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, x: Tensor) -> Tensor: ...

    def derivative(self, x: Tensor) -> Callable[[Tensor], Tensor]: ...


def pictures(codec: Codec, x: Tensor) -> Tensor:
    """What x (B, C, h, w) decodes to, within [-1, 1]."""
    return codec.decode(x).clamp(-1, 1)


def previews_of(codec: Codec) -> Previews:
    """When a job whose states this decodes shows where it is."""
    return Previews(seconds=0 if codec.lossless else 1)


class Linear:
    """What codecs without a network have in common."""

    lossless: ClassVar[bool] = True
    rows: ClassVar[int | None] = None
    nbytes: ClassVar[int] = 0

    def decode(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def derivative(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        return self.decode


@dataclass(frozen=True)
class Identity(Linear):
    """The network works on pixels."""

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels

    def decode(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Gray(Linear):
    """The network works on the mean of the three colours: (B, 3, H, W) -> (B, 1, H, W); it comes back in all three."""

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels.mean(1, keepdim=True)

    def decode(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class Haar(Linear):
    """One level of the orthonormal Haar transform, details amplified: (B, 3, H, W) <-> (B, 12, H/2, W/2).

    Channels: the picture at half size, twice as bright (3), then its horizontal, vertical and diagonal details (3 each)
    times `gains`, so that all have about the variance of the noise. In pixels the details are twenty times fainter: a
    network that predicts noise or v would have to copy their noise exactly, and what it misses is seen as grain. Here
    an error of theirs is divided by its gain (normalised wavelet coefficients: Guth et al. 2022, section 3).
    """

    gains: tuple[float, float, float] = (4.0, 4.0, 8.0)

    def encode(self, pixels: Tensor) -> Tensor:
        blocks = F.pixel_unshuffle(pixels, 2).unflatten(1, (3, 4))
        gains = pixels.new_tensor((1.0, *self.gains))[:, None]
        return torch.einsum("ij,bcjhw->bichw", gains * _HAAR.to(pixels), blocks).flatten(1, 2)

    def decode(self, x: Tensor) -> Tensor:
        gains = x.new_tensor((1.0, *self.gains))[:, None]
        blocks = torch.einsum("ij,bichw->bcjhw", _HAAR.to(x) / gains, x.unflatten(1, (4, 3)))
        return F.pixel_shuffle(blocks.flatten(1, 2), 2)


class VQ:
    """The autoencoder of a latent diffusion model, pixels <-> latents times `scale`, without quantising.

    Quantising belongs to its decoder, and is left out: rounding to the codebook has no derivative, and a decoded edit
    would jump (Rombach et al. 2022, section 3.1, where the diffusion model works before it). What comes out has the
    precision of what comes in; the network works in its own.
    """

    lossless = False
    rows = 4  # at 256x256 and in float32 a picture takes about 0.6 GB

    def __init__(self, network: VQModel, scale: float = 1.0) -> None:
        self.network, self.scale = network, scale
        for module in network.modules():
            if isinstance(module, Attention):  # the fused kinds have no second derivative
                module.set_processor(AttnProcessor())

    @property
    def nbytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.network.parameters())

    def to(self, device: torch.device) -> VQ:
        """Itself, on this device."""
        self.network.to(device)
        return self

    def encode(self, pixels: Tensor) -> Tensor:
        return self._by_rows(lambda rows: self.network.encode(rows).latents * self.scale, pixels)

    def decode(self, x: Tensor) -> Tensor:
        return self._by_rows(self._decode, x)

    def derivative(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        point = x.detach().to(self.network.dtype)

        def product(dx: Tensor) -> Tensor:
            """J dx as the derivative of u -> J^T u, which is linear: `torch.func.jvp` fails in torch's group norm."""
            rows = dx.to(point.dtype)
            with torch.enable_grad():
                at = point.expand_as(rows).contiguous().requires_grad_()
                pixels = self._decode(at)
                u = torch.zeros_like(pixels, requires_grad=True)
                (transposed,) = torch.autograd.grad(pixels, at, u, create_graph=True)
                (change,) = torch.autograd.grad(transposed, u, rows, create_graph=dx.requires_grad)
            return change.to(dx.dtype)

        return product

    def _decode(self, x: Tensor) -> Tensor:
        return self.network.decode(x / self.scale, force_not_quantize=True).sample

    def _by_rows(self, work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        parts = rows.to(self.network.dtype).split(self.rows)
        return torch.cat([work(part) for part in parts]).to(rows.dtype)


# Rows: mean, horizontal, vertical, diagonal. Columns: upper left, upper right, lower left, lower right pixel.
_HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2

# Those that need no weights.
CODECS: dict[str, Callable[[], Codec]] = {"identity": Identity, "gray": Gray, "haar": Haar}
# Of a network that works without an autoencoder.
CODEC_OF_CHANNELS: dict[int, CodecName] = {1: "gray", 3: "identity", 12: "haar"}

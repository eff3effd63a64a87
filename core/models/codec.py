"""The map between pixels and the space in which a model's network works. Everything above is written against it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Codec(Protocol):
    """encode: pixels (B, 3, H, W) in [-1, 1] -> x (B, C, h, w); decode: back. Differentiable, any float dtype."""

    def encode(self, pixels: Tensor) -> Tensor: ...

    def decode(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Identity:
    """The network works on pixels."""

    def encode(self, pixels: Tensor) -> Tensor:
        return pixels

    def decode(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Haar:
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


# Rows: mean, horizontal, vertical, diagonal. Columns: upper left, upper right, lower left, lower right pixel.
_HAAR = torch.tensor([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2

CODECS: dict[str, Callable[[], Codec]] = {"identity": Identity, "haar": Haar}

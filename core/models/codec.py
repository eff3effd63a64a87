"""The map between pixels and the space in which a model's network works. Everything above is written against it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

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
class Unshuffle:
    """Blocks of factor x factor pixels become channels: (B, 3, H, W) <-> (B, 3 factor^2, H/factor, W/factor).

    A permutation, so noise stays independent per pixel and the diffusion is exact pixel diffusion.
    """

    factor: int = 2

    def encode(self, pixels: Tensor) -> Tensor:
        return F.pixel_unshuffle(pixels, self.factor)

    def decode(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.factor)


CODECS: dict[str, Callable[[], Codec]] = {"identity": Identity, "unshuffle": Unshuffle}

"""Which part of a face each pixel of a picture shows, by one small network trained on a renderer's own part maps.

It is trained from the renderer alone (`training/train_parts.py`), and knows drawings of that renderer only: models
whose pictures are others have no parts until they bring a network of their own.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ModelUnavailable
from .models.small_networks import read_config, read_weights
from .named_parts import Masks, Place, masks_of, part_at, with_sides

FOLD = 2  # pixels a side


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class PartNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) from (B, 3, size, size) in [-1, 1] to logits (B, parts, size, size).

    Squares of `FOLD` x `FOLD` pixels enter as channels of one place and leave as such (sub-pixel convolution, Shi et
    al. 2016): edges are exact to the pixel, at a quarter of the work of a finest level of its own.
    """

    def __init__(self, parts: int, channels: tuple[int, ...] = (24, 40, 64, 96), size: int = 128) -> None:
        super().__init__()
        self.size = size
        self.enter = _conv(3 * FOLD**2, channels[0])
        self.down = nn.ModuleList(_conv(i, o, stride=2) for i, o in pairwise(channels))
        self.middle = _conv(channels[-1], channels[-1])
        self.up = nn.ModuleList(_conv(below + beside, beside) for below, beside in pairwise(channels[::-1]))
        self.head = nn.Sequential(_conv(channels[0], channels[0]), nn.Conv2d(channels[0], parts * FOLD**2, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(F.pixel_unshuffle(x, FOLD))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([x, skips.pop()], 1))
        return F.pixel_shuffle(self.head(x), FOLD)


class Parts:
    """The trained network with the names of its parts, the first of which is everything that is not of the person."""

    def __init__(self, net: PartNet, names: tuple[str, ...]) -> None:
        self.net = net.eval().requires_grad_(False)
        self.names = names

    def label_map(self, pixels: Tensor) -> np.ndarray:
        """The index in `names` at each pixel (size, size) of the network's own resolution, of pixels (1, 3, H, W) or
        (3, H, W) in [-1, 1]."""
        labels: np.ndarray = self.label_maps(pixels[None] if pixels.ndim == 3 else pixels[:1])[0]
        return labels

    @torch.no_grad()
    def label_maps(self, pixels: Tensor) -> np.ndarray:
        """The same (B, size, size) of pictures (B, 3, H, W)."""
        x = pixels.detach().float().cpu()
        if x.shape[-2:] != (self.net.size, self.net.size):
            x = F.interpolate(x, (self.net.size, self.net.size), mode="bicubic", antialias=True, align_corners=False)
        labels: np.ndarray = self.net(x).argmax(1).numpy()
        return labels

    def found(self, pixels: Tensor) -> Masks:
        """The parts that a picture shows, by name: boolean masks (R, R) at its own resolution, see `masks_of`."""
        return masks_of(self.label_map(pixels), self.names, pixels.shape[-1])

    def at(self, pixels: Tensor, place: Place) -> tuple[str, np.ndarray] | None:
        """The part at a place, one eye before both."""
        return part_at(with_sides(self.found(pixels)), place)


def load(folder: str | Path) -> Parts:
    """The network of a folder (config.json, model.safetensors), on the CPU: a picture takes it milliseconds.

    Raises ModelUnavailable when a file is missing or broken.
    """
    folder = Path(folder)
    try:
        config = read_config(folder)
        net = PartNet(len(config["parts"]), **config["network"])
        read_weights(net, folder)
        return Parts(net, tuple(config["parts"]))
    except Exception as error:  # json, safetensors and shape errors share no base class
        raise ModelUnavailable(
            f"The parts of the face in {folder} cannot be read ({error}). Please install the app again."
        ) from error

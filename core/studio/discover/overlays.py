"""What lies over a picture: where a direction acts, and what a region leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...regions import Region

GLOW, INK = (221, 90, 53), (20, 16, 12)


def glow(values: Tensor, size: int) -> Image.Image:
    """A heat map (R, R) as a picture to lie over another: one colour, the more opaque the larger the value."""
    opacity = (values / values.max().clamp(min=1e-12)).sqrt()
    return _tinted(opacity, GLOW, size)


def shade(regions: Sequence[Region], size: int) -> Image.Image:
    """What lies outside all regions, darkened: a picture to lie over the one that they were drawn on."""
    outside = ~np.logical_or.reduce([region.mask for region in regions])
    return _tinted(0.5 * torch.from_numpy(outside).float(), INK, size, Image.Resampling.NEAREST)


def _tinted(
    opacity: Tensor, colour: tuple[int, int, int], size: int, how: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    alpha = Image.fromarray((255 * opacity).round().byte().numpy()).resize((size, size), how)
    picture = Image.new("RGBA", (size, size), (*colour, 0))
    picture.putalpha(alpha)
    return picture

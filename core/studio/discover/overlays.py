"""Pictures to lie over another: where a direction changes it, and what is outside its regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...regions import Region

HEAT, DARK = (221, 90, 53), (20, 16, 12)


def heat_overlay(values: Tensor, size: int) -> Image.Image:
    """A heat map (R, R) as a picture to lie over another: one colour, the more opaque the larger the value."""
    opacity = (values / values.max().clamp(min=1e-12)).sqrt()
    return _tinted(opacity, HEAT, size)


def outside_overlay(regions: Sequence[Region], size: int) -> Image.Image:
    """A picture to lie over the one that regions were drawn on: it darkens what is outside all of them."""
    outside = ~np.logical_or.reduce([region.mask for region in regions])
    return _tinted(0.5 * torch.from_numpy(outside).float(), DARK, size, Image.Resampling.NEAREST)


def _tinted(
    opacity: Tensor, colour: tuple[int, int, int], size: int, resampling: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    alpha = Image.fromarray((255 * opacity).round().byte().numpy()).resize((size, size), resampling)
    picture = Image.new("RGBA", (size, size), (*colour, 0))
    picture.putalpha(alpha)
    return picture

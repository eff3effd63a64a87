"""What happens to a picture between the renderer and a model's eye: noise, blur, small shifts and colour changes.

An image-text model that guides the editing of partially denoised pictures must read blurred and noisy ones, and its
gradient means something only if small shifts and noise do not change its mind.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resized(pixels: Tensor, size: int) -> Tensor:
    """Pixels (B, 3, H, W) -> (B, 3, size, size), as `core.clip.ImageText` resizes."""
    if pixels.shape[-1] == size:
        return pixels
    return F.interpolate(pixels, (size, size), mode="bicubic", antialias=True, align_corners=False)


def augment(pixels: Tensor, generator: torch.Generator, noise: float = 0.5, copies: int = 1) -> Tensor:
    """Random shift (up to 3 %), zoom (4 %), tilt (3 degrees), contrast, brightness, blur and noise for each picture.

    Args:
        pixels: (B, 3, H, W) in [-1, 1].
        generator: the source of all randomness (on the CPU).
        noise: the largest standard deviation of the added Gaussian noise; 4 in 10 pictures get none.
        copies: the batch is this many blocks of B / copies pictures, and the blocks are treated alike (before and
            after an edit).
    """
    n, device = len(pixels) // copies, pixels.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(n, *shape, generator=generator)).repeat(
            copies, *[1] * len(shape)
        ).to(device)  # fmt: skip

    # Geometry: one bilinear look-up.
    zoom, angle = uniform(0.96, 1.04), uniform(-0.05, 0.05)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    x, y = uniform(-0.06, 0.06), uniform(-0.06, 0.06)
    theta = torch.stack([torch.stack([cos, -sin, x], 1), torch.stack([sin, cos, y], 1)], 1)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Colour.
    out = moved * uniform(0.9, 1.08, 1, 1, 1) + uniform(-0.06, 0.06, 1, 1, 1) + uniform(-0.03, 0.03, 3, 1, 1)
    # Blur: one factor per batch, for 4 in 10 pictures.
    factor = 1.3 + 3.2 * float(torch.rand(1, generator=generator))
    side = pixels.shape[-1]
    low = F.interpolate(out, size=max(8, round(side / factor)), mode="bilinear", antialias=True, align_corners=False)
    blurred = F.interpolate(low, size=side, mode="bicubic", align_corners=False)
    out = torch.where(uniform(0, 1, 1, 1, 1) < 0.4, blurred, out)
    # Noise: mostly weak, sometimes strong.
    sigma = noise * uniform(0, 1, 1, 1, 1) ** 2 * (uniform(0, 1, 1, 1, 1) > 0.4)
    grain = torch.randn(n, *pixels.shape[1:], generator=generator).repeat(copies, 1, 1, 1).to(device)
    return out + sigma * grain

"""Measures of how much two pictures differ; `asyrp.loss.s_dir` says how far an edit went towards its text."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from . import instruments
from .errors import ModelUnavailable
from .models.cards import PRESETS, BaseCard

Distance = Callable[[Tensor, Tensor], Tensor]


def perceptual(card: BaseCard, device: torch.device | str = "cpu") -> Distance:
    """The perceptual distance of a model's world: two batches of pixels (B, 3, H, W) in [-1, 1] -> (B,).

    Raises:
        ModelUnavailable: its weights are not here and cannot be fetched.
    """
    if card.perceptual == "embedded":
        if card.instruments is None:
            raise ModelUnavailable(f"{card.title} has no instruments, so there is no distance of its own.")
        return instruments.load(PRESETS / card.instruments, device).distance
    import lpips  # loads torchvision's models, which only Hub models need

    try:
        network = lpips.LPIPS(net="alex", verbose=False).to(device).eval().requires_grad_(False)
    except Exception as error:  # download errors of several libraries
        raise ModelUnavailable(
            "The perceptual distance LPIPS has to be downloaded once and cannot be reached from here."
        ) from error
    return lambda a, b: network(a.to(device), b.to(device)).flatten()


def psnr(a: Tensor, b: Tensor, where: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of pixels (B, 3, H, W) in [-1, 1]. Returns (B,).

    where: boolean (B or 1, 1, H, W), the places that count; all of them if None. NaN where no place counts; 120 dB is
    the most that is said.
    """
    squares = (a - b).square()
    counted = torch.ones_like(squares) if where is None else where.expand_as(squares).to(squares)
    error = (squares * counted).sum((1, 2, 3)) / counted.sum((1, 2, 3))
    return -10 * (error / 4).clamp(min=1e-12).log10()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, Eq. 13) of pixels (B, C, H, W) in [-1, 1], at least 11x11. Returns (B,).

    The mean of `ssim_map` of the pixels as the papers have them, in [0, 1]: SSIM compares means as well, so the same
    pictures around another zero have another one.
    """
    return ssim_map((a + 1) / 2, (b + 1) / 2).mean((1, 2, 3))


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, Eq. 13) around each pixel (B, C, H, W) in [0, 1]: (B, C, H-10, W-10).

    Gaussian window of 11 pixels with a deviation of 1.5, K = (0.01, 0.03), population variances. Whole windows only, as
    in scikit-image and in torchmetrics up to 1.4.1; torchmetrics from 1.4.2 on continues pictures by their mirror image
    and counts the windows over the border too, which at 128 pixels differs by up to 0.04.
    """
    window = torch.exp(-torch.linspace(-5, 5, 11, dtype=a.dtype, device=a.device).square() / (2 * 1.5**2))
    window = (window / window.sum()).expand(a.shape[1], 1, 1, -1)

    def local(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window, groups=x.shape[1]), window.mT, groups=x.shape[1])

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    C1, C2 = 0.01**2, 0.03**2  # a range of 1
    map_ = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    return map_ / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))

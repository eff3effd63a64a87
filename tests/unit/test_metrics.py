"""Measures of pictures, against closed forms."""

import math

import numpy as np
import pytest
import torch

from core import metrics


def test_psnr() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    b[0, :, :2] = 0.2  # the upper half of the first is 0.2 of a range of 2 away: 20 dB, and half as much in all
    upper = (torch.arange(4) < 2).view(1, 1, 4, 1).expand(1, 1, 4, 4)
    assert metrics.psnr(a, b)[0].item() == pytest.approx(23.0103, abs=1e-3)
    assert metrics.psnr(a, b, upper)[0].item() == pytest.approx(20.0, abs=1e-3)
    assert metrics.psnr(a, b, ~upper)[0].item() == pytest.approx(120)  # no error: the most that is said
    own = torch.cat([~upper, upper])  # every picture its own places
    b[1, 0, :2] = 0.2  # one channel of three
    assert metrics.psnr(a, b, own)[1].item() == pytest.approx(24.7712, abs=1e-3)


def test_psnr_where_nothing_counts() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    where = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    where[1] = True
    assert metrics.psnr(a, b, where).tolist() == pytest.approx([float("nan"), 6.0206], abs=1e-4, nan_ok=True)


def plain_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, Eq. 13, window by window in float64: (C, H, W) in [0, 1]."""
    weights = np.array([math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for i in range(11) for j in range(11)])
    weights /= weights.sum()
    found = []
    for channel_a, channel_b in zip(a, b, strict=True):
        for y in range(a.shape[1] - 10):
            for x in range(a.shape[2] - 10):
                p, q = (c[y : y + 11, x : x + 11].ravel() for c in (channel_a, channel_b))
                m, n = weights @ p, weights @ q
                v, w, c = weights @ (p - m) ** 2, weights @ (q - n) ** 2, weights @ ((p - m) * (q - n))
                found.append((2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m * m + n * n + 1e-4) * (v + w + 9e-4)))
    return float(np.mean(found))


def test_ssim_is_that_of_a_plain_implementation_on_0_to_1() -> None:
    drawn = np.random.default_rng(0)
    smooth = np.add.outer(np.linspace(0, 0.6, 24), np.linspace(0, 0.3, 28))[None] * [[[0.5]], [[0.8]], [[1.0]]]
    for b in (smooth + 5 / 255, np.clip(smooth + 0.05 * drawn.normal(size=smooth.shape), 0, 1), 1 - smooth):
        pixels = [torch.from_numpy(2 * picture - 1)[None] for picture in (smooth, b)]
        assert metrics.ssim(*pixels).item() == pytest.approx(plain_ssim(smooth, b), abs=1e-9)
        assert metrics.ssim(*(p.float() for p in pixels)).item() == pytest.approx(plain_ssim(smooth, b), abs=1e-4)


def test_ssim() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
    assert metrics.ssim(a, a).tolist() == pytest.approx([1.0] * 3)
    assert metrics.ssim_map(a, a).shape == (3, 3, 22, 22)
    assert (metrics.ssim(a, -a) < -0.2).all()
    # Flat pictures, 0.75 and 0.4 of 1: only the term of the means is left, (2 m n + C1) / (m^2 + n^2 + C1).
    flat = [torch.full((1, 3, 16, 16), value, dtype=torch.float64) for value in (0.5, -0.2)]
    assert metrics.ssim(*flat).item() == pytest.approx((0.6 + 1e-4) / (0.7225 + 1e-4), abs=1e-9)
    # A change of contrast by c around the same mean: (2 c v + C2) / ((1 + c^2) v + C2), v the variance.
    board = torch.ones(1, 3, 16, 16, dtype=torch.float64)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1
    assert metrics.ssim(0.4 * board, 0.2 * board).item() == pytest.approx((0.04 + 9e-4) / (0.05 + 9e-4), abs=1e-3)
    assert torch.allclose(metrics.ssim(a, a.flip(0)), metrics.ssim(a.flip(0), a))
    # A little brighter is nearly the same (it was 0.84 when pictures were taken around zero).
    gray = torch.full((1, 3, 16, 16), 0.02, dtype=torch.float64)
    assert metrics.ssim(gray, gray + 10 / 255).item() > 0.998

"""Measures of pictures, against closed forms."""

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


def test_ssim() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(3, 3, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1
    assert metrics.ssim(a, a).tolist() == pytest.approx([1.0] * 3)
    assert (metrics.ssim(0.2 * a + 0.5, 0.5 - 0.2 * a) < -0.5).all()
    # Flat pictures: only the term of the means is left, (2 m n + C1) / (m^2 + n^2 + C1).
    flat = [torch.full((1, 3, 16, 16), value, dtype=torch.float64) for value in (0.5, -0.2)]
    assert metrics.ssim(*flat).item() == pytest.approx((-0.2 + 4e-4) / (0.29 + 4e-4), abs=1e-9)
    # A change of contrast by c around the same mean: (2 c v + C2) / ((1 + c^2) v + C2), v the variance.
    board = torch.ones(1, 3, 16, 16, dtype=torch.float64)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = -1
    assert metrics.ssim(0.4 * board, 0.2 * board).item() == pytest.approx((0.16 + 3.6e-3) / (0.2 + 3.6e-3), abs=1e-3)
    assert torch.allclose(metrics.ssim(a, a.flip(0)), metrics.ssim(a.flip(0), a))

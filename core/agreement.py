"""Whether the two halves of a face agree: what eyes, brow, cheek and mouth of one half say, the other should say too.

A small network reads the state of one half off a picture that may be as blurred as a prediction of x_0 in the middle of
sampling: the mean m and the variance v of each reading. The right half is mirrored, so one network reads both. In a
portrait both halves have the same state, so the density of their difference at 0,

    log p = -1/2 sum_k (m_k - s_k m'_k)^2 / (v_k + v'_k) + const.,   s_k = -1 for what a mirror turns round, else 1,

is high where the halves agree or say little. Its gradient moves samples (`sampling.py`); v is held constant in it, or
the picture would be made to say less. Trained by `training/train_agreement.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from core.models.small_networks import read_config, read_weights

SIZE = 128  # of the pictures
TOP, BOTTOM, LEFT, RIGHT = 32, 100, 22, 66  # of the half that is on the left of the picture


def halves(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves (B, 3, 68, 44) of faces (B, 3, 128, 128), the right one mirrored."""
    left, mirrored = (p[:, :, TOP:BOTTOM, LEFT:RIGHT] for p in (pixels, pixels.flip(3)))
    return left, mirrored


class HalfReader(nn.Module):
    """Half a face (B, 3, 68, 44) -> means and log variances (B, K), in standard deviations of the population."""

    def __init__(self, readings: int, width: int = 24) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for factor, stride in ((1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (4, 2)):
            outputs = factor * width
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU()]
            inputs = outputs
        self.maps = nn.Sequential(*layers)
        self.readings = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs * 9 * 6, 128), nn.ReLU(), nn.Linear(128, 2 * readings)
        )

    def forward(self, half: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.readings(self.maps(half)).float().chunk(2, dim=1)
        return mean, log_variance.clamp(-8, 4)


def signs(names: Sequence[str], turned: Sequence[str]) -> Tensor:
    """s (K,): what a mirror makes of each reading."""
    return torch.tensor([-1.0 if name in turned else 1.0 for name in names])


@dataclass
class Agreement:
    """The trained network. names: of its readings; turned: those that a mirror turns round; last: the greatest timestep
    whose predictions of x_0 it can read."""

    net: HalfReader
    names: tuple[str, ...]
    turned: tuple[str, ...]
    last: int

    def log_density(self, pixels: Tensor) -> Tensor:
        """log p (B,) of pictures (B, 3, 128, 128) in [-1, 1], without its constant. Differentiable in them.

        Raises:
            ValueError: pictures of another size.
        """
        if pixels.shape[-2:] != (SIZE, SIZE):
            raise ValueError(f"pictures of {SIZE} x {SIZE} pixels are needed, not {tuple(pixels.shape)}")
        (a, log_a), (b, log_b) = (self.net(half) for half in halves(pixels))
        variance = (log_a.exp() + log_b.exp()).detach()
        return -((a - signs(self.names, self.turned).to(b) * b).square() / variance).sum(1) / 2


def load(folder: Path) -> Agreement:
    """The network of a folder (config.json, model.safetensors), in float32.

    Raises:
        OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError: files are missing or damaged.
    """
    config = read_config(folder)
    net = HalfReader(len(config["names"]), config["width"])
    read_weights(net, folder)
    frozen = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Agreement(frozen, tuple(config["names"]), tuple(config["turned"]), config["last"])

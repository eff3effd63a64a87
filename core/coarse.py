"""What a picture looks like from afar, estimated better than the network does it. For sampling only.

A U-Net that normalises over space in every layer hardly knows how bright its input is. What `avatars` predicts of x_0
is wrong by about 1/f at f cycles across the picture, in the mean (to t = 399) by twice what averaging x_t would give:
little for the loss, but sampled backdrops are stained and skin is blotched. (`train_coarse.py` prints the figures.)

Let y be the picture averaged over blocks of k x k pixels. It is known twice over: from x_t / sqrt(a_t), averaged, with
white noise of deviation r = sqrt((1 - a_t) / a_t) / k; and from the predicted x_0, with an error of deviation sigma_t
that falls as 1/f. A small network without normalisation over space gives E[y | both]. It learns from pictures alone,
with errors drawn at random; sigma_t is measured. The predicted x_0 is moved to what it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.models.small_networks import read_config, read_weights

SIDE = 16
WIDTHS = (64, 96, 128)  # channels at 16, 8 and 4 pixels
VARIANCE = 0.25  # of the pictures' pixels, about
LAST = 640  # what is predicted with more noise is a mean of many pictures, and its error not 1/f
DISTRUST = 2.0  # how much more the prediction errs on the way of a sample than on a noised portrait


class ChannelNorm(nn.Module):
    """Normalises over the channels of each place, so that a brighter place stays one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    """Two convolutions, the first one's output scaled and shifted by the embedding; begins as the identity."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale_and_shift = nn.Linear(embedding, 2 * channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift(embedding)[..., None, None].chunk(2, 1)
        return x + self.second(F.silu(self.first(self.norm(x)) * (1 + scale) + shift))


class CoarseNet(nn.Module):
    """A U-Net of two pictures and how far to trust them."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS, embedding: int = 64) -> None:
        super().__init__()
        steps = list(zip(widths, widths[1:], strict=False))
        self.embed = nn.Sequential(nn.Linear(8, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.enter = nn.Conv2d(6, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Block(width, embedding) for width in widths)
        self.smaller = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in steps)
        self.middle = Block(widths[-1], embedding)
        self.everywhere = nn.Linear(widths[-1], widths[-1])
        self.larger = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in steps)
        self.up = nn.ModuleList(Block(width, embedding) for width in widths[:-1])
        self.leave = nn.Conv2d(widths[0], 3, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, seen: Tensor, predicted: Tensor, r: Tensor, sigma: Tensor) -> Tensor:
        """E[y | seen, predicted], all (B, 3, side, side), with the deviations r and sigma (B,) of their errors.

        What the network adds is measured in the error of the mean of the two, weighted by their inverse variances.
        """
        logs = torch.stack([sigma.log(), r.log()], 1)
        embedding = self.embed(
            torch.cat([(k * logs).sin() for k in (0.5, 2)] + [(k * logs).cos() for k in (0.5, 2)], 1)
        )
        sigma, r = sigma.view(-1, 1, 1, 1), r.view(-1, 1, 1, 1)
        inputs = [predicted / (VARIANCE + sigma**2).sqrt(), seen / (VARIANCE + r**2).sqrt()]
        mean = (r**2 * predicted + sigma**2 * seen) / (r**2 + sigma**2)
        error = left_over(r, sigma)
        return mean * VARIANCE / (VARIANCE + error**2) + error * self.added(torch.cat(inputs, 1), embedding)

    def added(self, x: Tensor, embedding: Tensor) -> Tensor:
        x, kept = self.enter(x), []
        for block, smaller in zip(self.down, self.smaller, strict=False):
            kept.append(block(x, embedding))
            x = smaller(kept[-1])
        x = self.middle(self.down[-1](x, embedding), embedding)
        x = x + self.everywhere(x.mean((2, 3)))[..., None, None]
        for block, larger in zip(reversed(self.up), reversed(self.larger), strict=True):
            x = block(kept.pop() + F.interpolate(larger(x), scale_factor=2), embedding)
        return self.leave(x)


def left_over(r: Tensor, sigma: Tensor) -> Tensor:
    """Deviation of the inverse-variance mean, at most that of the pictures."""
    return (r * sigma / (r**2 + sigma**2).sqrt()).clamp(max=sqrt(VARIANCE))


def from_afar(pixels: Tensor, side: int) -> Tensor:
    """y (B, 3, side, side) of pictures (B, 3, H, W) whose size is a multiple of side."""
    return F.avg_pool2d(pixels, pixels.shape[-1] // side)


def noise_from_afar(alpha: float | np.ndarray, block: int) -> float | np.ndarray:
    """r: the deviation of x_t / sqrt(a_t) averaged over blocks of that many pixels, from the averaged x_0."""
    return np.sqrt((1 - alpha) / alpha) / block


@dataclass
class Coarse:
    """The trained network. errors: (t, sigma_t) in increasing t, sigma interpolated between them; last: the greatest
    timestep at which it knows better than the prediction."""

    net: CoarseNet
    side: int
    errors: tuple[tuple[float, float], ...]
    last: int = LAST

    def sigma(self, t: float | np.ndarray) -> float | np.ndarray:
        """Deviation of the error of what is predicted at t from a noised picture."""
        times, sigmas = zip(*self.errors, strict=True)
        return np.exp(np.interp(t, times, np.log(sigmas)))

    @torch.no_grad()
    def estimate(self, seen: Tensor, predicted: Tensor, r: float, sigma: float) -> Tensor:
        """E[y | both], all (B, 3, side, side), of pictures with the same deviations of their errors."""
        rows = predicted.new_ones(len(predicted))
        return self.net(seen, predicted, r * rows, sigma * rows)

    def correction(self, noised: Tensor, predicted: Tensor, alpha: float, t: int) -> Tensor:
        """What to add to a predicted picture, both as pixels (B, 3, H, W). noised: x_t / sqrt(a_t) as pixels, its noise
        of deviation sqrt((1 - a_t) / a_t) in every pixel; alpha: a_t."""
        block = predicted.shape[-1] // self.side
        seen, y = from_afar(noised, self.side), from_afar(predicted, self.side)
        better = self.estimate(seen, y, float(noise_from_afar(alpha, block)), DISTRUST * float(self.sigma(t)))
        return F.interpolate(better - y, scale_factor=block, mode="bilinear")


def load(folder: Path) -> Coarse:
    """The network of a folder (config.json, model.safetensors), in float32.

    Raises:
        OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError: files are missing or damaged.
    """
    config = read_config(folder)
    net = CoarseNet(tuple(config["widths"]))
    read_weights(net, folder)
    errors = tuple((float(t), float(sigma)) for t, sigma in config["errors"])
    return Coarse(net.eval().requires_grad_(False), config["side"], errors, config["last"])

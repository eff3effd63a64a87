"""A decoder that leans on h: what is done to the skip connections of `avatars` while it is trained.

Trained for long, a U-Net decides about small parts (an eye, a mouth) from its skip connections, and h, of 8 x 8 places,
says less and less of them: shifts of h that must be large do harm elsewhere. So the two coarsest levels of the network
have no skip connections (`cut`: weights of zero that stay zero, in an otherwise usual `UNet2DModel`), and those of the
next level are dropped for a random half of the portraits (`SkipDropout`), so that what they say h has to say too. The
frozen network is used whole.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

LEVELS = 2  # coarsest levels without skip connections
RATE = 0.5  # how often a skip connection of the next level is dropped


def skip_channels(unet: UNet2DModel) -> list[list[int]]:
    """Channels of the skip connection that each residual block of each up block takes, coarsest first."""
    config = unet.config
    made = [config.block_out_channels[0]]
    for block, channels in zip(unet.down_blocks, config.block_out_channels, strict=True):
        made += [channels] * (len(block.resnets) + (block.downsamplers is not None))
    return [[made.pop() for _ in block.resnets] for block in unet.up_blocks]


def cut(unet: UNet2DModel, levels: int = LEVELS) -> None:
    """Take the skip connections of the `levels` coarsest levels out of the decoder: the weights of their channels
    become zero, and their gradients too. What is left of them is their part in a norm's statistics, where one of its
    groups has channels of both."""
    for block, taken in list(zip(unet.up_blocks, skip_channels(unet), strict=True))[:levels]:
        for resnet, channels in zip(block.resnets, taken, strict=True):
            for layer in (resnet.conv1, resnet.conv_shortcut):
                kept = torch.ones(layer.in_channels)
                kept[-channels:] = 0  # an up block appends its skip connection to what comes from below
                silence(layer.weight, kept[:, None, None])


def silence(weight: nn.Parameter, kept: Tensor) -> None:
    """Multiply a weight, and every gradient of it, by `kept`."""
    with torch.no_grad():
        weight.mul_(kept.to(weight))
    weight.register_hook(lambda gradient: gradient * kept.to(gradient))


class SkipDropout:
    """Drops skip connections of one level of a network: each for its own random share of the rows of a batch.

    Nothing is dropped until `draw` was called; every draw is for the forward passes until the next one.
    """

    def __init__(self, unet: UNet2DModel, level: int = LEVELS, rate: float = RATE) -> None:
        self.rate, self.kept = rate, torch.empty(0)
        self.count = len(skip_channels(unet)[level])
        unet.up_blocks[level].register_forward_pre_hook(self._drop)

    def draw(self, rows: int, noise: torch.Generator) -> None:
        """Choose which of `rows` portraits keep which skip connection."""
        self.kept = (torch.rand(self.count, rows, 1, 1, 1, generator=noise) >= self.rate).float()

    def _drop(self, block: nn.Module, arguments: tuple) -> tuple:
        if not len(self.kept):
            return arguments
        sample, skips, *others = arguments
        return (sample, tuple(skip * kept.to(skip) for skip, kept in zip(skips, self.kept, strict=True)), *others)

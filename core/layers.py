"""Other places for a shift than the mid block: any block of the U-Net (Asyrp, appendix D.3), or eps itself.

A model seen here has its `h` there. Whatever works in h-space then works there without a change: training, editing,
averaged forms, perturbations. The usual path through `core.unet` knows nothing of it.

Blocks count as in Figure 14, from the picture to the picture: the L blocks down are 1 to L, the mid block is L + 1, the
blocks up are L + 2 to 2 L + 1 (the figure counts the first convolution as a block of its own: its 8th is the mid one).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from .errors import RequestError
from .models.loader import DiffusionModel
from .schedule import Schedule
from .unet import Features, SplitNetwork, SplitUNet, row_timesteps

EPS = "eps"  # in place of a block's number
RESCALED_EPS = "rescaled eps"


class BlockUNet(SplitUNet):
    """A network split at the output of block `layer`; `decode(encode(x, t))` equals `unet(x, t).sample` at any.

    The shift is added to what goes on to the next block. The skip connections of the block itself stay as they are;
    those of later blocks feel it.

    Raises:
        RequestError: there is no such block, or the network has a second path beside its blocks (NCSN++).
    """

    def __init__(self, unet: Any, layer: int) -> None:
        super().__init__(unet)
        blocks = count(unet)
        if not 1 <= layer <= blocks:
            raise RequestError(f"This network has the blocks 1 to {blocks}; the one in the middle is {middle(unet)}.")
        if any(hasattr(block, "skip_conv") for block in (*unet.down_blocks, *unet.up_blocks)):
            raise RequestError("Directions in this kind of network act at its mid block only.")
        self.layer = layer

    def of(self, unet: nn.Module) -> Self:
        return type(self)(unet, self.layer)

    def encode(self, x: Tensor, t: int | Sequence[int]) -> Features:
        """Everything up to the block, which is what `h` is of. x, t: as of `SplitUNet.encode`."""
        unet = self.unet
        timesteps = row_timesteps(t, len(x))
        emb = unet.time_embedding(unet.time_proj(timesteps.to(x.device)).to(x.dtype))
        sample = unet.conv_in(2 * x - 1.0 if unet.config.center_input_sample else x)
        sample, skips = self._through(sample, (sample,), emb, 1, self.layer)
        return Features(sample, skips, emb, timesteps)

    def decode(self, features: Features, delta_h: Tensor | None = None) -> Tensor:
        """Everything after the block, at h + delta_h. Returns the raw output (B, C_out, H, W)."""
        unet = self.unet
        sample = features.h if delta_h is None else features.h + delta_h.to(features.h.dtype)
        sample, _ = self._through(sample, features.skips, features.emb, self.layer + 1, count(unet))
        sample = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
        if unet.config.time_embedding_type == "fourier":
            sample = sample / features.timesteps.to(sample)[:, None, None, None]
        return sample

    def _through(
        self, sample: Tensor, skips: tuple[Tensor, ...], emb: Tensor, first: int, last: int
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Through the blocks from `first` to `last`: what leaves the last one, and the open skip connections."""
        unet, levels = self.unet, len(self.unet.down_blocks)
        for number in range(first, last + 1):
            if number <= levels:
                sample, made = unet.down_blocks[number - 1](hidden_states=sample, temb=emb)
                skips = (*skips, *made)
            elif number == levels + 1:
                sample = sample if unet.mid_block is None else unet.mid_block(sample, emb)
            else:
                block = unet.up_blocks[number - levels - 2]
                n = len(block.resnets)
                skips, taken = skips[:-n], skips[-n:]
                sample = block(sample, taken, emb)
        return sample, skips


class EpsUNet(SplitNetwork):
    """A network whose `h` is its output, where a shift counts in eps whatever the network predicts (Asyrp, figures 6
    and 13): eps becomes eps + delta. Of a text-to-image one it is the guided output for its prompt."""

    def __init__(self, whole: SplitNetwork, schedule: Schedule) -> None:
        super().__init__(whole.unet)
        self.whole, self.schedule = whole, schedule

    @property
    def passes(self) -> int:  # type: ignore[override]
        return self.whole.passes

    def of(self, unet: nn.Module) -> Self:
        return type(self)(self.whole.of(unet), self.schedule)

    def use_plain_attention(self, plain: bool = True) -> None:
        self.whole.use_plain_attention(plain)

    def encode(self, x: Tensor, t: int | Sequence[int]) -> Features:
        """The whole network. x, t: as of `SplitNetwork.encode`."""
        features = self.whole.encode(x, t)
        return Features(self.whole.decode(features), (), features.emb, features.timesteps)

    def decode(self, features: Features, delta_h: Tensor | None = None) -> Tensor:
        """The output, changed such that eps is changed by delta_h."""
        if delta_h is None:
            return features.h
        rates = [output_per_eps(self.schedule, t) for t in features.timesteps.tolist()]
        return features.h + (torch.tensor(rates).to(delta_h)[:, None, None, None] * delta_h).to(features.h.dtype)


class RescaledEpsUNet(EpsUNet):
    """The same with the size of eps kept (Asyrp, appendix D.2): eps becomes (eps + delta) / sqrt(1 + sigma^2), with
    sigma the root mean square of delta, so that eps stays Gaussian with a deviation of 1 if delta is Gaussian noise."""

    def encode(self, x: Tensor, t: int | Sequence[int]) -> Features:
        """The whole network; x, which the output is told from eps by, goes along. x, t: as of `SplitNetwork.encode`."""
        features = super().encode(x, t)
        return replace(features, skips=(x,))

    def decode(self, features: Features, delta_h: Tensor | None = None) -> Tensor:
        """The output, changed such that eps + delta_h is brought back to the size of eps."""
        if delta_h is None:
            return features.h
        shifted = super().decode(features, delta_h)
        sigma2 = delta_h.float().square().mean((1, 2, 3)).expand(len(features.h))
        size = (1 + sigma2).sqrt().to(shifted)[:, None, None, None]
        [x] = features.skips
        still = torch.tensor([output_per_x(self.schedule, t) for t in features.timesteps.tolist()])
        still = still.to(x)[:, None, None, None] * x  # what the output is where eps is 0
        return still + (shifted - still) / size


def output_per_x(schedule: Schedule, t: int) -> float:
    """How much a network's output changes where x_t changes by 1, eps staying the same."""
    a = schedule.alpha(t)
    match schedule.prediction_type:
        case "epsilon":
            return 0.0
        case "v_prediction":
            return -(((1 - a) / a) ** 0.5)
        case "sample":
            return a**-0.5


def output_per_eps(schedule: Schedule, t: int) -> float:
    """How much a network's output changes where eps at t changes by 1, x staying the same: the inverse of
    `Schedule.eps_from_output`."""
    a = schedule.alpha(t)
    match schedule.prediction_type:
        case "epsilon":
            return 1.0
        case "v_prediction":
            return a**-0.5
        case "sample":
            return -(((1 - a) / a) ** 0.5)


def count(unet: UNet2DModel) -> int:
    """Blocks of a network: 2 L + 1."""
    return 2 * len(unet.down_blocks) + 1


def middle(unet: UNet2DModel) -> int:
    """The number of the mid block: L + 1."""
    return len(unet.down_blocks) + 1


def at_layer(model: DiffusionModel, layer: int | str) -> DiffusionModel:
    """The model with its h at the output of block `layer`, or at `EPS` or `RESCALED_EPS`; the card says its shape. The
    network is shared.

    Raises:
        RequestError: there is no such place.
    """
    whole = model.unet.whole if isinstance(model.unet, EpsUNet) else model.unet
    if isinstance(layer, str):
        kinds = {EPS: EpsUNet, RESCALED_EPS: RescaledEpsUNet}
        if layer not in kinds:
            raise RequestError(f"There is no layer {layer!r}: give the number of a block, {EPS!r} or {RESCALED_EPS!r}.")
        unet: SplitNetwork = kinds[layer](whole, model.schedule)
        shape = model.x_shape
        if unet.unet.config.out_channels != shape[0]:
            raise RequestError("This network also predicts a variance. Its directions act at blocks only.")
    elif not isinstance(whole, SplitUNet):
        raise RequestError("Directions in a text-to-image network act at its mid block or in eps only.")
    else:
        unet = BlockUNet(whole.unet, layer)
        with torch.no_grad():
            x = torch.zeros(1, *model.x_shape, device=unet.device, dtype=unet.dtype)
            channels, height, width = unet.encode(x, 0).h.shape[1:]
        shape = channels, height, width
    return replace(model, unet=unet, card=replace(model.card, h_shape=shape))

"""The embedded world's measuring instruments: one small network that reads attributes, identity and distances.

It is trained from the renderer's parameters alone (`training/train_instruments.py`) and shares nothing with the
image-text model, so that measuring an edit is not circular. Four outputs of one convolutional network:

- attributes, in the renderer's units (yes-or-no ones as probabilities);
- identity, a unit vector that is the same for two portraits of one person in different states;
- features, for the Frechet distance between sets of pictures;
- distance, a perceptual distance in the form of LPIPS (Zhang et al. 2018, Eq. 1, without learned weights): features of
  several depths, normalised to unit length along the channels, squared differences, mean over the picture, sum over the
  depths; times one constant (see `Instruments.distance`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ModelUnavailable
from .models.small_networks import read_config, read_weights


@dataclass(frozen=True)
class Attribute:
    """What the probe reads: `kind` "continuous" (in the renderer's units, from `low` to `high`) or "binary"
    (a probability). `mean` and `spread` are those of the population of portraits: a change divided by `spread` can be
    compared across attributes."""

    name: str
    kind: str
    low: float
    high: float
    mean: float
    spread: float


@dataclass(frozen=True)
class InstrumentOutputs:
    """The network's outputs for a batch: raw attributes (B, K), identity (B, D) unit, features (B, F), and the
    activations (B, C, H, W) of every depth."""

    raw: Tensor
    identity: Tensor
    features: Tensor
    depths: tuple[Tensor, ...]


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _conv(inputs, outputs, stride), _conv(outputs, outputs)
        self.short = nn.Identity() if stride == 1 and inputs == outputs else _conv(inputs, outputs, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.short(x))


class InstrumentNet(nn.Module):
    """The network; input (B, 3, size, size) in [-1, 1] with size 128: depths of 64, 32, 16 and 8 pixels.

    The last map is flattened rather than pooled, because attributes such as the gaze are a matter of place.
    """

    def __init__(
        self,
        attributes: int,
        auxiliary: int,
        channels: tuple[int, ...] = (16, 32, 64, 128),
        width: int = 192,
        identity: int = 32,
        size: int = 128,
    ) -> None:
        super().__init__()
        self.stem = _conv(3, channels[0], stride=2)
        inputs = (channels[0], *channels[:-1])
        strides = (1,) + (2,) * (len(channels) - 1)
        self.blocks = nn.ModuleList(Block(i, o, s) for i, o, s in zip(inputs, channels, strides, strict=True))
        side = size // 2 ** len(channels)
        self.squeeze = _conv(channels[-1], 24, kernel=1)
        self.trunk = nn.Sequential(nn.Linear(24 * side * side, width), nn.ReLU())
        self.attributes = nn.Linear(width, attributes)
        self.auxiliary = nn.Linear(width, auxiliary)  # identity and pose parameters: only used in training
        self.identity = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, identity))

    def forward(self, x: Tensor) -> InstrumentOutputs:
        depths = [F.relu(self.stem(x))]
        for block in self.blocks:
            depths.append(block(depths[-1]))
        common = self.trunk(F.relu(self.squeeze(depths[-1])).flatten(1))
        pooled = [d.float().mean((2, 3)) for d in depths[2:]]
        return InstrumentOutputs(
            raw=self.attributes(common),
            identity=F.normalize(self.identity(common).float(), dim=-1),
            features=torch.cat([*pooled, common.float()], 1),
            depths=tuple(depths),
        )


def layered_distance(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> Tensor:
    """LPIPS form, uncalibrated: activations (B, C, H, W) of several depths -> (B,)."""
    total = torch.zeros(len(a[0]), device=a[0].device)
    for p, q in zip(a, b, strict=True):
        total = total + (F.normalize(p.float(), dim=1) - F.normalize(q.float(), dim=1)).square().sum(1).mean((1, 2))
    return total


@dataclass(frozen=True)
class Comparison:
    """distance, identity: (B,), perceptual distance and similarity of the person. before: the attributes of the
    original, after: those of the others (B,), in their units."""

    distance: Tensor
    identity: Tensor
    before: dict[str, Tensor]
    after: dict[str, Tensor]


class Instruments:
    """The trained network with the units of its attributes. Pixels are (B, 3, H, W) in [-1, 1], any size; everything
    is differentiable in the pixels."""

    def __init__(
        self,
        net: InstrumentNet,
        known: tuple[Attribute, ...],
        distance_scale: float,
        size: int = 128,
        device: torch.device | str = "cpu",
    ) -> None:
        self.net = net.to(device).eval().requires_grad_(False)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.known = {attribute.name: attribute for attribute in known}
        self.distance_scale = distance_scale
        self.size = size
        self.device = torch.device(device)

    def to(self, device: torch.device | str) -> Instruments:
        """Moved to another device."""
        self.device = torch.device(device)
        self.net.to(self.device)
        return self

    def _read(self, pixels: Tensor) -> InstrumentOutputs:
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"pixels must be (B, 3, H, W), not {tuple(pixels.shape)}")
        x = pixels.to(self.device, torch.float32)
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
        return self.net(x.contiguous(memory_format=torch.channels_last))

    def compare(self, before: Tensor, after: Tensor) -> Comparison:
        """All that there is to say of pictures after (B, 3, H, W) against the one that they come from, before
        (1, 3, H, W), with a single pass of the network."""
        read = self._read(torch.cat((before.to(after), after)))
        depths = tuple((depth[:1].expand_as(depth[1:]), depth[1:]) for depth in read.depths)
        originals, edited = (tuple(pair[side] for pair in depths) for side in (0, 1))
        values = self._in_units(read.raw)
        return Comparison(
            distance=self.distance_scale * layered_distance(originals, edited),
            identity=(read.identity[1:] * read.identity[:1]).sum(-1),
            before={name: value[0] for name, value in values.items()},
            after={name: value[1:] for name, value in values.items()},
        )

    def attributes(self, pixels: Tensor) -> dict[str, Tensor]:
        """Every attribute of `known` -> (B,) float32, in its units; probabilities for the binary ones."""
        return self._in_units(self._read(pixels).raw)

    def _in_units(self, raw: Tensor) -> dict[str, Tensor]:
        read = {}
        for column, (name, attribute) in zip(raw.unbind(1), self.known.items(), strict=True):
            binary = attribute.kind == "binary"
            read[name] = torch.sigmoid(column) if binary else attribute.mean + attribute.spread * column
        return read

    def identity(self, pixels: Tensor) -> Tensor:
        """(B, D) unit vectors; the inner product of two is the similarity of two people, 1 for the same."""
        return self._read(pixels).identity

    def features(self, pixels: Tensor) -> Tensor:
        """(B, F) for the Frechet distance: spatial means of the three deepest maps and the common layer."""
        return self._read(pixels).features

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Perceptual distance (B,) of two batches of pictures (B, 3, H, W); 0 for equal ones.

        Scaled by one constant so that the mean distance of held-out portraits x0 and their x_t at t = 167 of the linear
        schedule 1e-4..0.02 is 1.2, the value where Asyrp sets t_boost on CelebA-HQ with LPIPS. Raises ValueError when
        the shapes differ.
        """
        if a.shape != b.shape:
            raise ValueError(f"pictures of one shape are needed, not {tuple(a.shape)} and {tuple(b.shape)}")
        return self.distance_scale * layered_distance(self._read(a).depths, self._read(b).depths)


def load(folder: str | Path, device: torch.device | str = "cpu") -> Instruments:
    """The instruments of a folder (config.json, model.safetensors).

    Raises ModelUnavailable when a file is missing or broken.
    """
    folder = Path(folder)
    try:
        config = read_config(folder)
        known = tuple(Attribute(**row) for row in config["attributes"])
        net = InstrumentNet(len(known), config["auxiliary"], **config["network"])
        read_weights(net, folder)
        return Instruments(net, known, config["distance_scale"], config["network"]["size"], device)
    except Exception as error:  # json, safetensors and shape errors share no base class
        raise ModelUnavailable(
            f"The measuring instruments in {folder} cannot be read ({error}). Please install the app again."
        ) from error

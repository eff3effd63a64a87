"""Networks of OpenAI's kind as diffusers `UNet2DModel`: iDDPM, ADM and what was trained with their code (P2 weighting).

Nichol and Dhariwal 2021, Dhariwal and Nichol 2021, Choi et al. 2022. Their checkpoints are tensors alone. Most of the
architecture is read off the tensors' names and shapes; what these cannot tell is taken from the arguments, or else from
the authors' defaults. The function stays the same to float rounding.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor

from ..errors import ModelUnavailable, RequestError
from .cards import MAX_SIDE
from .heads import HEADS, build_unet

HEAD_CHANNELS = 64  # of the ADM networks (num_head_channels), and of all that were trained with P2 weighting
IDDPM_HEADS = 4  # of the iDDPM networks (num_heads)
BOTTOM = 8  # side of h: their networks halve a picture until it has 8x8 cells
GROUPS = 32  # of every group norm
FIRST = "time_embed.0.weight"
AUTOENCODER = "first_stage_model"  # of a latent diffusion model, among its tensors


# Names within a residual block and an attention -> names in diffusers.
_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}


@dataclass(frozen=True)
class Architecture:
    """What such a network is.

    size: side of its pictures. channels: of each level, the largest pictures first. blocks: residual blocks per level.
    attention: for each level, whether its blocks attend. heads: of every attention, or None: one per `head_channels`
    channels. scale_shift: the time embedding scales and shifts (else it is added). resampling: by residual blocks
    ("resnet"), by convolutions ("conv"), or without parameters ("plain"). new_order: q, k and v are apart before the
    heads are (else within each head). classes: how many, 0 for none.
    """

    size: int
    in_channels: int
    out_channels: int
    channels: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]
    heads: int | None
    head_channels: int | None
    scale_shift: bool
    resampling: str
    new_order: bool
    classes: int

    def heads_of(self, channels: int) -> int:
        """How many heads an attention over so many channels has. Raises RequestError: it cannot be divided so."""
        heads, left = (self.heads, 0) if self.heads else divmod(channels, self.head_channels or channels)
        assert heads is not None
        if left or not heads or channels % heads:
            raise RequestError(
                f"Attention over {channels} channels cannot be divided into heads like that. Give --head-channels or "
                "--heads as the network was trained with."
            )
        return heads

    def config(self) -> dict[str, Any]:
        """As diffusers writes it: the arguments of `UNet2DModel`."""
        resnet, bottom = self.resampling == "resnet", self.channels[-1]
        widths = {c for c, attends in zip(self.channels, self.attention, strict=True) if attends} | {bottom}
        for width in widths:
            self.heads_of(width)
        down = [
            "AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" if resnet else "DownBlock2D" for a in self.attention
        ]
        up = ["AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" if resnet else "UpBlock2D" for a in self.attention]
        config: dict[str, Any] = {
            "sample_size": self.size,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": list(self.channels),
            "layers_per_block": self.blocks,
            "down_block_types": down,
            "up_block_types": up[::-1],
            "downsample_type": "resnet" if resnet else "conv",
            "upsample_type": "resnet" if resnet else "conv",
            "downsample_padding": 1,
            "resnet_time_scale_shift": "scale_shift" if self.scale_shift else "default",
            "attention_head_dim": bottom // self.heads_of(bottom),
            "norm_num_groups": GROUPS,
            "attn_norm_num_groups": GROUPS,
            "norm_eps": 1e-5,
            "flip_sin_to_cos": True,
            "freq_shift": 0,
        }
        if self.heads is not None and len(widths) > 1:
            config[HEADS] = self.heads
            config["attention_head_dim"] = gcd(*widths)  # the weights have the right shapes with any divisor
        return config


# ---------------------------------------------------------------------------------------------------- from the tensors


def network_state(content: object) -> dict[str, Tensor]:
    """The tensors of the network in a checkpoint: itself, or in one of its dictionaries; the average over training
    (“ema”) before others. Names begin at the network.

    Raises:
        ModelUnavailable: there is no network of this kind in it, or one of latents.
    """
    if any(str(name).startswith(AUTOENCODER) for found in _dictionaries(content) for name in found):
        raise ModelUnavailable(
            "This is a checkpoint of latent diffusion: its network sees the latents of an autoencoder, not pictures. "
            "It cannot be converted. Open the model as a repository of diffusers, such as CompVis/ldm-celebahq-256."
        )
    for found in _dictionaries(content):
        prefixes = [str(name).removesuffix(FIRST) for name in found if str(name).endswith(FIRST)]
        if prefixes:
            prefix = min(prefixes, key=lambda name: ("ema" not in name, len(name)))
            state = {str(n).removeprefix(prefix): v for n, v in found.items() if str(n).startswith(prefix)}
            return {name: value.float() for name, value in state.items() if isinstance(value, Tensor)}
    raise ModelUnavailable(
        "This is not a checkpoint of an iDDPM or ADM network (OpenAI's UNetModel): its tensors have other names."
    )


def _dictionaries(content: object) -> Iterator[Mapping[Any, Any]]:
    """A dictionary and those in it, averages over training first."""
    if isinstance(content, Mapping):
        inner = [(str(key), value) for key, value in content.items() if isinstance(value, Mapping)]
        for _, value in sorted(inner, key=lambda entry: "ema" not in entry[0]):
            yield from _dictionaries(value)
        yield content


def infer(
    state: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    head_channels: int | None = None,
    size: int | None = None,
    new_order: bool = False,
) -> tuple[Architecture, list[str]]:
    """The architecture of a network's tensors, and in words what was guessed because tensors cannot tell it.

    heads, head_channels: at most one of them. By default one head per 64 channels where the network resamples with
    residual blocks, as ADM's do, else four heads as in iDDPM. size: by default such that h is 8x8, as in all their
    networks. new_order: of the attention's weights (use_new_attention_order).

    Raises:
        ModelUnavailable: the tensors are those of another kind of network, or of one that diffusers cannot express.
        RequestError: the arguments do not fit.
    """
    try:
        return _inferred(state, heads, head_channels, size, new_order)
    except (KeyError, IndexError, ValueError) as error:
        raise ModelUnavailable("This network is incomplete, or not quite of the iDDPM and ADM kind.") from error


def _inferred(
    state: Mapping[str, Tensor], heads: int | None, head_channels: int | None, size: int | None, new_order: bool
) -> tuple[Architecture, list[str]]:
    if heads is not None and head_channels is not None:
        raise RequestError("Give the number of heads or the channels of each, not both.")
    for option, value in (("--heads", heads), ("--head-channels", head_channels)):
        if value is not None and value < 1:
            raise RequestError(f"{option} is a whole number from 1 up, not {value}.")
    inputs, outputs = _numbers(state, "input_blocks"), _numbers(state, "output_blocks")
    ups = [name for name in state if re.fullmatch(r"output_blocks\.\d+\.[1-9]\.(in_layers\.2|conv)\.weight", name)]
    downs = [name for name in state if re.fullmatch(r"input_blocks\.\d+\.0\.op\.weight", name)]
    lacking = max(inputs) + 1 - len(inputs)  # blocks without parameters
    levels = 1 + (len(ups) or lacking)
    per_level, left = divmod(max(outputs) + 1, levels)  # residual blocks, and one more block
    if left or per_level < 2 or max(inputs) != max(outputs) or (lacking and ups) or len(downs) not in (0, len(ups)):
        raise ValueError("the levels differ")
    resampling = "plain" if lacking else "conv" if downs or levels == 1 else "resnet"

    firsts = [f"input_blocks.{1 + level * per_level}" for level in range(levels)]
    channels = tuple(state[f"{first}.0.in_layers.2.weight"].shape[0] for first in firsts)
    attention = tuple(f"{first}.1.qkv.weight" in state for first in firsts)
    scale_shift = state[f"{firsts[0]}.0.emb_layers.1.weight"].shape[0] == 2 * channels[0]
    first_channels, in_channels = state["input_blocks.0.0.weight"].shape[:2]
    if not state[FIRST].shape[1] == first_channels == channels[0]:
        raise ModelUnavailable(
            "The first level of this network is of another width than its time embedding, as that of ADM at 512x512. "
            "diffusers has no such network (UNet2DModel), so it cannot be converted."
        )
    if in_channels not in (1, 3):
        raise ModelUnavailable("This network sees more than one picture, as an upsampler does: it cannot be used here.")

    guesses = []
    if heads is None and head_channels is None:
        if resampling == "resnet":
            head_channels = HEAD_CHANNELS
            guesses.append(f"attention has one head per {HEAD_CHANNELS} channels, as in ADM (--head-channels, --heads)")
        else:
            heads = IDDPM_HEADS
            guesses.append(f"attention has {IDDPM_HEADS} heads, as in iDDPM (--heads, --head-channels)")
    if not new_order:
        guesses.append("attention has the older order of weights, as in iDDPM and ADM (--new-attention-order)")
    if size is None:
        size = BOTTOM * 2 ** (levels - 1)
        guesses.append(f"pictures are {size}x{size}: the network halves them to {BOTTOM}x{BOTTOM} (--resolution)")
    if not 0 < size <= MAX_SIDE:
        raise RequestError(f"Pictures may have up to {MAX_SIDE}x{MAX_SIDE} pixels, not {size}x{size}.")
    if size % 2 ** (levels - 1):
        raise RequestError(f"Pictures of {size}x{size} cannot be halved {levels - 1} times, as this network does.")
    found = Architecture(
        size=size,
        in_channels=in_channels,
        out_channels=state["out.2.weight"].shape[0],
        channels=channels,
        blocks=per_level - 1,
        attention=attention,
        heads=heads,
        head_channels=head_channels,
        scale_shift=scale_shift,
        resampling=resampling,
        new_order=new_order,
        classes=len(state["label_emb.weight"]) if "label_emb.weight" in state else 0,
    )
    return found, guesses


def _numbers(state: Mapping[str, Tensor], path: str) -> set[int]:
    """Of the blocks of a path that have parameters."""
    return {int(name.split(".")[1]) for name in state if name.startswith(f"{path}.")}


# --------------------------------------------------------------------------------------------------------- conversion


def convert(state: Mapping[str, Tensor], found: Architecture, chosen_class: int | None = None) -> UNet2DModel:
    """The network with these weights, in float32; all that it predicts, a learned variance too.

    chosen_class: of a class-conditional network: its embedding becomes part of the time embedding's bias, so that the
    network is unconditional.

    Raises:
        RequestError: a class is needed, or is not one of the network's. ModelUnavailable: the weights do not fit the
            architecture, or are not finite.
    """
    state = dict(state)
    if found.classes:
        if chosen_class is None or not 0 <= chosen_class < found.classes:
            raise RequestError(
                f"This network was trained with {found.classes} classes. Choose one with --class, from 0 to "
                f"{found.classes - 1}: what comes out is the network of this class alone."
            )
        state["time_embed.2.bias"] = state["time_embed.2.bias"] + state.pop("label_emb.weight")[chosen_class]
    elif chosen_class is not None:
        raise RequestError("This network knows no classes. Leave the class out.")
    if not all(value.isfinite().all() for value in state.values()):
        raise ModelUnavailable("This checkpoint has weights that are not numbers. Get another copy of it.")
    unet = build_unet(found.config())
    weights: dict[str, Tensor] = {}
    try:
        for theirs, ours in _modules(found):
            weights |= _renamed(state, theirs, ours, found)
        for side, level in _resampled(found) if found.resampling == "plain" else ():
            weights |= _plain(found, side, level)
        unet.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise ModelUnavailable(
            "The weights do not fit the network that was inferred from them: it is not quite of the iDDPM and ADM kind."
        ) from error
    return unet


def _modules(found: Architecture) -> Iterator[tuple[str, str]]:
    """Names of the parts of their network and of ours."""
    yield from {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }.items()
    per_level, levels = found.blocks + 1, len(found.channels)
    for level, attends in enumerate(found.attention):
        first = 1 + level * per_level
        for n in range(found.blocks):
            yield f"input_blocks.{first + n}.0", f"down_blocks.{level}.resnets.{n}"
            if attends:
                yield f"input_blocks.{first + n}.1", f"down_blocks.{level}.attentions.{n}"
        if level + 1 < levels and found.resampling != "plain":
            yield f"input_blocks.{first + found.blocks}.0", f"down_blocks.{level}.downsamplers.0"
    for level, attends in enumerate(reversed(found.attention)):
        first = level * per_level
        for n in range(per_level):
            yield f"output_blocks.{first + n}.0", f"up_blocks.{level}.resnets.{n}"
            if attends:
                yield f"output_blocks.{first + n}.1", f"up_blocks.{level}.attentions.{n}"
        if level + 1 < levels and found.resampling != "plain":
            yield f"output_blocks.{first + per_level - 1}.{1 + attends}", f"up_blocks.{level}.upsamplers.0"


def _renamed(state: Mapping[str, Tensor], theirs: str, ours: str, found: Architecture) -> dict[str, Tensor]:
    """The weights of a part under the names of diffusers."""
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(f"{theirs}."):
            continue
        layer, _, parameter = name.removeprefix(f"{theirs}.").rpartition(".")
        if layer == "qkv":
            weights |= _attention(value, f"{ours}.{{}}.{parameter}", found)
        elif layer == "op":  # of a downsampler
            weights[f"{ours}.conv.{parameter}"] = value
        else:
            layer = (_RESIDUAL | _ATTENTION).get(layer, layer)
            weights[".".join(filter(None, (ours, layer, parameter)))] = value[..., 0] if value.ndim == 3 else value
    return weights


def _attention(value: Tensor, name: str, found: Architecture) -> dict[str, Tensor]:
    """q, k and v of an attention apart. value: (3 C, ...), in the older order q, k and v of each head in turn."""
    C = len(value) // 3
    value = value.reshape(3 * C, -1)
    if not found.new_order:
        heads = found.heads_of(C)
        value = value.reshape(heads, 3, C // heads, -1).transpose(0, 1).reshape(3 * C, -1)
    parts = value.squeeze(-1) if name.endswith("bias") else value
    return {name.format(key): part.clone() for key, part in zip(("to_q", "to_k", "to_v"), parts.chunk(3), strict=True)}


def _resampled(found: Architecture) -> Iterator[tuple[str, int]]:
    """Where pictures change their size."""
    for level in range(len(found.channels) - 1):
        yield "down", level
        yield "up", level


def _plain(found: Architecture, side: str, level: int) -> dict[str, Tensor]:
    """The convolution that does what resampling without parameters does: the mean of 2x2, the nearest neighbour."""
    C = found.channels[level] if side == "down" else found.channels[-1 - level]
    kernel = torch.zeros(C, C, 3, 3)
    own = torch.arange(C)
    if side == "down":
        kernel[own, own, 1:, 1:] = 0.25
    else:
        kernel[own, own, 1, 1] = 1.0
    name = f"{side}_blocks.{level}.{side}samplers.0.conv"
    return {f"{name}.weight": kernel, f"{name}.bias": torch.zeros(C)}

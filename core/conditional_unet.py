"""h-space of a text-to-image network: a `UNet2DConditionModel` split at the output of its mid block.

`SplitConditionalUNet` has the two halves for any prompts. `PromptedUNet` binds a prompt and a guidance scale to them:
what is left is a function of (x_t, t) and delta_h, as an unconditional network is, and everything above takes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .attention_control import StepControl, control_attention
from .unet import Features, SplitNetwork, row_timesteps

ShiftedBranch = Literal["conditional", "both"]


@dataclass(frozen=True)
class ConditionalFeatures(Features):
    """What the decoder of a text-to-image network needs of a noisy batch.

    text: (B, L, E), embeddings of the prompts. empty: the same batch under the prompt that guidance pushes away from;
    None: there is no guidance.
    """

    text: Tensor
    empty: ConditionalFeatures | None = None

    def select(self, rows: Tensor | slice) -> ConditionalFeatures:
        return self._with(super().select(rows), self.text[rows], lambda other: other.select(rows))

    def expand(self, n: int) -> ConditionalFeatures:
        """A single row seen as n rows, without copying. Raises ValueError: there is more than one row."""
        text = self.text.expand(n, -1, -1) if len(self.h) == 1 else self.text
        return self._with(super().expand(n), text, lambda other: other.expand(n))

    def to(self, dtype: torch.dtype) -> ConditionalFeatures:
        return self._with(super().to(dtype), self.text.to(dtype), lambda other: other.to(dtype))

    def _with(self, changed: Features, text: Tensor, same: Any) -> ConditionalFeatures:
        empty = None if self.empty is None else same(self.empty)
        return ConditionalFeatures(changed.h, changed.skips, changed.emb, changed.timesteps, text, empty)


class SplitConditionalUNet:
    """Encoder and decoder of a diffusers `UNet2DConditionModel`; `decode(encode(x, t, text))` equals
    `unet(x, t, text).sample`. Differentiable in x, text and delta_h.

    Raises:
        ValueError: the network is conditioned on anything but a prompt (classes, sizes, pictures).
    """

    def __init__(self, unet: UNet2DConditionModel) -> None:
        config = unet.config
        given = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")
        if any(config.get(name) is not None for name in given):
            raise ValueError("networks that are conditioned on more than a prompt are not supported")
        self.unet = unet

    def encode(
        self, x: Tensor, t: int | Sequence[int], text: Tensor, control: StepControl | None = None
    ) -> ConditionalFeatures:
        """Down path and mid block. x: (B, C, H, W), text: (B or 1, L, E), in the network's dtype. t: one timestep for
        all rows, or one each. control: of attention maps; the decoder needs it too.

        Raises:
            ValueError: another number of timesteps than of rows.
        """
        unet = self.unet
        timesteps = row_timesteps(t, len(x))
        emb = unet.time_embedding(unet.get_time_embed(x, timesteps.to(x.device)))
        if unet.time_embed_act is not None:
            emb = unet.time_embed_act(emb)
        text = text.expand(len(x), -1, -1)

        sample = unet.conv_in(2 * x - 1.0 if unet.config.center_input_sample else x)
        skips = (sample,)
        for block in unet.down_blocks:
            sample, outputs = block(hidden_states=sample, temb=emb, **_prompted(block, text, control))
            skips += outputs
        if unet.mid_block is not None:
            sample = unet.mid_block(sample, emb, **_prompted(unet.mid_block, text, control))
        return ConditionalFeatures(sample, skips, emb, timesteps, text)

    def decode(
        self, features: ConditionalFeatures, delta_h: Tensor | None = None, control: StepControl | None = None
    ) -> Tensor:
        """Up path at h + delta_h under the prompts of the features. delta_h: broadcastable to h, or None. Returns the
        raw output (B, C_out, H, W)."""
        unet = self.unet
        sample = features.h if delta_h is None else features.h + delta_h.to(features.h.dtype)
        skips = features.skips
        # Where the input cannot be halved as often as the network does, upsampling has to be told the size.
        uneven = any(side % 2**unet.num_upsamplers for side in skips[0].shape[-2:])
        for block in unet.up_blocks:
            n = len(block.resnets)
            skips, outputs = skips[:-n], skips[-n:]
            size = tuple(skips[-1].shape[-2:]) if uneven and skips else None
            prompted = _prompted(block, features.text, control)
            sample = block(sample, outputs, temb=features.emb, upsample_size=size, **prompted)
        if unet.conv_norm_out is not None:
            sample = unet.conv_act(unet.conv_norm_out(sample))
        return unet.conv_out(sample)


def _prompted(block: nn.Module, text: Tensor, control: StepControl | None) -> dict[str, Any]:
    """What blocks with cross-attention are given beside the others' arguments."""
    if not getattr(block, "has_cross_attention", False):
        return {}
    arguments: dict[str, Any] = {"encoder_hidden_states": text}
    return arguments if control is None else arguments | {"cross_attention_kwargs": {"control": control}}


@dataclass(frozen=True)
class Prompt:
    """What a network is bound to.

    text, empty: (1, L, E), embeddings of the prompt and of what guidance pushes away from. guidance: G of
    classifier-free guidance, eps(0) + G (eps(C) - eps(0)); 1 is none. shifted: whether delta_h acts on the prompt's
    branch alone, which multiplies its effect by G, or on both; without guidance the two are the same. words,
    empty_words: what was embedded.
    """

    text: Tensor
    empty: Tensor
    guidance: float = 1.0
    shifted: ShiftedBranch = "both"
    words: str = ""
    empty_words: str = ""

    def __post_init__(self) -> None:
        if self.shifted not in get_args(ShiftedBranch):
            raise ValueError(f"delta_h acts on one of {get_args(ShiftedBranch)}, not on {self.shifted!r}")


class PromptedUNet(SplitNetwork):
    """A text-to-image network with its prompt and guidance bound: a function of (x, t) and delta_h.

    h is that of the prompt's branch; guidance is linear in the branches' outputs, whatever they predict.
    """

    def __init__(self, unet: UNet2DConditionModel, prompt: Prompt) -> None:
        super().__init__(unet)
        self.split, self.prompt = SplitConditionalUNet(unet), prompt

    @property
    def passes(self) -> int:  # type: ignore[override]
        return 1 if self.prompt.guidance == 1 else 2

    def of(self, unet: nn.Module) -> PromptedUNet:
        return PromptedUNet(unet, self.prompt)

    def use_plain_attention(self, plain: bool = True) -> None:
        super().use_plain_attention(plain)
        if not plain:
            control_attention(self.unet)

    def encode(self, x: Tensor, t: int | Sequence[int]) -> ConditionalFeatures:
        text = self.prompt.text.to(x)
        if self.prompt.guidance == 1:
            return self.split.encode(x, t, text)
        empty = self.prompt.empty.to(x).expand(len(x), -1, -1)
        twice = t if isinstance(t, int) else [*t, *t]
        both = self.split.encode(torch.cat((x, x)), twice, torch.cat((text.expand_as(empty), empty)))
        return replace(both.select(slice(len(x))), empty=both.select(slice(len(x), None)))

    def decode(self, features: Features, delta_h: Tensor | None = None) -> Tensor:
        """Up path at h + delta_h, guided. delta_h: broadcastable to h, or None. Returns the raw output.

        Raises:
            ValueError: the features are not of such a network.
        """
        if not isinstance(features, ConditionalFeatures):
            raise ValueError("these features have no prompt")
        empty = features.empty
        if empty is None:
            return self.split.decode(features, delta_h)
        both, shift = joined(features, empty), delta_h
        if delta_h is not None:
            delta_h = delta_h.expand_as(features.h)
            shift = torch.cat((delta_h, delta_h if self.prompt.shifted == "both" else torch.zeros_like(delta_h)))
        towards, away = self.split.decode(both, shift).chunk(2)
        return away + self.prompt.guidance * (towards - away)

    def shifted_branches(self, features: Features) -> list[tuple[float, SplitNetwork, Features]]:
        if not isinstance(features, ConditionalFeatures) or features.empty is None:
            return super().shifted_branches(features)
        G, empty = self.prompt.guidance, features.empty
        branches: list[tuple[float, SplitNetwork, Features]] = [(G, self, replace(features, empty=None))]
        return branches if self.prompt.shifted == "conditional" else [*branches, (1 - G, self, empty)]


def joined(a: ConditionalFeatures, b: ConditionalFeatures) -> ConditionalFeatures:
    """The rows of both, one after the other, without guidance."""
    skips = tuple(torch.cat(pair) for pair in zip(a.skips, b.skips, strict=True))
    h, emb, timesteps, text = (
        torch.cat((getattr(a, name), getattr(b, name))) for name in ("h", "emb", "timesteps", "text")
    )
    return ConditionalFeatures(h, skips, emb, timesteps, text)

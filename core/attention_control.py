"""Attention control of prompt-to-prompt (Hertz et al. 2022, section 3): maps of the source row given to the others.

The layout of a controlled network call is [unconditional rows, conditional rows] or conditional rows only; the first
conditional row is the source, the others are targets. Only the conditional rows of targets are changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor


@dataclass(frozen=True)
class StepControl:
    """What one network call does to the attention of n targets.

    mapping: (n, L, L), weight of source token j in the map of target token k; share: (n, L), how much of a target
    token's map comes from the source; scale: (n, L), its re-weighting. None: cross-attention is left alone.
    self_tokens: self-attention maps of up to so many positions are the source's; 0 leaves them alone. record: is given
    the cross-attention maps of exactly `recorded_tokens` positions, (1 + n, heads, positions, L), as they are used.
    """

    targets: int
    mapping: Tensor | None = None
    share: Tensor | None = None
    scale: Tensor | None = None
    self_tokens: int = 0
    record: Callable[[Tensor], None] | None = None
    recorded_tokens: int = 0

    def acts_on(self, cross: bool, positions: int) -> bool:
        """Whether it changes or records cross- or self-attention maps of so many positions."""
        if cross:
            return self.mapping is not None or self._records(positions)
        return positions <= self.self_tokens

    def _records(self, positions: int) -> bool:
        return self.record is not None and positions == self.recorded_tokens

    def apply(self, maps: Tensor, cross: bool) -> Tensor:
        """The maps with those of targets changed: (rows, heads, positions, keys), rows in the layout above.

        Raises:
            ValueError: they are of an attention that it does not act on.
        """
        first, records = len(maps) - self.targets - 1, cross and self._records(maps.shape[2])
        kept, source, target = maps[:first], maps[first : first + 1], maps[first + 1 :]
        if cross and self.mapping is None and records:
            pass
        elif cross:
            if self.mapping is None or self.share is None or self.scale is None:
                raise ValueError("this control leaves cross-attention alone")
            mapping, share, scale = (value.to(maps) for value in (self.mapping, self.share, self.scale))
            share, scale = share[:, None, None], scale[:, None, None]
            # Eq. 4 to 6: the source's map where words correspond, the target's own where a word is new, re-weighted.
            target = scale * (share * (source @ mapping[:, None]) + (1 - share) * target)
        else:
            target = source.expand_as(target)
        maps = torch.cat((kept, source, target))
        if records and self.record is not None:
            self.record(maps[first:].detach())
        return maps


class ControlledAttention(AttnProcessor2_0):
    """Fused attention as usual; written out with its maps where a `control` acts on them.

    The control comes with the call and is not kept: one network serves several visitors at once.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        control: StepControl | None = None,
    ) -> Tensor:
        cross = encoder_hidden_states is not None
        if control is None or not control.acts_on(cross, hidden_states.shape[1]):
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)

        context = encoder_hidden_states if cross else hidden_states
        query, key, value = (
            attn.head_to_batch_dim(projected)
            for projected in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        maps = attn.get_attention_scores(query, key, attention_mask)
        maps = control.apply(maps.unflatten(0, (-1, attn.heads)), cross).flatten(0, 1)
        output = attn.batch_to_head_dim(torch.bmm(maps, value))
        return attn.to_out[1](attn.to_out[0](output)) / attn.rescale_output_factor


def control_attention(unet: UNet2DConditionModel) -> None:
    """Give the transformer blocks of a network attention that takes a control."""
    for block in unet.modules():
        for name in ("attn1", "attn2"):
            if isinstance(attention := getattr(block, name, None), Attention):
                attention.set_processor(ControlledAttention())

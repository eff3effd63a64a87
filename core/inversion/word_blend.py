"""Blending by words: outside the places that attend to a word, targets stay the source.

`LocalBlend` of the code of prompt-to-prompt (Hertz et al. 2022, google/prompt-to-prompt), which PnPInversion's
benchmark uses too.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional as F

THRESHOLD = 0.3  # of the largest attention, from which a place is one of the word's
BEGINNING = 0.2  # share of the steps, the first, in which nothing is blended


class WordBlend:
    """Collects the cross-attention of one decoding, and says where its targets may differ from the source.

    source, target: (n, L), 1 at the tokens of the word in the source prompt and in each target's; a target without such
    tokens may differ everywhere.
    """

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self.source, self.target = source, target
        self.attention: Tensor | None = None  # (2, n, positions), summed over layers, heads and steps

    @property
    def acts(self) -> bool:
        return bool(self.target.any())

    def record(self, maps: Tensor) -> None:
        """Add the maps (1 + n, heads, positions, L) of one layer, the source's first."""
        maps = maps.float().sum(1)  # (1 + n, positions, L)
        source, target = (value.to(maps) for value in (self.source, self.target))
        found = torch.stack((source @ maps[0].T, (maps[1:] * target[:, None]).sum(-1)))
        self.attention = found if self.attention is None else self.attention + found

    def mask(self, size: Sequence[int], done: int, total: int) -> Tensor | None:
        """(1 + n, 1, h, w) after `done` of `total` steps: 1 where a row may differ from the source, which is the first.
        None: everywhere."""
        if self.attention is None or not self.acts or done <= int(BEGINNING * total):
            return None
        side = isqrt(self.attention.shape[-1])
        maps = F.max_pool2d(self.attention.unflatten(-1, (side, side)), 3, stride=1, padding=1)  # (2, n, side, side)
        maps = F.interpolate(maps, size=tuple(size))
        there = (maps > THRESHOLD * maps.amax((-2, -1), keepdim=True)).any(0)[:, None]
        there |= ~self.target.to(there.device).any(-1).view(-1, 1, 1, 1)
        return torch.cat((torch.ones_like(there[:1]), there)).float()

"""Directions on the rows of a batch: what the h of each row is shifted by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from .directions import Direction, weighted_delta
from .unet import Features


@dataclass(frozen=True)
class RowShifts:
    """A sum of directions for B rows at one timestep.

    weighted: directions with their strengths (B,). steps: of the process in which they are added, S~ of Asyrp's
    Algorithm 1, line 15.
    """

    weighted: tuple[tuple[Direction, Tensor], ...]
    steps: int

    def select(self, rows: slice | Sequence[int]) -> RowShifts:
        """Those of some of the rows."""
        return RowShifts(tuple((direction, c[rows]) for direction, c in self.weighted), self.steps)

    @property
    def rows(self) -> list[int]:
        """Those that are shifted at all."""
        return sorted({row for _, c in self.weighted for row in c.nonzero().flatten().tolist()})

    def delta_h(self, features: Features) -> Tensor | None:
        """Broadcastable to h (B, C, H, W); None where every strength is zero."""
        return weighted_delta(self.weighted, features, self.steps)

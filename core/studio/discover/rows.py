"""The rows of a search: a direction with what is shown of it, and which rows stay when better ones are found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...directions import GlobalDirection
from ...discovery.interface import FoundDirection
from ...discovery.naming import Suggestion
from ...regions import Region

SAME = 0.97  # cosine above which a refined direction is the one that was shown


@dataclass(frozen=True, eq=False)  # two rows are equal only if they are the same object
class DirectionRow:
    """A direction with what is shown of it.

    region: where its effect is measured; the whole picture where no region was drawn. strength: of its pictures.
    heat: (R, R), sum of |J v| over the channels: where it changes the picture. name: suggested, until the visitor
    writes one. pinned: named or opened by the visitor, and so not to be replaced. frames: pixels (3, 3, R, R) at
    -strength, 0 and +strength. roir, mse: of the frames, mean of both sides; mean squared change inside the region and
    outside. key: of the preset that it was saved as.
    """

    found: FoundDirection
    region: Region
    strength: float
    heat: Tensor
    name: str
    pinned: bool = False
    frames: Tensor | None = None
    roir: float | None = None
    suggestion: Suggestion | None = None
    key: str | None = None
    mse: tuple[float, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """Its measures as plain values."""
        found, suggestion = self.found, self.suggestion
        return {
            "name": self.name,
            "region": self.region.label or "whole picture",
            "method": found.method,
            "value": round(found.value, 5),
            "inside": None if found.inside is None else round(found.inside, 5),
            "linear_roir": _finite(found.ratio),
            "roir": _finite(self.roir),
            "mse_inside": None if self.mse is None else _finite(self.mse[0], 7),
            "mse_outside": None if self.mse is None else _finite(self.mse[1], 7),
            "strength": self.strength,
            "confidence": suggestion.confidence if suggestion else None,
            "likely": [list(pair) for pair in suggestion.likely] if suggestion else [],
            "attributes": {change.attribute: change.change for change in suggestion.changes} if suggestion else {},
        }


def _finite(value: float | None, digits: int = 4) -> float | None:
    return round(value, digits) if value is not None and math.isfinite(value) else None


def carry_over(old: Sequence[DirectionRow], new: Sequence[DirectionRow]) -> list[DirectionRow]:
    """The new rows; one whose direction is almost that of an old row keeps that row's sign and name, and its pictures
    if the direction is the very same: a little better a direction can change a picture by much more."""
    rows, unmatched = [], list(old)
    for row in new:
        match = max(unmatched, key=lambda candidate: abs(_cosine(row, candidate)), default=None)
        if match is not None and abs(_cosine(row, match)) >= SAME:
            unmatched.remove(match)
            found = _flipped(row.found) if _cosine(row, match) < 0 else row.found
            if torch.equal(_global(found).delta, _global(match.found).delta):
                row = match
            else:
                row = replace(match, found=found, heat=row.heat, strength=row.strength, frames=None)
        rows.append(row)
    return rows


def keep_pinned(old: Sequence[DirectionRow], new: Sequence[DirectionRow]) -> list[DirectionRow]:
    """The new rows, but each pinned old row stays in its place, instead of the new row that is most like it."""
    rows = [*new, *old[len(new) :]]
    pinned = {i: row for i, row in enumerate(old) if row.pinned}
    for i, row in pinned.items():
        match = next((other for other in new if other.found is row.found), None)
        if match is not None and row.frames is None:  # its pictures have come meanwhile
            pinned[i] = replace(match, name=row.name, pinned=True, key=row.key)
    for row in pinned.values():
        if rows:
            del rows[max(range(len(rows)), key=lambda i: abs(_cosine(rows[i], row)))]
    for i, row in sorted(pinned.items()):
        rows.insert(i, row)
    return rows


def _cosine(a: DirectionRow, b: DirectionRow) -> float:
    return float((_global(a.found).delta * _global(b.found).delta).sum())


def _flipped(found: FoundDirection) -> FoundDirection:
    direction = _global(found)
    y = None if found.y is None else -found.y
    return replace(found, direction=replace(direction, delta=-direction.delta), y=y)


def _global(found: FoundDirection) -> GlobalDirection:
    """Its direction, which has a single shift in every method that is refined."""
    if not isinstance(found.direction, GlobalDirection):
        raise TypeError(f"a global direction is needed, not one of kind {found.direction.kind}")
    return found.direction

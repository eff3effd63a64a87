"""The rows of a search: a direction with what is shown of it, and what becomes of it when there are better ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ...directions import GlobalDirection
from ...discovery.found import Found
from ...discovery.naming import Suggestion
from ...regions import Region

SAME = 0.97  # cosine above which a refined direction is the one that was shown
MAX_STRENGTH = 100.0  # of a preset


@dataclass(frozen=True, eq=False)  # two are the same if they are one
class Row:
    """A direction with what is shown of it.

    region: where its effect is measured; the whole picture where there is nothing else. strength: of its pictures.
    heat: (R, R), sum of |J v| over the channels: where it changes the picture. frames: pixels (3, 3, R, R) at
    -strength, 0 and +strength. roir: of the frames, mean of both sides. name: suggested, until the visitor writes one.
    touched: named or opened by the visitor, and so not to be replaced. key: of the preset that it was saved as.
    """

    found: Found
    region: Region
    strength: float
    heat: Tensor
    name: str
    touched: bool = False
    frames: Tensor | None = None
    roir: float | None = None
    suggestion: Suggestion | None = None
    key: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Its measures as plain values."""
        found, known = self.found, self.suggestion
        return {
            "name": self.name,
            "region": self.region.label or "whole picture",
            "method": found.method,
            "value": round(found.value, 5),
            "inside": None if found.inside is None else round(found.inside, 5),
            "linear_roir": _finite(found.ratio),
            "roir": _finite(self.roir),
            "strength": self.strength,
            "confidence": known.confidence if known else None,
            "likely": [list(pair) for pair in known.likely] if known else [],
            "attributes": {change.attribute: change.change for change in known.changes} if known else {},
        }


def _finite(value: float | None) -> float | None:
    return round(value, 4) if value is not None and math.isfinite(value) else None


def kept(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """New rows; where one is almost an old one, it keeps that one's sign, pictures and name."""
    rows, left = [], list(old)
    for row in new:
        like = max(left, key=lambda other: abs(_cosine(row, other)), default=None)
        if like is not None and abs(_cosine(row, like)) >= SAME:
            left.remove(like)
            found = _flipped(row.found) if _cosine(row, like) < 0 else row.found
            row = replace(like, found=found, heat=row.heat)
        rows.append(row)
    return rows


def untouched(old: list[Row], new: list[Row]) -> list[Row]:
    """New rows, with the old ones that the visitor has touched in their places instead of what is most like them."""
    rows = [*new, *old[len(new) :]]
    touched = {i: row for i, row in enumerate(old) if row.touched}
    for row in touched.values():
        if rows:
            del rows[max(range(len(rows)), key=lambda i: abs(_cosine(rows[i], row)))]
    for i, row in sorted(touched.items()):
        rows.insert(i, row)
    return rows


def _cosine(one: Row, other: Row) -> float:
    return float((one.found.direction.delta * other.found.direction.delta).sum())


def _flipped(found: Found) -> Found:
    direction = found.direction
    return replace(found, direction=GlobalDirection(-direction.delta, direction.steps), y=-found.y)

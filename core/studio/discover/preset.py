"""A row as a preset, with the regions that it was found in."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ...imaging import to_pil
from ...presets import Preset
from ...regions import Region
from .exploration import Exploration
from .rows import MAX_STRENGTH, Row

REACH = 1.5  # suggested strengths go this many times as far as the pictures of a row
MAX_REGION_TEXT = 12_000  # characters of a preset's regions


def as_preset(one: Exploration, row: Row) -> Preset:
    """A row as a preset: everything that is needed to use it elsewhere and to know where it came from."""
    card, settings = one.model.card, one.settings
    reach = float(f"{min(MAX_STRENGTH, REACH * row.strength):.2g}")
    ranks = ("rank", "joint_rank", "individual_rank", "projection_rank", "mu")
    where = f"“{row.region.label}”" if row.region.label else "the whole picture"
    measured = {"value": row.found.value, "inside": row.found.inside, "linear_roir": row.found.ratio, "roir": row.roir}
    return Preset(
        direction=row.found.direction,
        name=row.name,
        model=card.id,
        fingerprint=one.model.fingerprint,
        description=f"Found in {where} of one picture, at t = {one.analysis.t}.",
        method=row.found.method,
        parameters={"basis": len(one.analysis.basis), **{name: getattr(settings, name) for name in ranks}},
        region=drawn(one.regions),
        timestep=one.analysis.t,
        injection=one.injection,
        t_edit=0,
        t_boost=0,
        strength=row.strength,
        strength_range=(-reach, reach),
        measured={name: round(value, 5) for name, value in measured.items() if value and math.isfinite(value)},
        thumbnail=_thumbnail(row),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def drawn(regions: Sequence[Region]) -> list[Any]:
    """Regions as a preset keeps them: strokes with fewer points where they would not fit, at worst the box around."""
    for every in (1, 2, 4, 8, 16, 32):
        kept = [region.as_json() for region in regions]
        for region in kept:
            region["boxes"] = [_short(box) for box in region["boxes"]]
            for stroke in region["strokes"]:
                points = stroke["points"]
                stroke["points"] = [_short(point) for point in [*points[:-1:every], points[-1]]]
        if len(json.dumps(kept)) <= MAX_REGION_TEXT:
            return kept
    return [{"label": region.label, "boxes": [_around(region.mask)], "strokes": []} for region in regions]


def _short(numbers: Sequence[float]) -> list[float]:
    return [round(number, 4) for number in numbers]


def _around(mask: np.ndarray) -> list[float]:
    (top, bottom), (left, right) = ((np.flatnonzero(mask.any(axis))[[0, -1]] + (0, 1)) / len(mask) for axis in (1, 0))
    return _short([float(left), float(top), float(right), float(bottom)])


def _thumbnail(row: Row) -> bytes | None:
    if row.frames is None:
        return None
    buffer = io.BytesIO()
    to_pil(row.frames[2:], size=128)[0].save(buffer, "WEBP", quality=85)
    return buffer.getvalue()

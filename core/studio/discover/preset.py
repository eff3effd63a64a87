"""A row as a preset, with the regions that it was found in."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ...imaging import thumbnail
from ...presets import Preset
from ...regions import Region
from ..edit import MAX_STRENGTH
from .exploration import Exploration
from .rows import DirectionRow

REACH = 1.5  # suggested strengths go this many times as far as the pictures of a row
MAX_REGION_TEXT = 12_000  # characters of a preset's regions


def as_preset(exploration: Exploration, row: DirectionRow) -> Preset:
    """A row as a preset: all that is needed to use it elsewhere and to know where it came from.

    Raises:
        RequestError: the picture is not analysed yet.
    """
    analysis, settings = exploration.require_analysis(), exploration.settings
    reach = float(f"{min(MAX_STRENGTH, REACH * row.strength):.2g}")
    ranks = ("rank", "joint_rank", "individual_rank", "projection_rank", "mu")
    where = f"“{row.region.label}”" if row.region.label else "the whole picture"
    measured = {"value": row.found.value, "inside": row.found.inside, "linear_roir": row.found.ratio, "roir": row.roir}
    return Preset(
        direction=row.found.direction,
        name=row.name,
        model=exploration.model.card.id,
        fingerprint=exploration.model.fingerprint,
        description=f"Found in {where} of one picture, at t = {analysis.t}.",
        method=row.found.method,
        parameters={"basis": len(analysis.basis), **{name: getattr(settings, name) for name in ranks}},
        region=regions_json(exploration.regions),
        timestep=analysis.t,
        injection=exploration.injection,
        t_edit=exploration.interval[1],
        t_boost=0,
        strength=row.strength,
        strength_range=(-reach, reach),
        measured={name: round(value, 5) for name, value in measured.items() if value and math.isfinite(value)},
        thumbnail=None if row.frames is None else thumbnail(row.frames[2]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def regions_json(regions: Sequence[Region]) -> list[dict[str, Any]]:
    """Regions as a preset keeps them.

    Where they would not fit, strokes have fewer points, and at worst each region is the box around it.
    """
    for every in (1, 2, 4, 8, 16, 32):
        result = [region.as_json() for region in regions]
        for region in result:
            region["boxes"] = [_rounded(box) for box in region["boxes"]]
            for stroke in region["strokes"]:
                points = stroke["points"]
                stroke["points"] = [_rounded(point) for point in [*points[:-1:every], points[-1]]]
        if len(json.dumps(result)) <= MAX_REGION_TEXT:
            return result
    return [{"label": region.label, "boxes": [_bounding_box(region.mask)], "strokes": []} for region in regions]


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [round(number, 4) for number in numbers]


def _bounding_box(mask: np.ndarray) -> list[float]:
    (top, bottom), (left, right) = ((np.flatnonzero(mask.any(axis))[[0, -1]] + (0, 1)) / len(mask) for axis in (1, 0))
    return _rounded([float(left), float(top), float(right), float(bottom)])

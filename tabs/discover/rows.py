"""Rows of directions as the page shows them."""

from __future__ import annotations

from typing import Any

from core.discovery.methods import find_method
from core.discovery.naming import agree, describe_changes
from core.imaging import to_pil
from core.studio.discover.exploration import Exploration
from core.studio.discover.overlays import heat_overlay
from core.studio.discover.rows import DirectionRow
from tabs.visit import before_url
from tabs.widgets import data_url

ROIR = "Change outside the region over change inside it, in these pictures. The smaller, the more local."

MSE = "Mean squared change of the pixels inside the region and outside it, in thousandths of [-1, 1]²."
STRENGTH = (
    "How far the pictures go, as the papers count: the unit direction times a is added at each of 40 steps. They take "
    "a = 50. Below a picture, 1 is this strength."
)
ELSEWHERE = "Added up, it changes more outside the region than in it."
INTERRUPTED = "The search was stopped here. “Find directions” draws the rest."


def rows_value(exploration: Exploration | None) -> dict[str, Any]:
    """What `Directions` shows of an exploration that nobody works on any more."""
    if exploration is None:
        return {}
    rows = [row_json(row) for row in exploration.rows]
    picture = before_url(exploration.picture)
    note = INTERRUPTED if any(row.frames is None for row in exploration.rows) else ""
    return {
        "search": exploration.number,
        "picture": picture,
        "rows": rows,
        "refined": exploration.refined,
        "note": note,
    }


def row_json(row: DirectionRow) -> dict[str, Any]:
    """One of the `rows` of `Directions`."""
    method = find_method(row.found.method)
    facts = [
        [row.region.label or "Whole picture", "", "Where it acts"],
        [method.value_name, f"{row.found.value:.2f}", method.value_help],
    ]
    ratio = row.roir if row.roir is not None else row.found.ratio
    if ratio is not None:
        facts.append(["outside per inside (ROIR)", f"{ratio:.2f}", ROIR])
    if row.mse is not None:
        facts.append(["squared change inside, outside", " / ".join(f"{1000 * mse:.2g}" for mse in row.mse), MSE])
    facts.append(["strength a", f"{row.strength:g}", STRENGTH])
    about, changes = "", ""
    if row.suggestion is not None:
        changes = describe_changes(row.suggestion.changes)
        if changes:
            changes = f"Read: {changes} (standard deviations)"
        if row.suggestion.text:
            agreed = agree(row.suggestion)
            sure = f"{row.suggestion.confidence:.0%}"
            about = f"“{row.suggestion.text}” by the image-text model, {sure} sure"
            if agreed:
                changes = f"Name {sure} certain. {changes}"
            else:
                about += "; the instruments read something else"
    if ratio is not None and ratio > 1:
        changes = f"{ELSEWHERE} {changes}".strip()
    frames = None if row.frames is None else [data_url(p, quality=85) for p in to_pil(row.frames)]
    heat = data_url(heat_overlay(row.heat, 128), quality=80)
    return {"name": row.name, "about": about, "heat": heat, "frames": frames, "facts": facts, "changes": changes}

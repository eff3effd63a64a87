"""Presets of the Hub as cards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core import hub
from core.studio.compose import link
from core.studio.known_models import loaded_weights
from tabs.widgets import data_url


def fitting(entries: Iterable[hub.Entry], model_id: str) -> list[hub.Entry]:
    """Those that were made for a model, or for the same weights under another name, word or revision."""
    weights = loaded_weights(model_id)
    return [entry for entry in entries if entry.about.model == model_id or entry.about.fingerprint == weights]


def entry_item(entry: hub.Entry) -> dict[str, Any]:
    """A preset of the Hub as a card."""
    about = entry.about
    picture = about.picture()
    effect = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in list(about.measured.items())[:2])
    note = " · ".join(part for part in (about.model, f"{about.method}, {entry.kind}", effect) if part)
    key = link.hub_key(entry.repository, entry.revision, entry.path)
    image = data_url(picture) if picture else None
    return {"id": key, "name": about.name, "note": note, "image": image, "about": about.description}

"""The mixing desk of Compose: its value for a composition, and the changes that it reports."""

from __future__ import annotations

from typing import Any

from core.errors import RequestError
from core.studio.compose.composition import Composition
from core.studio.visit.compose import available_presets, undo
from core.studio.visit.session import Session
from tabs.widgets import data_url


def mixer_value(session: Session) -> dict[str, Any]:
    """Value of `Mixer` for the visit's composition."""
    state, available = session.compose, available_presets(session)
    parts = []
    for component in state.composition.components:
        preset = available.get(component.key)
        if preset is None:
            continue
        picture = preset.picture()
        unit = preset.unit  # the desk counts in what each direction suggests
        low, high = (end / unit for end in preset.strength_range)
        part: dict[str, Any] = {"key": component.key, "name": preset.name}
        part |= {"image": data_url(picture) if picture else None}
        part |= {"strength": round(component.strength / unit, 3), "unit": 1, "low": low, "high": high}
        part |= {"muted": component.muted, "solo": component.solo, "active": component in state.composition.active}
        parts.append(part)
    return {"parts": parts, "locked": state.composition.locked, "undo": bool(state.history.past)}


def change_composition(session: Session, what: Any, key: Any, value: Any) -> None:
    """One change as `Mixer` reports it. Raises RequestError."""
    state = session.compose
    if what == "set" and isinstance(value, int | float) and not isinstance(value, bool):
        preset = available_presets(session).get(str(key))
        value = value * preset.unit if preset is not None else value
    if what == "undo":
        undo(session)
    elif what == "clear":  # words stay written
        state.clear()
    else:
        state.change(changed(state.composition, what, key, value))


def changed(composition: Composition, what: Any, key: Any, value: Any) -> Composition:
    """A composition after any change but an undo. Raises RequestError."""
    match what:
        case "lock":
            return composition.lock(bool(value))
        case "set":
            return composition.set(key, value)
        case "mute":
            return composition.mute(key, bool(value))
        case "solo":
            return composition.solo(key, bool(value))
        case "move" if isinstance(value, int):
            return composition.move(key, value)
        case "remove":
            return composition.remove(key)
        case _:
            raise RequestError("This change is not understood. Try it again.")

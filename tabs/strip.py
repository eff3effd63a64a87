"""One direction on one picture at many strengths: values of the stage, for every tab that has one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from core.models.loader import models
from core.presets import Preset
from core.studio.edit import edit_frames, strip_strengths
from core.studio.frames import EditOptions, Frame, Picture
from core.studio.visit.session import Session
from tabs.results import busy, frames_json
from tabs.visit import before_url

Stages = Iterator[dict[str, Any]]


def strip(
    session: Session, ticket: int, picture: Picture, preset: Preset, options: EditOptions, frames: list[Frame]
) -> Stages:
    """The suggested strength first, then the whole strip, until done or until the ticket is out of date.

    frames: filled in place, in the order of their strengths. Raises VisitorError.
    """
    started = time.monotonic()
    frames.clear()
    model = models.get(picture.model_id)
    low, high = preset.strength_range
    first = [min(max(preset.strength, low), high)]
    base: dict[str, Any] = {"before": before_url(picture), "name": preset.name}
    for event in edit_frames(model, picture, preset, first, options, session.forms):
        if session.ticket != ticket:
            return
        if event.result is None:
            yield {**base, **busy(event)}
        else:
            frames[:] = event.result
    strengths = strip_strengths(preset)
    base |= {"low": low, "high": high, "strength": first[0], "seconds": time.monotonic() - started, "strip": strengths}
    rest = [strength for strength in strengths if strength not in first]
    for event in edit_frames(model, picture, preset, rest, options, session.forms):
        if session.ticket != ticket:
            return
        if event.result is not None:
            frames[:] = sorted([*frames, *event.result], key=lambda frame: frame.strength)
            yield {**base, "frames": frames_json(frames)}
        elif event.preview is not None or event.step == options.steps + 1:
            note = f"Now the other strengths … {100 * event.step // event.total}%"
            yield {**base, "note": note, "frames": frames_json(frames)}


def exact(
    session: Session,
    picture: Picture,
    preset: Preset,
    options: EditOptions,
    strength: float,
    frames: list[Frame],
) -> Stages:
    """A strength outside the strip, computed for itself and added to the frames. Raises VisitorError."""
    ticket, started = session.begin(), time.monotonic()
    low, high = preset.strength_range
    strength = round(min(max(float(strength), low), high), 4)
    model = models.get(picture.model_id)
    for event in edit_frames(model, picture, preset, [strength], options, session.forms):
        if session.ticket != ticket:
            return
        if event.result is not None:
            frames[:] = sorted([*frames, *event.result], key=lambda frame: frame.strength)
    value = {"before": before_url(picture), "name": preset.name, "low": low, "high": high, "strength": strength}
    value |= {"seconds": time.monotonic() - started, "strip": strip_strengths(preset)}
    yield {**value, "frames": frames_json(frames)}

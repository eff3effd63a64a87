"""One direction on one picture at many strengths: values of the stage, for every tab that has one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from core.models.loader import models
from core.presets import Preset
from core.progress import Running, finish
from core.studio.edit import Forms, edit_frames, strip_strengths
from core.studio.frames import EditOptions, Frame, Picture
from core.studio.turns import Turn
from tabs.results import busy, frames_json
from tabs.visit import before_url

Stages = Iterator[dict[str, Any]]


def strip(
    turn: Turn, picture: Picture, preset: Preset, options: EditOptions, frames: list[Frame], forms: Forms
) -> Stages:
    """The suggested strength first, then the whole strip.

    frames: filled in place, in the order of their strengths. forms: where averaged forms of directions are kept.

    Raises:
        Outdated: the visitor has asked for something else. VisitorError.
    """
    started = time.monotonic()
    frames.clear()
    model = models.get(picture.model_id)
    low, high = preset.strength_range
    first = [min(max(preset.strength, low), high)]
    base: dict[str, Any] = {"before": before_url(picture), "name": preset.name, "photo": picture.placement is not None}
    running = Running(turn.follow(edit_frames(model, picture, preset, first, options, forms)))
    for event in running:
        yield {**base, **busy(event)}
    frames[:] = running.result

    strengths = strip_strengths(preset)
    base |= {"low": low, "high": high, "strength": first[0], "seconds": time.monotonic() - started, "strip": strengths}
    rest = [strength for strength in strengths if strength not in first]
    running = Running(turn.follow(edit_frames(model, picture, preset, rest, options, forms)))
    yield {**base, "note": "Now the other strengths …", "frames": frames_json(frames)}
    for event in running:
        if event.preview is not None:
            note = f"Now the other strengths … {100 * event.step // event.total}%"
            yield {**base, "note": note, "frames": frames_json(frames)}
    _add(frames, running.result)
    yield {**base, "frames": frames_json(frames)}


def exact(
    turn: Turn,
    picture: Picture,
    preset: Preset,
    options: EditOptions,
    strength: float,
    frames: list[Frame],
    forms: Forms,
) -> Stages:
    """A strength outside the strip, computed for itself and added to the frames. Raises as `strip`."""
    started = time.monotonic()
    low, high = preset.strength_range
    strength = round(min(max(float(strength), low), high), 4)
    model = models.get(picture.model_id)
    _add(frames, finish(turn.follow(edit_frames(model, picture, preset, [strength], options, forms))))
    value = {"before": before_url(picture), "name": preset.name, "low": low, "high": high, "strength": strength}
    value |= {"seconds": time.monotonic() - started, "strip": strip_strengths(preset)}
    value["photo"] = picture.placement is not None
    yield {**value, "frames": frames_json(frames)}


def _add(frames: list[Frame], more: list[Frame]) -> None:
    frames[:] = sorted([*frames, *more], key=lambda frame: frame.strength)

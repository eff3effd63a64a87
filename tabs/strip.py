"""One direction on one picture at many strengths: values of the stage, for every tab that has one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from core.progress import Running, finish
from core.studio.domain import domain_of
from core.studio.edit import Forms, edit_frames
from core.studio.known_models import known_card, model_of
from core.studio.strips import Strip
from core.studio.turns import Turn
from tabs.results import busy, foreign, frames_json
from tabs.visit import before_url

Stages = Iterator[dict[str, Any]]


def fill(turn: Turn, strip: Strip, forms: Forms) -> Stages:
    """What is there of a strip, then what is missing: the strength that is looked at first, then all others.

    forms: where averaged forms of directions are kept.

    Raises:
        Outdated: the visitor has asked for something else. VisitorError.
    """
    model = model_of(strip.picture)
    if not strip.frames:
        base = {"before": before_url(strip.picture), "name": strip.preset.name}
        if strip.domain is None:
            for event in (looking := Running(turn.follow(domain_of(model, strip.picture, to_show=True)))):
                yield {**base, **busy(event)}
            strip.domain = looking.result
        base |= foreign(model.card, strip.domain)
        started = time.monotonic()
        for event in (running := _running(turn, strip, forms, model)):
            yield {**base, **busy(event)}
        strip.add(running.result)
        strip.seconds = time.monotonic() - started
    if strip.missing:
        yield {**strip_value(strip), "note": "Now the other strengths …"}
        for event in (running := _running(turn, strip, forms, model)):
            if event.preview is not None:
                note = f"Now the other strengths … {100 * event.step // event.total}%"
                yield {**strip_value(strip), "note": note}
        strip.add(running.result)
    yield strip_value(strip)


def exact(turn: Turn, strip: Strip, strength: float, forms: Forms) -> Stages:
    """A strength outside the strip, computed for itself and added to the frames. Raises as `fill`."""
    strength = strip.within(strength)
    model = model_of(strip.picture)
    job = edit_frames(model, strip.picture, strip.preset, [strength], strip.options, forms)
    strip.add(finish(turn.follow(job)))
    strip.strength = strength
    yield strip_value(strip)


def strip_value(strip: Strip) -> dict[str, Any]:
    """The stage with what is there of a strip."""
    low, high = strip.preset.strength_range
    value: dict[str, Any] = {"before": before_url(strip.picture), "name": strip.preset.name, "result": strip.number}
    value |= {"low": low, "high": high, "unit": strip.preset.unit, "strength": strip.strength}
    value["photo"] = strip.picture.placement is not None
    value |= foreign(known_card(strip.picture.model_id), strip.domain)
    if strip.note:
        value["note"] = strip.note
    value |= {"seconds": strip.seconds, "strip": strip.strengths, "frames": frames_json(strip.frames)}
    return value | {"made": strip.made}


def _running(turn: Turn, strip: Strip, forms: Forms, model: Any) -> Running[Any]:
    job = edit_frames(model, strip.picture, strip.preset, strip.missing, strip.options, forms)
    return Running(turn.follow(job))

"""One of the directions that were found: large on the stage, under another name, on other pictures, kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from core.errors import RequestError, VisitorError
from core.progress import Running
from core.studio import library
from core.studio.discover.exploration import Exploration
from core.studio.discover.pictures import apply_to_others
from core.studio.discover.preset import as_preset
from core.studio.discover.rows import DirectionRow
from core.studio.frames import EditOptions, in_units
from core.studio.keeping import Shown, nearest
from core.studio.strips import begin_strip
from core.studio.turns import Outdated
from core.studio.visit.compose import add_preset
from core.studio.visit.session import Session
from tabs.results import pairs_view
from tabs.shell import in_words
from tabs.strip import exact, fill
from tabs.visit import before_url, message, status

MAX_OTHERS = 6  # pictures that a direction is tried on

Values = Iterator[tuple[Any, ...]]


def opened_row(session: Session) -> tuple[Exploration, DirectionRow]:
    """The exploration and its row that is on the stage. Raises RequestError."""
    exploration = session.discover.exploration
    if exploration is None or exploration.opened is None:
        raise RequestError("Choose a direction first.")
    return exploration, exploration.rows[exploration.opened]


@in_words
def open_row(event: gr.EventData, session: Session) -> Values:
    """The large picture of a row: its strength first, then the strip.

    Yields values of opened, stage, said, elsewhere and file.
    """
    exploration = session.discover.exploration
    if exploration is None:
        raise RequestError("These directions are out of date. Find them again.")
    asked = getattr(event, "index", None)
    row = exploration.pin(asked)
    index = int(asked) if asked is not None else 0
    turn, exploration.opened = session.edits.begin(), index
    preset = as_preset(exploration, row)
    strip = exploration.strips.setdefault(index, begin_strip(exploration.picture, row.name, preset, EditOptions()))
    strip.preset = preset  # by the name that it has now
    base = {"before": before_url(exploration.picture), "name": row.name}
    starting = {"busy": True, "note": "Starting …", "fraction": 0}
    yield gr.update(visible=True), base | starting, "", "", gr.update(visible=False)
    try:
        for value in fill(turn, strip, session.text_edit.forms):
            if session.discover.exploration is not exploration:
                return
            yield gr.skip(), value, *(gr.skip(),) * 3
            session.compose.history.keep_strip(strip, "Discover", exploration.model.card)
    except VisitorError as error:
        yield gr.skip(), base | {"note": error.message, "bad": True}, *(gr.skip(),) * 3


@in_words
def exact_strength(event: gr.EventData, session: Session) -> Iterator[dict[str, Any]]:
    """A strength outside the strip. Yields values of the stage."""
    exploration, _ = opened_row(session)
    strength, strip = getattr(event, "strength", None), exploration.strip
    if strip is None or not isinstance(strength, int | float):
        return
    turn = session.edits.begin()
    yield from exact(turn, strip, strength, session.text_edit.forms)
    yield from fill(turn, strip, session.text_edit.forms)


def shown_row(session: Session, strength: float) -> Shown | None:
    """The picture on the stage at a strength."""
    strip = opened_row(session)[0].strip
    frame = None if strip is None else nearest(strip.frames, strength)
    if strip is None or frame is None:
        return None
    picture, name = strip.picture, f"{strip.preset.name} {in_units(frame.strength, strip.preset.strength)}"
    return Shown(picture, picture.pixels, frame.pixels, name)


@in_words
def rename(event: gr.EventData, session: Session) -> Any:
    """The visitor's own name; a preset that was saved from this row is renamed too."""
    exploration = session.discover.exploration
    if exploration is None:
        return gr.skip()
    row = exploration.rename(getattr(event, "index", None), str(getattr(event, "name", "")))
    if row.key is not None:
        session.put(row.key, as_preset(exploration, row))
    return gr.skip()


@in_words
def try_others(session: Session) -> Values:
    """The direction on the model's examples, before and after. Yields values of elsewhere and of the button."""
    exploration, row = opened_row(session)
    model_id = exploration.model.card.id
    paths = [path for path in library.examples(model_id) if path.stem != exploration.picture.example][:MAX_OTHERS]
    if not paths:
        raise RequestError("This model has no examples to try it on.")
    pictures = [session.as_described(library.open_picture(path, model_id)) for path in paths]
    turn, again = session.edits.begin(), gr.update(value="Try on other pictures", interactive=True)
    running = Running(turn.follow(apply_to_others(exploration, row, pictures, row.strength)))
    try:
        for event in running:
            share = f"{event.note} … {100 * event.step // event.total}%"
            yield gr.skip(), gr.update(value=share, interactive=False)
    except VisitorError as error:
        yield message(error), again
    except Outdated:
        yield gr.skip(), again
    else:
        strength = in_units(row.strength, as_preset(exploration, row).unit)
        yield pairs_view(f"The same direction elsewhere, at {strength}", list(zip(*running.result, strict=True))), again


def keep_opened(session: Session) -> str:
    """The row on the stage, kept as a preset of the visitor's own: the key of that. Raises RequestError."""
    exploration, row = opened_row(session)
    preset = as_preset(exploration, row)
    if row.key is not None:
        session.put(row.key, preset)
        return row.key
    key, index = session.keep(preset), exploration.rows.index(row)
    exploration.rows[index] = replace(row, key=key, pinned=True)
    return key


@in_words
def save_row(session: Session) -> tuple[Any, ...]:
    """Returns values of said and file."""
    preset = session.own[keep_opened(session)]
    path = session.write(preset)
    words = f"“{preset.name}” is among your presets: in Text edit, and in Compose."
    return status(words), gr.update(value=str(path), visible=True)


@in_words
def send_row(session: Session) -> str:
    """Returns the value of said."""
    key = keep_opened(session)
    add_preset(session, key)
    return status(f"“{session.own[key].name}” is in your composition. Open Compose to mix it with others.")

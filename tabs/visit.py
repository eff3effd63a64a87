"""What every tab shows of a visit: its pictures, its presets, and words for what went wrong."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image

from core.errors import VisitorError
from core.imaging import to_pil
from core.presets import Preset, weights_in_words
from core.studio import library
from core.studio.frames import Picture
from core.studio.visit.session import Session
from tabs import serving
from tabs.widgets import data_url

_numbers = itertools.count(1)
HINT = "Choose a direction, and the picture changes."


def example_items(model_id: str) -> list[dict[str, Any]]:
    paths = library.examples(model_id)
    items = []
    for number, path in enumerate(paths, start=1):
        items.append(
            {"id": path.stem, "image": serving.address("example", model_id, path.stem), "about": f"Example {number}"}
        )
    return items


def preset_items(model_id: str, own: dict[str, Preset]) -> list[dict[str, Any]]:
    """The visitor's own first, newest first; where there are any, in groups."""
    mine = [(key, preset, True) for key, preset in reversed(own.items()) if preset.model == model_id]
    items = []
    for key, preset, is_own in [*mine, *((k, p, False) for k, p in library.shipped(model_id).items())]:
        image = None
        if preset.thumbnail is not None:  # what a visitor has made is in no file that others could ask for
            image = thumbnail_url(preset.thumbnail) if is_own else serving.address("direction", model_id, key)
        about = preset.description or f"{preset.source_text} → {preset.target_text}"
        if preset.certainty != "exact":
            about = f"{about} {weights_in_words(preset)}"
        item = {"id": key, "name": preset.name, "image": image, "about": about, "own": is_own}
        items.append(item | ({"group": "Yours" if is_own else "Included"} if mine else {}))
    return items


def thumbnail_url(thumbnail: bytes) -> str:
    with Image.open(io.BytesIO(thumbnail)) as opened:
        return data_url(opened.convert("RGB"))


def first_stage(model_id: str) -> dict[str, Any]:
    paths = library.examples(model_id)
    if not paths:
        return {"hint": "Upload a picture, or let the model imagine one."}
    return {"before": before_url(library.open_picture(paths[0], model_id)), "hint": HINT}


def visit_stage(session: Session) -> dict[str, Any]:
    """The stage before there is a result, with the visitor's picture if there is one."""
    if session.picture is None:
        return first_stage(session.model_id)
    return {"before": before_url(session.picture), "hint": HINT}


def message(error: VisitorError) -> str:
    """What was refused. Numbered: the page hides what is seen to, and shows anew only what differs from what it has."""
    return f'<div class="message" role="alert" data-number="{next(_numbers)}">{escape(error.message)}</div>'


def notes(said: Sequence[str]) -> str:
    """What a visitor should know, that is no error."""
    return "".join(map(status, said))


def status(words: str) -> str:
    return f'<div class="message" role="status">{escape(words)}</div>'


def before_url(picture: Picture) -> str:
    return data_url(to_pil(picture.pixels)[0], quality=95)


def current_picture(session: Session, tab: str | None = None) -> Picture | None:
    """The visitor's picture: the first example until they choose. tab: the one that shows it from now on."""
    picture, paths = session.picture, library.examples(session.model_id)
    if picture is None and paths:
        picture = session.as_described(library.open_example(paths[0], session.model_id))
    if tab is not None:  # first: whoever finds the visit's picture finds that this tab shows it
        session.seen[tab] = picture
    session.picture = picture
    return picture


def chosen_preset(session: Session, key: str | None) -> Preset | None:
    if not key:
        return None
    return session.own.get(key) or library.shipped(session.model_id).get(key)

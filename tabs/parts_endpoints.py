"""Parts of a picture for programs: by name, or whatever is at a place, as masks."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.masks import mask_url
from core.named_parts import read_place
from core.studio.regions import at_place, parts_of
from core.studio.visit.session import Session
from tabs.endpoints import (
    Answers,
    declare,
    given_picture,
    model_input,
    picture_input,
    placement_input,
    told_placement,
)
from tabs.shell import Shell

PLACE = (
    "Where to look: [x, y] or [left, top, right, bottom] in fractions of the square's side, for what is there; nothing "
    "for all parts by name"
)


def build(shell: Shell) -> None:
    """Declare the endpoint; its parameters are components that are never shown."""
    with gr.Column(visible=False):
        inputs = [picture_input(), gr.JSON([], label=PLACE), model_input(shell), placement_input()]
        declare(shell, find_parts, inputs, gr.JSON(label="Parts"))


def find_parts(session: Session, image: str | None, place: Any, model: str, placement: Any) -> Answers:
    """Find the parts of a picture, for a region of `/discover` or `/edit_inverted`.

    Returns a JSON with a list of parts, the smallest first, each with a label, its mask (a PNG in a URL, transparent
    outside) and its share of the picture. The drawn portraits have their parts by name, and so have photographs of
    faces with a model for these; what is at a place can be found in any photograph.
    """
    picture = given_picture(image, model, placement)
    found = dict([at_place(model, picture.pixels, read_place(place))]) if place else parts_of(model, picture.pixels)
    parts = [
        {"label": name, "mask": mask_url(mask), "area": round(float(mask.mean()), 5)} for name, mask in found.items()
    ]
    yield {"parts": parts, "model": model, "placement": told_placement(picture)}  # type: ignore[misc]

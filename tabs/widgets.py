"""Widgets that several tabs use: the picture input, choices among pictures, the crop, and the stage for results.

Each is a small subclass of a Gradio component with its markup and script in `assets/`. Scripts build the DOM with
`textContent`, so that no name or prompt can become markup.
"""

from __future__ import annotations

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

ASSETS = Path(__file__).parent / "assets"


@cache
def asset(name: str) -> str:
    """The text of a file in `assets/`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def data_url(picture: Image.Image, kind: str = "WEBP", quality: int = 92) -> str:
    """A picture inside a URL, so that a visitor's picture is in no file that others could ask for."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


class PictureInput(gr.Image):
    """An upload that hands over the file's path as it came, so that every upload rule is ours and speaks our words.

    The constructor is the image component's own: the page reads the properties off its signature.
    """

    is_template = True  # shown by the image component's own script

    def preprocess(self, payload: Any) -> str | None:
        if payload is not None and payload.path is not None and not (payload.url or "").startswith("data:"):
            return payload.path
        path = super().preprocess(payload)
        return path if isinstance(path, str) else None


CARDS = (
    '<input class="search" type="search" hidden><div class="cards"></div><p class="nothing" hidden></p>'
    '<p class="words none" role="status" hidden>Nothing of that name.</p>'
)


class Cards(gr.HTML):
    """A choice among pictures with names. The value is the chosen item's id; `.input` tells of a choice.

    choices: dictionaries with id, and any of name, note (below the name), image (a URL), about (a tooltip), own, group
    (the name of the part of the list that it stands in; those of a group follow each other). With
    `search=True` there is a field to look for names. With `multiple=True` the value is a list of ids, and `.release`
    tells which was clicked (id); marks: letters for the chosen ones, in order.
    """

    def __init__(
        self, choices: list[dict[str, Any]] | None = None, value: str | list[str] | None = None, **settings: Any
    ) -> None:
        self.choices = choices or []  # Gradio takes an attribute it does not find for an event
        super().__init__(
            value=value,
            choices=self.choices,
            html_template=CARDS,
            js_on_load=asset("cards.js"),
            apply_default_css=False,
            **settings,
        )


class Cropper(gr.HTML):
    """The square of a photograph that the model sees; `.release` tells of one to use in its event data (x, y, side,
    angle).

    The value is a dictionary: id (another one: another photograph), image (URL), width and height in pixels, resolution
    (side of the model's pictures), square, faces (such squares), framing (of three taps; None: there are none), words.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            html_template=asset("cropper.html"),
            js_on_load=asset("cropper.js") + asset("reduce.js") + asset("webcam.js"),
            apply_default_css=False,
            **settings,
        )


class Stage(gr.HTML):
    """The large picture: before and after, strengths, read-outs. `.release` asks for a strength outside the strip.

    The value is a dictionary: before (URL), name, hint, note, bad, busy, fraction, preview (URL), and, once there is
    a result, low, high, strength, seconds, strip (all its strengths) and frames: [{strength, image, measures}].
    Without low and high there is one frame and no slider. tags: what the two sides are called; sides: the same
    in a word, where they are not before and after. plain: no explanation;
    steps: another one, in steps. foreign: what to say of a picture that the model does not know, the nearest that it
    does, and the titles of other models. stale: the frames are of what was asked for before.
    """

    def __init__(self, value: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(
            value=value or {},
            html_template=asset("stage.html"),
            js_on_load=asset("stage.js"),
            apply_default_css=False,
            **settings,
        )


def weights_input(elem_id: str, min_width: int = 160) -> gr.Textbox:
    """Words with their weights, as a visitor writes them."""
    return gr.Textbox(
        label="More or less of single words (weights)",
        info="of the attention to them, from -5 to 5",
        placeholder="smiling 2, glasses 0.5",
        max_lines=1,
        min_width=min_width,
        elem_id=elem_id,
    )

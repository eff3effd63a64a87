"""The picture that regions are drawn on, for every tab that has one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core import regions
from core.errors import VisitorError
from core.models.cards import MODELS
from core.studio.discover.overlays import shade
from tabs.widgets import asset, data_url


class RegionBoard(gr.HTML):
    """A picture with labelled boxes and brush strokes. `.input` tells of every change.

    value: a list of regions as `core.regions.parse` reads it. image: URL of the picture. overlay: URL of what
    the server made of the regions. said: what is wrong with them. presets: ready-made ones, [{label, box}]. most: how
    many there may be.
    """

    def __init__(self, value: list[Any] | None = None, **settings: Any) -> None:
        super().__init__(
            value=value or [],
            html_template=asset("regions.html"),
            js_on_load=asset("regions.js"),
            apply_default_css=False,
            **settings,
        )


def understood(value: Any, resolution: int) -> Any:
    """What the server makes of the regions drawn on a board, or what is wrong with them."""
    if not value:
        return gr.update(overlay="", said="")
    try:
        drawn = regions.parse(value, resolution)
    except VisitorError as error:
        return gr.update(overlay="", said=error.message)
    return gr.update(overlay=data_url(shade(drawn, 384), "PNG"), said="")


def ready_made(model_id: str) -> list[dict[str, Any]]:
    """The usual places in the pictures of a model, as `RegionBoard` offers them."""
    known = regions.PRESETS.get(MODELS[model_id].domain_word, {})
    return [{"label": label, "box": list(box)} for label, box in known.items()]

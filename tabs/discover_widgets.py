"""Widgets of the Discover tab: the picture that regions are drawn on, and the directions that were found."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.discovery import regions
from core.errors import VisitorError
from core.exploring.overlays import shade
from tabs.widgets import asset, data_url


class RegionBoard(gr.HTML):
    """A picture with labelled boxes and brush strokes. `.input` tells of every change.

    value: a list of regions as `core.discovery.regions.parse` reads it. image: URL of the picture. overlay: URL of what
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


class Directions(gr.HTML):
    """Rows of directions. `.select` tells which was chosen (index), `.edit` of a new name (index, name).

    The value is a dictionary: search (a number: another one is another list), picture (URL), note, fraction, busy, bad,
    refined, and rows: [{name, about, heat, frames, facts: [[label, value, meaning]], changes}].
    """

    def __init__(self, value: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(
            value=value or {},
            html_template=asset("rows.html"),
            js_on_load=asset("rows.js"),
            apply_default_css=False,
            **settings,
        )

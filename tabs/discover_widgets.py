"""Widgets of the Discover tab: the picture that regions are drawn on, and the directions that were found."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tabs.widgets import asset


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

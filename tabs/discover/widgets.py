"""Widget of the Discover tab: the directions that were found."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tabs.widgets import asset


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

"""Widgets of the Compose tab: the mixing desk, the grid of a sweep, and a link to take away."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tabs.widgets import asset

LINK = (
    '<div class="link" hidden><div class="row"><input readonly aria-label="Link to this composition">'
    '<button type="button">Copy</button></div><p class="words"></p></div>'
)


class Mixer(gr.HTML):
    """The composition with a row per direction; `.release` reports a change in its event data (what, key, value).

    The value is a dictionary: parts [{key, name, image, strength, unit, low, high, muted, solo, active}], locked, undo.
    """

    def __init__(self, value: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(
            value=value or {},
            html_template=asset("mixer.html"),
            js_on_load=asset("mixer.js"),
            apply_default_css=False,
            **settings,
        )


class Grid(gr.HTML):
    """A sweep; `.release` tells which pair of strengths was clicked (across, down).

    The value is a dictionary: across, down (names), acrosses, downs (strengths), images (URLs, row by row), done, and
    unsigned, if the numbers downwards are no strengths.
    """

    def __init__(self, value: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(
            value=value or {},
            html_template='<div class="grid" hidden></div>',
            js_on_load=asset("grid.js"),
            apply_default_css=False,
            **settings,
        )


class Link(gr.HTML):
    """The page's address with a composition in it. The value is a dictionary: token and note."""

    def __init__(self, value: dict[str, Any] | None = None, **settings: Any) -> None:
        super().__init__(
            value=value or {}, html_template=LINK, js_on_load=asset("link.js"), apply_default_css=False, **settings
        )

"""The picture that regions are drawn on, for every tab that has one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.errors import VisitorError
from core.models.cards import MODELS
from core.regions import READY_MADE, parse_regions
from core.studio.discover.overlays import outside_overlay
from tabs.widgets import asset, data_url


class RegionBoard(gr.HTML):
    """A picture with labelled boxes and brush strokes. `.input` tells of every change.

    value: a list of regions as `core.regions.parse_regions` reads it. image: URL of the picture. overlay: URL of a
    picture over it that shows the regions as the server reads them. said: what is wrong with them. presets: ready-made
    regions, [{label, box}]. max_regions: how many there may be.
    """

    def __init__(self, value: list[Any] | None = None, **settings: Any) -> None:
        super().__init__(
            value=value or [],
            html_template=asset("regions.html"),
            js_on_load=asset("regions.js"),
            apply_default_css=False,
            **settings,
        )


def region_feedback(value: Any, resolution: int) -> dict[str, Any]:
    """Properties of a board that show its regions as the server reads them, or say what is wrong with them."""
    if not value:
        return gr.update(overlay="", said="")
    try:
        regions = parse_regions(value, resolution)
    except VisitorError as error:
        return gr.update(overlay="", said=error.message)
    return gr.update(overlay=data_url(outside_overlay(regions, 384), "PNG"), said="")


def ready_made_regions(model_id: str) -> list[dict[str, Any]]:
    """The usual places in the pictures of a model, as `RegionBoard` offers them."""
    boxes = READY_MADE.get(MODELS[model_id].domain_word, {})
    return [{"label": label, "box": list(box)} for label, box in boxes.items()]

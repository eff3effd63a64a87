"""The picture that regions are drawn on, for every tab that has one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gradio as gr
from torch import Tensor

from core.errors import VisitorError
from core.masks import mask_picture, mask_url, png_url
from core.named_parts import for_reading, read_place
from core.photo.placement import Placement
from core.regions import READY_MADE, parse_regions, region_from_mask
from core.studio.discover.overlays import outside_overlay
from core.studio.known_models import known_card
from core.studio.regions import at_place, knowledge, mask_for, parts_of
from core.studio.visit.session import Session
from tabs.shell import HEAVY, QUIET, in_words
from tabs.widgets import asset, data_url

SCRIPTS = ("regions_view.js", "regions_paint.js", "regions.js", "regions_pointer.js", "regions_draw.js")
_numbers = itertools.count(1)

# What is drawn on: its pixels (1, 3, R, R), and where they were cut out of a photograph. None: there is nothing.
Drawn = tuple[Tensor, Placement | None] | None


class RegionBoard(gr.HTML):
    """A picture with labelled boxes, brush strokes and masks. `.input` tells of every change; see `connect`.

    value: a list of regions as `core.regions.parse_regions` reads it. image: URL of the picture. overlay: URL of a
    picture over it that shows the regions as the server reads them. said: what is wrong with them. presets: ready-made
    regions, [{label, box}]. max_regions: how many there may be. masks, masks_of: the regions as mask files, URLs, and
    the value that they were made of. knows: by what the model's parts are known, see `core.studio.regions`; parts: {id,
    found: [{label, mask, area}]}, or words. arrived: {id, label, mask} of a mask file or of a place, or words.
    """

    def __init__(self, value: list[Any] | None = None, **settings: Any) -> None:
        made: dict[str, Any] = {
            "overlay": "",
            "said": "",
            "masks": [],
            "masks_of": [],
            "knows": "none",
            "parts": None,
            "arrived": None,
        }
        super().__init__(
            value=value or [],
            html_template=asset("regions.html"),
            js_on_load="".join(asset(name) for name in SCRIPTS),
            apply_default_css=False,
            **(made | settings),
        )
        self.file = gr.UploadButton(file_types=["image"], type="filepath", elem_classes="mask-file")

    def connect(
        self,
        session: gr.State,
        drawn_on: Callable[[Session], Drawn],
        keep: Callable[[Session, Any], None] | None = None,
    ) -> None:
        """drawn_on: the picture that a visitor draws on. keep: told of every value that can be used."""

        @in_words
        def check(visit: Session, value: Any) -> Any:
            drawn = drawn_on(visit)
            said = region_feedback(value, drawn[0].shape[-1] if drawn else known_card(visit.model_id).resolution)
            if keep is not None and not said["said"]:
                keep(visit, value)
            return said

        @in_words
        def look(visit: Session) -> Any:
            return gr.update(parts=found_parts(visit, drawn_on(visit)))

        @in_words
        def look_at(event: gr.EventData, visit: Session) -> Any:
            return gr.update(arrived=found_at(visit, getattr(event, "place", None), drawn_on(visit)))

        @in_words
        def take(visit: Session, path: str | None) -> tuple[Any, Any]:
            return gr.update(arrived=arrived_mask(visit, path, drawn_on(visit))), None

        self.input(check, [session, self], self, trigger_mode="always_last", **QUIET)
        self.select(look, session, self, **HEAVY)
        self.submit(look_at, session, self, **HEAVY)
        self.file.upload(take, [session, self.file], [self, self.file], **QUIET)


def region_feedback(value: Any, resolution: int) -> dict[str, Any]:
    """Properties of a board that show its regions as the server reads them, or say what is wrong with them."""
    nothing: dict[str, Any] = {"overlay": "", "masks": [], "masks_of": []}
    if not value:
        return gr.update(said="", **nothing)
    try:
        regions = parse_regions(value, resolution)
    except VisitorError as error:
        return gr.update(said=error.message, **nothing)
    files = [png_url(mask_picture(region.mask)) for region in regions]
    overlay = data_url(outside_overlay(regions, 384), "PNG")
    return gr.update(overlay=overlay, said="", masks=files, masks_of=value)


def found_parts(session: Session, drawn: Drawn) -> dict[str, Any]:
    """The parts that a picture shows, as a board takes them."""
    try:
        found = {} if drawn is None else parts_of(session.model_id, drawn[0])
    except VisitorError as error:
        return {"id": next(_numbers), "words": error.message}
    parts = [
        {"label": name, "mask": mask_url(found[name]), "area": int(found[name].sum())} for name in for_reading(found)
    ]
    return {"id": next(_numbers), "found": parts}


def found_at(session: Session, place: Any, drawn: Drawn) -> dict[str, Any]:
    """What is at a place of a picture, as a board takes it."""
    made: dict[str, Any] = {"id": next(_numbers), "place": True}
    if drawn is None:
        return made | {"words": "There is no picture yet. Choose one first."}
    try:
        name, mask = at_place(session.model_id, drawn[0], read_place(place))
        region_from_mask(mask, name, mask.shape[0])  # what is wrong with it is said before it is there
    except VisitorError as error:
        return made | {"words": error.message}
    return made | {"label": name, "mask": mask_url(mask)}


def arrived_mask(session: Session, path: str | None, drawn: Drawn) -> dict[str, Any]:
    """A mask file as a board takes it."""
    number = next(_numbers)
    if path is None:
        return {"id": number, "words": "This file is empty. Choose a picture that is white inside the region."}
    resolution = known_card(session.model_id).resolution if drawn is None else drawn[0].shape[-1]
    try:
        mask = mask_for(path, resolution, None if drawn is None else drawn[1])
        region_from_mask(mask, "The mask", resolution)  # what is wrong with it is said before it is there
    except VisitorError as error:
        return {"id": number, "words": error.message}
    return {"id": number, "label": "Mask", "mask": mask_url(mask)}


def ready_made_regions(model_id: str) -> dict[str, Any]:
    """Properties of a board that offer the usual places in the pictures of a model, and its parts."""
    boxes = READY_MADE.get(known_card(model_id).domain_word, {})
    presets = [{"label": label, "box": list(box)} for label, box in boxes.items()]
    return {"presets": presets, "knows": knowledge(model_id)}

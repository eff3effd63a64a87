"""The section of Compose with two strengths against each other: a grid of pictures, and a sheet to download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from core.errors import RequestError
from core.imaging import to_pil
from core.process import Process
from core.progress import Progress, Running
from core.studio.compose import animation, pictures
from core.studio.compose.word_change import axis_name
from core.studio.turns import Outdated
from core.studio.visit.compose import active_presets, available_presets
from core.studio.visit.session import Session
from core.studio.visit.words import swept, words_in_force
from tabs.compose.choices import component_choices, options_of
from tabs.compose.widgets import Grid
from tabs.compose.words import axis_choices, axis_of, axis_range
from tabs.results import overtaken, progress_line
from tabs.shell import QUIET, in_words
from tabs.tables import links, records, sweep_rows
from tabs.visit import current_picture
from tabs.widgets import data_url

Values = Iterator[tuple[Any, ...]]
MAKE = "Make the sweep"


class Sweep:
    """Two strengths against each other. `follow`: the widgets that depend on the composition."""

    def __init__(self) -> None:
        self.hint = gr.HTML('<p class="words">Add at least two directions: their strengths span the grid.</p>')
        with gr.Row(visible=False) as self.choices:
            with gr.Column(min_width=240):
                self.across = gr.Dropdown([], label="To the right", elem_id="sweep-across")
                with gr.Row(elem_classes="pair"):
                    self.across_low = gr.Number(-1, label="from", min_width=70)
                    self.across_high = gr.Number(1, label="to", min_width=70)
            with gr.Column(min_width=240):
                self.down = gr.Dropdown([], label="Downwards", elem_id="sweep-down")
                with gr.Row(elem_classes="pair"):
                    self.down_low = gr.Number(-1, label="from", min_width=70)
                    self.down_high = gr.Number(1, label="to", min_width=70)
        with gr.Row(visible=False, elem_classes="seed") as self.making:
            self.count = gr.Slider(2, 7, 5, step=1, label="Strengths of each", elem_id="sweep-count")
            self.make = gr.Button(MAKE, variant="primary", elem_id="make-sweep")
        self.note = gr.HTML(elem_id="sweep-note")
        self.grid = Grid(elem_id="sweep-grid")
        self.file = gr.DownloadButton("Download the sheet", size="sm", visible=False, elem_id="sweep-file")
        self.ranges = [self.across_low, self.across_high, self.down_low, self.down_high]
        self.follow = [self.hint, self.choices, self.making, self.across, self.down, *self.ranges]

    def for_composition(self, session: Session) -> tuple[Any, ...]:
        """Values of `follow`."""
        choices, axes = component_choices(session), axis_choices(session)
        enough = len(choices) > 1 or bool(choices and axes)
        shown = (gr.update(visible=not enough), gr.update(visible=enough), gr.update(visible=enough))
        if not enough:
            return *shown, *(gr.skip(),) * 6
        across, down = [key for _, key in [*choices, *axes][:2]]
        ends = [end for key in (across, down) for end in ends_of(session, key)]
        updates = gr.update(choices=choices, value=across), gr.update(choices=[*choices, *axes], value=down)
        return *shown, *updates, *ends

    def connect(self, session: gr.State, advanced: Sequence[Any], settings: dict[str, Any]) -> None:
        given = [session, self.across, self.down, *self.ranges, self.count, *advanced]
        self.make.click(run_sweep, given, [self.note, self.grid, self.file], **settings)
        for chosen, ends in ((self.across, self.ranges[:2]), (self.down, self.ranges[2:])):
            chosen.input(range_of, [session, chosen], ends, **QUIET)


def ends_of(session: Session, key: str) -> tuple[float, float]:
    """Where a sweep of a direction, or along one of the numbers of the words, begins and ends, until the visitor says:
    of a direction at the suggested strength and its opposite. At the ends of two sliders at once few pictures hold."""
    preset = available_presets(session).get(key)
    if preset is None:
        return axis_range(session, key)
    low, high = (min(max(end / preset.unit, -1.0), 1.0) for end in preset.strength_range)
    return round(low, 3), round(high, 3)


@in_words
def range_of(session: Session, key: str | None) -> tuple[Any, Any]:
    known = key is not None and (key in available_presets(session) or axis_of(key) is not None)
    return ends_of(session, key or "") if known else (gr.skip(), gr.skip())


@in_words
def run_sweep(
    session: Session,
    across: str | None,
    down: str | None,
    across_low: float,
    across_high: float,
    down_low: float,
    down_high: float,
    count: float,
    process: Process,
    steps: float,
    seed: float | None,
) -> Values:
    """The grid, from its first guesses on, and the sheet to download."""
    turn = session.edits.begin("sweep")
    picture = current_picture(session)
    if picture is None:
        raise RequestError("There is no picture yet. Choose one first.")
    available, axis = available_presets(session), axis_of(down or "")
    if across not in available or (down not in available and axis is None) or across == down:
        raise RequestError("Choose two different directions of the composition for the sweep.")
    swept_ones = [available[key] for key in (across, down) if key in available]
    others = [(preset, c) for preset, c in active_presets(session) if preset not in swept_ones]
    chosen = [*((preset, 0.0) for preset in swept_ones), *others]
    units = (available[across].unit, 1.0 if axis is not None else swept_ones[1].unit)
    ends = ((across_low, across_high), (down_low, down_high))
    spaced = [pictures.evenly_spaced(float(low or 0), float(high or 0), int(count)) for low, high in ends]
    acrosses, downs = (
        [strength * unit for strength in strengths] for unit, strengths in zip(units, spaced, strict=True)
    )
    downwards = swept_ones[1].name if axis is None else axis_name(*axis).capitalize()
    value: dict[str, Any] = {"across": swept_ones[0].name, "down": downwards}
    value |= {
        "units": list(units),
        "unsigned": axis is not None,
        "acrosses": acrosses,
        "downs": downs,
        "images": [],
        "done": False,
    }
    yield progress_line(Progress(0, 1), "Starting"), value, gr.update(visible=False)
    options = options_of(session, process, steps, seed)
    if words_in_force(session):
        kind, word = axis or (None, "")
        job = swept(session, picture, chosen, acrosses, kind, downs, word, options)
    else:
        job = pictures.sweep(session.model(), picture, chosen, 0, 1, acrosses, downs, options)
    running = Running(turn.follow(job))
    try:
        for event in running:
            if event.preview is not None and len(event.preview) == len(acrosses) * len(downs):
                images = [data_url(guess, quality=60) for guess in to_pil(event.preview)]
                yield progress_line(event), value | {"images": images}, gr.skip()
            else:
                yield progress_line(event), gr.skip(), gr.skip()
    except Outdated:
        if turn.is_last_of_kind:  # half-made pictures look like bad ones
            yield overtaken(MAKE), {}, gr.skip()
        return
    images = [data_url(to_pil(frame.pixels)[0], quality=88) for frame in running.result.frames]
    path = session.file("sweep.png", pictures.to_png(animation.sheet(running.result)))
    rows = sweep_rows(running.result, units)
    table = links(rows, {"strengths": "1 is what each direction suggests", "cells": records(rows)}, "sweep")
    yield table, value | {"images": images, "done": True}, gr.update(value=str(path), visible=True)

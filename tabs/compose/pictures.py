"""Sections of Compose that make many pictures: the sweep, the filmstrip with its animation, and the batch."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import torch

from core.errors import RequestError, VisitorError
from core.imaging import to_pil
from core.models.loader import models
from core.progress import Progress
from core.studio.compose import animation, pictures
from core.studio.frames import EditOptions
from core.studio.visit import compose as changes
from core.studio.visit.session import Session
from tabs.compose.widgets import Grid
from tabs.results import progress_line
from tabs.shell import QUIET, in_words
from tabs.visit import current_picture, message
from tabs.widgets import data_url

Values = Iterator[tuple[Any, ...]]
KINDS = [("WebP", "webp"), ("GIF", "gif"), ("MP4", "mp4")]


def options_of(steps: float | None, seed: float | None) -> EditOptions:
    """Options from the Advanced section. Raises RequestError."""
    return EditOptions(int(steps or 0), seed=int(seed or 0))


def names_of(session: Session) -> list[tuple[str, str]]:
    """The composition's directions for a choice: (name, key)."""
    known = changes.known(session)
    return [(known[c.key].name, c.key) for c in session.composition.components if c.key in known]


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
            self.steps = gr.Slider(10, 40, 20, step=1, label="Steps", elem_id="sweep-steps")
            self.make = gr.Button("Make the sweep", variant="primary", elem_id="make-sweep")
        self.note = gr.HTML(elem_id="sweep-note")
        self.grid = Grid(elem_id="sweep-grid")
        self.file = gr.DownloadButton("Download the sheet", size="sm", visible=False, elem_id="sweep-file")
        self.ranges = [self.across_low, self.across_high, self.down_low, self.down_high]
        self.follow = [self.hint, self.choices, self.making, self.across, self.down, *self.ranges]

    def for_composition(self, session: Session) -> tuple[Any, ...]:
        """Values of `follow`."""
        names = names_of(session)
        enough = len(names) > 1
        shown = (gr.update(visible=not enough), gr.update(visible=enough), gr.update(visible=enough))
        if not enough:
            return *shown, *(gr.skip(),) * 6
        keys = [key for _, key in names[:2]]
        known = changes.known(session)
        ends = [end for key in keys for end in known[key].strength_range]
        return *shown, *(gr.update(choices=names, value=key) for key in keys), *ends

    def connect(self, session: gr.State, advanced: Sequence[Any], settings: dict[str, Any]) -> None:
        given = [session, self.across, self.down, *self.ranges, self.count, self.steps, advanced[1]]
        self.make.click(run_sweep, given, [self.note, self.grid, self.file], **settings)
        for chosen, ends in ((self.across, self.ranges[:2]), (self.down, self.ranges[2:])):
            chosen.input(range_of, [session, chosen], ends, **QUIET)


@in_words
def range_of(session: Session, key: str | None) -> tuple[float, float]:
    preset = changes.known(session).get(key or "")
    if preset is None:
        return gr.skip(), gr.skip()
    return preset.strength_range


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
    steps: float,
    seed: float | None,
) -> Values:
    """The grid, from its first guesses on, and the sheet to download."""
    ticket = session.begin()
    picture = current_picture(session)
    if picture is None:
        raise RequestError("There is no picture yet. Choose one first.")
    known = changes.known(session)
    if across not in known or down not in known or across == down:
        raise RequestError("Choose two different directions of the composition for the sweep.")
    chosen = [(preset, c) for preset, c in changes.chosen(session) if preset not in (known[across], known[down])]
    chosen = [(known[across], 0.0), (known[down], 0.0), *chosen]
    acrosses = pictures.even(float(across_low or 0), float(across_high or 0), int(count))
    downs = pictures.even(float(down_low or 0), float(down_high or 0), int(count))
    value: dict[str, Any] = {"across": known[across].name, "down": known[down].name}
    value |= {"acrosses": acrosses, "downs": downs, "images": [], "done": False}
    yield progress_line(Progress(0, 1), "Starting"), value, gr.update(visible=False)
    model = models.get(session.model_id)
    for event in pictures.sweep(model, picture, chosen, 0, 1, acrosses, downs, options_of(steps, seed)):
        if session.ticket != ticket:
            yield "", gr.skip(), gr.skip()
            return
        if event.result is not None:
            images = [data_url(to_pil(frame.pixels)[0], quality=88) for frame in event.result.frames]
            path = session.file("sweep.png", pictures.encoded(animation.sheet(event.result)))
            yield "", value | {"images": images, "done": True}, gr.update(value=str(path), visible=True)
        elif event.preview is not None and len(event.preview) == len(acrosses) * len(downs):
            images = [data_url(shown, quality=60) for shown in to_pil(event.preview)]
            yield progress_line(event), value | {"images": images}, gr.skip()
        else:
            yield progress_line(event), gr.skip(), gr.skip()


class Film:
    """The way from the picture to the composition as a filmstrip and an animation."""

    def __init__(self) -> None:
        gr.HTML('<p class="words">All strengths together, from one share of the composition to another.</p>')
        with gr.Row():
            self.start = gr.Slider(-1.5, 1, 0, step=0.25, label="From", info="times the composition", min_width=150)
            self.end = gr.Slider(0, 2, 1, step=0.25, label="To", info="times the composition", min_width=150)
            self.count = gr.Slider(
                3, 24, 9, step=1, label="Pictures", info="more are smoother", min_width=150, elem_id="film-count"
            )
        with gr.Row(elem_classes="seed"):
            self.kind = gr.Radio(KINDS, value="webp", label="Animation", elem_id="film-kind")
            self.make = gr.Button("Make the filmstrip", variant="primary", elem_id="make-film")
        self.view = gr.HTML(elem_id="film")
        with gr.Row():
            self.loop = gr.DownloadButton("Download the animation", size="sm", visible=False, elem_id="film-loop")
            self.strip = gr.DownloadButton("Download the filmstrip", size="sm", visible=False, elem_id="film-strip")
        self.frames = gr.State([])

    def connect(self, session: gr.State, advanced: Sequence[Any], settings: dict[str, Any]) -> None:
        outputs = [self.view, self.loop, self.strip, self.frames]
        given = [session, self.start, self.end, self.count, self.kind, *advanced]
        self.make.click(run_film, given, outputs, **settings)
        self.kind.input(other_kind, [session, self.frames, self.kind], self.loop, **QUIET)


@in_words
def run_film(
    session: Session, start: float, end: float, count: float, kind: str, steps: float, seed: float | None
) -> Values:
    ticket = session.begin()
    picture, chosen = current_picture(session), changes.chosen(session)
    if picture is None or not chosen:
        raise RequestError("There is nothing to animate yet: add a direction first.")
    if start >= end:
        raise RequestError("An animation goes from less to more: move the two ends apart.")
    hidden = gr.update(visible=False)
    yield progress_line(Progress(0, 1), "Starting"), hidden, hidden, []
    model = models.get(session.model_id)
    ends = [[(preset, c * share) for preset, c in chosen] for share in (start, end)]
    for event in pictures.way(model, picture, *ends, int(count), options_of(steps, seed)):
        if session.ticket != ticket:
            yield "", *(gr.skip(),) * 3
            return
        if event.result is None:
            yield progress_line(event), *(gr.skip(),) * 3
            continue
        frames = [frame.pixels for frame in event.result]
        strip = animation.filmstrip(frames)
        path = session.file("filmstrip.png", pictures.encoded(strip))
        looping = base64.b64encode(animation.animation(frames, "webp", speed(len(frames)))).decode()
        view = (
            f'<div class="film"><img class="loop" src="data:image/webp;base64,{looping}" alt="The animation">'
            f'<div class="strip"><img src="{data_url(strip, quality=85)}" alt="The filmstrip"></div></div>'
        )
        yield view, other_kind(session, frames, kind), gr.update(value=str(path), visible=True), frames


def speed(count: int) -> float:
    """Pictures a second with which a loop takes about two seconds, and no step is slower than a fifth of one."""
    return min(20.0, max(5.0, count - 1.0))


@in_words
def other_kind(session: Session, frames: list[torch.Tensor], kind: str) -> Any:
    """The animation as a file of the chosen kind."""
    if not frames:
        return gr.skip()
    path = session.file(f"animation.{kind}", animation.animation(frames, kind, speed(len(frames))))
    name = next(name for name, known in KINDS if known == kind)
    return gr.update(value=str(path), label=f"Download the animation ({name})", visible=True)


class Batch:
    """The composition on several pictures, as a zip."""

    def __init__(self) -> None:
        gr.HTML(
            f'<p class="words">Up to {pictures.MAX_FILES} pictures, of each its central square. One that cannot be '
            "used does not stop the others.</p>"
        )
        self.files = gr.File(
            file_count="multiple", file_types=["image"], label="Pictures", height=140, elem_id="batch-files"
        )
        self.make = gr.Button("Edit them all", variant="primary", elem_id="make-batch")
        self.note = gr.HTML(elem_id="batch-note")
        self.file = gr.DownloadButton("Download the zip", size="sm", visible=False, elem_id="batch-file")

    def connect(self, session: gr.State, advanced: Sequence[Any], settings: dict[str, Any]) -> None:
        self.make.click(run_batch, [session, self.files, *advanced], [self.note, self.file], **settings)


@in_words
def run_batch(session: Session, paths: list[str] | None, steps: float, seed: float | None) -> Values:
    ticket = session.begin()
    try:
        files = [(Path(path).name, Path(path)) for path in paths or []]
        yield progress_line(Progress(0, 1), "Starting"), gr.update(visible=False)
        model, chosen = models.get(session.model_id), changes.chosen(session)
        for event in pictures.batch(model, files, chosen, options_of(steps, seed)):
            if session.ticket != ticket:
                yield "", gr.skip()
                return
            if event.result is None:
                yield progress_line(event), gr.skip()
            else:
                path = session.file("composed.zip", event.result)
                yield '<p class="words" role="status">Done.</p>', gr.update(value=str(path), visible=True)
    except VisitorError as error:
        yield message(error), gr.skip()

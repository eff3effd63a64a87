"""The section of Compose with the way from the picture to the composition: a filmstrip, and an animation of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from torch import Tensor

from core.errors import RequestError
from core.process import Process
from core.progress import Progress, Running
from core.studio.compose import animation, pictures
from core.studio.compose.state import Film
from core.studio.turns import Outdated
from core.studio.visit.compose import active_presets
from core.studio.visit.session import Session
from tabs.compose.choices import options_of
from tabs.results import overtaken, progress_line
from tabs.shell import QUIET, in_words
from tabs.tables import links, measured, records
from tabs.visit import current_picture
from tabs.widgets import data_url

Values = Iterator[tuple[Any, ...]]
KINDS: list[tuple[str, animation.Kind]] = [("WebP", "webp"), ("GIF", "gif"), ("MP4", "mp4")]
MAKE = "Make the filmstrip"


class Filmstrip:
    """The composition from one multiple of its strengths to another."""

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
            self.make = gr.Button(MAKE, variant="primary", elem_id="make-film")
        self.view = gr.HTML(elem_id="film")
        with gr.Row():
            self.loop = gr.DownloadButton("Download the animation", size="sm", visible=False, elem_id="film-loop")
            self.strip = gr.DownloadButton("Download the filmstrip", size="sm", visible=False, elem_id="film-strip")

    def connect(self, session: gr.State, advanced: Sequence[Any], settings: dict[str, Any]) -> None:
        outputs = [self.view, self.loop, self.strip]
        given = [session, self.start, self.end, self.count, self.kind, *advanced]
        self.make.click(run_filmstrip, given, outputs, **settings)
        self.kind.input(change_kind, [session, self.kind], self.loop, **QUIET)


@in_words
def run_filmstrip(
    session: Session,
    start: float,
    end: float,
    count: float,
    kind: animation.Kind,
    process: Process,
    steps: float,
    seed: float | None,
) -> Values:
    turn = session.edits.begin("filmstrip")
    picture, chosen = current_picture(session), active_presets(session)
    if picture is None or not chosen:
        raise RequestError("There is nothing to animate yet: add a direction first.")
    if start >= end:
        raise RequestError("An animation goes from less to more: move the two ends apart.")
    hidden, options = gr.update(visible=False), options_of(session, process, steps, seed)
    made_of = (session.model_id, session.compose.composition, start, end, int(count), options)
    film = session.compose.film
    if film is not None and film.answers(made_of, picture):
        yield film_values(session, film, kind)
        return
    session.compose.film = None
    yield progress_line(Progress(0, 1), "Starting"), hidden, hidden
    model = session.model()
    first, last = ([(preset, c * multiple) for preset, c in chosen] for multiple in (start, end))
    job = pictures.interpolate(model, picture, first, last, int(count), options)
    running = Running(turn.follow(job))
    try:
        for event in running:
            yield progress_line(event), *(gr.skip(),) * 2
    except Outdated:
        if turn.is_last_of_kind:
            yield overtaken(MAKE), *(gr.skip(),) * 2
        return
    made, shares = running.result, pictures.shares(start, end, int(count))
    measures = tuple(frame.measures for frame in made)
    session.compose.film = Film(made_of, picture, tuple(frame.pixels for frame in made), measures, tuple(shares))
    yield film_values(session, session.compose.film, kind)


def film_values(session: Session, film: Film, kind: animation.Kind) -> tuple[Any, ...]:
    """Values of view, loop and strip."""
    frames = film.frames
    strip = animation.filmstrip(frames)
    path = session.file("filmstrip.png", pictures.to_png(strip))
    loop = base64.b64encode(animation.animation(frames, "webp", speed(len(frames)))).decode()
    rows = measured([{"share of the composition": share} for share in film.shares], film.measures)
    view = (
        f'<div class="film"><img class="loop" src="data:image/webp;base64,{loop}" alt="The animation">'
        f'<div class="strip"><img src="{data_url(strip, quality=85)}" alt="The filmstrip"></div>'
        f"{links(rows, records(rows), 'filmstrip')}</div>"
    )
    return view, animation_file(session, frames, kind), gr.update(value=str(path), visible=True)


def speed(count: int) -> float:
    """Pictures a second with which a loop takes about two seconds, and no step is slower than a fifth of one."""
    return min(20.0, max(5.0, count - 1.0))


@in_words
def change_kind(session: Session, kind: animation.Kind) -> Any:
    """The animation as a file of another kind: the pictures are there."""
    film = session.compose.film
    return animation_file(session, film.frames, kind) if film else gr.skip()


def animation_file(session: Session, frames: Sequence[Tensor], kind: animation.Kind) -> dict[str, Any]:
    """Value of the button that downloads the animation."""
    path = session.file(f"animation.{kind}", animation.animation(frames, kind, speed(len(frames))))
    label = next(label for label, known in KINDS if known == kind)
    return gr.update(value=str(path), label=f"Download the animation ({label})", visible=True)

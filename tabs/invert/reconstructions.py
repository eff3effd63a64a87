"""The first panel of Invert: reconstructions of the methods side by side, with their measures and costs."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from torch import Tensor

from core.errors import RequestError
from core.imaging import to_pil
from core.inversion import saved
from core.inversion.methods import METHODS
from core.studio.invert.run_methods import ERROR_GAIN, error_map
from core.studio.invert.state import InvertState
from core.studio.invert.targets import measured_frames
from core.studio.invert.trial import MethodResult, Trial
from core.studio.visit.session import Session
from core.studio.words import remark, unread
from tabs.charts import Point, front_plot, in_seconds
from tabs.exports import csv_link, json_link
from tabs.invert import words
from tabs.results import foreign, frames_json
from tabs.shell import QUIET, in_words
from tabs.visit import status
from tabs.widgets import Stage, data_url

HINT = "Describe the picture, choose methods, and invert it."
THUMBNAIL_SIDE = 176  # side of a picture in the table, twice what it is on the page
COLUMNS = [
    ("PSNR", words.PSNR),
    ("SSIM", words.SSIM),
    ("Distance", words.DISTANCE),
    ("Seconds", words.SECONDS),
    ("Evaluations", words.EVALUATIONS),
    ("Memory", words.MEMORY),
]


class Reconstructions:
    """Widgets and their values. `shown`: all that depends on the trial."""

    def __init__(self, picture: Tensor | None) -> None:
        self.stage = Stage(resting(picture), elem_id="invert-stage")
        self.table = gr.HTML(elem_id="method-table")
        with gr.Row(visible=False, elem_classes="actions", elem_id="inverted") as self.actions:
            self.chosen = gr.Radio([], label="Edit and save the one by", elem_id="chosen-method")
            self.save = gr.Button("Save to a file", min_width=140, elem_id="save-inversion")
            self.file = gr.DownloadButton("Download", visible=False, min_width=140, elem_id="inversion-file")
        self.note = gr.HTML(elem_id="invert-said")
        self.plot = gr.HTML(elem_id="front")
        self.shown = [self.stage, self.table, self.actions, self.chosen, self.file, self.note, self.plot]

    def connect(self, session: gr.State) -> None:
        self.save.click(save_file, session, [self.file, self.note], **QUIET)
        self.chosen.input(choose, [session, self.chosen], [self.stage, self.file, self.note], **QUIET)


def values(state: InvertState, trial: Trial | None, methods: Sequence[str], picture: Tensor | None) -> tuple[Any, ...]:
    """Values of `shown` when nothing is being computed."""
    if trial is None:
        hidden = gr.update(visible=False)
        return resting(picture), "", hidden, gr.update(choices=[], value=None), hidden, "", ""
    done = [method for method in METHODS if method in trial.results]
    if state.chosen not in done:
        state.chosen = done[0] if done else None
    choices = [(words.label(method), method) for method in done]
    return (
        staged(state, trial),
        table(trial, methods),
        gr.update(visible=bool(done)),
        gr.update(choices=choices, value=state.chosen),
        gr.update(visible=False),
        notes(trial),
        front(trial),
    )


def resting(picture: Tensor | None) -> dict[str, Any]:
    """The stage before there is a result."""
    shown = {} if picture is None else {"before": picture_url(picture)}
    return {**shown, "hint": HINT, "steps": words.STEPS}


def staged(state: InvertState, trial: Trial) -> dict[str, Any]:
    """The stage with the chosen reconstruction, or with the picture alone."""
    inversion = state.inversion
    if inversion is None:
        return resting(trial.pixels)
    return {
        **foreign(trial.card, trial.domain),
        "before": picture_url(trial.pixels),
        "name": words.label(inversion.method),
        "tags": ["Picture", "Reconstruction"],
        "plain": True,
        "seconds": inversion.measures.get("seconds"),
        "frames": frames_json(measured_frames(trial.card, inversion, inversion.reconstruction, [0.0]), lossless=True),
        "made": trial.made(inversion.method),
    }


def picture_url(pixels: Tensor, quality: int = 95) -> str:
    return data_url(to_pil(pixels)[0], quality=quality)


def notes(trial: Trial) -> str:
    told = remark(trial.card, trial.prompt)
    note = status(told) if told else ""
    if not trial.words_cut:
        return note
    return cut_note("The source prompt", trial.prompt, trial.words_cut) + note


def cut_note(what: str, prompt: str, cut: str) -> str:
    """How much of a prompt is read. what: it is. cut: its end, which is not."""
    return status(f"{what} is too long. {unread(prompt, cut)}")


# ------------------------------------------------------------------------------------------------------------- table


def table(trial: Trial, methods: Sequence[str], running: str | None = None) -> str:
    """A row per method: what is done first, then what is wanted, was stopped or failed."""
    done = [method for method in METHODS if method in trial.results]
    others = [m for m in METHODS if m not in done and (m in methods or m in trial.checkpoints)]
    heads = "".join(f'<th scope="col">{words.explained(name, told, "measures")}</th>' for name, told in COLUMNS)
    body = "".join(row(trial, method, trial.results[method]) for method in done)
    body += "".join(idle_row(trial, method, method == running, running is not None) for method in others)
    if not body:
        return ""
    bounds = [trial.results[method].inversion.measures.get("psnr bound") for method in done]
    bound = next((value for value in bounds if value is not None), None)
    legend = f"Second picture: the error, {ERROR_GAIN} times, black where there is none."
    if bound is not None:
        legend += f" The autoencoder alone gives {bound:.1f} dB: no method gets beyond that."
    return (
        f'<table class="method-table"><thead><tr><th scope="col">Method</th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
        f'<p class="legend">{legend} <span class="takes">{csv_link(table_rows(trial), "inversions")} '
        f"{json_link(table_json(trial), 'inversions')}</span></p>"
    )


def table_json(trial: Trial) -> dict[str, Any]:
    """All numbers of a trial."""
    methods = {}
    for method in METHODS:
        if method in trial.results:
            result = trial.results[method]
            methods[method] = {**result.inversion.measures, "memory": result.peak, "note": result.note}
    settings = {"steps": trial.settings.steps, "guidance": trial.settings.guidance, "seed": trial.settings.seed}
    return {"model": trial.card.id, "prompt": trial.prompt, **settings, "methods": methods}


def table_rows(trial: Trial) -> list[list[Any]]:
    """The same as a table: a row for each method."""
    methods = table_json(trial)["methods"]
    names = sorted({name for values in methods.values() for name in values if name != "note"})
    return [["method", *names], *([method, *(v.get(name) for name in names)] for method, v in methods.items())]


def row(trial: Trial, method: str, result: MethodResult) -> str:
    inversion = result.inversion
    picture = to_pil(inversion.reconstruction, THUMBNAIL_SIDE)[0]
    error = error_map(inversion.reconstruction, trial.pixels).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    cells = "".join(
        f'<td data-head="{name}" title="{escape(title)}">{value}</td>'
        for (name, title), value in zip(COLUMNS, numbers(result), strict=True)
    )
    note = result.note
    if result.out_of_time:
        note = f"{note} The time was up: the best so far.".strip()
    small = f"<small>{escape(note)}</small>" if note else ""
    pictures = (
        f'<img src="{data_url(picture)}" alt="Reconstruction by {escape(words.label(method))}">'
        f'<img src="{data_url(error, quality=85)}" alt="Its error">'
    )
    name = words.explained_method(method)
    who = f'<div class="who"><span class="pair">{pictures}</span><div>{name}{small}</div></div>'
    return f'<tr data-method="{escape(method)}"><th scope="row">{who}</th>{cells}</tr>'


def numbers(result: MethodResult) -> list[str]:
    """As the table shows them, in the order of `COLUMNS`."""
    measures = result.inversion.measures

    def formatted(name: str, form: str) -> str:
        return format(measures[name], form) if name in measures else "–"

    gradients = measures.get("gradients", 0)
    evaluations = formatted("evaluations", ".0f") + (
        f"<small>{gradients:.0f} with gradient</small>" if gradients else ""
    )
    memory = "–" if result.peak is None else f"{result.peak / 2**20:,.0f} MB"
    accuracy = [formatted("psnr", ".1f"), formatted("ssim", ".3f"), formatted("distance", ".3f")]
    seconds = escape(in_seconds(measures["seconds"])) if "seconds" in measures else "–"
    return [*accuracy, seconds, evaluations, memory]


def idle_row(trial: Trial, method: str, running: bool, busy_now: bool) -> str:
    """A method without a result: what is the matter with it."""
    if method in trial.failed:
        state = f'<span class="bad">{escape(trial.failed[method])}</span>'
    elif running:
        state = "being computed …"
    elif method in trial.checkpoints and trial.checkpoints[method].parts:
        state = "stopped: “Invert” goes on from there"
    else:
        state = "waiting …" if busy_now else "not computed yet"
    name = words.explained_method(method)
    who = f'<div class="who"><span class="pair"><i></i><i></i></span><div>{name}</div></div>'
    return (
        f'<tr class="idle" data-method="{escape(method)}"><th scope="row">{who}</th>'
        f'<td colspan="{len(COLUMNS)}" class="state">{state}</td></tr>'
    )


def front(trial: Trial) -> str:
    """Time against accuracy of all methods that are done."""
    measures = {method: result.inversion.measures for method, result in trial.results.items()}
    complete = [(method, v) for method, v in measures.items() if {"seconds", "psnr"} <= v.keys()]
    points = [Point(words.label(method), v["seconds"], v["psnr"]) for method, v in complete]
    if len(points) < 2:
        return ""
    bound = next((v["psnr bound"] for v in measures.values() if "psnr bound" in v), None)
    return f'<h4 class="split">Time and accuracy</h4>{front_plot(points, bound)}'


# ------------------------------------------------------------------------------------------------------------ events


@in_words
def choose(session: Session, method: str) -> tuple[Any, ...]:
    """Another inversion to look at, to edit and to save."""
    state = session.invert
    if state.trial is None or method not in state.trial.results:
        raise RequestError("This inversion is no longer here. Invert the picture again.")
    state.chosen, state.edits = method, None
    return staged(state, state.trial), gr.update(visible=False), ""


@in_words
def save_file(session: Session) -> tuple[Any, ...]:
    inversion = session.invert.inversion
    if inversion is None:
        raise RequestError("There is nothing to save yet. Invert the picture first.")
    method = "".join(c if c.isalnum() else "-" for c in inversion.method.lower())
    path = session.file(f"inverted-{method}{saved.SUFFIX}", saved.to_bytes(inversion))
    note = "The file holds picture, prompt and inversion. Open it here later, and edit without inverting again."
    return gr.update(value=str(path), visible=True), status(note)

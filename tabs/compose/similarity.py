"""The section of Compose on what directions share: a table of similarities, and orthogonalising them."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
from torch import Tensor

from core.errors import RequestError
from core.presets import Preset
from core.progress import Job, Progress, Running
from core.studio.compose import orthogonalise
from core.studio.compose.common_start import comparison_words
from core.studio.discover.analysis import Analysis
from core.studio.turns import Outdated
from core.studio.visit.compose import analysis_of, available_presets, exchange_presets
from core.studio.visit.session import Session
from tabs.compose.choices import component_choices
from tabs.results import overtaken, progress_line
from tabs.shell import QUIET, in_words
from tabs.tables import links, matrix_rows
from tabs.visit import current_picture

Values = Iterator[tuple[Any, ...]]
METRICS = [
    ("What each is for", "effect"),
    ("What they do to this picture", "response"),
    ("What they add inside the model (h-space)", "h-space"),
]
EACH = "*"  # in the place of one direction's key
COSINES = "1 is the same, 0 has nothing in common, −1 is the opposite."
EFFECTS = (
    "How much of what a row is for its column does as well: 0 leaves it alone, −1 does the opposite. "
    "A row of zeros does nothing in this picture."
)
COMPARE = "Compare them"


class Similarity:
    """`follow`: the widgets that depend on the composition."""

    def __init__(self) -> None:
        self.hint = gr.HTML('<p class="words">Add at least two directions to see what they have in common.</p>')
        with gr.Column(visible=False) as self.choices:
            self.metric = gr.Radio(METRICS, value="effect", label="Compare", elem_id="metric")
            self.compare = gr.Button(COMPARE, variant="secondary", elem_id="compare")
            self.matrix = gr.HTML(elem_id="matrix")
            with gr.Row():
                self.kept = gr.Dropdown([], label="Take out of", elem_id="kept", min_width=180)
                self.removed = gr.CheckboxGroup(
                    [], label="what it shares with", elem_id="removed", min_width=240, visible=False
                )
            self.make = gr.Button("Take it out (orthogonalise)", variant="primary", elem_id="orthogonalise")
            self.note = gr.HTML(elem_id="similarity-note")
        self.follow = [self.hint, self.choices, self.kept, self.removed, self.matrix]

    def for_composition(self, session: Session) -> tuple[Any, ...]:
        """Values of `follow`."""
        choices = component_choices(session)
        enough = len(choices) > 1
        shown = (gr.update(visible=not enough), gr.update(visible=enough))
        if not enough:
            return *shown, *(gr.skip(),) * 3
        kept = gr.update(choices=[("each what it shares with the others", EACH), *choices], value=EACH)
        return *shown, kept, others_of(session, EACH), ""

    def forget(self, event: gr.EventData) -> Any:
        """Value of the note after a change at the mixing desk: an undo may have taken back what it says."""
        return "" if getattr(event, "what", None) == "undo" else gr.skip()

    def connect(self, session: gr.State, settings: dict[str, Any]) -> Any:
        """Returns the event after which the composition may be another one."""
        self.compare.click(compare, [session, self.metric], [self.note, self.matrix], **settings)
        self.kept.input(others_of, [session, self.kept], self.removed, **QUIET)
        return self.make.click(
            run_orthogonalise, [session, self.kept, self.removed, self.metric], self.note, **settings
        )


@in_words
def others_of(session: Session, kept: str | None) -> Any:
    others = [(name, key) for name, key in component_choices(session) if key != kept]
    return gr.update(choices=others, value=[key for _, key in others], visible=kept != EACH)


@in_words
def compare(session: Session, metric: orthogonalise.Metric) -> Values:
    turn = session.edits.begin("similarity")
    picture = current_picture(session)
    available, choices = available_presets(session), component_choices(session)
    if picture is None or len(choices) < 2:
        raise RequestError("There is nothing to compare yet: choose a picture and two directions.")
    model, analysis = session.model(), analysis_of(session, picture)
    compared = [available[key] for _, key in choices]
    running = Running(turn.follow(orthogonalise.similarities(model, picture, compared, metric, analysis)))
    try:
        for event in running:
            yield progress_line(event), gr.skip()
    except Outdated:
        if turn.is_last_of_kind:
            yield overtaken(COMPARE), gr.skip()
        return
    note = f"{legend(metric, analysis)} {comparison_words(compared, metric)}".strip()
    yield "", table([name for name, _ in choices], running.result, note)


def legend(metric: orthogonalise.Metric, analysis: Analysis | None) -> str:
    """How to read the table, and what was compared."""
    return f"{EFFECTS if metric == 'effect' else COSINES} {basis_of_comparison(metric, analysis)}"


def basis_of_comparison(metric: orthogonalise.Metric, analysis: Analysis | None) -> str:
    """What was compared, and where."""
    if metric == "effect":
        return "Compared: what they change in this picture at strength 1."
    if metric == "h-space":
        return "Compared: the shifts of h that they make on this picture's way back from noise."
    if analysis is None:
        return "Compared: what they do to this picture, to first order, at 0.6 of the way from it to noise."
    return (
        f"Compared: what they do to this picture, to first order, where Discover has analysed it: at t = "
        f"{analysis.t}, with its {len(analysis.basis)} directions."
    )


@in_words
def run_orthogonalise(
    session: Session, kept: str | None, removed: list[str], metric: orthogonalise.Metric
) -> Iterator[str]:
    """One direction without what it shares with others takes its place, or each does, as the visitor's own."""
    turn = session.edits.begin()
    picture, available = current_picture(session), available_presets(session)
    keys = [key for _, key in component_choices(session)] if kept == EACH else [kept or ""]
    if picture is None or not {*keys, *(removed or [])} <= set(available):
        raise RequestError("Choose a picture, a direction, and others that it should have nothing in common with.")
    model = session.model()
    yield progress_line(Progress(0, 1), "Starting")
    analysis = analysis_of(session, picture)
    presets = [available[key] for key in keys]
    others = [available[key] for key in removed or [] if key not in keys]
    try:
        if kept == EACH:
            job = orthogonalise.orthogonalise_all(model, picture, presets, metric, analysis)
        else:
            job = as_list(orthogonalise.orthogonalise(model, picture, presets[0], others, metric, analysis))
        running = Running(turn.follow(job))
        for event in running:
            yield progress_line(event)
        exchange_presets(session, dict(zip(keys, running.result, strict=True)))
    except Exception:
        yield ""
        raise
    words = f"{describe_exchange(running.result, metric)} {basis_of_comparison(metric, analysis)}"
    yield f'<p class="words" role="status">{words} Undo brings what was there back.</p>'


def as_list(job: Job[Preset]) -> Job[list[Preset]]:
    return [(yield from job)]


def describe_exchange(presets: list[Preset], metric: orthogonalise.Metric) -> str:
    """Which directions have replaced the ones that were there, and what of each is left: of its own effect, which only
    loses what the others do of it; or of its length, which loses all that they have in common."""
    left = "of its own effect is left" if metric == "effect" else "of its length is left"
    named = [f"“{escape(preset.name)}” ({100 * preset.measured['left']:.0f}% {left})" for preset in presets]
    if len(named) == 1:
        return f"{named[0]} has taken its place."
    return f"{', '.join(named[:-1])} and {named[-1]} have taken their places."


def table(names: list[str], values: Tensor, note: str) -> str:
    """A table whose cells are the darker the more two directions share. note: how to read it."""
    head = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in names)
    rows = ""
    for name, row in zip(names, values.tolist(), strict=True):
        cells = "".join(
            f'<td style="--share:{min(1, abs(v)):.2f}" class="{"less" if v < 0 else "more"}">{v:+.2f}</td>' for v in row
        )
        rows += f'<tr><th scope="row"><span>{escape(name)}</span></th>{cells}</tr>'
    return (
        f'<div class="matrix"><table><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<p class="legend">{note}</p>{taken(names, values, note)}</div>'
    )


def taken(names: list[str], values: Tensor, note: str) -> str:
    """The table as files."""
    rows = matrix_rows(names, values.tolist())
    return links(rows, {"directions": names, "similarity": values.tolist(), "compared": note}, "similarity")

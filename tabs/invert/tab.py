"""Invert: put a picture and its description into a text-to-image model, then change the words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cache
from typing import Any

import gradio as gr
from torch import Tensor

from core.errors import VisitorError
from core.imaging import to_pixels
from core.inversion import saved
from core.inversion.solution import DEFAULTS, Settings
from core.models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from core.progress import Progress
from core.studio import library
from core.studio.invert import robustness_study as robust
from core.studio.invert import trial as benches
from core.studio.invert.run_methods import run_methods
from core.studio.invert.trial import Trial, bench_of
from core.studio.visit.session import Session
from core.text_to_image import card_of, model_of, not_here
from tabs.invert import edit as invert_edit
from tabs.invert import reconstructions as invert_results
from tabs.invert import robustness as invert_robustness
from tabs.invert import words
from tabs.invert.edit import Editor
from tabs.invert.jobs import EVERY, IDLE, RUNNING, stop, working
from tabs.invert.reconstructions import Reconstructions, picture_url, table
from tabs.invert.robustness import Robustness
from tabs.picture import PictureChooser, own_widgets
from tabs.regions import ready_made
from tabs.results import progress_line
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.visit import current_picture, message

TITLE = "Invert"

FIRST = "avatars-t2i"
CHOSEN = ["anchored", "DDIM"]
TAB = KIND = "invert"

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------- layout


def build(shell: Shell, tab: gr.Tab) -> None:
    """The tab's widgets and events."""
    model_id, card = shell.model.value, TEXT_TO_IMAGE[FIRST]
    picture, caption = first_picture(model_id, card), first_prompt(model_id, card)
    with gr.Row(elem_id="invert", elem_classes="columns"):
        with gr.Column(elem_classes="choices"):
            chooser = PictureChooser(shell, tab, TAB)
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Description</h3>")
                prompt = gr.Textbox(
                    caption,
                    label="Source prompt: what the picture shows",
                    placeholder=card.prompt,
                    lines=2,
                    max_lines=4,
                    elem_id="source-prompt",
                )
                suggest = gr.Button("Suggest one from the picture", size="sm", elem_id="suggest")
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Model and methods</h3>")
                model = gr.Dropdown(
                    [(known.title, known.id) for known in TEXT_TO_IMAGE.values()],
                    value=FIRST,
                    label="Text-to-image model",
                    filterable=False,
                    elem_id="text-model",
                )
                here = gr.HTML(missing(card), elem_id="text-model-here")
                methods = gr.CheckboxGroup(
                    [(words.label(method), method) for method in words.METHODS],
                    value=CHOSEN,
                    label="Methods, side by side",
                    elem_id="methods",
                )
                start = gr.Button("Invert", variant="primary", elem_id="start-invert")
                stopping = gr.Button("Stop", visible=False, elem_id="stop-invert")
                reopen = gr.UploadButton(
                    "Open an inverted picture", file_types=[saved.SUFFIX], size="sm", elem_id="open-inversion"
                )
            advanced = gr.Accordion("Advanced", open=False, elem_classes="advanced", elem_id="invert-advanced")
            with advanced, gr.Column(elem_classes="section"):
                steps = gr.Slider(
                    benches.MIN_STEPS, 100, card.steps, step=1, label="Steps", info="of inversion and of editing"
                )
                guidance = gr.Slider(1, 15, card.working_guidance, step=0.5, label="Working guidance", info="1 is none")
                budget = gr.Number(
                    0, minimum=0, label="Time limit in seconds", info="per method, 0 for none; the best so far is kept"
                )
                iterations = gr.Slider(
                    0, 50, DEFAULTS.iterations, step=1, label="Iterations", info="per step, of what is optimised"
                )
                starts = gr.Slider(1, 40, DEFAULTS.starts, step=1, label="Starts", info="of latent-TOP")
                seed = gr.Number(0, label="Seed", minimum=0, precision=0)
        with gr.Column(elem_classes="results"), gr.Tabs(elem_classes="pills panels", selected="made") as panels:
            with gr.Tab("Reconstruction", id="made"):
                made = Reconstructions(picture)
            with gr.Tab("Edit", id="edit") as edit_panel:
                editor = Editor(card, picture, model_id)
            with gr.Tab("Robustness", id="robust"):
                study = Robustness()

    session = shell.session
    settings = [steps, guidance, budget, iterations, starts, seed]
    asked = [session, prompt, model, methods, *settings]
    shown = [*made.shown, start, stopping]
    fresh_shown = [prompt, *shown, panels, study.grid]

    chooser.connect(fresh, [prompt, model, methods], fresh_shown, imagined, HEAVY)
    suggest.click(suggest_prompt, [session, model], prompt, **QUIET)
    defaults = [here, steps, guidance, *editor.defaults]
    model.input(choose_model, [session, prompt, model, methods], [*defaults, *fresh_shown], **QUIET)
    start.click(run, asked, [panels, *shown], **HEAVY)
    for button in (stopping, study.stop):
        button.click(stop, session, button, queue=False, **QUIET)
    made.connect(session)
    reopen.upload(open_file, [session, reopen], [*chooser.widgets, model, here, *fresh_shown, *settings[:2]], **QUIET)
    edit_panel.select(invert_edit.opened, session, [editor.board, *editor.shown], **QUIET)
    editor.connect(session)
    study.start.click(run_study, [*asked, *study.given], study.shown, **HEAVY)

    @in_words
    def change_model(visit: Session, model_id: str, *values: Any) -> tuple[Any, ...]:
        """Another model of the other tabs: other examples, another picture."""
        visit.change_model(model_id)
        board = gr.update(value=[], presets=ready_made(model_id), overlay="", said="")
        return *chooser.for_model(visit), board, *next(fresh(visit, *values))

    changed = [*chooser.widgets, editor.board, *fresh_shown]
    shell.model.change(change_model, [session, shell.model, prompt, model, methods], changed, **QUIET)


def missing(card: TextToImageCard) -> str:
    """What to do about a model that is not here, or what it is."""
    absent = not_here(card)
    if absent:
        return f'<div class="message" role="status">{absent}</div>'
    return f'<p class="words">{card.description}</p>'


# ----------------------------------------------------------------------------------------------------------- picture


@cache
def first_picture(model_id: str, card: TextToImageCard) -> Tensor | None:
    """The first example, as the text-to-image model sees it."""
    paths = library.examples(model_id)
    return to_pixels(paths[0], card.resolution) if paths else None


@cache
def first_prompt(model_id: str, card: TextToImageCard) -> str:
    """What is suggested for the first example."""
    picture = first_picture(model_id, card)
    return "" if picture is None else benches.suggestion(card, picture)


def suggested(session: Session, card: TextToImageCard, written: str) -> Any:
    """An update of the prompt for another picture, unless the visitor has written one."""
    bench = bench_of(session)
    ours = {"", bench.prompt, first_prompt(session.model_id, card)}
    if written.strip() not in ours or current_picture(session) is None:
        return gr.skip()
    bench.prompt = benches.suggestion(card, benches.picture_of(session, card))
    return gr.update(value=bench.prompt, placeholder=card.prompt)


def fresh(session: Session, prompt: str, model_id: str, methods: Sequence[str]) -> Values:
    """Another picture: what was made of the one before is put away. Values of prompt, `shown`, panels and the grid."""
    bench, card = bench_of(session), card_of(model_id)
    bench.begin()
    picture = None if current_picture(session) is None else benches.picture_of(session, card)
    bench.show(benches.trial_of(session, card))
    made = invert_results.values(bench, bench.trial, methods, picture)
    yield suggested(session, card, prompt or ""), *made, *IDLE, gr.Tabs(selected="made"), ""


def imagined(event: Progress) -> tuple[Any, ...]:
    """The same, while a picture is being imagined."""
    stage = {"before": picture_url(event.preview[:1], quality=80), "steps": words.STEPS}
    return gr.skip(), stage, "", *(gr.skip(),) * 5, *IDLE, gr.Tabs(selected="made"), ""


@in_words
def suggest_prompt(session: Session, model_id: str) -> Any:
    card = card_of(model_id)
    current_picture(session)
    caption = benches.suggestion(card, benches.picture_of(session, card))
    if not caption:
        gr.Info(f"There is nothing that reads pictures of “{card.title}”: describe it in your own words.")
        return gr.skip()
    bench_of(session).prompt = caption
    return caption


@in_words
def choose_model(session: Session, prompt: str, model_id: str, methods: Sequence[str]) -> tuple[Any, ...]:
    """Another text-to-image model: its defaults, its view of the picture."""
    card = card_of(model_id)
    defaults = card.steps, card.working_guidance, card.working_guidance, card.cross_steps
    return missing(card), *defaults, *next(fresh(session, prompt, model_id, methods))


# ------------------------------------------------------------------------------------------------------------- invert


def begun(
    session: Session,
    prompt: str,
    model_id: str,
    methods: Sequence[str],
    steps: float,
    guidance: float,
    budget: float,
    iterations: float,
    starts: float,
    seed: float,
) -> tuple[Trial, Any, list[str]]:
    """The trial that the visitor asks for, its model, and the methods. Raises VisitorError."""
    chosen = benches.known_methods(methods or [])
    settings = Settings(
        int(steps or 0),
        float(guidance or 0),
        seed=int(seed or 0),
        budget=float(budget) if budget else None,
        iterations=int(iterations or 0),
        starts=int(starts or 0),
    )
    card, bench = card_of(model_id), bench_of(session)
    session.seen[TAB] = current_picture(session)
    pixels = benches.picture_of(session, card)
    model = model_of(card)
    trial = benches.begin_trial(model, pixels, prompt or "", settings, bench.kept)
    bench.show(trial)
    return trial, model, chosen


@in_words
def run(session: Session, *values: Any) -> Values:
    """Values of panels and `shown`: the methods one after the other, each with its progress and a preview."""
    bench, skip = bench_of(session), gr.skip()
    number, few = bench.begin(KIND), (gr.skip(),) * 5
    yield gr.Tabs(selected="made"), waiting(session, values[1]), skip, *few, *RUNNING
    try:
        trial, model, methods = begun(session, *values)
        base = {"before": picture_url(trial.pixels), "plain": True}
        done, told, preview = -1, 0.0, None
        with closing(run_methods(trial, model, methods)) as job:
            for event in job:
                if bench.number != number:
                    break
                if len(trial.results) + len(trial.failed) != done:
                    done, preview = len(trial.results) + len(trial.failed), None
                    next_one = next((m for m in trial.missing(methods) if m not in trial.failed), None)
                    rows = table(trial, methods, next_one or "")
                    yield skip, {**base, **working(event, None)}, rows, *few, skip, skip
                elif event.preview is not None or time.monotonic() - told > EVERY:
                    shown = working(event, preview)
                    told, preview = time.monotonic(), shown["preview"]
                    yield skip, {**base, **shown}, skip, *few, skip, skip
        if bench.last[KIND] == number:
            yield skip, *settled(session, values[1], values[2]), *IDLE
    except VisitorError as error:
        yield skip, *settled(session, values[1], values[2], error.message), *IDLE
    except Exception:
        yield skip, *settled(session, values[1], values[2]), *IDLE
        raise


def waiting(session: Session, model_id: str) -> dict[str, Any]:
    """The stage while a model is being loaded."""
    try:
        current_picture(session)
        before = picture_url(benches.picture_of(session, card_of(model_id)))
    except VisitorError:
        return {"busy": True, "note": "Starting …", "plain": True}
    return {"before": before, "busy": True, "note": "Starting …", "fraction": 0, "plain": True}


def settled(session: Session, model_id: str, methods: Sequence[str], failed: str | None = None) -> tuple[Any, ...]:
    """Values of the results when a job is over, with what went wrong."""
    card = TEXT_TO_IMAGE.get(model_id, TEXT_TO_IMAGE[FIRST])
    picture = None if session.picture is None else benches.picture_of(session, card)
    bench = bench_of(session)
    stage, *others = invert_results.values(bench, bench.trial, methods or [], picture)
    if failed is not None:
        stage = {**stage, "note": failed, "bad": True}
    return stage, *others


@in_words
def open_file(session: Session, path: str) -> tuple[Any, ...]:
    """A saved inversion: its picture, prompt and model are the visitor's from here on."""
    trial = benches.open_file(session, path)
    card, bench = trial.card, bench_of(session)
    session.seen[TAB], bench.prompt = session.picture, trial.prompt
    values = invert_results.values(bench, trial, [], trial.pixels)
    return (
        *own_widgets(session),
        card.id,
        missing(card),
        trial.prompt,
        *values,
        *IDLE,
        gr.Tabs(selected="made"),
        "",
        trial.settings.steps,
        trial.settings.guidance,
    )


# --------------------------------------------------------------------------------------------------------- robustness


@in_words
def run_study(session: Session, *values: Any) -> Values:
    """Values of the panel's `shown`: the grid fills up."""
    bench, skip, kind = bench_of(session), gr.skip(), invert_robustness.KIND
    number = bench.begin(kind)
    yield progress_line(Progress(0, 1), "Starting"), skip, *RUNNING
    try:
        *asked, sigmas, prompts = values
        trial, model, methods = begun(session, *asked)
        rows = robust.variants(trial, sigmas or [], (prompts or "").splitlines())
        done, told = -1, 0.0
        with closing(robust.study(trial, model, rows, methods)) as job:
            for event in job:
                if bench.number != number:
                    break
                if len(trial.cells) != done:
                    done = len(trial.cells)
                    yield progress_line(event), invert_robustness.grid(trial, rows, methods), skip, skip
                elif time.monotonic() - told > EVERY:
                    told = time.monotonic()
                    yield progress_line(event, f"{event.note}, {event.step} of {event.total}"), skip, skip, skip
        if bench.last[kind] == number:
            yield "", skip, *IDLE
    except VisitorError as error:
        yield message(error), skip, *IDLE
    except Exception:
        yield "", skip, *IDLE
        raise

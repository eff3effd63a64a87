"""Invert: put a picture and its description into a text-to-image model, then change the words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import gradio as gr
from torch import Tensor

from core.errors import VisitorError
from core.imaging import to_pil, to_pixels
from core.inversion import saved
from core.inversion.methods import METHODS
from core.inversion.solution import DEFAULTS, InversionSettings
from core.models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from core.progress import Progress, Running
from core.studio import library
from core.studio.domain import domain_in
from core.studio.invert.robustness_study import fill_study, suggested_prompts, variants
from core.studio.invert.run_methods import run_methods
from core.studio.invert.state import TAB, InvertState
from core.studio.invert.suggesting import suggestion
from core.studio.invert.trial import MIN_STEPS, Trial, begin_trial, check_methods
from core.studio.second_opinion import captioner
from core.studio.turns import Outdated
from core.studio.visit.invert import last_trial, open_inversion, pixels_for
from core.studio.visit.session import Session
from core.text_to_image import TextToImage, load_text_to_image, missing_words, text_to_image_card
from tabs.invert import edit as invert_edit
from tabs.invert import reconstructions as invert_results
from tabs.invert import robustness as invert_robustness
from tabs.invert import words
from tabs.invert.edit import Editor
from tabs.invert.jobs import IDLE, PROGRESS_INTERVAL, RUNNING, stop, working
from tabs.invert.reconstructions import Reconstructions, picture_url, table
from tabs.invert.robustness import Robustness
from tabs.notices import inform
from tabs.picture import PictureChooser, own_widgets
from tabs.regions import ready_made_regions
from tabs.results import foreign, progress_line
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.visit import current_picture, message

TITLE = "Invert"

FIRST = "avatars-t2i"
CHOSEN = ["anchored", "DDIM"]
KIND = "invert"

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
                    label="What the picture shows (source prompt)",
                    placeholder=card.prompt,
                    lines=2,
                    max_lines=4,
                    elem_id="source-prompt",
                )
                suggest = gr.Button("Suggest one from the picture", size="sm", elem_id="suggest")
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Model and methods</h3>")
                model = gr.Dropdown(
                    [(other.title, other.id) for other in TEXT_TO_IMAGE.values()],
                    value=FIRST,
                    label="Text-to-image model",
                    filterable=False,
                    elem_id="text-model",
                )
                about_model = gr.HTML(model_note(card), elem_id="text-model-here")
                methods = gr.CheckboxGroup(
                    [(words.label(method), method) for method in METHODS],
                    value=CHOSEN,
                    label="Methods, side by side",
                    elem_id="methods",
                )
                gr.HTML(words.all_methods(), elem_id="about-methods")
                start = gr.Button("Invert", variant="primary", elem_id="start-invert")
                stopping = gr.Button("Stop", visible=False, elem_id="stop-invert")
                reopen = gr.UploadButton(
                    "Open an inverted picture", file_types=[saved.SUFFIX], size="sm", elem_id="open-inversion"
                )
            advanced = gr.Accordion("Advanced", open=False, elem_classes="advanced", elem_id="invert-advanced")
            with advanced, gr.Column(elem_classes="section"):
                steps = gr.Slider(MIN_STEPS, 100, card.steps, step=1, label="Steps", info="of inversion and of editing")
                guidance = gr.Slider(
                    1,
                    15,
                    card.working_guidance,
                    step=0.5,
                    label="How strongly the words will count (guidance)",
                    info="1 is none",
                )
                budget = gr.Number(
                    0, label="Time limit in seconds", info="per method, 0 for none; the best so far is kept"
                )
                iterations = gr.Slider(
                    0,
                    50,
                    DEFAULTS.iterations,
                    step=1,
                    label="Attempts per step (iterations)",
                    info="of methods that optimise",
                )
                starts = gr.Slider(1, 40, DEFAULTS.starts, step=1, label="Starting points (latent-TOP)")
                seed = gr.Number(0, label="Seed", precision=0)
        with (
            gr.Column(elem_classes="results"),
            gr.Tabs(elem_classes="pills panels", selected="results") as panels,
        ):
            with gr.Tab("Reconstruction", id="results"):
                results = Reconstructions(picture)
            with gr.Tab("Edit", id="edit") as edit_panel:
                editor = Editor(card, picture, model_id)
            with gr.Tab("Robustness", id="robust"):
                study = Robustness()

    session = shell.session
    settings = [steps, guidance, budget, iterations, starts, seed]
    inputs = [session, prompt, model, methods, *settings]
    shown = [*results.shown, start, stopping]
    fresh_shown = [prompt, *shown, panels, study.grid, model]

    chooser.connect(fresh, [prompt, model, methods], fresh_shown, imagined, HEAVY)
    suggest.click(suggest_prompt, [session, model], prompt, **QUIET)
    defaults = [about_model, steps, guidance, *editor.defaults]
    model.input(choose_model, [session, prompt, model, methods], [*defaults, *fresh_shown], **QUIET)
    inverted = start.click(run, inputs, [panels, *shown], **HEAVY)
    for button in (stopping, study.stop):
        button.click(stop, session, button, queue=False, **QUIET)
    results.connect(session)
    reopened = [*chooser.widgets, about_model, *fresh_shown, *settings[:2]]
    reopen.upload(open_file, [session, reopen], reopened, **QUIET)
    opening = edit_panel.select(invert_edit.open_panel, [session, editor.prompts], editor.opening, **QUIET)
    offer = [editor.former, editor.offered, editor.prompts]
    # Its panel may have been opened while the picture was inverted.
    ready = inverted.then(invert_edit.offered_target, [session, editor.prompts], offer[:2], **QUIET)
    for event in (opening, ready):
        event.then(None, offer, editor.prompts, js=invert_edit.OFFER, **QUIET)
    editor.connect(shell)
    study.start.click(run_study, [*inputs, *study.inputs], study.shown, **HEAVY)
    study.suggest.click(suggest_changed, [prompt, model, study.prompts], study.prompts, **QUIET)

    @in_words
    def change_model(visit: Session, model_id: str, *values: Any) -> tuple[Any, ...]:
        """Another model of the other tabs: other examples, another picture."""
        visit.change_model(model_id)
        board = gr.update(value=[], overlay="", said="", **ready_made_regions(model_id))
        return *chooser.for_model(visit), board, *next(fresh(visit, *values))

    changed = [*chooser.widgets, editor.board, *fresh_shown]
    shell.model.change(change_model, [session, shell.model, prompt, model, methods], changed, **QUIET)


def model_note(card: TextToImageCard) -> str:
    """What to do about a model that is not here, or what it is."""
    absent = missing_words(card)
    if absent:
        return f'<div class="message" role="status">{absent}</div>'
    return f'<p class="words">{card.description}</p>'


# ----------------------------------------------------------------------------------------------------------- picture


def first_picture(model_id: str, card: TextToImageCard) -> Tensor | None:
    """The first example, as the text-to-image model sees it."""
    paths = library.examples(model_id)
    return to_pixels(paths[0], card.resolution) if paths else None


@cache
def first_prompt(model_id: str, card: TextToImageCard) -> str:
    """What is suggested for the first example."""
    picture = first_picture(model_id, card)
    return "" if picture is None else suggestion(card, picture)


def suggested(session: Session, card: TextToImageCard, written: str) -> Any:
    """An update of the prompt for another picture, unless the visitor has written one."""
    state = session.invert
    ours = {"", state.suggested, first_prompt(session.model_id, card)}
    picture = current_picture(session)
    if written.strip() not in ours or picture is None:
        return gr.skip()
    own = picture.conditioning if picture.model_id == card.id else ""  # as the other tabs have it
    state.suggested = own or suggestion(card, pixels_for(session, card))
    return gr.update(value=state.suggested, placeholder=card.prompt)


def fresh(session: Session, prompt: str, model_id: str, methods: Sequence[str]) -> Values:
    """Another picture: the results of the one before are put away. Values of prompt, `shown`, panels, the grid and the
    model."""
    state, card = session.invert, text_to_image_card(model_id)
    if state.returning and state.trial is not None:
        yield returned(state, state.trial, methods)
        return
    turn = state.jobs.begin()
    picture = None if current_picture(session) is None else pixels_for(session, card)
    trial, suggested_before = last_trial(session, card), state.suggested
    told = suggested(session, card, prompt or "")  # may have to wait for the device
    if not turn.is_current:  # a job that shows this picture has begun meanwhile
        state.suggested = suggested_before
        yield (gr.skip(),) * 13
        return
    state.show(trial)
    results = invert_results.values(state, state.trial, methods, picture)
    yield told, *results, *IDLE, gr.Tabs(selected="results"), "", gr.skip()


def returned(state: InvertState, trial: Trial, methods: Sequence[str]) -> tuple[Any, ...]:
    """An edit of the history: its inversion, prompt and model are there again, and the panel with the edit is open.
    Values as of `fresh`."""
    state.returning, state.suggested = False, trial.prompt
    results = invert_results.values(state, trial, methods, trial.pixels)
    return trial.prompt, *results, *IDLE, gr.Tabs(selected="edit"), "", trial.card.id


def imagined(event: Progress) -> tuple[Any, ...]:
    """The same, while a picture is being imagined."""
    picture = {} if event.preview is None else {"before": picture_url(event.preview[:1], quality=80)}
    stage = {**picture, "steps": words.STEPS}
    return gr.skip(), stage, "", *(gr.skip(),) * 5, *IDLE, gr.Tabs(selected="results"), "", gr.skip()


@in_words
def suggest_prompt(session: Session, model_id: str) -> Any:
    card = text_to_image_card(model_id)
    current_picture(session)
    pixels = pixels_for(session, card)
    caption = suggestion(card, pixels) or captioner()(to_pil(pixels)[0])
    if not caption:
        inform("Nothing can be said of this picture: describe it in your own words.")
        return gr.skip()
    session.invert.suggested = caption
    return caption


@in_words
def choose_model(session: Session, prompt: str, model_id: str, methods: Sequence[str]) -> tuple[Any, ...]:
    """Another text-to-image model: its defaults, its view of the picture."""
    card = text_to_image_card(model_id)
    defaults = card.steps, card.working_guidance, card.working_guidance, card.cross_steps
    return model_note(card), *defaults, *next(fresh(session, prompt, model_id, methods))


# ------------------------------------------------------------------------------------------------------------- invert


def requested_trial(
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
) -> tuple[Trial, TextToImage, list[str]]:
    """The trial that the visitor asks for, its model, and the methods. Raises VisitorError."""
    chosen = check_methods(methods or [])
    settings = InversionSettings(
        int(steps or 0),
        float(guidance or 0),
        seed=int(seed or 0),
        budget=float(budget) if budget else None,
        iterations=int(iterations or 0),
        starts=int(starts or 0),
    )
    card, state = text_to_image_card(model_id), session.invert
    pixels = pixels_for(session, card)
    model = load_text_to_image(card)
    trial = begin_trial(model, pixels, prompt or "", settings, state.kept)
    state.show(trial)
    return trial, model, chosen


@in_words
def run(session: Session, *values: Any) -> Values:
    """Values of panels and `shown`: the methods one after the other, each with its progress and a preview."""
    state, skip, few = session.invert, gr.skip(), (gr.skip(),) * 5
    current_picture(session, TAB)  # first: a tab that is being opened leaves alone what shows its picture
    turn, before = state.jobs.begin(KIND), state.trial
    yield gr.Tabs(selected="results"), waiting(session, values[1]), skip, *few, *RUNNING
    try:
        trial, model, methods = requested_trial(session, *values)
        base = {"before": picture_url(trial.pixels), "plain": True}
        done, last_report, preview = -1, 0.0, None
        with suppress(Outdated):
            for event in (looking := Running(turn.follow(domain_in(trial.card, trial.pixels, to_show=True)))):
                yield skip, {**base, **working(event, None)}, skip, *few, skip, skip
            trial.domain = looking.result
            base |= foreign(trial.card, trial.domain)
            for event in Running(turn.follow(run_methods(trial, model, methods))):
                if len(trial.results) + len(trial.failed) != done:
                    done, preview = len(trial.results) + len(trial.failed), None
                    running = next((m for m in trial.missing(methods) if m not in trial.failed), "")
                    rows = table(trial, methods, running)
                    yield skip, {**base, **working(event, None)}, rows, *few, skip, skip
                elif event.preview is not None or time.monotonic() - last_report > PROGRESS_INTERVAL:
                    shown = working(event, preview)
                    last_report, preview = time.monotonic(), shown["preview"]
                    yield skip, {**base, **shown}, skip, *few, skip, skip
        if state.trial is trial and not trial.results and same_picture(before, trial):
            state.show(before)  # stopped before anything was done: what was there stays
        if turn.is_last_of_kind:
            yield skip, *settled(session, values[1], values[2]), *IDLE
    except VisitorError as error:
        yield skip, *settled(session, values[1], values[2], error.message), *IDLE
    except Exception:
        yield skip, *settled(session, values[1], values[2]), *IDLE
        raise


def same_picture(before: Trial | None, trial: Trial) -> bool:
    """Whether an earlier trial has results of the picture that a new one is of."""
    if before is None or before.card is not trial.card or not before.results:
        return False
    return before.pixels.equal(trial.pixels)


def waiting(session: Session, model_id: str) -> dict[str, Any]:
    """The stage while a model is being loaded."""
    try:
        current_picture(session)
        before = picture_url(pixels_for(session, text_to_image_card(model_id)))
    except VisitorError:
        return {"busy": True, "note": "Starting …", "plain": True}
    return {"before": before, "busy": True, "note": "Starting …", "fraction": 0, "plain": True}


def settled(session: Session, model_id: str, methods: Sequence[str], failed: str | None = None) -> tuple[Any, ...]:
    """Values of the results when a job is over, with what went wrong."""
    card = TEXT_TO_IMAGE.get(model_id, TEXT_TO_IMAGE[FIRST])
    picture = None if session.picture is None else pixels_for(session, card)
    state = session.invert
    stage, *others = invert_results.values(state, state.trial, methods or [], picture)
    if failed is not None:
        stage = {**stage, "note": failed, "bad": True}
    return stage, *others


@in_words
def open_file(session: Session, path: str) -> tuple[Any, ...]:
    """A saved inversion: its picture, prompt and model are the visitor's from here on."""
    trial = open_inversion(session, path)
    card, state = trial.card, session.invert
    session.seen[TAB], state.suggested = session.picture, trial.prompt
    values = invert_results.values(state, trial, [], trial.pixels)
    return (
        *own_widgets(session),
        model_note(card),
        trial.prompt,
        *values,
        *IDLE,
        gr.Tabs(selected="results"),
        "",
        card.id,
        trial.settings.steps,
        trial.settings.guidance,
    )


# --------------------------------------------------------------------------------------------------------- robustness


@in_words
def suggest_changed(prompt: str | None, model_id: str, written: str | None) -> str:
    """Other source prompts below what is written, one per line."""
    lines = [line for line in (written or "").splitlines() if line.strip()]
    more = [text for text in suggested_prompts(text_to_image_card(model_id).id, prompt or "") if text not in lines]
    if not more:
        inform("There is nothing more to suggest: write other descriptions of your own.", TITLE)
    return "\n".join([*lines, *more])


@in_words
def run_study(session: Session, *values: Any) -> Values:
    """Values of the panel's `shown`: the grid fills up."""
    skip = gr.skip()
    current_picture(session, TAB)
    turn = session.invert.jobs.begin(invert_robustness.KIND)
    yield progress_line(Progress(0, 1), "Starting"), skip, *RUNNING
    try:
        *asked, sigmas, prompts = values
        trial, model, methods = requested_trial(session, *asked)
        rows = variants(trial, sigmas or [], (prompts or "").splitlines())
        grid, done, last_report, whole = invert_robustness.grid, -1, 0.0, skip
        with suppress(Outdated):
            for event in Running(turn.follow(fill_study(trial, model, rows, methods))):
                if len(trial.cells) != done:
                    done = len(trial.cells)
                    yield progress_line(event), grid(trial, rows, methods), skip, skip
                elif time.monotonic() - last_report > PROGRESS_INTERVAL:
                    last_report = time.monotonic()
                    yield progress_line(event, f"{event.note}, {event.step} of {event.total}"), skip, skip, skip
            whole = grid(trial, rows, methods)
        if turn.is_last_of_kind:
            yield "", whole, *IDLE
    except VisitorError as error:
        yield message(error), skip, *IDLE
    except Exception:
        yield "", skip, *IDLE
        raise

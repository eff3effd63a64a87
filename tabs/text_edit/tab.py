"""Text edit: a picture, a direction of meaning, and how far to go along it (Asyrp)."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from core import presets
from core.errors import ModelUnavailable, VisitorError
from core.intervals import Intervals
from core.presets import Preset
from core.studio.between_prompts import is_fitted_elsewhere
from core.studio.compose.link import one_direction
from core.studio.edit import intervals_for, intervals_in_words
from core.studio.frames import EditOptions, in_units
from core.studio.keeping import Shown, nearest
from core.studio.known_models import known_card
from core.studio.strips import begin_strip
from core.studio.visit.session import Session
from tabs.charts import intervals_of
from tabs.keeping import Keeping
from tabs.picture import PictureChooser, own_widgets, panel_of
from tabs.process import process_choice, usual_steps
from tabs.results import imagining
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.strip import exact, fill, strip_value
from tabs.text_edit.analyses import Analyses
from tabs.text_edit.shelf import Shelf
from tabs.text_edit.training import (
    PRESETS,
    offer_file,
    open_preset,
    own_chosen,
    removal_question,
    remove_own,
    rename_own,
    run_training,
    withdraw_file,
)
from tabs.text_edit.words_panel import WordsPanel
from tabs.visit import (
    HINT,
    before_url,
    chosen_preset,
    current_picture,
    first_stage,
    preset_items,
    visit_stage,
)
from tabs.widgets import Cards, Stage

TITLE = "Text edit"
TAB = "text-edit"

FORMS = [
    ("As it was trained", "trained"),
    ("Alike for every picture, by noise level (per timestep)", "per_timestep"),
    ("One change for all (global Δh)", "global"),
]
INJECTIONS = [
    ("As the direction suggests", ""),
    ("What the picture will be, not the noise (asymmetric)", "asymmetric"),
    ("The whole step (symmetric)", "symmetric"),
]
SOURCES = [("As the direction suggests", "preset"), ("From the model's perceptual curves", "curves"), ("My own", "own")]
FITTED_ELSEWHERE = (
    "This direction was fitted to another picture: here it may do less, or something else. “From words” makes one for "
    "this picture, or for any."
)
# The key of a preset, if the visitor agrees to what they are asked.
CONFIRM = "(session, key, question) => [session, confirm(question) ? key : null, question]"

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------- layout


def build(shell: Shell, tab: gr.Tab) -> None:
    """The tab's widgets and events."""
    model_id = shell.model.value
    with gr.Row(elem_id="text-edit", elem_classes="columns"):
        with gr.Column(elem_classes="choices"):
            chooser = PictureChooser(shell, tab, TAB)
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Direction</h3>")
                with gr.Tabs(elem_classes="pills", selected="presets") as direction_tabs:
                    with gr.Tab("Presets", id="presets"), gr.Column(elem_classes="scroll"):
                        picker = Cards(preset_items(model_id, {}), elem_id="presets", **PRESETS)
                        shelf = Shelf(model_id)
                    with gr.Tab("From words", id="words"):
                        words = WordsPanel(model_id)
                with gr.Row(visible=False, elem_classes="seed", elem_id="own-preset") as own_row:
                    own_name = gr.Textbox(label="Name", max_lines=1, min_width=120, elem_id="own-name")
                    rename = gr.Button("Rename", size="sm", min_width=70, elem_id="rename-own")
                    remove = gr.Button("Delete", size="sm", min_width=70, elem_id="remove-own")
                    question = gr.Textbox(visible=False)
                with gr.Row():
                    opened = gr.UploadButton(
                        "Open a preset file", file_types=[presets.SUFFIX], size="sm", elem_id="open-preset"
                    )
                    download = gr.DownloadButton("Save as file", size="sm", interactive=False, elem_id="save-preset")
        with gr.Column(elem_classes="results"):
            stage = Stage(first_stage(model_id), elem_id="stage")
            keeping = Keeping(TAB)
            with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                with gr.Row():
                    with gr.Column(min_width=260):
                        process, steps = process_choice("text-edit-steps")
                        shape = gr.Dropdown(FORMS, value="trained", label="How much it follows the picture")
                        injection = gr.Radio(
                            INJECTIONS,
                            value="",
                            label="What it may change",
                        )
                        seed = gr.Number(0, label="Seed of the noise that is added (boosting)", precision=0)
                    with gr.Column(min_width=320):
                        source = gr.Radio(
                            SOURCES, value="preset", label="At which noise levels it acts", elem_id="sources"
                        )
                        t_edit = gr.Slider(
                            0, 999, 500, step=1, label="Edit down to this noise level (t_edit)", interactive=False
                        )
                        t_boost = gr.Slider(
                            0, 999, 0, step=1, label="Boost quality below this noise level (t_boost)", interactive=False
                        )
                        in_force = gr.HTML(elem_id="in-force")
                        plot = gr.HTML(first_drawing(model_id), elem_id="intervals")
                apply = gr.Button("Apply", variant="secondary", elem_id="apply")
            analyses = Analyses()

    advanced = [process, steps, shape, injection, source, t_edit, t_boost, seed]
    given = [shell.session, picker, *advanced]
    shown = [stage, plot, t_edit, t_boost, in_force]

    # Before the others, because the page begins events of one click one after the other.
    analyses.connect(shell, picker, [picker.change, shell.model.change, *chooser.choosing])
    # Before the chooser, which would show the picture of a result of the history anew.
    tab.select(return_to, shell.session, [picker, chooser.examples, download, *shown], **HEAVY)
    chooser.connect(rendering, given[1:], shown, lambda event: (imagining(event), *(gr.skip(),) * 4), HEAVY)
    process.input(usual_steps, process, steps, **QUIET)
    # The page begins events of one click one after the other, so the quick one comes first.
    saving = {**QUIET, "queue": False, "trigger_mode": "multiple"}
    picker.input(withdraw_file, [shell.session, picker], download, **saving).then(
        offer_file, [shell.session, picker], download, **saving
    )
    picker.change(own_chosen, [shell.session, picker], [own_row, own_name], **saving)
    gr.on([picker.input, apply.click], render, given, shown, **HEAVY)
    stage.release(exact_strength, shell.session, stage, **HEAVY)
    stage.select(look, shell.session, None, queue=False, **QUIET)
    keeping.connect(shell, stage, shown_edit)

    made = [shell.session, *advanced]
    opened.upload(open_preset, [shell.session, opened], [picker, direction_tabs, download], **QUIET).then(
        render_made, made, shown, **HEAVY
    )
    assert tab.parent is not None  # the page's tabs
    shelf.connect(shell.session, shell.model, tab.parent, direction_tabs, picker).then(
        render_made, made, shown, **HEAVY
    )
    words.train.click(
        run_training,
        [shell.session, *words.written],
        [*words.shown, picker, download],
        **QUIET,
        concurrency_id="train",
        concurrency_limit=1,
    ).then(render_made, made, shown, **HEAVY)
    words.connect(shell.session)
    rename.click(rename_own, [shell.session, picker, own_name], [picker, download, stage], **QUIET)
    remove.click(removal_question, [shell.session, picker], question, **QUIET).success(
        remove_own, [shell.session, picker, question], [picker, download, own_row], js=CONFIRM, **QUIET
    )

    source.input(lambda chosen: (gr.update(interactive=chosen == "own"),) * 2, source, [t_edit, t_boost], **QUIET)
    gr.on([t_edit.input, t_boost.input], redraw, [shell.session, picker, t_edit, t_boost], plot, **QUIET)

    @in_words
    def restored(session: Session) -> tuple[Any, ...]:
        """The page was opened again by a visit that goes on: its picture, its presets, its strip. A new visit may have
        begun to work before it was found, and its page keeps what it shows."""
        if not session.reopened:
            return (gr.skip(),) * (len(chooser.widgets) + 8)
        session.reopened = False
        returned = return_to(session) if session.text_edit.returning is not None else ()
        session.seen[TAB] = session.picture
        if not returned:
            cards = Cards(preset_items(session.model_id, session.own), None, **PRESETS)
            returned = cards, gr.skip(), gr.skip(), visit_stage(session), *(gr.skip(),) * 4
        return panel_of(session), *own_widgets(session), returned[0], *returned[2:]

    restoring = [chooser.panels, *chooser.widgets, picker, download, *shown]
    shell.found.then(restored, shell.session, restoring, **QUIET)

    @in_words
    def change_model(session: Session, model_id: str) -> tuple[Any, ...]:
        """Another model: its examples, its presets, its words."""
        session.change_model(model_id)
        strip = session.text_edit.strip
        return (
            *chooser.for_model(session),
            Cards(preset_items(model_id, session.own), None if strip is None else strip.source, **PRESETS),
            *words.for_model(model_id),
            visit_stage(session) if strip is None else strip_value(strip),
            first_drawing(model_id),
            offered(session, None if strip is None else strip.source),
        )

    changed = [*chooser.widgets, picker, *words.follow, stage, plot, download]
    tab.select(resume, given, shown, **HEAVY)
    tab.select(own_presets, shell.session, picker, **QUIET)
    shell.model.change(change_model, [shell.session, shell.model], changed, **QUIET)


# ---------------------------------------------------------------------------------------------------------- rendering


def chosen_options(advanced: tuple[Any, ...]) -> EditOptions:
    """Options from the values of the Advanced section. Raises RequestError for values out of range."""
    process, steps, form, injection, source, t_edit, t_boost, seed = advanced
    own: dict[str, Any] = {"t_edit": int(t_edit), "t_boost": int(t_boost)} if source == "own" else {"source": source}
    return EditOptions(int(steps or 0), form, injection or None, seed=int(seed or 0), process=process, **own)


def interval_drawing(session: Session, preset: Preset | None, t_edit: int, t_boost: int) -> str:
    t_start = None if preset is None else preset.direction.t_start
    return intervals_of(known_card(session.model_id), Intervals(t_edit, t_boost), t_start)


def first_drawing(model_id: str) -> str:
    """The intervals of a direction that changes little, to have something to look at before there is a result."""
    try:
        source = known_card(model_id).interval_source()
    except ModelUnavailable:
        return ""
    return interval_drawing(Session(model_id), None, source.t_edit(0.9), source.t_boost())


def offered(session: Session, key: str | None) -> Any:
    """The file of a preset that is chosen because of something else."""
    withdraw_file(session, key)
    return offer_file(session, key)


@in_words
def own_presets(session: Session) -> Any:
    """The tab was opened: presets of the visitor's own may have come from another one."""
    return gr.update(choices=preset_items(session.model_id, session.own)) if session.own else gr.skip()


@in_words
def redraw(session: Session, key: str | None, t_edit: int, t_boost: int) -> str:
    return interval_drawing(session, chosen_preset(session, key), int(t_edit), int(t_boost))


@in_words
def render(session: Session, key: str | None, *advanced: Any) -> Values:
    """Edit the session's picture along the chosen preset: one strength first, then the whole strip."""
    yield from rendering(session, key, *advanced)


@in_words
def render_made(session: Session, *advanced: Any) -> Values:
    """The preset that was just trained or opened, if that went well; else everything stays as it is."""
    key, session.text_edit.made = session.text_edit.made, None
    if key is not None:
        yield from rendering(session, key, *advanced)


@in_words
def return_to(session: Session) -> tuple[Any, ...]:
    """The tab was opened to see a result of the history. Values of picker, examples, download and `shown`."""
    strip, session.text_edit.returning = session.text_edit.returning, None
    if strip is None:
        return (gr.skip(),) * 8
    session.seen[TAB] = session.picture
    cards = Cards(preset_items(session.model_id, session.own), strip.source, **PRESETS)
    example = gr.update(value=strip.picture.example)
    return cards, example, offered(session, strip.source), strip_value(strip), *(gr.skip(),) * 4


@in_words
def resume(session: Session, key: str | None, *advanced: Any) -> Values:
    """The tab was opened again: a strip whose computation another tab has ended goes on."""
    state = session.text_edit
    strip = state.strip
    if strip is None or strip.source != key or session.seen.get(TAB) is not session.picture:
        return
    if strip.missing and (state.turn is None or not state.turn.is_current):
        yield from rendering(session, key, *advanced)


def rendering(session: Session, key: str | None, *advanced: Any) -> Values:
    """Values of `shown`, until done or until the visitor asks for something else. What cannot be done leaves the last
    result where it is."""
    state, skip = session.text_edit, (gr.skip(),) * 4
    picture = current_picture(session, TAB)
    if picture is None:
        return
    base = {"before": before_url(picture), "hint": HINT}
    preset = chosen_preset(session, key)
    if key is None or preset is None:
        session.edits.begin()
        kept = state.strip  # a page that was opened again does not say what was chosen until it has been told
        yield strip_value(kept) if kept is not None and kept.frames and kept.picture is picture else base, *skip
        return
    last = state.strip if state.strip is not None and state.strip.frames else None
    try:
        options = chosen_options(advanced)
        intervals = intervals_for(known_card(session.model_id), preset, options)
    except VisitorError as error:
        yield {**(strip_value(last) if last else base), "note": error.message, "bad": True}, *skip
        return
    # The same direction on another picture, or with other settings, stays at the strength that was chosen for it.
    strength = last.strength if last is not None and last.source == key else None
    turn = state.turn = session.edits.begin()
    strip = state.show(begin_strip(picture, key, preset, options, strength))
    strip.note = FITTED_ELSEWHERE if is_fitted_elsewhere(preset, state.fitted.get(key), picture) else ""
    if not strip.frames:
        yield {**base, "name": preset.name, "busy": True, "note": "Starting …", "fraction": 0}, *skip
    drawing = interval_drawing(session, preset, intervals.t_edit, intervals.t_boost)
    last_timestep = known_card(session.model_id).last_timestep
    words = (
        f'<p class="words" role="status">{escape(intervals_in_words(preset, options, intervals, last_timestep))}</p>'
    )
    levels = (gr.update(value=t, maximum=last_timestep) for t in (intervals.t_edit, intervals.t_boost))
    moved = (drawing, *levels, words)
    try:
        for value in fill(turn, strip, state.forms):
            yield value, *moved
            moved = skip
            session.compose.history.keep_strip(strip, TITLE, known_card(session.model_id))
    except VisitorError as error:
        note = {"note": error.message, "bad": True}
        if last is not None and last.picture.model_id == session.model_id:
            state.show(last)
            yield {**strip_value(last), **note}, *skip
        else:
            yield {**base, **note}, *skip


def shown_edit(session: Session, strength: float) -> Shown | None:
    """The picture on the stage at a strength."""
    strip = session.text_edit.strip
    frame = None if strip is None else nearest(strip.frames, strength)
    if strip is None or frame is None:
        return None
    token = one_direction(strip.source, frame.strength, strip.picture, strip.options)
    name = f"{strip.preset.name} {in_units(frame.strength, strip.preset.strength)}"
    return Shown(strip.picture, strip.picture.pixels, frame.pixels, name, token)


@in_words
def exact_strength(event: gr.EventData, session: Session) -> Iterator[dict[str, Any]]:
    """A strength outside the strip, computed for itself and added to what is there."""
    strength, state = getattr(event, "strength", None), session.text_edit
    if state.strip is None or not isinstance(strength, int | float):
        return
    turn = state.turn = session.edits.begin()
    yield from exact(turn, state.strip, strength, state.forms)
    yield from fill(turn, state.strip, state.forms)  # this may have ended the computation of the strip


def look(event: gr.EventData, session: Session) -> None:
    """Another strength of the strip is looked at."""
    strength, strip = getattr(event, "strength", None), session.text_edit.strip
    if strip is not None and isinstance(strength, int | float) and getattr(event, "result", None) == strip.number:
        strip.strength = strip.within(strength)
        session.compose.history.keep_strip(strip, TITLE, known_card(strip.picture.model_id))

"""Text edit: a picture, a direction of meaning, and how far to go along it (Asyrp)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from core import presets
from core.errors import ModelUnavailable, VisitorError
from core.intervals import Curves, Intervals
from core.models.cards import MODELS
from core.presets import Preset
from core.studio.compose.link import one_direction
from core.studio.edit import intervals_for
from core.studio.frames import EditOptions
from core.studio.keeping import Shown, nearest
from core.studio.train import SUGGESTED
from core.studio.visit.session import Session
from tabs.charts import intervals_plot
from tabs.keeping import Keeping
from tabs.picture import PictureChooser
from tabs.process import process_choice, usual_steps
from tabs.results import imagining
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.strip import exact, strip
from tabs.text_edit.training import offer_file, open_preset, run_training, settings_for_form, stop_training
from tabs.visit import (
    HINT,
    before_url,
    chosen_preset,
    current_picture,
    first_stage,
    preset_items,
)
from tabs.widgets import Cards, Stage

TITLE = "Text edit"
TAB = "text-edit"

FORMS = [("As trained", "trained"), ("Mean per timestep", "per_timestep"), ("One global vector", "global")]
TRAINED = [("Fast: one global vector, about a minute", "global"), ("Thorough: implicit f_t, a few minutes", "implicit")]

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------- layout


def build(shell: Shell, tab: gr.Tab) -> None:
    """The tab's widgets and events."""
    model_id = shell.model.value
    few, short = SUGGESTED["global"]
    with gr.Row(elem_id="text-edit", elem_classes="columns"):
        with gr.Column(elem_classes="choices"):
            chooser = PictureChooser(shell, tab, TAB)
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Direction</h3>")
                with gr.Tabs(elem_classes="pills", selected="presets") as direction_tabs:
                    with gr.Tab("Presets", id="presets"), gr.Column(elem_classes="scroll"):
                        picker = Cards(
                            preset_items(model_id, {}),
                            elem_id="presets",
                            columns=4,
                            title="Directions",
                            nothing="This model has no ready directions yet: train one from words.",
                        )
                    with gr.Tab("From words", id="words"):
                        with gr.Column(elem_classes="section") as words:
                            source_text = gr.Textbox(
                                MODELS[model_id].domain_word,
                                label="What the pictures show",
                                max_lines=1,
                                elem_id="source-text",
                            )
                            target_text = gr.Textbox(
                                label="What they should show",
                                placeholder="face with a red beard",
                                max_lines=1,
                                elem_id="target-text",
                            )
                            form = gr.Radio(TRAINED, value="global", label="How", elem_id="form")
                            with gr.Accordion("Training settings", open=False):
                                samples = gr.Slider(8, 512, few, step=8, label="Samples", info="pictures to learn from")
                                train_steps = gr.Slider(8, 60, short, step=1, label="Steps", info="of the process")
                                coefficient = gr.Slider(0.1, 3, 0.8, step=0.1, label="Coefficient of the words")
                            train = gr.Button("Train this direction", variant="primary", elem_id="train")
                        stop = gr.Button("Stop and keep", visible=False, elem_id="stop")
                        training = gr.HTML(elem_id="training")
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
                        shape = gr.Dropdown(FORMS, value="trained", label="Form of the direction")
                        injection = gr.Radio(
                            [("As the preset says", ""), ("Asymmetric", "asymmetric"), ("Symmetric", "symmetric")],
                            value="",
                            label="Where it acts",
                        )
                        seed = gr.Number(0, label="Seed of the boosting noise", minimum=0, precision=0)
                    with gr.Column(min_width=320):
                        automatic = gr.Checkbox(True, label="Intervals from the perceptual curves")
                        t_edit = gr.Slider(0, 999, 500, step=1, label="Edit down to t", interactive=False)
                        t_boost = gr.Slider(0, 999, 0, step=1, label="Boost quality below t", interactive=False)
                        plot = gr.HTML(first_drawing(model_id), elem_id="intervals")
                apply = gr.Button("Apply", variant="secondary", elem_id="apply")

    advanced = [process, steps, shape, injection, automatic, t_edit, t_boost, seed]
    given = [shell.session, picker, *advanced]
    shown = [stage, plot, t_edit, t_boost]

    chooser.connect(rendering, given[1:], shown, lambda event: (imagining(event), *(gr.skip(),) * 3), HEAVY)
    process.input(usual_steps, process, steps, **QUIET)
    gr.on([picker.input, apply.click], render, given, shown, **HEAVY)
    stage.release(exact_strength, given, shown, **HEAVY)
    keeping.connect(shell.session, stage, shown_edit, given[1:])

    picker.input(offer_file, [shell.session, picker], download, **QUIET)
    opened.upload(open_preset, [shell.session, opened], [picker, direction_tabs], **QUIET).then(
        render, given, shown, **HEAVY
    )
    trained = [training, words, stop, picker, download]
    train.click(
        run_training,
        [shell.session, source_text, target_text, form, samples, train_steps, coefficient],
        trained,
        **QUIET,
        concurrency_id="train",
        concurrency_limit=1,
    ).then(render, given, shown, **HEAVY)
    stop.click(stop_training, shell.session, stop, queue=False, **QUIET)
    form.input(settings_for_form, form, [samples, train_steps], **QUIET)

    automatic.input(lambda on: (gr.update(interactive=not on),) * 2, automatic, [t_edit, t_boost], **QUIET)
    gr.on([t_edit.input, t_boost.input], redraw, [shell.session, picker, t_edit, t_boost], plot, **QUIET)

    @in_words
    def change_model(session: Session, model_id: str) -> tuple[Any, ...]:
        """Another model: its examples, its presets, its words."""
        session.change_model(model_id)
        return (
            *chooser.for_model(session),
            Cards(preset_items(model_id, session.own), None),
            MODELS[model_id].domain_word,
            first_stage(model_id),
            first_drawing(model_id),
        )

    changed = [*chooser.widgets, picker, source_text, stage, plot]
    tab.select(own_presets, shell.session, picker, **QUIET)
    shell.model.change(change_model, [shell.session, shell.model], changed, **QUIET)


# ---------------------------------------------------------------------------------------------------------- rendering


def chosen_options(advanced: tuple[Any, ...]) -> EditOptions:
    """Options from the values of the Advanced section. Raises RequestError for values out of range."""
    process, steps, form, injection, automatic, t_edit, t_boost, seed = advanced
    own = {} if automatic else {"t_edit": int(t_edit), "t_boost": int(t_boost)}
    return EditOptions(int(steps or 0), form, injection or None, seed=int(seed or 0), process=process, **own)


def interval_drawing(session: Session, preset: Preset | None, t_edit: int, t_boost: int) -> str:
    try:
        source = MODELS[session.model_id].interval_source()
    except ModelUnavailable:
        source = None
    t_start = None if preset is None else preset.direction.t_start
    return intervals_plot(Intervals(t_edit, t_boost), source if isinstance(source, Curves) else None, t_start)


def first_drawing(model_id: str) -> str:
    """The intervals of a direction that changes little, to have something to look at before there is a result."""
    try:
        source = MODELS[model_id].interval_source()
    except ModelUnavailable:
        return ""
    return interval_drawing(Session(model_id), None, source.t_edit(0.9), source.t_boost())


@in_words
def own_presets(session: Session) -> Any:
    """The tab was opened: presets of the visitor's own may have come from another one."""
    return gr.update(choices=preset_items(session.model_id, session.own)) if session.own else gr.skip()


@in_words
def redraw(session: Session, key: str | None, t_edit: int, t_boost: int) -> str:
    return interval_drawing(session, chosen_preset(session, key), int(t_edit), int(t_boost))


@in_words
def render(session: Session, key: str | None, *advanced: Any) -> Values:
    """Edit the session's picture along the chosen preset: the suggested strength first, then the whole strip."""
    yield from rendering(session, key, *advanced)


def rendering(session: Session, key: str | None, *advanced: Any) -> Values:
    """Values for stage, plot, t_edit and t_boost, until done or until the visitor asks for something else."""
    turn, state = session.edits.begin(), session.text_edit
    skip = (gr.skip(),) * 3
    state.frames.clear()
    picture = current_picture(session, TAB)
    if picture is None:
        return
    base = {"before": before_url(picture), "hint": HINT}
    preset = chosen_preset(session, key)
    if preset is None:
        yield base, *skip
        return
    base["name"] = preset.name
    yield {**base, "busy": True, "note": "Starting …", "fraction": 0}, *skip
    try:
        options = chosen_options(advanced)
        intervals = intervals_for(MODELS[session.model_id], preset, options)
        drawing = interval_drawing(session, preset, intervals.t_edit, intervals.t_boost)
        moved = (drawing, *(gr.update(value=t) for t in (intervals.t_edit, intervals.t_boost)))
        for value in strip(turn, picture, preset, options, state.frames, state.forms):
            yield value, *moved
            moved = skip
    except VisitorError as error:
        yield {**base, "note": error.message, "bad": True}, *skip


def shown_edit(session: Session, strength: float, key: str | None, *advanced: Any) -> Shown | None:
    """The picture on the stage at a strength."""
    preset, picture = chosen_preset(session, key), current_picture(session)
    frame = nearest(session.text_edit.frames, strength)
    if preset is None or picture is None or frame is None:
        return None
    token = one_direction(str(key), frame.strength, picture, chosen_options(advanced))
    return Shown(picture, picture.pixels, frame.pixels, f"{preset.name} {frame.strength:+g}", token)


@in_words
def exact_strength(event: gr.EventData, session: Session, key: str | None, *advanced: Any) -> Values:
    """A strength outside the strip, computed for itself and added to what is there."""
    strength = getattr(event, "strength", None)
    preset, picture = chosen_preset(session, key), current_picture(session)
    if preset is None or picture is None or not isinstance(strength, int | float):
        return
    turn, state = session.edits.begin(), session.text_edit
    options = chosen_options(advanced)
    for value in exact(turn, picture, preset, options, strength, state.frames, state.forms):
        yield value, *(gr.skip(),) * 3

"""Text edit: a picture, a direction of meaning, and how far to go along it (Asyrp)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from core import presets, studio
from core.errors import ModelUnavailable, RequestError, VisitorError
from core.imaging import Crop, crop_square, open_picture, to_pil
from core.intervals import Curves
from core.models.cards import MODELS
from core.presets import Preset
from core.progress import Progress
from core.studio import EditOptions, Frame, Picture, Session
from tabs.charts import intervals_plot, loss_curve
from tabs.shell import Shell, in_words
from tabs.widgets import Cards, Cropper, PictureInput, Stage, data_url

TITLE = "Text edit"

HINT = "Choose a direction, and the picture changes."
SHOWN = 512  # side of the large picture sent to the page, at most
KEPT = 1024  # side that an upload is kept at for cropping
FORMS = [("As trained", "trained"), ("Mean per timestep", "per_timestep"), ("One global vector", "global")]
TRAINED = [("Fast: one global vector, about a minute", "global"), ("Thorough: implicit f_t, a few minutes", "implicit")]
# What the probe's attributes are called when they go up.
WORDS = {
    "eye_open": "Open eyes",
    "mouth_open": "Open mouth",
    "lip_red": "Red lips",
    "gaze": "Looking right",
    "gaze_y": "Looking down",
    "brow_angle": "Angry brows",
    "brow_raise": "Raised brows",
    "brow_thick": "Thick brows",
    "gray": "Gray hair",
    "hair_colour": "Fair hair",
    "skin": "Dark skin",
    "age": "Wrinkles",
}

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------- layout


def build(shell: Shell) -> None:
    """The tab's widgets and events."""
    model_id = shell.model.value
    first = studio.examples(model_id)[:1]
    few, short = studio.SUGGESTED["global"]
    with gr.Row(elem_id="text-edit"):
        with gr.Column(elem_id="choices"):
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Picture</h3>")
                with gr.Tabs(elem_classes="pills"):
                    with gr.Tab("Examples", id="examples"):
                        examples = Cards(
                            example_items(model_id),
                            first[0].stem if first else None,
                            elem_id="examples",
                            columns=4,
                            title="Example pictures",
                            nothing="This model has no examples: upload a picture, or let it imagine one.",
                        )
                    with gr.Tab("Your own", id="own"):
                        upload = PictureInput(
                            type="filepath",
                            image_mode=None,
                            sources=["upload", "webcam", "clipboard"],
                            show_label=False,
                            height=190,
                            elem_id="upload",
                            buttons=[],
                        )
                        cropper = Cropper(elem_id="cropper")
                        another = gr.Button("Choose another picture", visible=False, size="sm")
                        upload_message = gr.HTML(elem_id="upload-message")
                    with gr.Tab("New", id="new"):
                        gr.HTML(
                            '<p class="words">Let the model imagine a picture. The same seed gives the same one.</p>'
                        )
                        with gr.Row(elem_classes="seed"):
                            sample_seed = gr.Number(
                                1, label="Seed", minimum=0, precision=0, min_width=90, elem_id="seed"
                            )
                            sample = gr.Button("Imagine", variant="secondary", min_width=60, elem_id="sample")
                            surprise = gr.Button("Surprise me", variant="secondary", min_width=60, elem_id="surprise")
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
                                samples = gr.Slider(
                                    8,
                                    512,
                                    studio.SUGGESTED["global"][0],
                                    step=8,
                                    label="Samples",
                                    info="pictures to learn from",
                                )
                                train_steps = gr.Slider(
                                    8, 60, studio.SUGGESTED["global"][1], step=1, label="Steps", info="of the process"
                                )
                                coefficient = gr.Slider(0.1, 3, 0.8, step=0.1, label="Coefficient of the words")
                            train = gr.Button("Train this direction", variant="primary", elem_id="train")
                        stop = gr.Button("Stop and keep", visible=False, elem_id="stop")
                        training = gr.HTML(elem_id="training")
                with gr.Row():
                    opened = gr.UploadButton(
                        "Open a preset file", file_types=[presets.SUFFIX], size="sm", elem_id="open-preset"
                    )
                    download = gr.DownloadButton("Save as file", size="sm", interactive=False, elem_id="save-preset")
        with gr.Column(elem_id="results"):
            stage = Stage(first_stage(model_id), elem_id="stage")
            with gr.Accordion("Advanced", open=False, elem_id="advanced"):
                with gr.Row():
                    with gr.Column(min_width=260):
                        steps = gr.Slider(10, 100, 40, step=1, label="Steps", info="of inversion and of editing")
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

    advanced = [steps, shape, injection, automatic, t_edit, t_boost, seed]
    given = [shell.session, picker, *advanced]
    shown = [stage, plot, t_edit, t_boost]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    heavy: dict[str, Any] = {**quiet, "trigger_mode": "multiple", "concurrency_id": "edit", "concurrency_limit": 4}

    gr.on([examples.input], choose_example, [*given, examples], shown, **heavy)
    gr.on([picker.input, apply.click], render, given, shown, **heavy)
    gr.on([sample.click, sample_seed.submit], imagine, [*given, sample_seed], shown, **heavy)
    surprise.click(new_seed, None, sample_seed, **quiet).then(imagine, [*given, sample_seed], shown, **heavy)
    stage.release(exact_strength, given, shown, **heavy)
    own_picture = [upload, cropper, another, upload_message]
    upload.input(take_upload, [*given, upload], [*own_picture, *shown], **heavy)
    cropper.release(take_crop, given, shown, **heavy)
    another.click(forget_upload, shell.session, own_picture, **quiet)

    picker.input(offer_file, [shell.session, picker], download, **quiet)
    opened.upload(open_preset, [shell.session, opened], [picker, direction_tabs], **quiet).then(
        render, given, shown, **heavy
    )
    trained = [training, words, stop, picker, download]
    train.click(
        run_training,
        [shell.session, source_text, target_text, form, samples, train_steps, coefficient],
        trained,
        **quiet,
        concurrency_id="train",
        concurrency_limit=1,
    ).then(render, given, shown, **heavy)
    stop.click(stop_training, shell.session, stop, queue=False, **quiet)
    form.input(settings_for_form, form, [samples, train_steps], **quiet)

    automatic.input(lambda on: (gr.update(interactive=not on),) * 2, automatic, [t_edit, t_boost], **quiet)
    gr.on([t_edit.input, t_boost.input], redraw, [shell.session, t_edit, t_boost], plot, **quiet)
    shell.model.change(
        change_model, [shell.session, shell.model], [examples, picker, source_text, stage, plot, *own_picture], **quiet
    )


def example_items(model_id: str) -> list[dict[str, Any]]:
    paths = studio.examples(model_id)
    items = []
    for number, path in enumerate(paths, start=1):
        with Image.open(path) as picture:
            image = data_url(picture.convert("RGB").resize((192, 192), Image.Resampling.LANCZOS))
        items.append({"id": path.stem, "image": image, "about": f"Example {number}"})
    return items


def preset_items(model_id: str, own: dict[str, Preset]) -> list[dict[str, Any]]:
    """The visitor's own first, newest first."""
    mine = [(key, preset, True) for key, preset in reversed(own.items()) if preset.model == model_id]
    items = []
    for key, preset, is_own in [*mine, *((k, p, False) for k, p in studio.library(model_id).items())]:
        picture = preset.picture()
        image = data_url(picture) if picture else None
        about = preset.description or f"{preset.source_text} → {preset.target_text}"
        items.append({"id": key, "name": preset.name, "image": image, "about": about, "own": is_own})
    return items


def first_stage(model_id: str) -> dict[str, Any]:
    paths = studio.examples(model_id)
    if not paths:
        return {"hint": "Upload a picture, or let the model imagine one."}
    return {"before": before_url(studio.open_picture(paths[0], model_id)), "hint": HINT}


def message(error: VisitorError) -> str:
    return f'<div class="message" role="alert">{escape(error.message)}</div>'


def before_url(picture: Picture) -> str:
    return data_url(to_pil(picture.pixels)[0], quality=95)


# ---------------------------------------------------------------------------------------------------------- rendering


def current_picture(session: Session) -> Picture | None:
    """The visitor's picture: the first example until they choose."""
    paths = studio.examples(session.model_id)
    if session.picture is None and paths:
        session.picture = studio.open_picture(paths[0], session.model_id)
    return session.picture


def chosen_preset(session: Session, key: str | None) -> Preset | None:
    if not key:
        return None
    return session.own.get(key) or studio.library(session.model_id).get(key)


def chosen_options(advanced: tuple[Any, ...]) -> EditOptions:
    """Options from the values of the Advanced section. Raises RequestError for values out of range."""
    steps, form, injection, automatic, t_edit, t_boost, seed = advanced
    own = {} if automatic else {"t_edit": int(t_edit), "t_boost": int(t_boost)}
    return EditOptions(int(steps or 0), form, injection or None, seed=int(seed or 0), **own)


def interval_drawing(session: Session, t_edit: int, t_boost: int) -> str:
    try:
        source = MODELS[session.model_id].interval_source()
    except ModelUnavailable:
        source = None
    return intervals_plot(studio.Intervals(t_edit, t_boost), source if isinstance(source, Curves) else None)


def first_drawing(model_id: str) -> str:
    """The intervals of a direction that changes little, to have something to look at before there is a result."""
    try:
        source = MODELS[model_id].interval_source()
    except ModelUnavailable:
        return ""
    return interval_drawing(Session(model_id), source.t_edit(0.9), source.t_boost())


@in_words
def redraw(session: Session, t_edit: int, t_boost: int) -> str:
    return interval_drawing(session, int(t_edit), int(t_boost))


@in_words
def render(session: Session, key: str | None, *advanced: Any) -> Values:
    """Edit the session's picture along the chosen preset: the suggested strength first, then the whole strip."""
    yield from rendering(session, key, advanced)


def rendering(session: Session, key: str | None, advanced: tuple[Any, ...]) -> Values:
    """Values for stage, plot, t_edit and t_boost, until done or until the visitor asks for something else."""
    ticket = session.begin()
    skip = (gr.skip(),) * 3
    session.frames = []
    picture = current_picture(session)
    if picture is None:
        return
    base = {"before": before_url(picture), "hint": HINT}
    preset = chosen_preset(session, key)
    if preset is None:
        yield base, *skip
        return
    base["name"] = preset.name
    yield {**base, "busy": True, "note": "Starting …", "fraction": 0}, *skip
    started = time.monotonic()
    try:
        options = chosen_options(advanced)
        model = studio.models.get(session.model_id)
        intervals = studio.intervals_for(model.card, preset, options)
        drawing = interval_drawing(session, intervals.t_edit, intervals.t_boost)
        moved = (drawing, *(gr.update(value=t) for t in (intervals.t_edit, intervals.t_boost)))
        first = [min(max(preset.strength, preset.strength_range[0]), preset.strength_range[1])]
        strip = studio.strip_strengths(preset)
        for event in studio.edit_frames(model, picture, preset, first, options, session.forms):
            if session.ticket != ticket:
                return
            if event.result is None:
                yield {**base, **busy(event)}, *moved
                moved = skip
                continue
            session.frames = event.result
        low, high = preset.strength_range
        base |= {"low": low, "high": high, "strength": first[0], "seconds": time.monotonic() - started, "strip": strip}
        rest = [strength for strength in strip if strength not in first]
        for event in studio.edit_frames(model, picture, preset, rest, options, session.forms):
            if session.ticket != ticket:
                return
            if event.result is not None:
                session.frames = sorted([*session.frames, *event.result], key=lambda frame: frame.strength)
                yield {**base, "frames": frames_json(session.frames)}, *skip
            elif event.preview is not None or event.step == options.steps + 1:
                note = f"Now the other strengths … {100 * event.step // event.total}%"
                yield {**base, "note": note, "frames": frames_json(session.frames)}, *skip
    except VisitorError as error:
        yield {**base, "note": error.message, "bad": True}, *skip


def busy(event: Progress) -> dict[str, Any]:
    preview = None if event.preview is None else data_url(to_pil(event.preview[:1])[0], quality=80)
    return {"busy": True, "note": f"{event.note} …", "fraction": event.step / event.total, "preview": preview}


def frames_json(frames: list[Frame]) -> list[dict[str, Any]]:
    return [
        {
            "strength": frame.strength,
            "image": data_url(to_pil(frame.pixels)[0], quality=95),
            "measures": readable(frame.measures.as_json()),
        }
        for frame in frames
    ]


def readable(measures: dict[str, Any]) -> dict[str, Any]:
    """Measures with attributes in words."""
    for reading in measures["attributes"]:
        reading["name"] = WORDS.get(reading["name"], reading["name"].replace("_", " ").capitalize())
    return measures


@in_words
def exact_strength(event: gr.EventData, session: Session, key: str | None, *advanced: Any) -> Values:
    """A strength outside the strip, computed for itself and added to what is there."""
    strength = getattr(event, "strength", None)
    preset, picture, ticket = chosen_preset(session, key), current_picture(session), session.begin()
    if preset is None or picture is None or not isinstance(strength, int | float):
        return
    low, high = preset.strength_range
    strength = round(min(max(float(strength), low), high), 4)
    started = time.monotonic()
    model = studio.models.get(session.model_id)
    job = studio.edit_frames(model, picture, preset, [strength], chosen_options(advanced), session.forms)
    for progress in job:
        if session.ticket != ticket:
            return
        if progress.result is not None:
            session.frames = sorted([*session.frames, *progress.result], key=lambda frame: frame.strength)
    value = {"before": before_url(picture), "name": preset.name, "low": low, "high": high, "strength": strength}
    value |= {"seconds": time.monotonic() - started, "strip": studio.strip_strengths(preset)}
    yield {**value, "frames": frames_json(session.frames)}, *(gr.skip(),) * 3


# ----------------------------------------------------------------------------------------------------------- pictures


@in_words
def choose_example(session: Session, key: str | None, *rest: Any) -> Values:
    *advanced, example = rest
    paths = {path.stem: path for path in studio.examples(session.model_id)}
    if example not in paths:
        raise RequestError("This example does not belong to the chosen model. Choose another one.")
    session.picture = studio.open_picture(paths[example], session.model_id)
    yield from rendering(session, key, tuple(advanced))


def new_seed() -> int:
    return random.randrange(100_000)


@in_words
def imagine(session: Session, key: str | None, *rest: Any) -> Values:
    *advanced, seed = rest
    ticket = session.begin()
    skip = (gr.skip(),) * 3
    model = studio.models.get(session.model_id)
    steps = chosen_options(tuple(advanced)).steps
    for event in studio.sample(model, -1 if seed is None else int(seed), steps):
        if session.ticket != ticket:
            return
        if event.result is None:
            value = busy(event)
            if value["preview"]:
                yield {**value, "before": value.pop("preview"), "fraction": value["fraction"]}, *skip
            continue
        session.picture = event.result
    yield from rendering(session, key, tuple(advanced))


@in_words
def take_upload(session: Session, key: str | None, *rest: Any) -> Values:
    """A visitor's file: checked, kept small for cropping, and shown as the model sees it."""
    *advanced, path = rest
    untouched = (gr.skip(),) * 4
    if path is None:
        return
    try:
        picture = open_picture(path)
    except VisitorError as error:
        yield None, gr.skip(), gr.skip(), message(error), *untouched
        return
    picture.thumbnail((KEPT, KEPT), Image.Resampling.LANCZOS)
    session.upload = picture
    crop = Crop()
    session.picture = studio.open_picture(picture, session.model_id, crop)
    yield gr.update(value=None, visible=False), crop_value(picture, crop), gr.update(visible=True), "", *untouched
    for values in rendering(session, key, tuple(advanced)):
        yield *untouched, *values


def crop_value(picture: Image.Image, crop: Crop) -> dict[str, Any]:
    shown = picture.copy()
    shown.thumbnail((640, 640))
    smallest = max(0.2, min(1.0, 64 / min(picture.size)))
    about = {"x": crop.x, "y": crop.y, "size": crop.size, "smallest": smallest}
    return {"image": data_url(shown), "width": picture.width, "height": picture.height, **about}


@in_words
def take_crop(event: gr.EventData, session: Session, key: str | None, *advanced: Any) -> Values:
    """The square that the visitor moved."""
    if session.upload is None:
        return
    numbers = [getattr(event, name, None) for name in ("x", "y", "size")]
    if not all(isinstance(number, int | float) for number in numbers):
        raise RequestError("This crop is not understood. Move the square again.")
    session.picture = studio.open_picture(crop_square(session.upload, Crop(*numbers)), session.model_id)
    yield from rendering(session, key, advanced)


@in_words
def forget_upload(session: Session) -> tuple[Any, ...]:
    session.upload = None
    return gr.update(value=None, visible=True), None, gr.update(visible=False), ""


@in_words
def change_model(session: Session, model_id: str) -> tuple[Any, ...]:
    """Another model: its examples, its presets, its words."""
    session.begin()
    session.model_id, session.picture, session.frames, session.upload = model_id, None, [], None
    paths = studio.examples(model_id)
    return (
        Cards(example_items(model_id), paths[0].stem if paths else None),
        Cards(preset_items(model_id, session.own), None),
        MODELS[model_id].domain_word,
        first_stage(model_id),
        first_drawing(model_id),
        *forget_upload(session),
    )


# ------------------------------------------------------------------------------------------- directions of one's own


@in_words
def offer_file(session: Session, key: str | None) -> Any:
    """The chosen preset as a file to take away."""
    preset = chosen_preset(session, key)
    if preset is None:
        return gr.update(interactive=False)
    return gr.update(value=str(session.write(preset)), interactive=True)


@in_words
def open_preset(session: Session, path: str | None) -> tuple[Any, ...]:
    if path is None:
        return gr.skip(), gr.skip()
    preset = presets.load(path)
    presets.require_model(preset, studio.models.get(session.model_id))
    key = session.keep(preset)
    return Cards(preset_items(session.model_id, session.own), key), gr.Tabs(selected="presets")


def settings_for_form(form: str) -> tuple[int, int]:
    """Sensible settings for the form: the fast one learns from fewer pictures in fewer steps."""
    return studio.SUGGESTED[form]


@in_words
def run_training(
    session: Session, source: str, target: str, form: str, samples: int, steps: int, coefficient: float
) -> Values:
    """Train, with the loss and a preview along the way; whatever was learned becomes a preset of the visitor's own."""
    going = (gr.update(visible=False), gr.update(visible=True, interactive=True, value="Stop and keep"))
    over = (gr.update(visible=True), gr.update(visible=False))
    session.stop_training = False
    try:
        yield training_view(f"{source} → {target}: preparing …", 0), *going, gr.skip(), gr.skip()
        model = studio.models.get(session.model_id)
        settings = studio.training_settings(form, int(samples), int(steps), float(coefficient))
        training = studio.start_training(model, source or "", target or "", settings, session)
        started, drawn, faces = time.monotonic(), 0.0, ""
        for event in studio.train(training, current_picture(session), lambda: session.stop_training):
            if event.preview is not None and len(event.preview) == 2:
                faces = preview_view(event)
            if event.result is not None:
                key = session.keep(event.result)
                studio.keep_sources(session, training)
                cards = Cards(preset_items(session.model_id, session.own), key)
                view = training_view(f"{event.note}: “{event.result.name}” is among your presets", 1, training, faces)
                file = gr.update(value=str(session.write(event.result)), interactive=True)
                yield view, *over, cards, file
            elif time.monotonic() - drawn > 0.5:
                drawn = time.monotonic()
                view = training_view(progress_note(event, started), event.step / event.total, training, faces)
                yield view, gr.skip(), gr.skip(), gr.skip(), gr.skip()
    except VisitorError as error:
        yield message(error), *over, gr.skip(), gr.skip()
    except Exception:
        yield "", *over, gr.skip(), gr.skip()
        raise


def progress_note(event: Progress, started: float) -> str:
    if event.note == "preparing":
        return f"Preparing pictures … {event.step} of {event.total}"
    return f"Step {event.step} of {event.total}, {time.monotonic() - started:.0f} s"


def training_view(note: str, done: float, training: Any = None, faces: str = "") -> str:
    losses = training.losses if training is not None else []
    chart = loss_curve(losses, training.total, len(training.timesteps)) if len(losses) > 1 else ""
    return (
        f'<div class="training"><div class="line" role="status"><span>{escape(note)}</span></div>'
        f'<div class="rail"><i style="width:{100 * done:.0f}%"></i></div>{chart}{faces}</div>'
    )


def preview_view(event: Progress) -> str:
    before, after = (data_url(picture, quality=80) for picture in to_pil(event.preview))
    return (
        f'<div class="faces"><figure><img src="{before}" alt="Before">before</figure>'
        f'<figure><img src="{after}" alt="With what is learned so far">learned so far</figure></div>'
    )


def stop_training(session: Session) -> Any:
    session.stop_training = True
    return gr.update(value="Stopping …", interactive=False)

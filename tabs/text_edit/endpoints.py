"""Named endpoints for programs: `gradio_client` sees these, with their parameters' meaning, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from core.errors import RequestError
from core.imaging import to_pil
from core.intervals import Curves
from core.process import Process
from core.studio import library
from core.studio.between_prompts import WAYS, direction_between, two_prompts
from core.studio.edit import edit_frames, intervals_for, intervals_in_words
from core.studio.frames import EditOptions, IntervalSource
from core.studio.known_models import bound_model, known_card, model_of, takes_prompt
from core.studio.photographs import given_back, require_returned
from core.studio.sample import sample_picture
from core.studio.train import (
    SUGGESTED,
    pictures_to_learn_from,
    start_training,
    train_preset,
    training_settings,
)
from core.studio.visit.session import Session
from core.studio.words import unknown_words
from tabs.charts import curve_rows, intervals_of, loss_curve
from tabs.endpoints import (
    BOOST_LABEL,
    SEED_LABEL,
    STEPS_LABEL,
    Answers,
    declare,
    given_path,
    given_picture,
    model_input,
    picture_input,
    placement_input,
    process_input,
    prompt_input,
    returned_input,
    source_input,
    stream_progress,
    told_placement,
    told_prompt,
)
from tabs.exports import csv_text, first_svg
from tabs.shell import Shell


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    with gr.Column(visible=False):
        image = picture_input()
        direction = gr.Textbox(
            "", label="Name of a direction, as /presets lists it, for example 'smiling'; empty for texts"
        )
        source = gr.Textbox("", label="What the pictures show, for example 'face'; up to 200 characters")
        target = gr.Textbox("", label="What they should show, for example 'smiling face'; up to 200 characters")
        unit = "in the direction's own unit: 0 changes nothing, 1 is as trained; /presets says what each suggests"
        strength = gr.Number(1.0, label=f"Strength, -100 to 100, {unit}")
        steps = gr.Number(0, precision=0, label=STEPS_LABEL)
        seed = gr.Number(0, precision=0, label=SEED_LABEL)
        sample_seed = gr.Number(0, precision=0, label="Seed of the picture, 0 to 2147483647")
        words = gr.Textbox("", label="What the picture should show; empty to leave it to the seed")
        sample_steps = gr.Number(0, precision=0, label="Steps of sampling, 4 to 1000; 0: as many as it needs")
        model = model_input(shell)
        process = process_input()
        form = gr.Dropdown(
            ["global", "implicit", "per_timestep", *WAYS],
            value="global",
            label="Form: global (one shift, fast), implicit (a network f_t, slower, as in the paper), per_timestep "
            "(one shift for each timestep, optimised directly) or, of text-to-image models, picture (what the change "
            "from one prompt to another does to the first of `files`), fitted (to any picture) or prompts "
            "(their mean difference in h, quick and weak)",
        )
        few, short = SUGGESTED["global"]
        samples = gr.Number(few, precision=0, label="Pictures to learn from, 4 to 2000")
        train_steps = gr.Number(short, precision=0, label="Steps of the diffusion process, 8 to 200")
        coefficient = gr.Number(
            0,
            label="Weight of the words against staying close, 0.05 to 5; 0: as Table 3 of the paper has it for these "
            "texts, 0.8 for others",
        )
        latents = gr.Dropdown(
            ["random", "inverted"],
            value="random",
            label="What it learns from: random noise, or pictures, which are inverted first and then kept more",
        )
        files = gr.File(
            label="Pictures to learn from, 4 to 200, for 'inverted'; left out: the model's own. For 'picture' the one "
            "that the direction is for",
            file_count="multiple",
            type="filepath",
        )
        picture = gr.Image(label="Picture", format="png")
        measures = gr.JSON(label="Measures")
        file = gr.File(label="Preset file")

        placement, back = placement_input(), returned_input()
        asked = [image, direction, strength, steps, seed, source, target, model, process, placement, back]
        asked += [prompt_input()]
        declare(shell, edit_text, asked, [picture, measures])
        asked = [source, target, form, samples, train_steps, coefficient, model, latents, files]
        declare(shell, train_direction, asked, [file, measures])
        named = gr.Textbox("", label="Name of a direction, as /presets lists it, for example 'smiling'")
        asked = [named, model, source_input(), gr.Checkbox(False, label=BOOST_LABEL)]
        declare(shell, intervals, asked, measures)
        declare(shell, sample, [sample_seed, sample_steps, model, words], [picture, measures])


def edit_text(
    session: Session,
    image: str | None,
    direction: str,
    strength: float,
    steps: int,
    seed: int,
    source_text: str,
    target_text: str,
    model: str,
    process: Process,
    placement: Any,
    returned: str,
    prompt: str = "",
) -> Answers:
    """Edit a picture along a direction of meaning.

    The direction is a preset by its name, one trained before in this session, or a pair of texts; a pair for which
    there is no direction yet is trained first, which takes a minute or two. In a text-to-image model the texts are two
    prompts, and a shift of h is fitted to what they differ in, which takes a minute or two.

    Returns the edited picture and a JSON of measures: S_dir, identity, perceptual distance, attributes before and
    after, the intervals used and the seconds taken. Until then the JSON tells how far it is.
    """
    path, started = given_path(image), time.monotonic()
    require_returned(returned)
    options = EditOptions(steps or None, seed=seed, process=process)
    source = given_picture(path, model, placement, prompt)
    loaded = model_of(source)
    preset = library.find_preset(model, direction or "", source_text or "", target_text or "", session.own)
    if preset is None and takes_prompt(model):
        made = direction_between(*two_prompts(model, source_text, target_text), source)
        preset = yield from stream_progress(made)
        preset = session.own[session.keep(preset)]
    elif preset is None:
        settings = training_settings("global", *SUGGESTED["global"])
        training = start_training(loaded, source_text, target_text, settings, session.text_edit)
        preset = yield from stream_progress(train_preset(training))
        preset = session.own[session.keep(preset)]
    job = edit_frames(loaded, source, preset, [strength], options, session.text_edit.forms)
    [frame] = yield from stream_progress(job)
    intervals = intervals_for(loaded.card, preset, options)
    about: dict[str, Any] = {"direction": preset.name, "model": model, "strength": strength}
    about |= {"process": process, "steps": options.step_count}
    about |= {"t_edit": intervals.t_edit, "t_boost": intervals.t_boost, "seconds": round(time.monotonic() - started, 2)}
    about |= {"placement": told_placement(source), **told_prompt(source)}
    about |= {"intervals_svg": first_svg(intervals_of(loaded.card, intervals, preset.direction.t_start))}
    yield given_back(source, frame.pixels, returned), about | frame.measures.as_json()


def train_direction(
    session: Session,
    source_text: str,
    target_text: str,
    form: str,
    samples: int,
    steps: int,
    coefficient: float,
    model: str,
    latents: str = "random",
    files: list[str] | None = None,
) -> Answers:
    """Train a direction from two texts, or take what two prompts differ in.

    Returns a preset file, which the page opens too, and a JSON with its name, the losses and the seconds taken. Until
    then the JSON tells how far it is; cancelling ends the work. In the same session, `/edit_text` finds the direction
    by its name.
    """
    started = time.monotonic()
    if form in WAYS:
        pair = two_prompts(model, source_text or "", target_text or "")
        way = WAYS[form]
        if way.of_picture and not files:
            raise RequestError("There is no picture. Give the one that the direction is for in `files`.")
        picture = given_picture(files[0], model, None, source_text) if files and way.of_picture else None
        preset = yield from stream_progress(direction_between(*pair, picture, way, samples, steps))
        preset = session.own[session.keep(preset)]
        told = {"name": preset.name, "model": model, "seconds": round(time.monotonic() - started, 2)}
        yield str(session.write(preset)), told
        return
    settings = training_settings(form, samples, steps, coefficient or None)
    loaded, pixels = bound_model(model), None
    if latents == "inverted":
        pixels = yield from stream_progress(pictures_to_learn_from(loaded, settings.samples, files or ()))
    training = start_training(loaded, source_text or "", target_text or "", settings, session.text_edit, pixels)
    preset = yield from stream_progress(train_preset(training))
    preset = session.own[session.keep(preset)]
    losses = [round(loss, 4) for loss in training.losses]
    about: dict[str, Any] = {"match": preset.measured.get("s_dir")}
    about |= {"l_clip": training.l_clip, "l_recon": round(training.l_recon, 4), "latents": latents}
    unknown = unknown_words(loaded.card, source_text or "", target_text or "")
    about["unknown_words"] = [one.word for one in unknown]
    about |= {"name": preset.name, "model": model, "losses": losses, "seconds": round(time.monotonic() - started, 2)}
    about["chart_svg"] = first_svg(loss_curve(training.losses, training.total, len(training.timesteps)))
    yield str(session.write(preset)), about


def intervals(
    session: Session, direction: str, model: str, source: IntervalSource, boost: bool
) -> Iterator[dict[str, Any]]:
    """Where a direction acts in time, and why: the interval in which it edits, and that in which noise is added.

    Returns a JSON with t_edit and t_boost, whose they are in words, and where the model's perceptual curves are known
    these (t, distance of the predicted and of the noisy picture) as numbers and as CSV, the editing strength of the
    interval, what may still change below it, the quality deficiency at t_boost (Asyrp, section 4), and the drawing as
    SVG.
    """
    card, options = known_card(model), EditOptions(source=source, boost=bool(boost))
    preset = library.named_preset(model, direction or "", session.own)
    found = intervals_for(card, preset, options)
    about: dict[str, Any] = {"direction": preset.name, "model": model, "t_edit": found.t_edit}
    about |= {"t_boost": found.t_boost, "words": intervals_in_words(preset, options, found)}
    curves = card.known_or_typical()
    known = curves.as_json() if isinstance(curves, Curves) else None
    if isinstance(curves, Curves):
        about["csv"] = csv_text(curve_rows(curves))
        about["editing_strength"] = round(curves.editing_strength(found.t_edit), 4)
        about["editing_flexibility"] = round(curves.editing_flexibility(found.t_edit), 4)
        about["quality_deficiency"] = round(curves.quality_deficiency(found.t_boost), 4)
    drawing = first_svg(intervals_of(card, found, preset.direction.t_start))
    yield about | {"curves": known, "intervals_svg": drawing}


def sample(session: Session, seed: int, steps: int, model: str, words: str) -> Answers:
    """Let the model imagine a picture; the same seed and words give the same one.

    Returns the picture and a JSON with the model, the seed, what the picture was drawn from and the seconds taken.
    """
    started = time.monotonic()
    if steps:
        EditOptions(steps=steps)
    made = yield from stream_progress(sample_picture(bound_model(model), seed, steps or None, words or ""))
    about = {"model": model, "seed": seed, "words": made.prompt, "seconds": round(time.monotonic() - started, 2)}
    yield to_pil(made.pixels)[0], about

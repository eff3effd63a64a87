"""Directions of the visitor's own: trained from words, opened from a file, saved as one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr
from torch import Tensor

from core import presets
from core.errors import RequestError, VisitorError, shortened
from core.imaging import to_pil
from core.presets import Preset
from core.progress import Progress, Running, TimeLeft
from core.studio.between_prompts import MEAN, WAYS, Way, direction_between, two_prompts
from core.studio.known_models import known_card
from core.studio.texts import remarks
from core.studio.train import (
    LOW_MATCH,
    coefficients_in_words,
    learned_so_far,
    pictures_to_learn_from,
    start_training,
    train_preset,
    training_settings,
)
from core.studio.visit.session import Session
from tabs.charts import loss_curve
from tabs.exports import csv_link
from tabs.shell import in_words
from tabs.strip import strip_value
from tabs.visit import chosen_preset, current_picture, message, notes, preset_items
from tabs.widgets import Cards, data_url

Values = Iterator[tuple[Any, ...]]

# Properties of the cards: an update replaces all of them.
PRESETS: dict[str, Any] = {
    "columns": 4,
    "title": "Directions",
    "search": True,
    "nothing": "No directions come with this model. Below is how to get one.",
}


def withdraw_file(session: Session, key: str | None) -> Any:
    """Another preset was chosen: until there is a file of that, there is none."""
    session.text_edit.saved = key
    return gr.update(interactive=False)


@in_words
def offer_file(session: Session, key: str | None) -> Any:
    """The chosen preset as a file to take away; nothing if another one was chosen meanwhile."""
    preset = chosen_preset(session, key)
    if preset is None:
        return gr.update(interactive=False)
    path = session.write(preset)
    return gr.update(value=str(path), interactive=True) if session.text_edit.saved == key else gr.skip()


@in_words
def open_preset(session: Session, path: str | None) -> tuple[Any, ...]:
    if path is None:
        return (gr.skip(),) * 3
    preset = presets.for_model(presets.load(path), session.model())
    session.text_edit.made = session.text_edit.saved = key = session.keep_file(preset)
    cards = Cards(preset_items(session.model_id, session.own), key, **PRESETS)
    return cards, gr.Tabs(selected="presets"), gr.update(value=str(session.write(preset)), interactive=True)


@in_words
def run_training(
    session: Session,
    source: str,
    target: str,
    form: str,
    samples: int,
    steps: int,
    coefficient: float,
    latents: str,
    files: list[str] | None,
) -> Values:
    """Train, with the loss and a preview along the way; whatever was learned becomes a preset of the visitor's own.

    form: one of `WAYS` for what two prompts differ in. coefficient: 0 for the paper's. latents: "random"
    or "inverted", then of `files` or of the model's own pictures."""
    # The words, the buttons below a training, and that below a comparison, of which nothing can be kept before its end.
    going = [gr.update(visible=shown) for shown in (False, form not in WAYS, form in WAYS)]
    over = [gr.update(visible=shown) for shown in (True, False, False)]
    state = session.text_edit
    state.stop_training = state.discard_training = False
    training, state.trains = None, True
    said = words_note(session, source, target)
    try:
        beginning = training_view(f"{shortened(source)} → {shortened(target)}: preparing …", 0)
        yield said + beginning, *going, gr.skip(), gr.skip()
        if form in WAYS:
            for view in compare_prompts(session, source or "", target or "", WAYS[form], int(samples), int(steps)):
                yield said + view, *(gr.skip(),) * 5
            key = state.made
            if key is None:  # discarded
                yield "", *over, gr.skip(), gr.skip()
                return
            preset = session.own[key]
            cards = Cards(preset_items(session.model_id, session.own), key, **PRESETS)
            file = gr.update(value=str(session.write(preset)), interactive=True)
            yield matched_note(preset) + view, *over, cards, file
            return
        model = session.model()
        settings = training_settings(form, int(samples), int(steps), float(coefficient) or None)
        pixels = None
        if latents == "inverted":
            for event in (opening := Running(pictures_to_learn_from(model, int(samples), files or ()))):
                yield said + training_view(f"{event.note} …", 0), *going, gr.skip(), gr.skip()
            pixels = opening.result
        training = start_training(model, source or "", target or "", settings, state, pixels)
        left, drawn, faces = TimeLeft(), 0.0, ""
        running = Running(train_preset(training, current_picture(session), lambda: state.stop_training))
        for event in running:
            if event.preview is not None and len(event.preview) == 2:
                faces = preview_view(event.preview)
            how_far = ", ".join(filter(None, (progress_note(event), left.in_words(event))))
            if time.monotonic() - drawn > 0.5:
                drawn = time.monotonic()
                view = training_view(how_far, event.step / event.total, training, faces)
                yield said + view, *(gr.skip(),) * 5
        preset = running.result
        if state.discard_training:
            yield "", *over, gr.skip(), gr.skip()
            return
        state.made = state.saved = key = session.keep(preset)
        preset = session.own[key]
        state.keep_sources(training)
        cards = Cards(preset_items(session.model_id, session.own), key, **PRESETS)
        ended = "Done" if len(training.losses) == training.total else "Stopped early"
        note = f"{ended}: “{preset.name}” is among your presets ({coefficients_in_words(training)})"
        view = training_view(note, 1, training, faces)
        yield matched_note(preset) + view, *over, cards, gr.update(value=str(session.write(preset)), interactive=True)
    except GeneratorExit:  # the page was closed or is loaded anew: what was learned is found again with the visit
        so_far = None if training is None or state.discard_training else learned_so_far(training)
        if so_far is not None:
            session.keep(so_far)
        raise
    except VisitorError as error:
        yield message(error), *over, gr.skip(), gr.skip()
    except Exception:
        yield "", *over, gr.skip(), gr.skip()
        raise
    finally:
        state.trains = False


def compare_prompts(session: Session, source: str, target: str, way: Way, samples: int, steps: int) -> Iterator[str]:
    """A direction from two prompts: views of how far it is; then it is `made`, unless it was discarded. Raises
    VisitorError."""
    state, faces, drawn = session.text_edit, "", 0.0
    state.made = None
    bound, picture = two_prompts(session.model_id, source, target), current_picture(session)
    job = direction_between(*bound, picture, way, samples, steps, lambda: state.stop_training)
    running, left = Running(job), TimeLeft()
    try:
        for event in running:
            if event.preview is not None and len(event.preview) == 2:
                faces = preview_view(event.preview, "with it")
            how_far = f"{event.note} … {left.in_words(event)}"
            if faces or time.monotonic() - drawn > 0.5:
                drawn = time.monotonic()
                yield training_view(how_far, event.step / max(1, event.total), faces=faces)
    except RequestError:
        if not state.discard_training:
            raise
    if state.discard_training:
        return
    state.made = state.saved = key = session.keep(running.result)
    if way.of_picture and picture is not None:
        state.fitted[key] = picture.key[0]
    explained = running.result.measured.get("explained")
    how_much = ""
    if explained is not None and way.of_picture:  # on others a change that is plain to see may be a small part of it
        how_much = f" It explains {max(0.0, explained):.0%} of what the words do."
    note = f"Done: “{session.own[key].name}” is among your presets.{how_much}"
    yield training_view(note, 1, faces=faces)


def matched_note(preset: Preset) -> str:
    """A warning where the pictures hardly follow the words."""
    match = preset.measured.get("s_dir")
    if match is None or match >= LOW_MATCH:
        return ""
    more = "train longer, or with more pictures"
    if preset.method == MEAN.method:  # weak for many words
        more = "take more strength, or a direction fitted to the words, which takes longer and does more"
    elif preset.method in {way.method for way in WAYS.values()}:
        more = "or take more strength: some changes begin late"
    words = (
        f"The pictures hardly change the way the words do: match {match:.2f} of 1. Use words that this model knows, "
        f"{more}."
    )
    return f'<div class="message" role="alert">{words}</div>'


def words_note(session: Session, *texts: str | None) -> str:
    """What is too long, and which of the words the model does not know."""
    return notes(remarks(known_card(session.model_id), *(text for text in texts if text)))


def progress_note(event: Progress) -> str:
    if event.note == "preparing":
        return f"Preparing pictures … {event.step} of {event.total}"
    return f"Step {event.step} of {event.total}"


def training_view(note: str, done: float, training: Any = None, faces: str = "") -> str:
    losses = training.losses if training is not None else []
    chart = loss_curve(losses, training.total, len(training.timesteps)) if len(losses) > 1 else ""
    if chart and done == 1:  # every step of a long training would be too much for every report
        chart += csv_link([["step", "loss"], *([n, loss] for n, loss in enumerate(losses, start=1))], "losses")
    return (
        f'<div class="training"><div class="line" role="status"><span>{escape(note)}</span></div>'
        f'<div class="rail"><i style="width:{100 * done:.0f}%"></i></div>{chart}{faces}</div>'
    )


def preview_view(preview: Tensor, after_words: str = "learned so far") -> str:
    before, after = (data_url(picture, quality=80) for picture in to_pil(preview))
    return (
        f'<div class="faces"><figure><img src="{before}" alt="Before">before</figure>'
        f'<figure><img src="{after}" alt="With it">{after_words}</figure></div>'
    )


def stop_training(session: Session) -> None:
    session.text_edit.stop_training = True


def discard_training(session: Session) -> None:
    """Stop, and keep nothing of it."""
    session.text_edit.stop_training = session.text_edit.discard_training = True


def own_chosen(session: Session, key: str | None) -> tuple[Any, Any]:
    """Values of the row for a preset of the visitor's own, and of the name in it."""
    preset = session.own.get(key or "")
    return gr.update(visible=preset is not None), gr.skip() if preset is None else preset.name


@in_words
def rename_own(session: Session, key: str | None, name: str | None) -> tuple[Any, ...]:
    """Values of the cards, of the file and of the stage."""
    preset, strip = session.rename(key, name or ""), session.text_edit.strip
    shown: Any = gr.skip()
    if strip is not None and strip.source == key:
        strip.preset = preset
        if not strip.missing:  # else what fills it shows the name
            shown = strip_value(strip)
    cards = Cards(preset_items(session.model_id, session.own), key, **PRESETS)
    return cards, gr.update(value=str(session.write(preset)), interactive=True), shown


@in_words
def removal_question(session: Session, key: str | None) -> str:
    """What a visitor is asked before a preset of their own is deleted."""
    key, preset = session.own_preset(key, "deleted")
    mixed = "It also leaves your composition. " if key in session.compose.composition else ""
    return f"Delete “{preset.name}”? {mixed}What was saved as a file stays."


@in_words
def remove_own(session: Session, key: str | None, _question: str = "") -> tuple[Any, ...]:
    """Values of the cards, of the file and of the row. key: None if the visitor has changed their mind."""
    if key is None:
        return (gr.skip(),) * 3
    session.remove(key)
    cards = Cards(preset_items(session.model_id, session.own), None, **PRESETS)
    return cards, gr.update(interactive=False), gr.update(visible=False)

"""Another model than the listed ones: a repository on the Hub or, where the app runs for its user alone, a folder."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from core.errors import ModelUnavailable, VisitorError
from core.models.cards import Embedded
from core.models.known_outputs import verdict_on
from core.models.loader import DiffusionModel, models
from core.models.opening import open_model
from core.progress import Running
from core.studio.first_use import lacks_curves, measure_first
from core.studio.known_models import known_models, takes_prompt
from tabs.notices import inform, warn
from tabs.results import progress_line
from tabs.shell import QUIET, Shell, in_words
from tabs.visit import message, status

PLACEHOLDER = "google/ddpm-ema-cat-256"
ABOUT = (
    "Any unconditional diffusion model in the form of diffusers (UNet2DModel), by its name on the Hub{folders}. It is "
    "downloaded once; nothing in its files is executed. The word for what it shows is used in texts: “smiling cat”."
)

NOT_MEASURED = (
    "Where edits of this model should begin is not known, and cannot be measured: LPIPS is not here and cannot be "
    "downloaded. Edits take the intervals of a typical model; set your own in Advanced."
)
NOT_COMPARED = "Its weights were not compared with published outputs."

Values = Iterator[tuple[Any, ...]]


def choices() -> list[tuple[str, str]]:
    """What the list of models shows."""
    return [(card.title, card.id) for card in known_models()]


def runs_for_its_user() -> bool:
    """Whether the app runs on its user's own machine and answers nobody else: then it may read folders there."""
    if os.environ.get("SPACE_ID") or os.environ.get("GRADIO_SHARE", "").lower() in ("1", "true"):
        return False
    return _is_here(os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_read_folders(request: gr.Request | None) -> bool:
    """Whether whoever asks sits at this machine."""
    client = None if request is None else request.client
    forwarded = request is not None and any(key.lower().startswith("x-forwarded") for key in request.headers)
    return runs_for_its_user() and not forwarded and client is not None and _is_here(client.host)


def build(shell: Shell, chosen: gr.Dropdown) -> None:
    """The fields below the list of models. chosen: that list."""
    folders = runs_for_its_user()
    with gr.Accordion("Another model", open=False, elem_id="another-model"):
        gr.HTML(f'<p class="words">{ABOUT.format(folders=", or a folder of this machine" if folders else "")}</p>')
        with gr.Row():
            name = gr.Textbox(
                label="Hub repository or folder" if folders else "Hub repository",
                placeholder=PLACEHOLDER,
                max_lines=1,
                elem_classes="repository",
            )
            word = gr.Textbox(
                label="What it shows, in a word or two",
                placeholder="cat",
                max_lines=1,
                elem_classes="domain-word",
            )
            button = gr.Button("Open", variant="secondary", min_width=80, elem_classes="open-model")
        status = gr.HTML(elem_classes="opening-status")
    asked, shown = [name, word], [status, chosen, shell.model]
    for trigger in (button.click, name.submit, word.submit):
        trigger(open_another, asked, shown, **QUIET)
    shell.model.change(measure, shell.model, status, **QUIET)


def verdict(model: DiffusionModel) -> tuple[str, str]:
    """Whether a model gives its published outputs: pass, fail or unknown, and in words."""
    found = verdict_on(model.fingerprint)
    return ("unknown", NOT_COMPARED) if found is None else (found.outcome, found.words)


def tell_verdict(model: DiffusionModel) -> None:
    """The same as a notice, where a model was opened that does not come with the app."""
    if isinstance(model.card.source, Embedded):
        return
    outcome, words = verdict(model)
    if outcome == "fail":
        warn(words, seconds=12)
    else:
        inform(words, model.card.title, 6)


@in_words
def open_another(name: str, word: str, request: gr.Request) -> Values:
    """Open a model, and choose it: the line of progress, then the list with the model, and its id."""
    skip = (gr.skip(),) * 2
    local = may_read_folders(request)
    running = Running(open_model(name or "", word or "", folders=local, token=None if local else False))
    try:
        for event in running:
            yield progress_line(event, escape(event.note)), *skip
    except VisitorError as error:
        yield message(error), *skip
        return
    card = running.result
    tell_verdict(models.get(card.id))
    words = f"{card.title} is open: {card.resolution}x{card.resolution}, shows: {card.domain_word}."
    yield status(words), gr.update(choices=choices(), value=card.id), card.id


@in_words
def measure(model_id: str) -> Iterator[str]:
    """Measure what a chosen model needs once, while it can be used already."""
    if takes_prompt(model_id):  # its directions say where they act
        return
    model = models.get(model_id)
    if not lacks_curves(model):
        return
    try:
        for event in measure_first(model):
            yield progress_line(event)
    except ModelUnavailable:
        yield message(ModelUnavailable(NOT_MEASURED))
        return
    yield status("Measured: edits of this model begin and end where its curves say.")

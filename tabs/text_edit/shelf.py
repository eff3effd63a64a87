"""Where directions come from for a model that none come with: what is published on the Hub, the files of the Asyrp
authors, training from words, and Discover."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from core import hub
from core.errors import HubError, VisitorError
from core.intervals import PUBLISHED, PublishedTable
from core.models.cards import Folder, ModelCard
from core.studio import library
from core.studio.known_models import known_card, takes_prompt, usual_prompt
from core.studio.visit.session import Session
from tabs.hub_cards import entry_item, fitting
from tabs.opened_link import fetch_preset
from tabs.shell import QUIET, in_words
from tabs.text_edit.training import PRESETS
from tabs.visit import message, preset_items
from tabs.widgets import Cards

ON_SHELF: dict[str, Any] = {"columns": 1, "title": "Published directions for this model", "nothing": ""}
AUTHORS = "https://github.com/kwonminki/Asyrp_official"
LARGE = 128  # side in pixels from which a network is slow without a GPU
RELEASED_H = (512, 8, 8)  # the h-space that the authors' files are for
# One file of theirs for a model: its name without what all names end in, and its texts.
EXAMPLES = {
    "CelebA-HQ": ("smiling_LC_CelebA_HQ", "face", "smiling face"),
    "LSUN-church": ("church_gothic_LC_church_outdoor", "church", "gothic church"),
    "AFHQ": ("dog_happy_LC_dog", "dog", "happy dog"),
    "METFACES": ("metface_smiling_LC_metfaces", "face", "smiling face"),
}
ENDING = "_t999_ninv40_ngen40_0.pth"

Values = Iterator[tuple[Any, ...]]


def is_empty(model_id: str) -> bool:
    """Whether no directions come with a model."""
    return not library.shipped(model_id)


class Shelf:
    """`take` tells that a published direction was chosen; it is among the visitor's own then."""

    def __init__(self, model_id: str) -> None:
        with gr.Column(visible=is_empty(model_id), elem_id="shelf", elem_classes="section") as self.panel:
            self.note = gr.HTML(elem_id="shelf-note")
            self.cards = Cards([], None, elem_id="shelf-cards", **ON_SHELF)
            self.about = gr.HTML(about(known_card(model_id)), elem_id="shelf-about")
            with gr.Row():
                self.train = gr.Button("Train from words", size="sm", min_width=120, elem_id="shelf-train")
                self.find = gr.Button("Discover", size="sm", min_width=120, elem_id="shelf-discover")

    def connect(self, session: gr.State, model: gr.State, pages: Any, ways: gr.Tabs, picker: Cards) -> Any:
        """pages: the page's tabs. ways: those of the directions. picker: of the directions. Returns the event after
        which there is another direction to show."""
        seen = [self.panel, self.about, self.note, self.cards]
        model.change(arrive, model, seen, **QUIET)
        self.train.click(lambda: gr.Tabs(selected="words"), None, ways, queue=False, **QUIET)
        self.find.click(lambda: gr.Tabs(selected="Discover"), None, pages, queue=False, **QUIET)
        return self.cards.input(take, [session, self.cards], [self.note, picker], **QUIET)


@in_words
def arrive(model_id: str) -> Values:
    """Another model: the panel is for those that no directions come with, and looks at the Hub by itself."""
    if not is_empty(model_id):
        yield gr.update(visible=False), gr.skip(), "", Cards([], None, **ON_SHELF)
        return
    repository = hub.default_repository()
    shown = gr.update(visible=True), about(known_card(model_id))
    looking = f'<p class="words" role="status">Looking for directions in {escape(repository)} on the Hub …</p>'
    yield *shown, looking, Cards([], None, **ON_SHELF)
    try:
        entries, words = tuple(hub.browse(repository).entries), ""
    except VisitorError as error:
        entries = _downloaded(repository)
        words = f'<p class="words">What is published in {escape(repository)}: {escape(error.message)}</p>'
    ours = fitting(entries, model_id)
    if ours:
        words += f'<p class="words">Published in {escape(repository)} on the Hub: choose one to have it here.</p>'
    elif not words:
        words = f'<p class="words">{escape(repository)} on the Hub has no directions for this model yet.</p>'
    yield *shown, words, Cards([entry_item(entry) for entry in ours], None, **ON_SHELF)


def _downloaded(repository: str) -> tuple[hub.Entry, ...]:
    try:
        return tuple(hub.downloaded(repository))
    except HubError:
        return ()


@in_words
def take(session: Session, key: str | None) -> Values:
    """A published direction is downloaded, and is the one that is shown."""
    if not key:
        return
    yield '<p class="words" role="status">Downloading …</p>', gr.skip()
    try:
        fetch_preset(session, key)
    except VisitorError as error:
        yield message(error), gr.skip()
        return
    session.text_edit.made = session.text_edit.saved = key
    yield "", Cards(preset_items(session.model_id, session.own), key, **PRESETS)


def about(card: ModelCard) -> str:
    """The other ways to a direction for a model, with how they work there."""
    if takes_prompt(card.id):
        return f'<ul class="words ways">{"".join(f"<li>{way}</li>" for way in prompted_ways(card))}</ul>'
    large = card.resolution >= LARGE
    trained, found = ": with a GPU in minutes, without one in hours" if large else "", ""
    if large:
        found = " Without a GPU a search in a network of this size takes more than ten minutes."
    ways = [
        f"<b>From words</b>: say what the pictures show ({escape(card.domain_word)}) and what they should show. It is "
        f"trained with CLIP, which is downloaded once{trained}.",
        f"<b>Discover</b> finds directions of a region without words and without training.{found}",
        "<b>A file</b> that you have: “Open a preset file”, below. It has to be made for these weights.",
    ]
    return f'<ul class="words ways">{imported(card)}{"".join(f"<li>{way}</li>" for way in ways)}</ul>'


def prompted_ways(card: ModelCard) -> list[str]:
    """Those of a text-to-image model."""
    return [
        f"<b>From words</b>: what two prompts differ in, “{escape(usual_prompt(card.id))}” and another one, is a "
        "direction for your picture in half a minute, by the model's own reading. It can also be trained.",
        "<b>Discover</b> finds directions of a region, without words and without training; what is found in one "
        "picture works in others.",
        "<b>A file</b> that you have: “Open a preset file”, below. It has to be made for these weights.",
    ]


def imported(card: ModelCard) -> str:
    """The two lines that make a preset file of one of the Asyrp authors', where they have files of such a network."""
    if card.h_shape != RELEASED_H or not isinstance(card.curves, PublishedTable):
        return ""
    trained_on = next((name for name, table in PUBLISHED.items() if table == card.curves), "")
    name, source, target = EXAMPLES.get(trained_on, ("FILE", card.domain_word, f"other {card.domain_word}"))
    out = f"{target.split()[0]}.safetensors"
    command = f"hspace import-asyrp Asyrp_official/checkpoint/{name}{ENDING}".split()
    command += [out, "--model", name_elsewhere(card), "--name", target.capitalize()]
    command += ["--source-text", source, "--target-text", target, "--measure"]
    lines = [f"git clone --depth 1 {AUTHORS}", shell_line(command)]
    return (
        "<li><b>The Asyrp authors’ files</b>, in two lines; then “Open a preset file”, below. “--measure” shows "
        f'whether one works with the weights that are here.<pre tabindex="0">{escape(chr(10).join(lines))}</pre></li>'
    )


def name_elsewhere(card: ModelCard) -> str:
    """By which another process opens a model: the path of a folder, and no word of the visitor's own."""
    return card.source.path if isinstance(card.source, Folder) else card.id.partition(" (")[0]


def shell_line(words: list[str]) -> str:
    """A command as it is typed. Paths and words come from whoever opened the model, and are nothing but words in it."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)

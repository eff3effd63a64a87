"""The section of Compose with directions of the Hub: a repository's list, and adding one of them."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import gradio as gr

from core import hub
from core.errors import HubError, VisitorError
from core.studio.known_models import is_known, known_card
from core.studio.visit.compose import add_preset
from core.studio.visit.session import Session
from tabs.hub_cards import entry_item, fitting
from tabs.opened_link import fetch_preset
from tabs.shell import in_words
from tabs.visit import message
from tabs.widgets import Cards

ON_HUB: dict[str, Any] = {
    "columns": 1,
    "multiple": True,
    "title": "Directions on the Hub",
    "nothing": "Directions that others have published. Look into a repository, and choose one to add it.",
}

Values = Iterator[tuple[Any, ...]]


class HubBrowser:
    """A repository of presets: its list with thumbnails; a click downloads one and adds it."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="seed"):
            self.repository = gr.Textbox(
                hub.default_repository(), label="Repository on the Hub", max_lines=1, elem_id="hub-repository"
            )
            self.look = gr.Button("Look", variant="secondary", min_width=60, elem_id="hub-look")
        self.note = gr.HTML(elem_id="hub-note")
        with gr.Column(elem_classes="scroll"):
            self.cards = Cards([], [], elem_id="hub-cards", **ON_HUB)

    def connect(self, session: gr.State, settings: dict[str, Any]) -> Any:
        """Returns the event after which the composition may be another one."""
        outputs = [self.note, self.cards]
        gr.on([self.look.click, self.repository.submit], browse, [session, self.repository], outputs, **settings)
        return self.cards.release(toggle, session, outputs, **settings)


@in_words
def browse(session: Session, repository: str) -> Values:
    """The presets of a repository; what was downloaded before, if the Hub cannot be reached."""
    repository = hub.repository_id(repository or hub.default_repository())
    yield '<p class="words" role="status">Looking …</p>', gr.skip()
    try:
        listing = hub.browse(repository)
        entries, words = listing.entries, ""
        if listing.left_out:
            count = len(listing.left_out)
            words = f'<p class="words">{count} file{"s" if count > 1 else ""} there cannot be used.</p>'
    except HubError as error:
        entries, words = tuple(hub.downloaded(repository)), message(error)
        if entries:
            words += '<p class="words">These were downloaded before:</p>'
    ours = fitting(entries, session.model_id)
    if others := sorted({entry.about.model for entry in entries if entry not in ours}):
        titles = ", ".join(known_card(one).title if is_known(one) else one for one in others)
        words += f'<p class="words">{len(entries) - len(ours)} more for other models: {escape(titles[:300])}.</p>'
    elif not entries and not words:
        words = '<p class="words">There are no presets in this repository.</p>'
    yield words, Cards([entry_item(entry) for entry in ours], session.compose.composition.keys, **ON_HUB)


@in_words
def toggle(event: gr.EventData, session: Session) -> Values:
    """A card of the Hub: downloaded and added, or taken out again."""
    state, key = session.compose, str(getattr(event, "id", ""))
    if key in state.composition:
        state.change(state.composition.remove(key))
    else:
        yield '<p class="words" role="status">Downloading …</p>', gr.skip()
        try:
            fetch_preset(session, key)
            add_preset(session, key)
        except VisitorError as error:
            yield message(error), gr.skip()
            return
    yield "", gr.update(value=state.composition.keys)

"""The section of Compose by which a composition leaves the visit: as a preset file, as a link, or on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from core import hub
from core.errors import VisitorError
from core.hub.card import KNOWN_LICENCES
from core.imaging import thumbnail
from core.process import Process
from core.progress import Running, finish
from core.studio.compose import applying, link
from core.studio.edit import edit_frames
from core.studio.known_models import model_of
from core.studio.visit.compose import active_presets, available_presets
from core.studio.visit.session import Session
from core.studio.visit.words import words_in_force
from tabs import hub_login
from tabs.compose.choices import options_of
from tabs.compose.widgets import Link
from tabs.results import progress_line
from tabs.shell import in_words
from tabs.visit import current_picture, message

TOKEN = (
    "Your own directions, with a card that shows them, in a repository of yours. The token needs write access; it is "
    "sent to the Hub, and kept nowhere."
)
LOGIN = (
    "Your own directions, with a card that shows them, in a repository of yours. Log in, which lets this app make "
    "repositories for you and write to those, and to no others; or give a token with write access. Neither is kept."
)

NONE_YET = "You have no directions of your own yet: save this composition as a preset, for example"
OWN_REPOSITORY = "directions"  # of whoever has logged in and names none


class Share:
    """Saving, linking and publishing.

    `follow`: the widgets that depend on the composition and on the visitor's own directions.
    """

    def __init__(self) -> None:
        with gr.Row(elem_classes="seed"):
            self.name = gr.Textbox(
                label="Name of the composition", placeholder="Cheerful grandfather", max_lines=1, elem_id="share-name"
            )
            self.save = gr.Button("Save as a preset", variant="primary", elem_id="save-composition")
        self.file = gr.DownloadButton("Download the preset", size="sm", visible=False, elem_id="composition-file")
        self.make_link = gr.Button("Make a link", variant="secondary", elem_id="make-link")
        self.link = Link(elem_id="link")
        self.note = gr.HTML(elem_id="share-note")
        with gr.Accordion("Publish on the Hub", open=False, elem_id="publish") as self.publishing:
            gr.HTML(f'<p class="words">{LOGIN if hub_login.offered() else TOKEN}</p>')
            self.login = hub_login.Login(elem_id="login") if hub_login.offered() else None
            self.chosen = gr.CheckboxGroup([], label=NONE_YET, elem_id="publish-chosen")
            with gr.Row():
                self.repository = gr.Textbox(
                    label="Repository", placeholder="you/directions", max_lines=1, min_width=180, elem_id="publish-to"
                )
                self.token = gr.Textbox(
                    label="Token", type="password", max_lines=1, min_width=180, elem_id="publish-token"
                )
            with gr.Row():
                self.author = gr.Textbox(
                    label="Author",
                    placeholder="As in the presets",
                    max_lines=1,
                    min_width=180,
                    elem_id="publish-author",
                )
                self.licence = gr.Dropdown(
                    sorted(KNOWN_LICENCES), value="mit", label="Licence", min_width=180, elem_id="publish-licence"
                )
            self.publish = gr.Button("Publish", variant="secondary", elem_id="publish-now")
            self.published = gr.HTML(elem_id="publish-note")
        self.follow = [self.chosen, self.file, self.link, self.note]

    def for_composition(self, session: Session) -> tuple[Any, ...]:
        """Values of `follow`: what was saved of another composition is out of date."""
        return to_publish(session), gr.update(visible=False), {}, ""

    def connect(self, session: gr.State, advanced: Sequence[Any], settings: dict[str, Any]) -> Any:
        """Returns the event after which there is another direction of the visitor's own."""
        if self.login is not None:
            gr.on([self.publishing.expand, self.login.release], hub_login.who, None, self.login, **settings)
        self.make_link.click(make_link, [session, *advanced], [self.link, self.note], **settings)
        self.publish.click(
            publish,
            [session, self.chosen, self.repository, self.token, self.author, self.licence],
            self.published,
            **settings,
        ).then(lambda: "", None, self.token, **settings)  # once and at the end: the next one may be typed by then
        saved = [self.file, self.note, self.chosen]
        given = [session, self.name, *advanced]
        return gr.on([self.save.click, self.name.submit], save, given, saved, **settings)


def to_publish(session: Session) -> dict[str, Any]:
    """The choice among the visitor's own directions, of whatever model, without those that came from the Hub."""
    own = [(key, preset) for key, preset in session.own.items() if not link.travels(key)]
    choices = [(p.name if p.model == session.model_id else f"{p.name} ({p.model})", key) for key, p in own]
    return gr.update(choices=choices, label="Your directions" if own else NONE_YET)


@in_words
def save(
    session: Session, name: str | None, process: Process, steps: float, seed: float | None
) -> Iterator[tuple[Any, ...]]:
    """The composition as a preset: a file to take away, and one of the visitor's own from now on. What it does is drawn
    for it if that is still to come."""
    chosen, options = active_presets(session), options_of(session, process, steps, seed)
    name = (" ".join((name or "").split()) or applying.describe_composition(chosen))[:80]
    model = session.model()
    preset = applying.combine(model.card, chosen, name, options)
    change = words_in_force(session)
    result = session.compose.history.latest(session.compose.composition, change)
    if result is not None:
        preset = replace(preset, thumbnail=thumbnail(result.frame.pixels))
    key = session.keep(preset)
    preset = session.own[key]
    without = " The change of words is no part of it." if change else ""
    note = f'<p class="words" role="status">“{escape(preset.name)}” is among your directions now.{without}</p>'
    yield gr.update(value=str(session.write(preset)), visible=True), note, to_publish(session)
    picture = current_picture(session)
    if preset.thumbnail is not None or picture is None:
        return
    try:
        [frame] = finish(edit_frames(model_of(picture), picture, preset, [preset.strength], options))
    except VisitorError:  # the edit that is under way says so
        return
    if key in session.own:  # it may have been renamed meanwhile
        session.own[key] = drawn = replace(session.own[key], thumbnail=thumbnail(frame.pixels))
        yield gr.update(value=str(session.write(drawn))), gr.skip(), gr.skip()


@in_words
def make_link(session: Session, process: Process, steps: float, seed: float | None) -> tuple[Any, ...]:
    options = options_of(session, process, steps, seed)
    composition, shown = session.compose.composition, current_picture(session)
    picture, prompt = link.picture_name(shown), "" if shown is None else shown.conditioning
    token = link.encode(composition, session.model_id, picture, options.step_count, options.seed, process, prompt)
    available = available_presets(session)
    stay = [available[c.key].name for c in composition.components if c.key in available and not link.travels(c.key)]
    notes = []
    if stay:
        notes.append(f"{', '.join(stay)} cannot travel in a link: save the composition as a preset for that.")
    if words_in_force(session):
        notes.append("The change of words cannot travel in a link either.")
    if not picture:
        notes.append("Your own picture stays with you: the link opens with an example.")
    return {"token": token, "note": " ".join(notes)}, ""


@in_words
def publish(
    session: Session,
    keys: list[str],
    repository: str,
    token: str,
    author: str,
    licence: str,
    profile: gr.OAuthProfile | None,
    granted: gr.OAuthToken | None,
) -> Iterator[str]:
    """Upload own directions with the token that was typed, else with what logging in granted."""
    try:
        owned = [
            replace(session.own[key], licence=licence, author=(author or "").strip() or session.own[key].author)
            for key in keys or []
            if key in session.own
        ]
        repository = repository or (f"{profile.username}/{OWN_REPOSITORY}" if profile else "")
        running = Running(hub.publish(owned, repository, token or (granted.token if granted else "")))
        for event in running:
            yield progress_line(event)
        address = escape(running.result.address, quote=True)
        yield f'<p class="words" role="status">Published: <a href="{address}" target="_blank">{address}</a></p>'
    except VisitorError as error:
        yield message(error)

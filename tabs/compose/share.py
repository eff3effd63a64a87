"""The sections of Compose by which directions come and go: the Hub, presets as files, links, publishing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from core import hub, presets
from core.errors import HubError, PresetError, RequestError, VisitorError
from core.hub_card import KNOWN_LICENCES
from core.models.loader import models
from core.studio.compose import applying, link
from core.studio.compose.composition import Composition
from core.studio.visit import compose as changes
from core.studio.visit.session import Session
from tabs import hub_login
from tabs.compose.pictures import options_of
from tabs.compose.widgets import Link
from tabs.results import progress_line
from tabs.shell import in_words
from tabs.visit import current_picture, message
from tabs.widgets import Cards, data_url

ON_HUB: dict[str, Any] = {
    "columns": 1,
    "multiple": True,
    "title": "Directions on the Hub",
    "nothing": "Directions that others have published. Look into a repository, and choose one to add it.",
}

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

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------ the Hub


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
        return self.cards.release(take, [session, self.cards], outputs, **settings)


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
    fitting = [entry for entry in entries if entry.about.model == session.model_id]
    if others := sorted({entry.about.model for entry in entries} - {session.model_id}):
        count = len(entries) - len(fitting)
        words += f'<p class="words">{count} more for other models: {escape(", ".join(others)[:300])}.</p>'
    elif not entries and not words:
        words = '<p class="words">There are no presets in this repository.</p>'
    yield words, Cards([item(entry) for entry in fitting], session.composition.keys, **ON_HUB)


def item(entry: hub.Entry) -> dict[str, Any]:
    """A preset of the Hub as a card."""
    about = entry.about
    picture = about.picture()
    effect = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in list(about.measured.items())[:2])
    note = " · ".join(part for part in (about.model, f"{about.method}, {entry.kind}", effect) if part)
    key = link.hub_key(entry.repository, entry.revision, entry.path)
    image = data_url(picture) if picture else None
    return {"id": key, "name": about.name, "note": note, "image": image, "about": about.description}


@in_words
def take(event: gr.EventData, session: Session, on: list[str] | None) -> Values:
    """A card of the Hub: downloaded and added, or taken out again."""
    key = str(getattr(event, "id", ""))
    if key in session.composition:
        changes.change(session, session.composition.remove(key))
    else:
        yield '<p class="words" role="status">Downloading …</p>', gr.skip()
        try:
            fetch_one(session, key)
            changes.add(session, key)
        except VisitorError as error:
            yield message(error), gr.skip()
            return
    yield "", gr.update(value=session.composition.keys)


def fetch_one(session: Session, key: str) -> None:
    """Have a preset of the Hub among the visit's own; at once if it was downloaded before. Raises VisitorError."""
    place = link.HUB.fullmatch(key)
    if place is None:
        raise RequestError("This direction cannot be added by its name. Open its file instead.")
    if key in session.own:
        return
    repository, revision, path = place["repo"], place["revision"], place["file"]
    if hub.cached(repository, revision, path) is None:
        hub.download(repository, path, revision)
    preset = presets.load(hub.cached(repository, revision, path))
    presets.require_model(preset, models.get(session.model_id))
    session.own[key] = preset


def fetch(session: Session, composition: Composition) -> Composition:
    """A composition of a link with everything that it needs; what cannot be had is left out, with a notice."""
    for component in composition.components:
        try:
            if component.key not in changes.known(session):
                fetch_one(session, component.key)
        except (HubError, PresetError, RequestError) as error:
            gr.Warning(f"“{component.key}” is left out. {error.message}", duration=9, title="The link is incomplete")
            composition = composition.remove(component.key)
    return composition


# ------------------------------------------------------------------------------------------------------ keep and share


class Share:
    """`follow`: the widgets that depend on the composition and on the visitor's own directions."""

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
def save(session: Session, name: str | None, steps: float, seed: float | None) -> tuple[Any, ...]:
    """The composition as a preset: a file to take away, and one of the visitor's own from now on."""
    chosen, options = changes.chosen(session), options_of(steps, seed)
    words = applying.in_words(chosen)
    name = " ".join((name or "").split())[:80] or words[:80]
    model = models.get(session.model_id)
    preset = applying.combine(model.card, chosen, name, options)
    result = session.history.latest(session.composition)
    if result is not None:
        preset = applying.with_thumbnail(preset, result.frame.pixels)
    path = session.write(preset)
    session.keep(preset)
    note = f'<p class="words" role="status">“{escape(name)}” is among your directions now.</p>'
    return gr.update(value=str(path), visible=True), note, to_publish(session)


@in_words
def make_link(session: Session, steps: float, seed: float | None) -> tuple[Any, ...]:
    options = options_of(steps, seed)
    composition, picture = session.composition, link.picture_name(current_picture(session))
    token = link.encode(composition, session.model_id, picture, options.steps, options.seed)
    known = changes.known(session)
    stay = [known[c.key].name for c in composition.components if c.key in known and not link.travels(c.key)]
    notes = []
    if stay:
        notes.append(f"{', '.join(stay)} cannot travel in a link: save the composition as a preset for that.")
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
        for event in hub.publish(owned, repository, token or (granted.token if granted else "")):
            if event.result is None:
                yield progress_line(event)
                continue
            address = escape(event.result.address, quote=True)
            yield f'<p class="words" role="status">Published: <a href="{address}" target="_blank">{address}</a></p>'
    except VisitorError as error:
        yield message(error)

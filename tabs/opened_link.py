"""A visit that begins with a link to a composition."""

from __future__ import annotations

import gradio as gr

from core import hub, presets
from core.errors import HubError, PresetError, RequestError
from core.models.loader import DiffusionModel, models
from core.models.opening import open_model
from core.process import USUAL_STEPS
from core.progress import finish
from core.studio import library
from core.studio.compose import link
from core.studio.compose.composition import Composition
from core.studio.frames import Picture
from core.studio.known_models import bound_model, described, is_known
from core.studio.sample import sample_picture
from core.studio.visit.compose import available_presets
from core.studio.visit.session import Session
from tabs.notices import inform, warn
from tabs.opening import may_read_folders, tell_verdict

INCOMPLETE = "The link is incomplete"


def restore(session: Session, token: str, request: gr.Request | None = None) -> str:
    """Make a link's composition and picture those of the visit. Returns its model's id. Raises VisitorError."""
    restored = link.decode(token)
    model = bound_model(opened(restored.model_id, request))
    session.change_model(model.card.id)
    session.picture = named_picture(model, restored.picture, restored.prompt)
    if restored.picture and session.picture is None:
        warn(f"Its picture “{restored.picture}” is not here: choose one.", INCOMPLETE)
    steps = USUAL_STEPS[restored.process] if restored.steps is None else restored.steps
    session.compose.restored = restored.process, steps, restored.seed
    session.compose.change(fetch(session, restored.composition))
    return model.card.id


def opened(model_id: str, request: gr.Request | None) -> str:
    """The id by which a link's model is known here; one of the Hub is opened as if the visitor had typed its name.
    Raises VisitorError."""
    if is_known(model_id) or "/" not in model_id:
        return model_id
    inform(f"{model_id} is being opened, which takes a while if it has to be downloaded.", "Another model")
    own_login = None if may_read_folders(request) else False
    card = finish(open_model(model_id, folders=False, token=own_login))
    tell_verdict(models.get(card.id))
    return card.id


def named_picture(model: DiffusionModel, name: str, prompt: str = "") -> Picture | None:
    """The picture that a link means: an example, or a sample by its seed; None if it names none that is here. prompt:
    what it shows, of text-to-image models."""
    if name.startswith("seed-"):
        return described(finish(sample_picture(model, int(name.removeprefix("seed-")))), prompt)
    for path in library.examples(model.card.id):
        if path.stem == name:
            return described(library.open_example(path, model.card.id), prompt)
    return None


def fetch(session: Session, composition: Composition) -> Composition:
    """A composition of a link with everything that it needs; what cannot be had is left out, with a notice."""
    for component in composition.components:
        try:
            if component.key not in available_presets(session):
                fetch_preset(session, component.key)
        except (HubError, PresetError, RequestError) as error:
            warn(f"“{component.key}” is left out. {error.message}", INCOMPLETE)
            composition = composition.remove(component.key)
    return composition


def fetch_preset(session: Session, key: str) -> None:
    """Have a preset of the Hub among the visit's own; at once if it was downloaded before. Raises VisitorError."""
    place = link.HUB.fullmatch(key)
    if place is None:
        raise RequestError("This direction cannot be added by its name. Open its file instead.")
    if key in session.own:
        return
    repository, revision, path = place["repo"], place["revision"], place["file"]
    file = hub.cached(repository, revision, path)
    if file is None:
        entry = hub.download(repository, path, revision)
        file = hub.cached(entry.repository, entry.revision, entry.path)
    if file is None:  # somebody has emptied the cache meanwhile
        raise HubError("The downloaded file is gone. Try again.")
    session.own[key] = presets.for_model(presets.load(file), session.model())

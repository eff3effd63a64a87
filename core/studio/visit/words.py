"""A visit's composition together with its change of words, from the picture to the pictures that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...errors import RequestError
from ...inversion.inversion import Inversion
from ...presets import Preset
from ...progress import Job, stage
from ...text_to_image import TextToImage
from ..compose import applying
from ..compose.pictures import Sweep
from ..compose.with_words import METHOD, Cell, apply_with_words, begin_inversion, inversion_in, sweep_with_words
from ..compose.word_change import Axis, WordChange
from ..frames import EditOptions, Frame, Picture
from ..invert.run_methods import run_methods
from ..invert.state import MAX_KEPT
from ..known_models import known_card, model_of
from .session import Session


def words_in_force(session: Session) -> WordChange:
    """The visit's change of words as it is on its picture, which may have another prompt than it was written for."""
    change, picture = session.compose.change_of_words, session.picture
    return change if picture is None else change.on(picture.conditioning)


def inverted(session: Session, picture: Picture) -> Job[tuple[TextToImage, Inversion]]:
    """The picture's inversion and its model; at once if the visit has it, from here or from Invert.

    Raises:
        RequestError: it could not be inverted. ModelUnavailable, ResourceError.
    """
    trial, model = begin_inversion(picture, session.invert.kept)
    if METHOD not in trial.results:
        yield from stage(run_methods(trial, model, [METHOD]), "Inverting the picture, once")
        inversion = inversion_in(trial)
        session.invert.kept = [*(one for one in session.invert.kept if one is not trial), trial][-MAX_KEPT:]
        return model, inversion
    return model, inversion_in(trial)


def composed(
    session: Session,
    picture: Picture,
    chosen: Sequence[tuple[Preset, float]],
    change: WordChange,
    options: EditOptions,
) -> Job[Frame]:
    """Directions at their strengths and a change of words, if there is one. Raises as `inverted`, `apply_with_words`
    and `apply`."""
    if not change:
        if not chosen:
            raise RequestError("There is nothing to apply yet: add a direction, or change the words.")
        columns = [(preset, [c]) for preset, c in chosen]
        [frame] = yield from applying.apply(model_of(picture), picture, columns, options)
        return frame
    model, inversion = yield from inverted(session, picture)
    cell = Cell(tuple(c for _, c in chosen), change)
    [frame] = yield from apply_with_words(model, picture, inversion, [preset for preset, _ in chosen], [cell], options)
    return frame


def swept(
    session: Session,
    picture: Picture,
    chosen: Sequence[tuple[Preset, float]],
    acrosses: Sequence[float],
    axis: Axis | None,
    downs: Sequence[float],
    word: str,
    options: EditOptions,
) -> Job[Sweep]:
    """The first direction's strength against one of the numbers of the visit's change of words, or against that of the
    second direction where there is no axis. Raises as `inverted` and `sweep_with_words`."""
    change = words_in_force(session)
    model, inversion = yield from inverted(session, picture)
    return (
        yield from sweep_with_words(model, picture, inversion, chosen, acrosses, change, axis, downs, word, options)
    )


def what_made_it(
    picture: Picture, chosen: Sequence[tuple[Preset, float]], options: EditOptions, change: WordChange
) -> dict[str, Any]:
    """Everything that a picture of Compose depends on, for its file of numbers."""
    card = known_card(picture.model_id)
    about = applying.what_made_it(card, chosen, options) if chosen else {"model": card.id}
    if picture.conditioning:
        about["prompt"] = picture.conditioning
    return about | ({"words": asdict(change)} if change else {})

"""A visit's composition: what every tab may do to it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from core import studio
from core.composing.applying import heard
from core.composing.composition import Composition
from core.errors import RequestError
from core.exploring.analysis import Analysis
from core.presets import Preset
from core.visit import Picture, Session


def known(session: Session) -> dict[str, Preset]:
    """Every direction that a visit can use with its model, by key: shipped ones, then the visitor's own."""
    own = {key: preset for key, preset in session.own.items() if preset.model == session.model_id}
    return studio.library(session.model_id) | own


def add(session: Session, key: str) -> None:
    """Put a direction into the visit's composition at the strength that it suggests.

    Raises:
        RequestError: there is no such direction for the visit's model, or no room.
    """
    preset = known(session).get(key)
    if preset is None:
        raise RequestError("This direction is not here, or not made for the chosen model. Choose another one.")
    change(session, session.composition.add(key, preset.strength))


def change(session: Session, composition: Composition) -> None:
    """Another composition; the one before can be had again."""
    if composition != session.composition:
        session.history.past.append(session.composition)
        session.composition = composition


def exchange(session: Session, made: Mapping[str, Preset]) -> None:
    """Others in the places of directions of the visit's composition, by key, kept as the visitor's own: one change."""
    composition = session.composition
    for key, preset in made.items():
        composition = composition.exchange(key, session.keep(preset))
    change(session, composition)


def undo(session: Session) -> bool:
    """One step back, if there is one."""
    if not session.history.past:
        return False
    session.composition = session.history.past.pop()
    return True


def chosen(session: Session) -> list[tuple[Preset, float]]:
    """The directions of the visit's composition that count, with their strengths. Raises RequestError."""
    return heard(session.composition, known(session))


def analysed(session: Session, picture: Picture) -> Analysis | None:
    """What this visit's last search of directions knows of a picture, if that is the picture that it looked at."""
    known = session.exploration.analysis if session.exploration else None
    if known is None or known.model.card.id != picture.model_id:
        return None
    return known if torch.equal(known.picture.pixels, picture.pixels) else None

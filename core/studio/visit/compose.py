"""A visit's composition with the directions that it names: what every tab may do to it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ...errors import RequestError
from ...presets import Preset
from .. import library
from ..compose.applying import heard
from ..discover.analysis import Analysis
from ..frames import Picture
from .session import Session


def known(session: Session) -> dict[str, Preset]:
    """Every direction that a visit can use with its model, by key: shipped ones, then the visitor's own."""
    own = {key: preset for key, preset in session.own.items() if preset.model == session.model_id}
    return library.shipped(session.model_id) | own


def add(session: Session, key: str) -> None:
    """Put a direction into the visit's composition at the strength that it suggests.

    Raises:
        RequestError: there is no such direction for the visit's model, or no room.
    """
    preset = known(session).get(key)
    if preset is None:
        raise RequestError("This direction is not here, or not made for the chosen model. Choose another one.")
    session.compose.change(session.compose.composition.add(key, preset.strength))


def exchange(session: Session, made: Mapping[str, Preset]) -> None:
    """Others in the places of directions of the visit's composition, by key, kept as the visitor's own: one change."""
    composition = session.compose.composition
    for key, preset in made.items():
        composition = composition.exchange(key, session.keep(preset))
    session.compose.change(composition)


def chosen(session: Session) -> list[tuple[Preset, float]]:
    """The directions of the visit's composition that count, with their strengths. Raises RequestError."""
    return heard(session.compose.composition, known(session))


def analysed(session: Session, picture: Picture) -> Analysis | None:
    """What this visit's last search of directions knows of a picture, if that is the picture that it looked at."""
    exploration = session.discover.exploration
    found = exploration.analysis if exploration else None
    if found is None or found.model.card.id != picture.model_id:
        return None
    return found if torch.equal(found.picture.pixels, picture.pixels) else None

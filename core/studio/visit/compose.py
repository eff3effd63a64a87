"""A visit's composition together with the presets that its components name: what every tab may do to it."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import RequestError
from ...presets import Preset
from .. import library
from ..compose.applying import resolve
from ..discover.analysis import Analysis
from ..frames import Picture
from .session import Session


def available_presets(session: Session) -> dict[str, Preset]:
    """Every preset that a visit can use with its model, by key: shipped ones, then the visitor's own."""
    own = {key: preset for key, preset in session.own.items() if preset.model == session.model_id}
    return library.shipped(session.model_id) | own


def active_presets(session: Session) -> list[tuple[Preset, float]]:
    """The presets of the composition's active components, with their strengths.

    Raises:
        RequestError: one of them is not available any more.
    """
    return resolve(session.compose.composition, available_presets(session))


def add_preset(session: Session, key: str) -> None:
    """Put a preset into the visit's composition at the strength that it suggests.

    Raises:
        RequestError: there is no such preset for the visit's model, or no room.
    """
    preset = available_presets(session).get(key)
    if preset is None:
        raise RequestError("This direction is not here, or not made for the chosen model. Choose another one.")
    session.compose.change(session.compose.composition.add(key, preset.strength))


def exchange_presets(session: Session, new: Mapping[str, Preset]) -> None:
    """Replace components of the visit's composition, by their keys, with new presets, which become the visitor's own.
    One undo takes all of it back."""
    composition = session.compose.composition
    for key, preset in new.items():
        made = session.keep(preset)
        composition = composition.exchange(key, made)
        session.compose.made.add(made)
    session.compose.change(composition)


def undo(session: Session) -> None:
    """One step back; presets that only this step has made go with it."""
    state = session.compose
    if state.undo():
        wanted = {*state.composition.keys, *(key for past, _ in state.history.past for key in past.keys)}
        for key in state.made - wanted:
            session.own.pop(key, None)
        state.made &= wanted


def analysis_of(session: Session, picture: Picture) -> Analysis | None:
    """The analysis of this visit's last search of directions, if that looked at this picture."""
    exploration = session.discover.exploration
    analysis = exploration.analysis if exploration else None
    if analysis is None or analysis.model.card.id != picture.model_id:
        return None
    return analysis if analysis.picture.key == picture.key else None

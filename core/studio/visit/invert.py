"""A visit's picture in a text-to-image model."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...errors import RequestError
from ...imaging import to_pil, to_pixels
from ...models.t2i_cards import TextToImageCard
from ...photo.warp import cut
from .. import library
from ..frames import Picture
from ..invert.trial import Trial, read_file
from ..known_models import described, known_card
from .session import Session


def pixels_for(session: Session, card: TextToImageCard) -> Tensor:
    """The visit's picture as a text-to-image model sees it: pixels (1, 3, R, R), as sharp as what it came from.

    Raises:
        RequestError: there is none.
    """
    picture, side = session.picture, card.resolution
    if picture is None:
        raise RequestError("There is no picture. Choose an example, upload one, or let the model imagine one.")
    opened = session.invert.opened
    if opened is not None and opened[0] is picture and opened[1].shape[-1] == side:
        return opened[1]
    source: Path | Image.Image
    if picture.pixels.shape[-1] >= side:
        source = to_pil(picture.pixels)[0]
    elif picture.example is not None:
        source = next(path for path in library.examples(picture.model_id) if path.stem == picture.example)
    elif picture.photo is not None and picture.placement is not None:
        return cut(Image.fromarray(picture.photo.numpy()), picture.placement, side)
    else:
        source = to_pil(picture.pixels)[0]
    return to_pixels(source, side)


def source_of(session: Session, card: TextToImageCard, pixels: Tensor) -> Picture:
    """The visit's picture if `pixels` (1, 3, R, R) are how a text-to-image model sees it, else a picture of these."""
    picture = session.picture
    if picture is not None and picture.placement is not None and torch.equal(pixels_for(session, card), pixels.cpu()):
        return picture
    return Picture(pixels, session.model_id)


def last_trial(session: Session, card: TextToImageCard) -> Trial | None:
    """The last trial of the visit's picture in this model, among those that are kept."""
    if session.picture is None:
        return None
    pixels = pixels_for(session, card)
    kept = reversed(session.invert.kept)
    return next((trial for trial in kept if trial.card is card and torch.equal(trial.pixels, pixels)), None)


def open_inversion(session: Session, path: Path | str) -> Trial:
    """A saved inversion in the visit, as if it had just been made; its picture becomes the visit's. Raises as
    `read_file`."""
    trial = read_file(path)
    side = known_card(session.model_id).resolution
    prompt = trial.prompt if trial.card.id == session.model_id else ""
    picture = described(Picture(to_pixels(to_pil(trial.pixels)[0], side), session.model_id), prompt)
    state = session.invert
    state.jobs.begin()
    state.show(trial)
    [state.chosen], state.opened = trial.results, (picture, trial.pixels)
    session.picture, session.upload = picture, None
    return trial

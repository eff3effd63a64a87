"""What optional instruments say of an edited photograph, each fetched when it is first wanted, each with words when it
cannot be had.

None of it is a device job. On ZeroGPU it runs in the main process, on the CPU: one or two pictures through a small
network, when a visitor asks, are not worth the start of a process with a GPU, and take nothing of a visitor's day.
(SFace runs through OpenCV, which has no GPU there.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..captioner import Captioner
from ..errors import VisitorError
from ..imaging import to_pil
from ..models.loader import models
from ..photo import sface, yunet
from ..photo.readouts import ReadOut, read_out
from . import measuring
from .device import DEVICE
from .keeping import Shown
from .known_models import known_card


@dataclass(frozen=True)
class Opinion:
    """identity: cosine of SFace, None where it is not to be had. words: why something is missing."""

    identity: float | None
    read_outs: tuple[ReadOut, ...]
    words: tuple[str, ...]


def opinion(shown: Shown) -> Opinion:
    """Of an edit, by SFace and, where the model has no probe of its own, by its image-text model, which knows less.
    Never an error."""
    words: list[str] = []
    identity: float | None = None
    read: tuple[ReadOut, ...] = ()
    before, after = (np.asarray(to_pil(pixels)[0]) for pixels in (shown.before, shown.edited))
    try:
        identity = sface.load().similarity(before, after, yunet.load())
    except VisitorError as error:
        words.append(error.message)
    try:
        card = known_card(shown.picture.model_id)
        if card.instruments is None:
            image_text = measuring.image_text(card)
            edited = shown.edited if shown.edited.ndim == 4 else shown.edited[None]
            with DEVICE.turn():
                read = tuple(read_out(image_text, shown.before, edited))
    except VisitorError as error:
        words.append(error.message)
    return Opinion(identity, read, tuple(words))


def captioner() -> Captioner:
    """The one that describes photographs. Raises ModelUnavailable."""
    return measuring.captioner(str(models.device))

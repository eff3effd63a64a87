"""Regions that are not drawn: from a mask file, parts by name, and what is at a place of the picture.

The networks run on the CPU of this process, wherever jobs run: a picture is divided once, in milliseconds by a model's
own network and in seconds by those of photographs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from torch import Tensor

from ..cache import Cache, Counted
from ..errors import RequestError
from ..imaging import Source
from ..latents import latent_key
from ..masks import mask_picture, read_mask
from ..memory import MAX_SEGMENTED
from ..models.cards import ModelCard
from ..named_parts import Masks, Place, part_called, smallest_first, with_sides
from ..photo.placement import Placement
from ..photo.warp import cut
from . import measuring
from .known_models import is_known, known_card

# By what the parts of a model's pictures are known: a network of its own, the one of photographed faces, or none.
Knowledge = Literal["own", "faces", "none"]

_SEGMENTED: Cache[Counted[Tensor]] = Cache(MAX_SEGMENTED, "segmented pictures")


def knowledge(model_id: str) -> Knowledge:
    """By what the parts of a model's pictures are known by name."""
    card = _card(model_id)
    if card is None:
        return "none"
    return "own" if card.parts is not None else "faces" if card.framing is not None else "none"


def _card(model_id: str) -> ModelCard | None:
    """None for a model that is not among the app's."""
    return known_card(model_id) if is_known(model_id) else None


def parts_of(model_id: str, pixels: Tensor, by: Knowledge | None = None) -> Masks:
    """The parts that a picture (1, 3, R, R) of a model shows, by name, boolean (R, R), the smallest first; each of two
    eyes stands there as well. None where nothing knows them. by: only if they are known by this.

    Raises:
        ModelUnavailable: the network is not here and cannot be fetched.
    """
    how, card = knowledge(model_id), _card(model_id)
    if how == "none" or card is None or by not in (None, how):
        return {}
    network = measuring.parts(card) if how == "own" else measuring.parts_of_faces()
    return {} if network is None else smallest_first(with_sides(network.found(pixels)))


def part_named(model_id: str, pixels: Tensor) -> Callable[[str], np.ndarray]:
    """What gives a part of a picture by its name, and divides the picture when it is first asked. It raises
    RequestError: there is none of that name; ModelUnavailable."""
    found: list[Masks] = []

    def called(name: str) -> np.ndarray:
        if not found:
            found.append(parts_of(model_id, pixels))
        return part_called(found[0], name)

    return called


def at_place(model_id: str, pixels: Tensor, place: Place) -> tuple[str, np.ndarray]:
    """What is at a place of a picture, with a word for it: a part, where the model has a network of its own for them,
    else whatever has an outline there.

    Raises:
        RequestError: there is nothing. ModelUnavailable: the network is not here and cannot be fetched.
    """
    card = _card(model_id)
    own = None if card is None else measuring.parts(card)
    found = _object_at(pixels, place) if own is None else own.at(pixels, place)
    if found is None:
        raise RequestError("Nothing was found there. Tap another place, or draw the region.")
    return found


def _object_at(pixels: Tensor, place: Place) -> tuple[str, np.ndarray] | None:
    network = measuring.anything()
    key = latent_key(pixels, "segmented", 0)
    kept = _SEGMENTED.get(key)
    if kept is None:
        embedding = network.embedding(pixels)
        kept = Counted(embedding, embedding.numel() * embedding.element_size())
        _SEGMENTED.put(key, kept)
    return network.at(pixels, place, kept.value)


def mask_for(source: Source, resolution: int, placement: Placement | None = None) -> np.ndarray:
    """A mask file for a picture of R x R pixels, boolean (R, R).

    A file of the size of the photograph that the picture was cut out of at `placement` is cut out there as well; any
    other one is resized to the picture.

    Raises:
        ImageError, RequestError: as `core.masks.read_mask`; or it marks nothing of the square.
    """
    mask = read_mask(source)
    if placement is None or mask.shape != (placement.height, placement.width):
        return read_mask(source, (resolution, resolution))
    seen = cut(mask_picture(mask).convert("RGB"), placement, resolution)[0, 0].numpy() > 0
    if not seen.any():
        raise RequestError("This mask is for the whole photo and marks nothing of the square that the model sees.")
    return seen

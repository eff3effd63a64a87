"""A visitor's photograph: looked at for faces, cut to what a model sees, and given back with the edit in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import RequestError, VisitorError
from ..imaging import MAX_PHOTO_SIDE, Crop, Source, full_size, open_picture, to_pil
from ..photo import yunet
from ..photo.faces import BY_HAND, Detector, FoundFaces, found_faces
from ..photo.placement import CELEBA_HQ, Framing, Placement, from_crop, from_json, of_photo
from ..photo.warp import Returning, cut, put_back
from .frames import Picture
from .known_models import described, known_card

FREE = "Move, scale and turn the square to what the model should see."
# What a program can have of an edit, and how the square goes back into the photograph for it.
RETURNED: dict[str, Returning] = {"square": "crop", "photo": "difference", "photo with the whole square": "crop"}


def open_photo(source: Source) -> Image.Image:
    """A photograph as the app works on it: RGB, upright, `MAX_PHOTO_SIDE` at most. Raises ImageError."""
    photo = open_picture(source)
    photo.info.clear()  # the page knows no other pixels than these
    if max(photo.size) > MAX_PHOTO_SIDE:
        photo.thumbnail((MAX_PHOTO_SIDE, MAX_PHOTO_SIDE), Image.Resampling.LANCZOS)
    return photo


def look_for_faces(photo: Image.Image, model_id: str, detector: Detector | None = None) -> FoundFaces:
    """The squares of a photograph's faces for a model, or words that say why there are none: never an error, because
    the visitor can place the square by hand. detector: YuNet, if none is given."""
    framing = known_card(model_id).framing
    if framing is None:
        return FoundFaces(words=FREE)
    try:
        return found_faces(photo, detector or yunet.load(), framing)
    except VisitorError as error:
        return FoundFaces(words=error.message if BY_HAND in error.message else f"{error.message} {BY_HAND}")


def cut_out(photo: Image.Image | Tensor, placement: Placement, model_id: str, prompt: str = "") -> Picture:
    """The part of a photograph (a tensor: uint8 (H, W, 3)) that a model sees, as a picture that knows where it is from.
    prompt: what it shows, of use to a text-to-image model; suggested if left out. Raises ImageError, RequestError."""
    kept = photo if isinstance(photo, Tensor) else torch.from_numpy(np.array(photo.convert("RGB")))
    opened = Image.fromarray(kept.numpy())
    pixels = cut(opened, placement, known_card(model_id).resolution)
    return described(Picture(pixels, model_id, photo=kept, placement=placement), prompt)


def requested_placement(photo: Image.Image, wanted: Any, model_id: str, detector: Detector | None = None) -> Placement:
    """Where a program wants the square, for a model that the app has: see `placed`."""
    return placed(photo, wanted, known_card(model_id).framing, detector)


def placed(photo: Image.Image, wanted: Any, framing: Framing | None, detector: Detector | None = None) -> Placement:
    """Where a program wants the square: "" for the largest one, "face" for the largest face, a `Placement`, or what
    `from_json` reads, in pixels of the upright file. framing: of the model's pictures, where it knows faces.

    Raises:
        RequestError: it is none of these, or there is no face. ImageError: the square does not fit. ModelUnavailable:
            faces cannot be found here.
    """
    if wanted is None or wanted in ("", {}, "square"):
        return of_photo(from_crop(Crop(), *photo.size), photo)
    full = full_size(photo)
    if isinstance(wanted, Placement):
        if (wanted.width, wanted.height) == full:
            return of_photo(wanted.scaled(*photo.size), photo)
        return replace(wanted, width=photo.width, height=photo.height)
    framing = framing or CELEBA_HQ
    if wanted == "face":
        found = found_faces(photo, detector or yunet.load(), framing)
        if not found.placements:
            raise RequestError(
                "No face was found in this photograph. Give two eyes and the mouth, or a square, as the placement."
            )
        return found.placements[0]
    return of_photo(from_json(wanted, *full, framing=framing).scaled(*photo.size), photo)


def returned(
    picture: Picture, edited: Tensor, how: Returning = "difference", before: Tensor | None = None
) -> Image.Image:
    """The photograph of a picture with the edited pixels (3, R, R) in it.

    before: the picture at the resolution of `edited`, if that is not the picture's own.

    Raises:
        RequestError: the picture is not from a photograph. ImageError: see `put_back`.
    """
    if picture.photo is None or picture.placement is None:
        raise RequestError("This picture was not cut out of a photograph, so there is nothing to put it back into.")
    photo = Image.fromarray(picture.photo.numpy())
    return put_back(photo, picture.placement, edited, picture.pixels if before is None else before, how)


def given_back(picture: Picture, edited: Tensor, wanted: str, before: Tensor | None = None) -> Image.Image:
    """What a program gets of an edit (3, R, R): one of `RETURNED`. before: as in `returned`. Raises RequestError,
    ImageError."""
    require_returned(wanted)
    return to_pil(edited)[0] if wanted == "square" else returned(picture, edited, RETURNED[wanted], before)


def require_returned(wanted: object) -> None:
    """Refuses before any work is done. Raises RequestError."""
    if not isinstance(wanted, str) or wanted not in RETURNED:
        raise RequestError(f"There is no {str(wanted)[:60]!r} to return: use {', '.join(RETURNED)}.")


def reduced(picture: Picture, side: int) -> Picture:
    """The same picture, its photograph with `side` pixels at most."""
    if picture.photo is None or picture.placement is None or max(picture.photo.shape[:2]) <= side:
        return picture
    photo = Image.fromarray(picture.photo.numpy())
    photo.thumbnail((side, side), Image.Resampling.LANCZOS)
    placement = picture.placement.scaled(*photo.size)
    return replace(picture, photo=torch.from_numpy(np.array(photo)), placement=placement)

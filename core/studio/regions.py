"""Regions that are not drawn: from a mask file, and parts that a model's own network finds."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..errors import RequestError
from ..imaging import Source
from ..masks import mask_picture, read_mask
from ..photo.placement import Placement
from ..photo.warp import cut
from . import measuring
from .known_models import known_card


def parts_of(model_id: str, pixels: Tensor) -> dict[str, np.ndarray]:
    """The parts that a picture (1, 3, R, R) of a model shows, by name, boolean (R, R), the smallest first; none where
    the model has no network for it. Raises ModelUnavailable."""
    parts = measuring.parts(known_card(model_id))
    found = {} if parts is None else parts.found(pixels)
    return dict(sorted(found.items(), key=lambda item: int(item[1].sum())))


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

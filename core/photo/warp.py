"""Cutting the square that a model sees out of a photograph, and putting an edit back at the photograph's resolution.

Both ways interpolate with cubic splines, which lost least of the methods that were compared on band-limited pictures
(`python -m benchmarks.warping`), and reduce with Lanczos' filter, so that nothing aliases.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from torch import Tensor

from ..errors import ImageError
from .placement import Placement

Returning = Literal["difference", "crop"]

FEATHER = 0.08  # width of the soft edge, as a part of the square's side
BAND = 2_000_000  # pixels that are put back at a time, which limits the memory it takes
BLUR = 0.02  # of what is beyond the photograph, as a part of the side (CelebA-HQ)
PADDING = 0.3  # the way, as a part of the side, along which it fades into one colour (CelebA-HQ)


def cut(photo: Image.Image, placement: Placement, size: int) -> Tensor:
    """What a model sees: pixels (1, 3, size, size), float32 in [-1, 1].

    Beyond its edges the photograph is mirrored, and the mirror image is blurred and fades into its median colour with
    the distance, as CelebA-HQ was made. (There, the blur begins inside the photograph; here what is inside stays as it
    is, because it is put back.)

    photo: RGB, of the placement's width and height.
    """
    _require_size(photo, placement)
    if placement.upright and placement.inside:
        half = placement.side / 2
        box = (placement.x - half, placement.y - half, placement.x + half, placement.y + half)
        box = tuple(float(np.clip(v, 0, top)) for v, top in zip(box, 2 * photo.size, strict=True))  # type: ignore
        seen = np.asarray(photo.resize((size, size), Image.Resampling.LANCZOS, box=box), np.float32)
    else:
        seen = _turned(photo, placement, size)
    return torch.from_numpy(seen / 127.5 - 1).permute(2, 0, 1)[None].float().contiguous()


def put_back(
    photo: Image.Image,
    placement: Placement,
    edited: Tensor,
    before: Tensor | None = None,
    how: Returning = "difference",
    feather: float = FEATHER,
) -> Image.Image:
    """The photograph with an edited square in it, at its own resolution. Outside the square no pixel changes.

    Args:
        photo: RGB, of the placement's width and height.
        placement: where the square was cut out.
        edited: pixels (3, R, R) or (1, 3, R, R) in [-1, 1].
        before: the same square before the edit, as the model saw it. "difference" needs it.
        how: "difference" enlarges what has changed and adds it, which keeps the photograph's own detail, and leaves
            everything as it was where nothing was edited. "crop" enlarges the edited square itself.
        feather: width of the soft edge as a part of the side. There is none where the photograph ends anyway.

    Raises:
        ImageError: the model's picture is made of no numbers, or `before` is missing or of another size.
    """
    _require_size(photo, placement)
    content = _levels(edited)
    if how == "difference":
        if before is None or _levels(before).shape != content.shape:
            raise ImageError("What changed cannot be told without the picture before the edit, of the same size.")
        content = content - _levels(before)
    left, top = np.floor(placement.quad.min(0)).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(placement.quad.max(0)).astype(int), photo.size)
    result = photo.copy()
    band = max(1, BAND // max(1, right - left))
    for first in range(top, bottom, band):
        box = (int(left), int(first), int(right), int(min(first + band, bottom)))
        region = np.asarray(photo.crop(box), np.float32)
        added = _enlarged(content, placement, box)
        if how == "crop":
            added -= region
        changed = region + _weight(placement, box, feather)[..., None] * added
        result.paste(Image.fromarray(np.clip(np.rint(changed), 0, 255).astype(np.uint8)), box[:2])
    return result


def _require_size(photo: Image.Image, placement: Placement) -> None:
    if photo.size != (placement.width, placement.height):
        raise ImageError(
            f"This square was placed on a photograph of {placement.width} x {placement.height} pixels, and this one "
            f"has {photo.width} x {photo.height}. Place it again."
        )


def _levels(pixels: Tensor) -> np.ndarray:
    """(R, R, 3) float32 in [0, 255]. Raises ImageError: not a number."""
    pixels = pixels[0] if pixels.ndim == 4 else pixels
    if not torch.isfinite(pixels).all():
        raise ImageError(
            "The model has made values that are not numbers of this picture, so there is nothing to put back. Use a "
            "smaller strength, or another square."
        )
    return ((pixels.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()


# ---------------------------------------------------------------------------------------------------------------- out


def _turned(photo: Image.Image, placement: Placement, size: int) -> np.ndarray:
    """(size, size, 3) float32: reduced by a whole factor first, turned at about the photograph's resolution, and then
    reduced to the rest, as `dataset_tool.py` does."""
    shrink = max(1, math.floor(placement.side / size * 0.5))
    margin = 4 * shrink
    quad = placement.quad
    wanted = np.concatenate([np.floor(quad.min(0)) - margin, np.ceil(quad.max(0)) + margin]).astype(int)
    inside = np.array([*wanted[:2].clip(0), *np.minimum(wanted[2:], photo.size)])
    first_x, first_y, end_x, end_y = (int(v) for v in inside)
    part = photo.crop((first_x, first_y, end_x, end_y))
    if shrink > 1:
        part = part.reduce(shrink)
    values = np.asarray(part, np.float32)
    pad = [max(0, math.ceil(v / shrink)) for v in (*(inside[:2] - wanted[:2]), *(wanted[2:] - inside[2:]))]
    values = np.pad(values, ((pad[1], pad[3]), (pad[0], pad[2]), (0, 0)), "symmetric")
    origin = inside[:2] - shrink * np.array(pad[:2])  # of `values`, in the photograph

    fine = max(size, math.ceil(placement.side / shrink))
    matrix, offset = placement.matrix(fine)
    sampled = _sample(values, matrix / shrink, (offset - origin) / shrink, (fine, fine))
    if fine != size:
        sampled = _resized(sampled, size)
    return np.clip(_faded(sampled, placement), 0, 255)


def _faded(seen: np.ndarray, placement: Placement) -> np.ndarray:
    """The square with what is beyond the photograph blurred and faded into the median colour."""
    if placement.inside:
        return seen
    size = len(seen)
    matrix, offset = placement.matrix(size)
    at = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), -1) @ matrix.T + offset
    beyond = np.stack([-at[..., 0], -at[..., 1], at[..., 0] - placement.width, at[..., 1] - placement.height], -1)
    padding = np.maximum(beyond.max((0, 1)), PADDING * placement.side)
    mask = (beyond / padding).max(-1)[..., None].astype(np.float32)
    picture = Image.fromarray(np.clip(np.rint(seen), 0, 255).astype(np.uint8))
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(BLUR * size)), np.float32)
    seen = seen + (blurred - seen) * np.clip(3 * mask, 0, 1)
    return seen + (np.median(seen, (0, 1)) - seen) * np.clip(mask, 0, 1)


# --------------------------------------------------------------------------------------------------------------- back


def _enlarged(content: np.ndarray, placement: Placement, box: tuple[int, int, int, int]) -> np.ndarray:
    """(h, w, 3): the square's content (R, R, 3) at the photograph's pixels in a box."""
    if len(content) > placement.side:  # the photograph is coarser than the model
        content = _resized(content, max(1, math.ceil(placement.side)))
    matrix, offset = placement.matrix(len(content))
    back = np.linalg.inv(matrix)
    shift = back @ (np.array(box[:2]) - offset)
    return _sample(content, back, shift, (box[3] - box[1], box[2] - box[0]))


def _weight(placement: Placement, box: tuple[int, int, int, int], feather: float) -> np.ndarray:
    """(h, w): 1 in the square, 0 outside, and between them a smooth step along its edges, but for those at which the
    photograph ends."""
    back = np.linalg.inv(placement.axes) / placement.side
    x, y = np.meshgrid(np.arange(box[0], box[2]) + 0.5, np.arange(box[1], box[3]) + 0.5)
    at = np.stack([x - placement.x, y - placement.y], -1) @ back.T.astype(np.float32) + 0.5
    weight = np.ones(x.shape, np.float32)
    free = _edges_beyond(placement)
    for axis in (0, 1):
        for distance, ends in ((at[..., axis], free[axis][0]), (1 - at[..., axis], free[axis][1])):
            ramp = np.clip(distance / feather, 0, 1)
            weight *= (distance >= 0) if ends or feather <= 0 else ramp * ramp * (3 - 2 * ramp)
    return weight


def _edges_beyond(placement: Placement) -> tuple[tuple[bool, bool], tuple[bool, bool]]:
    """Whether the left and right, upper and lower edge of the square lie all at or beyond an edge of the photograph."""
    upper_left, lower_left, lower_right, upper_right = placement.quad

    def beyond(*ends: np.ndarray) -> bool:
        size = np.array([placement.width, placement.height])
        near = [np.concatenate([end <= 0.5, end >= size - 0.5]) for end in ends]
        return bool(np.logical_and(*near).any())

    return (
        (beyond(upper_left, lower_left), beyond(upper_right, lower_right)),
        (beyond(upper_left, upper_right), beyond(lower_left, lower_right)),
    )


# ----------------------------------------------------------------------------------------------------------- sampling


def _sample(values: np.ndarray, matrix: np.ndarray, offset: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(*shape, 3): `values` (H, W, 3) at matrix @ (x, y) + offset for each pixel's centre, by cubic splines."""
    # From centres of pixels to ndimage's indices, which are centres too and come as (y, x).
    offset = matrix @ np.full(2, 0.5) + offset - 0.5
    matrix, offset = matrix[::-1, ::-1], offset[::-1]
    out = np.empty((*shape, values.shape[-1]), np.float32)
    for channel in range(values.shape[-1]):
        plane = np.ascontiguousarray(values[..., channel], np.float32)
        ndimage.affine_transform(plane, matrix, offset, shape, out[..., channel], order=3, mode="nearest")
    return out


def _resized(values: np.ndarray, size: int) -> np.ndarray:
    """(size, size, C) float32 by Lanczos' filter."""
    planes = [Image.fromarray(np.ascontiguousarray(plane, np.float32)) for plane in np.moveaxis(values, -1, 0)]
    return np.stack([np.asarray(plane.resize((size, size), Image.Resampling.LANCZOS)) for plane in planes], -1)

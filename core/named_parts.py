"""Parts of a picture as masks, by their names and by a place in the picture: what all networks that know any have in
common. A file for each of them: `core/parts.py`, `core/photo/face_parsing.py`, `core/photo/segment_anything.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from scipy import ndimage
from torch import Tensor

from .errors import RequestError

MIN_SHARE = 1 / 2000  # of the picture: a smaller part is not there (`core.regions.MIN_AREA`)
SPECK = 6  # pixels at a network's own resolution: smaller islands of a part are mistakes
# What there are two of, and the word for one. Left and right are those of the picture.
PAIRS = {"Eyes": "eye", "Brows": "brow", "Ears": "ear"}
BACKGROUND = "Background"
MOST = 0.5  # of a part lies in a box that means it

Place = tuple[float, float] | tuple[float, float, float, float]  # a point, or left, top, right, bottom; in fractions
Masks = dict[str, np.ndarray]  # boolean (R, R) by name


class Segmenter(Protocol):
    """A network that divides pictures. pixels: (1, 3, R, R) in [-1, 1]; masks: boolean (R, R)."""

    def found(self, pixels: Tensor) -> Masks:
        """The parts that a picture shows, by name; none where it knows no names."""

    def at(self, pixels: Tensor, place: Place) -> tuple[str, np.ndarray] | None:
        """What is at a place, with a word for it; None: nothing that it knows."""


def masks_of(labels: np.ndarray, names: Sequence[str], resolution: int) -> Masks:
    """The parts of a map of labels (s, s), indices in `names`, at another resolution. Each pixel belongs to one part at
    most: islands of a few pixels, and parts that are no larger, are left out. A name that stands at several indices is
    one part of all of them."""
    pick = ((np.arange(resolution) + 0.5) * len(labels) / resolution).astype(int)
    found: Masks = {}
    for name in dict.fromkeys(names):
        mask = _without_specks(np.isin(labels, [index for index, other in enumerate(names) if other == name]))
        if mask.mean() >= MIN_SHARE:
            found[name] = mask[np.ix_(pick, pick)]
    return found


def with_sides(masks: Mapping[str, np.ndarray]) -> Masks:
    """The parts, and each one of what there are two of: "Left eye" is the one on the left of the picture."""
    made = dict(masks)
    for name, word in PAIRS.items():
        if name in masks:
            sides = _sides(masks[name])
            made |= {f"{side} {word}": mask for side, mask in zip(("Left", "Right"), sides, strict=False)}
    return made


def _sides(mask: np.ndarray) -> list[np.ndarray]:
    """The left and the right half of a pair, split between its two largest islands; nothing where there is but one."""
    islands, count = ndimage.label(mask)
    if count < 2:
        return []
    sizes = np.bincount(islands.ravel())[1:]
    first, second = (int(k) + 1 for k in np.argsort(-sizes, kind="stable")[:2])
    columns = [float(np.nonzero(islands == island)[1].mean()) for island in (first, second)]
    left = np.arange(mask.shape[1])[None] < np.mean(columns)
    halves = [mask & left, mask & ~left]
    return halves if min(half.mean() for half in halves) >= MIN_SHARE else []


def smallest_first(masks: Mapping[str, np.ndarray]) -> Masks:
    """The same in the order in which a place asks for them: an eye before both, and both before the skin."""
    return dict(sorted(masks.items(), key=lambda item: int(item[1].sum())))


def for_reading(masks: Mapping[str, np.ndarray]) -> list[str]:
    """The names in the order in which a list shows them: the largest first, after each pair its two halves, and what is
    around the person last."""
    halves = {f"{side} {word}": name for name, word in PAIRS.items() for side in ("Left", "Right")}

    def place(name: str) -> tuple[bool, int, str, bool, str]:
        whole = halves.get(name, name)
        return whole == BACKGROUND, -int(masks[whole if whole in masks else name].sum()), whole, name in halves, name

    return sorted(masks, key=place)


def part_at(masks: Mapping[str, np.ndarray], place: Place) -> tuple[str, np.ndarray] | None:
    """The smallest part at a point, or the largest one that lies in a box for the most part. None: there is none."""
    ordered = list(smallest_first(masks).items())
    if len(place) == 2:
        return next(
            ((name, mask) for name, mask in ordered if mask[_pixel(mask, place[1]), _pixel(mask, place[0])]), None
        )
    for name, mask in reversed(ordered):
        left, top, right, bottom = (round(side * len(mask)) for side in place)
        if mask[top:bottom, left:right].sum() > MOST * mask.sum():
            return name, mask
    return None


def part_called(masks: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The part of a name, in small or large letters. Raises RequestError: the picture has none of that name."""
    for other, mask in masks.items():
        if other.lower() == " ".join(name.lower().split()):
            return mask
    known = ", ".join(other.lower() for other in masks) or "none that is known"
    raise RequestError(f"This picture has no part “{name[:60]}”. It has: {known}.")


def read_place(value: Any) -> Place:
    """A place from a program's JSON. Raises RequestError: it is none."""
    wrong = RequestError("A place is a point [x, y] or a box [left, top, right, bottom], in fractions of the side.")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) not in (2, 4):
        raise wrong
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in value):
        raise wrong
    if not all(0 <= number <= 1 for number in value):
        raise wrong
    numbers = [float(number) for number in value]
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    left, right = sorted(numbers[::2])
    top, bottom = sorted(numbers[1::2])
    if left == right or top == bottom:
        raise wrong
    return left, top, right, bottom


def _pixel(mask: np.ndarray, share: float) -> int:
    return min(len(mask) - 1, int(share * len(mask)))


def _without_specks(mask: np.ndarray) -> np.ndarray:
    islands, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(islands.ravel())
    kept = sizes >= SPECK
    kept[0] = False
    return kept[islands]

"""Regions of a picture: labelled boxes, brush strokes and masks, from untrusted JSON to boolean masks.

Coordinates are fractions of the picture's side, (0, 0) top left and (1, 1) bottom right: a region means the same at
every resolution. A pixel belongs to a shape that covers its centre. Of one region boxes and painted masks come first;
then its strokes add to them or erase, in their order.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import RequestError
from .masks import from_url, mask_url, resized

MAX_REGIONS = 8
MAX_SHAPES = 64  # boxes, masks and strokes of one region
MAX_POINTS = 4000  # of one region's strokes
MAX_TEXT = 400_000  # characters of JSON
MAX_LABEL = 40
MIN_AREA = 1 / 2000  # of the picture: 8 pixels at 128x128
MAX_AREA = 0.95  # of the picture: something has to be left outside
MAX_WIDTH = 1.0  # of a brush
REST = "rest"

Box = tuple[float, float, float, float]
Named = Callable[[str], np.ndarray]  # a part of the picture by its name, boolean (R, R); raises RequestError


@dataclass(frozen=True)
class Stroke:
    """A round brush of a diameter of `width` along the line through `points`, (x, y) each; one point is a dot.
    erases: it takes away."""

    points: tuple[tuple[float, float], ...]
    width: float
    erases: bool = False


@dataclass(frozen=True, eq=False)
class Region:
    """A labelled part of a picture. mask: boolean (R, R). boxes, strokes, painted: what it was drawn with, clamped;
    painted masks are boolean, of any size."""

    label: str
    mask: np.ndarray
    boxes: tuple[Box, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    painted: tuple[np.ndarray, ...] = ()

    @property
    def area(self) -> float:
        """Share of the picture."""
        return float(self.mask.mean())

    def as_json(self) -> dict[str, Any]:
        """Label and shapes, from which `parse_regions` makes the same region."""
        made: dict[str, Any] = {"label": self.label, "boxes": [list(box) for box in self.boxes]}
        made["strokes"] = [
            {"points": [list(p) for p in one.points], "width": one.width} | ({"erases": True} if one.erases else {})
            for one in self.strokes
        ]
        return made | ({"masks": [mask_url(mask) for mask in self.painted]} if self.painted else {})


# The usual places, as fractions: portraits centred as in CelebA-HQ and in the drawn avatars.
READY_MADE: dict[str, dict[str, Box]] = {
    "face": {
        "Eyes": (0.27, 0.36, 0.73, 0.56),
        "Mouth": (0.33, 0.57, 0.67, 0.82),
        "Hair": (0.12, 0.01, 0.88, 0.3),
        "Whole face": (0.22, 0.2, 0.78, 0.86),
    },
    "church": {
        "Window": (0.4, 0.4, 0.6, 0.65),
        "Tower": (0.35, 0.02, 0.65, 0.4),
        "Ground": (0.0, 0.78, 1.0, 1.0),
    },
    "bedroom": {
        "Bed": (0.2, 0.5, 0.9, 0.95),
        "Wall": (0.1, 0.05, 0.9, 0.4),
        "Floor": (0.0, 0.8, 1.0, 1.0),
    },
}


def ready_made_labels(domain: str) -> list[str]:
    """Labels of the one-click regions of a domain ("face", "church", ...)."""
    return list(READY_MADE.get(domain, {}))


def ready_made_region(domain: str, label: str, resolution: int) -> Region:
    """A one-click region.

    Raises:
        RequestError: the domain has no region of that name.
    """
    boxes = READY_MADE.get(domain, {})
    if label not in boxes:
        raise RequestError(f"There is no ready-made region {label!r}. Choose one of: {', '.join(boxes) or 'none'}.")
    box = boxes[label]
    return Region(label, box_mask(box, resolution), (box,))


def parse_regions(
    source: str | bytes | Sequence[Any] | Mapping[str, Any], resolution: int, named: Named | None = None
) -> list[Region]:
    """Regions from JSON, as text or already decoded; everything is checked, coordinates are clamped.

    `[{"label": "eyes", "boxes": [[left, top, right, bottom]], "strokes": [{"points": [[x, y]], "width": w, "erases":
    false}], "masks": ["data:image/png;base64,..."]}]`, or an object with that list as "regions". A box or a mask may
    be given as "box": [...], "mask": "..." if it is the only one. `{"part": "mouth"}` is a part of the picture, and its
    name the label unless there is another. Regions of one label are one region.

    Args:
        named: gives parts by name; without it no region can be given so.

    Raises:
        RequestError: no regions, too many, too small, too large, or not in this form. What `named` raises.
    """
    items = _read(source)
    if isinstance(items, Mapping):
        items = items.get("regions")
    if not isinstance(items, Sequence) or isinstance(items, str | bytes):
        raise RequestError("Regions must be a list, each with a label and boxes, strokes or masks.")
    if not items:
        raise RequestError("Draw a region first: a box or a brush stroke over what should change.")
    if len(items) > MAX_REGIONS:
        raise RequestError(f"There are {len(items)} regions; up to {MAX_REGIONS} can be used. Remove some.")

    drawn: dict[str, tuple[list[Box], list[Stroke], list[np.ndarray]]] = {}
    for number, item in enumerate(items, start=1):
        label, boxes, strokes, painted = _shapes(item, number, named)
        all_boxes, all_strokes, all_painted = drawn.setdefault(label, ([], [], []))
        all_boxes.extend(boxes)
        all_strokes.extend(strokes)
        all_painted.extend(painted)
    return [_region(label, *shapes, resolution) for label, shapes in drawn.items()]


def region_from_mask(mask: np.ndarray, label: str, resolution: int) -> Region:
    """A region from a painted mask (h, w) of any size: True, or more than half of 1 or of 255, is inside, and of the
    region's pixels those of which more than half of the area is.

    Raises:
        RequestError: it is not a mask, or marks too little or too much.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not mask.size or max(mask.shape) > 8192 or mask.dtype.kind not in "buif":
        raise RequestError("The mask is not a picture with one channel.")
    values = np.nan_to_num(mask.astype(np.float32))
    painted = values > (0.5 if mask.dtype == bool or values.max(initial=0) <= 1 else 127.5)
    return _checked(Region(_label(label, 1), resized(painted, resolution, resolution), painted=(painted,)))


def with_mask(regions: Sequence[Region], mask: np.ndarray | None, label: str, resolution: int) -> list[Region]:
    """Regions with a painted mask (h, w) among them, under a label that is still free; as they are without one.

    Raises:
        RequestError: as `region_from_mask`, or there are too many.
    """
    if mask is None:
        return list(regions)
    if len(regions) >= MAX_REGIONS:
        raise RequestError(f"There are {len(regions)} regions and a mask; up to {MAX_REGIONS} can be used in all.")
    made, taken = region_from_mask(mask, label, resolution), {region.label for region in regions}
    free = (f"{made.label} {n}" if n > 1 else made.label for n in range(1, MAX_REGIONS + 2))
    return [*regions, replace(made, label=next(word for word in free if word not in taken))]


def rest(regions: Iterable[Region]) -> Region | None:
    """Everything outside all the regions, a region of its own; None if nothing is left."""
    outside = ~np.logical_or.reduce([region.mask for region in regions])
    return Region(REST, outside) if outside.any() else None


def union(regions: Sequence[Region]) -> Region | None:
    """All regions as one, without a label; None if there are none or nothing is left outside."""
    if not regions or rest(regions) is None:
        return None
    return Region("", np.logical_or.reduce([region.mask for region in regions]))


def box_mask(box: Box, resolution: int) -> np.ndarray:
    """Boolean (R, R): pixels whose centre lies in [left, right) x [top, bottom)."""
    left, top, right, bottom = box
    centres = (np.arange(resolution) + 0.5) / resolution
    return np.outer((top <= centres) & (centres < bottom), (left <= centres) & (centres < right))


def stroke_mask(stroke: Stroke, resolution: int) -> np.ndarray:
    """Boolean (R, R): pixels whose centre lies within width / 2 of the line."""
    mask = np.zeros((resolution, resolution), bool)
    centres, radius = (np.arange(resolution) + 0.5) / resolution, stroke.width / 2
    points = np.array(stroke.points)
    for (x0, y0), (x1, y1) in zip(points, points[1:] if len(points) > 1 else points, strict=False):
        low = [int(np.searchsorted(centres, min(a, b) - radius)) for a, b in ((x0, x1), (y0, y1))]
        high = [int(np.searchsorted(centres, max(a, b) + radius, "right")) for a, b in ((x0, x1), (y0, y1))]
        X, Y = centres[low[0] : high[0]][None], centres[low[1] : high[1]][:, None]
        dx, dy = x1 - x0, y1 - y0
        along = ((X - x0) * dx + (Y - y0) * dy) / max(dx * dx + dy * dy, 1e-12)
        along = np.clip(along, 0, 1)
        near = (X - x0 - along * dx) ** 2 + (Y - y0 - along * dy) ** 2 <= radius**2
        mask[low[1] : high[1], low[0] : high[0]] |= near
    return mask


# ----------------------------------------------------------------------------------------------- from untrusted JSON


def _read(source: Any) -> Any:
    if not isinstance(source, str | bytes):
        return source
    if len(source) > MAX_TEXT:
        raise RequestError("The regions are too long a text. Draw fewer or shorter strokes.")
    try:
        return json.loads(source)
    except (ValueError, RecursionError) as error:
        raise RequestError("The regions are not valid JSON.") from error


def _shapes(item: Any, number: int, named: Named | None) -> tuple[str, list[Box], list[Stroke], list[np.ndarray]]:
    if not isinstance(item, Mapping):
        raise RequestError(f"Region {number} must have a label and boxes, strokes, masks or a part.")
    part = item.get("part")
    if part is not None and not isinstance(part, str):
        raise RequestError(f"The part of region {number} must be a text: its name.")
    label = _label(item.get("label", part or f"Region {number}"), number)
    boxes = _list(item.get("boxes", []), label, "boxes")
    if item.get("box") is not None:
        boxes = [item["box"], *boxes]
    strokes = _list(item.get("strokes", []), label, "strokes")
    masks = _list(item.get("masks", []), label, "masks")
    if item.get("mask") is not None:
        masks = [item["mask"], *masks]
    if not boxes and not strokes and not masks and part is None:
        raise RequestError(f"“{label}” is empty: draw a box or a brush stroke.")
    if len(boxes) + len(strokes) + len(masks) > MAX_SHAPES:
        raise RequestError(f"“{label}” has more than {MAX_SHAPES} boxes and strokes. Draw fewer.")
    checked = [_stroke(stroke, label) for stroke in strokes]
    if sum(len(stroke.points) for stroke in checked) > MAX_POINTS:
        raise RequestError(f"The strokes of “{label}” have more than {MAX_POINTS} points. Draw shorter ones.")
    painted = [_mask(mask, label) for mask in masks]
    if part is not None:
        if named is None:
            raise RequestError(f"“{label}”: parts are not known by name here. Give boxes, strokes or masks.")
        painted.append(named(part))
    return label, [_box(box, label) for box in boxes], checked, painted


def _region(label: str, boxes: list[Box], strokes: list[Stroke], painted: list[np.ndarray], resolution: int) -> Region:
    mask = np.zeros((resolution, resolution), bool)
    for part in (*(box_mask(box, resolution) for box in boxes), *(resized(m, resolution, resolution) for m in painted)):
        mask |= part
    for stroke in strokes:
        covered = stroke_mask(stroke, resolution)
        mask = mask & ~covered if stroke.erases else mask | covered
    return _checked(Region(label, mask, tuple(boxes), tuple(strokes), tuple(painted)))


def _checked(region: Region) -> Region:
    if region.area < MIN_AREA:
        raise RequestError(f"“{region.label}” is too small: it covers {int(region.mask.sum())} pixels. Draw it larger.")
    if region.area > MAX_AREA:
        raise RequestError(f"“{region.label}” covers the whole picture. Leave something outside it.")
    return region


def _label(value: Any, number: int) -> str:
    if not isinstance(value, str):
        raise RequestError(f"The label of region {number} must be a text.")
    label = " ".join("".join(c if c.isprintable() else " " for c in value[:1000]).split())[:MAX_LABEL].strip()
    return label or f"Region {number}"


def _list(value: Any, label: str, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise RequestError(f"The {what} of “{label}” must be a list.")
    return list(value)


def _numbers(value: Any, count: int, label: str, form: str) -> list[float]:
    wrong = RequestError(f"“{label}” has a shape that is not {form}.")
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or len(value) != count:
        raise wrong
    numbers = []
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise wrong
        try:
            numbers.append(float(number))
        except OverflowError:
            raise wrong from None
    if not all(math.isfinite(number) for number in numbers):
        raise wrong
    return [min(1.0, max(0.0, number)) for number in numbers]


def _box(value: Any, label: str) -> Box:
    if isinstance(value, Mapping):
        value = [value.get(side) for side in ("left", "top", "right", "bottom")]
    x0, y0, x1, y1 = _numbers(value, 4, label, "a box [left, top, right, bottom] of fractions")
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _stroke(value: Any, label: str) -> Stroke:
    if not isinstance(value, Mapping):
        raise RequestError(f"A stroke of “{label}” must have points and a width.")
    points = _list(value.get("points"), label, "points")
    if not points:
        raise RequestError(f"A stroke of “{label}” has no points.")
    if len(points) > MAX_POINTS:
        raise RequestError(f"The strokes of “{label}” have more than {MAX_POINTS} points. Draw shorter ones.")
    (width,) = _numbers([value.get("width")], 1, label, "a stroke with a width between 0 and 1")
    pairs = (_numbers(point, 2, label, "a stroke through points [x, y]") for point in points)
    return Stroke(tuple((x, y) for x, y in pairs), min(width, MAX_WIDTH), value.get("erases") is True)


def _mask(value: Any, label: str) -> np.ndarray:
    if not isinstance(value, str):
        raise RequestError(f"A mask of “{label}” must be a text: a PNG inside a URL.")
    try:
        return from_url(value)
    except RequestError as error:
        raise RequestError(f"“{label}”: {error.message}") from error

"""Where in a photograph the square lies that a model sees, and how CelebA-HQ places it on a face.

Coordinates are continuous: (0, 0) is the photograph's upper left corner and pixel (i, j) covers [j, j+1] x [i, i+1].
x points right, y down. A turn is in degrees, clockwise as seen on the screen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ImageError, RequestError
from ..imaging import Crop, full_size

Point = tuple[float, float]

MIN_SQUARE = 16  # side in pixels; less shows nothing that a model could use
MAX_BEYOND = 2.0  # side as a multiple of the photograph's longer side
FIELDS = ("x", "y", "side", "angle")


@dataclass(frozen=True)
class Framing:
    """How large a model's pictures show a face, and how far down.

    eyes, mouth: half the side is the larger of `eyes` times the distance between the eyes and `mouth` times that from
    their middle to the mouth. down: the centre lies below the eyes by this part of the way to the mouth.
    """

    eyes: float
    mouth: float
    down: float


CELEBA_HQ = Framing(2.0, 1.8, 0.1)


@dataclass(frozen=True)
class Landmarks:
    """The middle of each eye and of the mouth. left_eye: the one further left in the upright face as the viewer sees
    it."""

    left_eye: Point
    right_eye: Point
    mouth: Point


@dataclass(frozen=True)
class Placement:
    """A square in a photograph, centred at (x, y), `side` pixels long and turned by `angle` degrees.

    width, height: of the photograph, in pixels. The square may reach beyond its edges; its centre may not. full: size
    of the photograph's file, where it was reduced when it was read; programs know its pixels.

    Raises:
        ImageError: the centre is outside, or the square is too small or too large.
    """

    x: float
    y: float
    side: float
    angle: float
    width: int
    height: int
    full: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.x, self.y, self.side, self.angle)):
            raise ImageError("The square on the photograph is made of no numbers. Place it again.")
        if not (0 <= self.x <= self.width and 0 <= self.y <= self.height):
            raise ImageError("The middle of the square is outside the photograph. Move it back.")
        largest = MAX_BEYOND * max(self.width, self.height)
        if not MIN_SQUARE <= self.side <= largest:
            raise ImageError(
                f"The square has {self.side:.0f} pixels a side; from {MIN_SQUARE} to {largest:.0f} can be used. Make "
                f"it {'larger' if self.side < MIN_SQUARE else 'smaller'}."
            )

    @property
    def axes(self) -> np.ndarray:
        """(2, 2): columns are the square's right and down as unit vectors of the photograph."""
        turn = math.radians(self.angle)
        return np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])

    @property
    def quad(self) -> np.ndarray:
        """(4, 2): the corners, upper left, lower left, lower right, upper right, as `dataset_tool.py` orders them."""
        corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * self.side / 2
        return np.array([self.x, self.y]) + corners @ self.axes.T

    def matrix(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """(2, 2) and (2,): the photograph's point for a point of the square shown with `size` pixels a side is
        matrix @ point + offset."""
        matrix = self.axes * (self.side / size)
        return matrix, np.array([self.x, self.y]) - matrix @ np.full(2, size / 2)

    @property
    def upright(self) -> bool:
        """Whether it is turned so little that no pixel moves by a hundredth."""
        return abs(math.remainder(self.angle, 360)) * math.pi / 180 * self.side < 0.01

    @property
    def inside(self) -> bool:
        """Whether all of it lies in the photograph."""
        tolerance = 1e-6
        quad = self.quad
        return bool((quad >= -tolerance).all() and (quad <= np.array([self.width, self.height]) + tolerance).all())

    def scaled(self, width: int, height: int) -> Placement:
        """The same square on the same photograph at another size."""
        factor = width / self.width
        x, y, side = self.x * factor, self.y * height / self.height, self.side * factor
        return replace(self, x=x, y=y, side=side, width=width, height=height)

    def as_json(self) -> dict[str, float]:
        """In pixels of the file."""
        told = self if self.full is None else self.scaled(*self.full)
        return {name: round(float(getattr(told, name)), 4) for name in FIELDS}


def align(landmarks: Landmarks, width: int, height: int, framing: Framing = CELEBA_HQ) -> Placement:
    """The square of CelebA-HQ around a face, turned with it (Karras et al. 2018, Appendix C; `dataset_tool.py`).

    With e = right eye - left eye and m = mouth - middle of the eyes: x is e minus the perpendicular of m, scaled to
    max(2.0 |e|, 1.8 |m|); the centre is the middle of the eyes + 0.1 m; the corners are c -x-y, c -x+y, c +x+y, c +x-y,
    y being the perpendicular of x.

    Raises:
        ImageError: the points are one, or the square does not fit the photograph (see `Placement`).
    """
    left, right, mouth = (
        np.array(point, float) for point in (landmarks.left_eye, landmarks.right_eye, landmarks.mouth)
    )
    eyes = (left + right) / 2
    eye_to_eye, eye_to_mouth = right - left, mouth - eyes
    x = eye_to_eye - _perpendicular(eye_to_mouth)
    length = np.hypot(*x)
    if not np.isfinite(length) or length < 1e-6:
        raise ImageError("These three points make no face. Tap one eye, the other eye and the mouth.")
    half = max(framing.eyes * np.hypot(*eye_to_eye), framing.mouth * np.hypot(*eye_to_mouth))
    centre = eyes + framing.down * eye_to_mouth
    return Placement(
        float(centre[0]),
        float(centre[1]),
        float(2 * half),
        math.degrees(math.atan2(x[1], x[0])),
        width,
        height,
    )


def _perpendicular(vector: np.ndarray) -> np.ndarray:
    return np.array([-vector[1], vector[0]])


def from_crop(crop: Crop, width: int, height: int) -> Placement:
    """An upright square as `Crop` describes it."""
    left, top, right, bottom = crop.box(width, height)
    return Placement((left + right) / 2, (top + bottom) / 2, right - left, 0.0, width, height)


def from_json(value: Any, width: int, height: int, framing: Framing = CELEBA_HQ) -> Placement:
    """A placement that a program describes: {"x", "y", "side", "angle"}, or three points as {"left_eye": [x, y],
    "right_eye": [x, y], "mouth": [x, y]}, in pixels of the upright photograph.

    Raises:
        RequestError: it is neither. ImageError: see `Placement`.
    """
    try:
        if isinstance(value, dict) and {"left_eye", "right_eye", "mouth"} <= value.keys():
            points = [(float(x), float(y)) for x, y in (value[key] for key in ("left_eye", "right_eye", "mouth"))]
            return align(Landmarks(*points), width, height, framing)
        if isinstance(value, dict) and {"x", "y", "side"} <= value.keys():
            x, y, side, angle = (float(value.get(key, 0.0)) for key in FIELDS)
            return Placement(x, y, side, angle, width, height)
    except (TypeError, ValueError) as error:
        raise RequestError(_UNKNOWN) from error
    raise RequestError(_UNKNOWN)


def of_photo(placement: Placement, photo: Image.Image) -> Placement:
    """The same square, which knows how large the photograph's file is."""
    full = full_size(photo)
    return placement if full == photo.size else replace(placement, full=full)


_UNKNOWN = (
    'This placement is not understood. Use {"left_eye": [x, y], "right_eye": [x, y], "mouth": [x, y]} or {"x": ..., '
    '"y": ..., "side": ..., "angle": ...}, in pixels.'
)

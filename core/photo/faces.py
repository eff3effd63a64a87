"""Finding the faces of a photograph with any detector: at any size and turn, and words for what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import ImageError
from .placement import CELEBA_HQ, Framing, Landmarks, Placement, Point, align, of_photo

MAX_FACES = 12
VIEW = 1024  # pixels of a view's longer side; detectors find faces of some 10 to 300 pixels
MAX_ASPECT = 2.0  # of a view; a panorama is looked at in parts
MIN_SCORE = 0.7
PROFILE = 0.45  # the eyes are nearer to each other than this part of their way to the mouth

BY_HAND = "Tap the two eyes and the mouth, or place the square yourself."


@dataclass(frozen=True)
class Face:
    """landmarks: in the photograph. score: how sure the detector is, in [0, 1]. points: all that the detector found, if
    it finds five: the eye on the viewer's left, the other eye, the nose, and the corners of the mouth in that order."""

    landmarks: Landmarks
    score: float
    points: tuple[Point, ...] = ()

    @property
    def size(self) -> float:
        """The way from the middle of the eyes to the mouth and that between the eyes, whichever is longer."""
        return max(*self._ways)

    @property
    def profile(self) -> bool:
        """Whether it looks so far aside that the square of a frontal face fits badly."""
        between, down = self._ways
        return between < PROFILE * down

    @property
    def middle(self) -> np.ndarray:
        points = np.array([self.landmarks.left_eye, self.landmarks.right_eye, self.landmarks.mouth], float)
        middle: np.ndarray = points.mean(0)
        return middle

    @property
    def _ways(self) -> tuple[float, float]:
        left, right = np.array(self.landmarks.left_eye), np.array(self.landmarks.right_eye)
        return float(np.hypot(*(right - left))), float(np.hypot(*(np.array(self.landmarks.mouth) - (left + right) / 2)))


# Faces of a picture (H, W, 3), uint8 RGB, that stand roughly upright (within some 45 degrees).
Detector = Callable[[np.ndarray], list[Face]]


@dataclass(frozen=True)
class FoundFaces:
    """placements: the square of each face, largest face first. words: for the visitor."""

    placements: tuple[Placement, ...] = ()
    words: str = BY_HAND


def find_faces(photo: Image.Image, detector: Detector) -> list[Face]:
    """The faces of a photograph, largest first, `MAX_FACES` at most.

    The photograph is reduced to what detectors are made for, a panorama is looked at in overlapping parts, and if no
    face stands upright, it is turned by a quarter, three quarters and a half. Raises what the detector raises.
    """
    for turns in (0, 1, 3, 2):
        turned = photo if not turns else photo.transpose(_TRANSPOSED[turns])
        found: list[Face] = []
        for view, scale, origin in _views(turned):
            for face in detector(view):
                face = _mapped(face, lambda point, s=scale, o=origin: (point[0] / s + o, point[1] / s))  # type: ignore
                face = _mapped(face, lambda point, t=turns: _unturned(point, t, photo.size))  # type: ignore[misc]
                if face.score >= MIN_SCORE and math.isfinite(face.size) and face.size > 0:
                    found.append(face)
        if found:
            return _distinct(found)[:MAX_FACES]
    return []


def found_faces(photo: Image.Image, detector: Detector, framing: Framing = CELEBA_HQ) -> FoundFaces:
    """The squares of a photograph's faces, and words that say what to do. Raises what the detector raises."""
    faces, placements = [], []
    for face in find_faces(photo, detector):
        try:
            placements.append(of_photo(align(face.landmarks, *photo.size, framing=framing), photo))
            faces.append(face)
        except ImageError:  # too small, or its middle outside
            continue
    if not faces:
        return FoundFaces(words=f"No face was found. {BY_HAND}")
    if len(faces) > 1:
        words = f"{len(faces)} faces were found: choose one. Or place the square yourself."
    elif faces[0].profile:
        words = "A face was found that looks aside: check the square, and move or turn it if it does not fit."
    else:
        words = "A face was found, and the square lies as the model knows faces. Move it if you like."
    return FoundFaces(tuple(placements), words)


def _views(photo: Image.Image) -> Iterator[tuple[np.ndarray, float, float]]:
    """Parts of a photograph that together show all of it: pixels, their number per pixel of the photograph, and where
    the part begins, in the photograph's pixels along its width. A tall photograph is one view."""
    width, height = photo.size
    if width <= MAX_ASPECT * height:
        scale = min(1.0, VIEW / max(width, height))
        yield _reduced(photo, scale), scale, 0.0
        return
    scale = min(1.0, VIEW / MAX_ASPECT / height)
    part = round(MAX_ASPECT * height)
    count = math.ceil((width - part) / (part / 2)) + 1
    for first in np.linspace(0, width - part, count).round().astype(int):
        yield _reduced(photo.crop((int(first), 0, int(first) + part, height)), scale), scale, float(first)


def _reduced(photo: Image.Image, scale: float) -> np.ndarray:
    size = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    return np.array(photo if scale == 1 else photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


_TRANSPOSED = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


def _unturned(point: Point, turns: int, size: tuple[int, int]) -> Point:
    """Where a point of the photograph that was turned `turns` quarters to the left lies in it."""
    x, y = point
    width, height = size
    return {0: (x, y), 1: (width - y, x), 2: (width - x, height - y), 3: (y, height - x)}[turns]


def _mapped(face: Face, where: Callable[[Point], Point]) -> Face:
    marks = face.landmarks
    moved = Landmarks(where(marks.left_eye), where(marks.right_eye), where(marks.mouth))
    return Face(moved, face.score, tuple(where(point) for point in face.points))


def _distinct(faces: list[Face]) -> list[Face]:
    """Each face once, though several views show it: the surest of those that lie on one another; largest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(np.hypot(*(face.middle - other.middle)) > 0.6 * max(face.size, other.size) for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: -face.size)

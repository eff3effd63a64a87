"""Photographs with drawn portraits in them, whose landmarks are known from the renderer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from core.photo.faces import Face
from core.photo.placement import Landmarks
from training.portraits import UNITS, Canvas, Portrait, geometry, render, sample

PLAIN = replace(sample(3), tilt=0.0, x=0.0, y=0.0, yaw=0.0, hair_style=0, glasses=0.0, beard=0.0, smile=0.0)


def landmarks_of(portrait: Portrait, side: float) -> Landmarks:
    """Where the renderer draws eyes and mouth in a picture of `side` pixels."""
    g = geometry(portrait)
    points = np.array(
        [
            (g.feature_x - g.eye_x, g.eye_y),
            (g.feature_x + g.eye_x, g.eye_y),
            (g.feature_x + 0.6 * portrait.yaw, g.mouth_y),
        ]
    )
    left, right, mouth = Canvas(portrait, 1.0).place(points, side / UNITS)
    return Landmarks(left, right, mouth)


def backdrop(width: int, height: int) -> Image.Image:
    """A smooth scene to stand before."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    planes = [120 + 60 * np.sin(5 * x + p) * np.cos(4 * y - p) for p in (0.0, 0.9, 2.1)]
    return Image.fromarray(np.stack(planes, -1).round().astype(np.uint8))


def turn_points(landmarks: Landmarks, centre: tuple[float, float], side: float, angle: float) -> Landmarks:
    """Landmarks of a picture of `side` pixels whose middle is put at `centre`, turned clockwise by `angle` degrees."""
    a = np.radians(angle)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    moved = [
        tuple(turn @ (np.array(point) - side / 2) + centre)
        for point in (landmarks.left_eye, landmarks.right_eye, landmarks.mouth)
    ]
    return Landmarks(*moved)  # type: ignore[arg-type]


def pasted(
    photo: Image.Image, portrait: Portrait, centre: tuple[float, float], side: int, angle: float
) -> tuple[Image.Image, Landmarks]:
    """A photograph with a portrait in it, and its landmarks there."""
    return laid(photo, render(portrait, side), landmarks_of(portrait, side), centre, angle)


def laid(
    photo: Image.Image, picture: Image.Image, landmarks: Landmarks, centre: tuple[float, float], angle: float
) -> tuple[Image.Image, Landmarks]:
    """A photograph with a square picture in it, and that one's landmarks there."""
    a, side = np.radians(angle), picture.width
    (c, s), (x, y), h = (np.cos(a), np.sin(a)), centre, side / 2
    inverse = (c, s, h - c * x - s * y, -s, c, h + s * x - c * y)
    layer = picture.convert("RGBA").transform(photo.size, Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC)
    whole = photo.convert("RGBA")
    whole.alpha_composite(layer)
    return whole.convert("RGB"), turn_points(landmarks, centre, side, angle)


ASTRONAUT = Path(__file__).parent / "data" / "astronaut.jpg"
# Read off it by eye, to about a pixel of its 256.
ASTRONAUTS = Landmarks((83.0, 100.8), (126.8, 102.8), (103.9, 141.1))


def with_real_faces(
    size: tuple[int, int], *faces: tuple[float, float, int, float]
) -> tuple[Image.Image, list[Landmarks]]:
    """A photograph with an astronaut's face at (x, y, side, angle)."""
    photo, marks = backdrop(*size), []
    for x, y, side, angle in faces:
        with Image.open(ASTRONAUT) as opened:
            picture = opened.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        points = (ASTRONAUTS.left_eye, ASTRONAUTS.right_eye, ASTRONAUTS.mouth)
        there = Landmarks(*(tuple(np.multiply(point, side / 256)) for point in points))  # type: ignore[arg-type]
        photo, found = laid(photo, picture, there, (x, y), angle)
        marks.append(found)
    return photo, marks


LEFT, RIGHT, MOUTH = (255, 0, 255), (0, 255, 255), (255, 255, 0)  # what the stand-in looks for
MAX_TILT, MIN_EYES, MAX_EYES = 50, 8, 300  # what detectors such as YuNet find


def mark(photo: Image.Image, landmarks: Landmarks) -> Image.Image:
    """Make a face's landmarks visible for the stand-in."""
    draw = ImageDraw.Draw(photo)
    radius = max(2.0, np.hypot(*np.subtract(landmarks.right_eye, landmarks.left_eye)) / 8)
    for (x, y), colour in zip(
        (landmarks.left_eye, landmarks.right_eye, landmarks.mouth), (LEFT, RIGHT, MOUTH), strict=True
    ):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return photo


def stand_in(picture: np.ndarray) -> list[Face]:
    """A detector of marked faces. Like a real one it knows only the pixels it gets, upright faces, and some sizes."""

    def spots(colour: tuple[int, int, int]) -> list[np.ndarray]:
        labels, count = ndimage.label((np.abs(picture.astype(int) - colour) < 60).all(-1))
        sizes = np.bincount(labels.ravel())
        large = [n for n in range(1, count + 1) if sizes[n] >= 6]
        return [np.array(c)[::-1] + 0.5 for c in ndimage.center_of_mass(labels > 0, labels, large)]

    faces = []
    rights, mouths = spots(RIGHT), spots(MOUTH)
    for left in spots(LEFT):
        right = min(rights, key=lambda p: np.hypot(*(p - left)), default=None)
        mouth = min(mouths, key=lambda p: np.hypot(*(p - left)), default=None)
        if right is None or mouth is None:
            continue
        down = mouth - (left + right) / 2
        tilt = np.degrees(np.arctan2(down[0], down[1]))
        if abs(tilt) < MAX_TILT and MIN_EYES <= np.hypot(*down) <= MAX_EYES:
            faces.append(Face(Landmarks(tuple(left), tuple(right), tuple(mouth)), 0.9))
    return faces


def with_faces(size: tuple[int, int], *faces: tuple[float, float, int, float]) -> tuple[Image.Image, list[Landmarks]]:
    """A photograph with marked portraits at (x, y, side, angle)."""
    photo, marks = backdrop(*size), []
    for x, y, side, angle in faces:
        photo, found = pasted(photo, PLAIN, (x, y), side, angle)
        marks.append(found)
    for found in marks:
        mark(photo, found)
    return photo, marks

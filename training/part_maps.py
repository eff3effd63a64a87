"""The renderer's own part maps: which part of a portrait each pixel shows.

The renderer's functions draw each part on a canvas of labels in place of colours, one over the other as in `render`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from training import portraits
from training.dataset import cache_folder, kept
from training.portraits import SKIN, Canvas, Colour, Portrait, along, ellipse, face_outline, geometry, mix, sample

NAMES = ("Background", "Skin", "Hair", "Eyes", "Brows", "Nose", "Mouth", "Beard", "Glasses", "Clothes")
MIN_BEARD = 0.2  # opacity from which a beard is seen


class Labels(Canvas):
    """A canvas that every shape fills with the label of the part that is being drawn, whatever its colour; but what
    has the colour `neck` is skin."""

    def __init__(self, portrait: Portrait, size: int, neck: Colour) -> None:
        super().__init__(portrait, size / portraits.UNITS)
        self.image = Image.new("L", (self.pixels, self.pixels))
        self.draw = ImageDraw.Draw(self.image)
        self.neck = neck
        self.part = "Background"

    def fill(self, points: np.ndarray, colour: Colour) -> None:
        part = "Skin" if colour == self.neck else self.part
        self.draw.polygon(self.place(points), fill=NAMES.index(part))

    def soft(self, shapes: list[np.ndarray], colour: Colour, opacity: float, blur: float, clip=None) -> None:
        mask = Image.new("L", self.image.size)
        for points in shapes:
            ImageDraw.Draw(mask).polygon(self.place(points), fill=255)
        if clip is not None:
            inside = Image.new("L", self.image.size)
            ImageDraw.Draw(inside).polygon(self.place(clip), fill=255)
            mask = ImageChops.multiply(mask, inside)
        self.image.paste(NAMES.index(self.part), mask=mask)


def part_map(portrait: Portrait, size: int = 128) -> np.ndarray:
    """uint8 (size, size): the index in `NAMES` of what each pixel of `render(portrait, size)` shows. An eye is what
    lies between its lids, with the lids."""
    p, g = portrait, geometry(portrait)
    skin = along(SKIN, p.skin * 5)
    shade = mix(skin, (92, 34, 24), 0.24)
    c = Labels(p, 2 * size, mix(shade, (60, 20, 16), 0.1))
    outline, any_colour = face_outline(p, g), (0, 0, 0)

    def draw(part: str, *drawers: Callable[[], None]) -> None:
        c.part = part
        for drawer in drawers:
            drawer()

    draw("Hair", lambda: portraits._back_hair(c, p, g, any_colour))
    draw("Clothes", lambda: portraits._body(c, p, g, shade))
    ears = [ellipse(g.cx + side * (g.width + 0.5) + 0.8 * p.yaw, g.eye_y + 5, 5, 8) for side in (-1, 1)]
    draw("Skin", *(partial(c.fill, shape, any_colour) for shape in (*ears, outline)))
    if p.beard > MIN_BEARD:
        draw("Beard", lambda: portraits._beard(c, p, g, any_colour, outline))
    draw("Nose", lambda: portraits._nose(c, p, g, *(any_colour,) * 4))
    draw("Mouth", lambda: portraits._mouth(c, p, g, skin))
    draw("Eyes", *(lambda s=side: portraits._eye(c, p, g, s, *(any_colour,) * 3) for side in (-1, 1)))
    draw("Hair", lambda: portraits._front_hair(c, p, g, *(any_colour,) * 3))
    draw("Brows", *(lambda s=side: portraits._brow(c, p, g, s, any_colour) for side in (-1, 1)))
    if p.glasses > 0.5:
        draw("Glasses", lambda: portraits._glasses(c, g))
    return np.asarray(c.image)[1::2, 1::2]


def _one(seed: int, size: int) -> np.ndarray:
    return part_map(sample(seed), size)


def load(count: int, first_seed: int = 0, size: int = 128) -> np.ndarray:
    """Part maps of the portraits that `training.dataset.load` gives: uint8 (count, size, size)."""
    sources = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("portraits.py", "part_maps.py"))
    version = hashlib.sha256(sources).hexdigest()[:10]
    path = cache_folder() / f"part_maps-{version}-{size}-{first_seed}-{count}.npz"

    def make(unfinished: Path) -> None:
        with ProcessPoolExecutor() as pool:
            made = list(pool.map(partial(_one, size=size), range(first_seed, first_seed + count), chunksize=50))
        np.savez_compressed(unfinished, maps=np.stack(made))

    with np.load(kept(path, make)) as archive:
        return archive["maps"]

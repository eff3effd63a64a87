"""Procedural portraits: the embedded world whose every attribute is known.

A `Portrait` is a set of parameters, most of them attributes of the papers' experiments (smile, brows, eyes, glasses,
beard, hair, skin, age, ...). `render` draws it with Pillow: all shapes are polygons in "canvas units" (the canvas is
128 x 128 units, whatever the pixel size), drawn at three times the size and reduced. `sample(seed)` is deterministic
and draws the attributes independently of one another, so that what a direction drags along is measurable.

Seeds from `HELD_OUT` on are never used for training.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

HELD_OUT = 1_000_000
UNITS = 128
OVERSAMPLE = 3

Colour = tuple[int, int, int]

SKIN: list[Colour] = [(255, 226, 204), (247, 205, 172), (228, 176, 132), (199, 139, 95), (150, 96, 64), (101, 64, 45)]
HAIR: list[Colour] = [(36, 30, 32), (74, 48, 34), (126, 80, 46), (176, 124, 66), (226, 186, 112), (164, 70, 38)]
HAIR_NAMES = ["black", "dark brown", "brown", "light brown", "blond", "red"]
BACKGROUND: list[Colour] = [
    (190, 213, 235),
    (232, 211, 190),
    (196, 224, 204),
    (222, 206, 234),
    (246, 231, 188),
    (158, 178, 204),
    (120, 134, 156),
    (240, 196, 190),
]
CLOTHES: list[Colour] = [(64, 92, 150), (168, 62, 66), (62, 122, 96), (78, 80, 92), (208, 164, 72), (126, 84, 146)]
IRIS: list[Colour] = [(92, 60, 38), (120, 92, 50), (88, 130, 84), (74, 128, 176)]
HAIR_STYLES = ["short", "long", "curly", "bald"]


@dataclass(frozen=True)
class Portrait:
    """Parameters of one portrait. Ranges in brackets; `sample` draws them independently."""

    # Expression: the attributes that editing should move.
    smile: float = 0.0  # [-1 sad, 1 smiling] curve of the mouth
    mouth_open: float = 0.0  # [0, 1]
    lip_red: float = 0.2  # [0 skin-coloured, 1 red]
    eye_open: float = 0.7  # [0 closed, 1 wide]
    gaze: float = 0.0  # [-1 to the viewer's left, 1 right]
    gaze_y: float = 0.0  # [-1 up, 1 down]
    brow_angle: float = 0.0  # [-1 inner ends up (sad), 1 inner ends down (angry)]
    brow_raise: float = 0.0  # [0, 1] raised brows
    brow_thick: float = 0.5  # [0, 1]
    glasses: float = 0.0  # 0 or 1
    beard: float = 0.0  # [0, 1] 0 none, else the opacity of a full beard
    hair_style: int = 0  # index of HAIR_STYLES
    hair_colour: float = 1.0  # [0, 5] along HAIR
    gray: float = 0.0  # [0, 1] how grey the hair is
    skin: float = 0.3  # [0 pale, 1 dark]
    age: float = 0.0  # [0, 1] wrinkles
    blush: float = 0.0  # [0, 1]
    # Identity: what editing should leave alone.
    face_width: float = 0.5
    face_height: float = 0.5
    jaw: float = 0.5
    nose: float = 0.5
    eye_gap: float = 0.5
    iris: float = 0.0  # [0, 3] along IRIS
    fringe: float = 0.5
    # Scene.
    background: int = 0
    background_dark: float = 0.3
    clothes: int = 0
    collar: int = 0
    x: float = 0.0  # units
    y: float = 0.0  # units
    tilt: float = 0.0  # degrees
    yaw: float = 0.0  # [-1, 1] the features move towards one side of the head


NAMES: list[str] = [f.name for f in fields(Portrait)]


def to_vector(portrait: Portrait) -> np.ndarray:
    """(len(NAMES),) float32, in the order of `NAMES`."""
    return np.array(astuple(portrait), np.float32)


def from_vector(values: np.ndarray) -> Portrait:
    """The inverse of `to_vector`."""
    whole = {f.name for f in fields(Portrait) if f.type == "int"}
    pairs = zip(NAMES, values, strict=True)
    return Portrait(**{name: int(round(float(v))) if name in whole else float(v) for name, v in pairs})


def sample(seed: int) -> Portrait:
    """The portrait of a seed."""
    rng = np.random.default_rng(seed)
    u = rng.random

    def sometimes(probability: float, low: float = 0.0) -> float:
        amount = low + (1 - low) * u()
        return amount if u() < probability else 0.0

    return Portrait(
        smile=2 * u() - 1,
        mouth_open=sometimes(0.5),
        lip_red=u() ** 1.5,
        eye_open=(0.0 if u() < 0.5 else u() * 0.3) if u() < 0.22 else 0.3 + 0.7 * u(),
        gaze=2 * u() - 1,
        gaze_y=(2 * u() - 1) * 0.5,
        brow_angle=2 * u() - 1,
        brow_raise=sometimes(0.5),
        brow_thick=u(),
        glasses=float(u() < 0.25),
        beard=sometimes(0.3, 0.35),
        hair_style=int(rng.choice(4, p=[0.32, 0.28, 0.26, 0.14])),
        hair_colour=u() * 5,
        gray=sometimes(0.35, 0.2),
        skin=u(),
        age=sometimes(0.5),
        blush=sometimes(0.35, 0.2),
        face_width=u(),
        face_height=u(),
        jaw=u(),
        nose=u(),
        eye_gap=u(),
        iris=u() * 3,
        fringe=u(),
        background=int(rng.integers(len(BACKGROUND))),
        background_dark=u(),
        clothes=int(rng.integers(len(CLOTHES))),
        collar=int(rng.integers(2)),
        x=float(np.clip(rng.normal() * 1.5, -4, 4)),
        y=float(np.clip(rng.normal() * 1.5, -4, 4)),
        tilt=float(np.clip(rng.normal() * 3.5, -10, 10)),
        yaw=2 * u() - 1,
    )


def mix(a: Colour, b: Colour, amount: float) -> Colour:
    """Colour between `a` (0) and `b` (1)."""
    return tuple(int(round(p + (q - p) * amount)) for p, q in zip(a, b, strict=True))


def along(stops: list[Colour], position: float) -> Colour:
    """Colour at a position in [0, len(stops) - 1] along a list of stops."""
    i = int(np.clip(position, 0, len(stops) - 1.000001))
    return mix(stops[i], stops[i + 1], min(position - i, 1.0))


def ellipse(cx: float, cy: float, rx: float, ry: float, start: float = 0.0, end: float = 360.0) -> np.ndarray:
    """(48, 2) points of an ellipse or an arc of it, in units; angles in degrees, clockwise from the right."""
    a = np.radians(np.linspace(start, end, 48))
    return np.stack([cx + rx * np.cos(a), cy + ry * np.sin(a)], 1)


def smooth(points: list[tuple[float, float]], per_span: int = 10) -> np.ndarray:
    """(len(points) * per_span, 2) closed Catmull-Rom curve through the points."""
    p = np.array(points, float)
    a, b, c, d = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    t = np.linspace(0, 1, per_span, endpoint=False)[None, :, None]
    a, b, c, d = (v[:, None] for v in (a, b, c, d))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)


def ribbon(centre: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Polygon around a polyline `centre` (n, 2) with half-widths `widths` (n,)."""
    tangent = np.gradient(centre, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    return np.concatenate([centre + normal * widths[:, None], (centre - normal * widths[:, None])[::-1]])


class Canvas:
    """A drawing surface in units, with the head's tilt and position applied to every point."""

    def __init__(self, portrait: Portrait, scale: float) -> None:
        self.scale = scale
        self.pixels = round(UNITS * scale)
        angle = np.radians(portrait.tilt)
        self.rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self.pivot = np.array([64.0, 92.0])
        self.shift = np.array([portrait.x, portrait.y])
        self.image = Image.new("RGB", (self.pixels, self.pixels))
        self.draw = ImageDraw.Draw(self.image)

    def place(self, points: np.ndarray, scale: float | None = None) -> list[tuple[float, float]]:
        moved = (points - self.pivot) @ self.rotation + self.pivot + self.shift
        return [tuple(p) for p in moved * (scale or self.scale)]

    def fill(self, points: np.ndarray, colour: Colour) -> None:
        self.draw.polygon(self.place(points), fill=colour)

    def line(self, points: np.ndarray, colour: Colour, width: float) -> None:
        self.fill(ribbon(points, np.full(len(points), width / 2)), colour)

    def soft(self, shapes: list[np.ndarray], colour: Colour, opacity: float, blur: float, clip=None) -> None:
        """Blend blurred shapes; `blur` in units, inside the polygon `clip` if there is one."""
        if opacity <= 0:
            return
        mask = Image.new("L", (UNITS, UNITS))
        draw = ImageDraw.Draw(mask)
        for points in shapes:
            draw.polygon(self.place(points, 1.0), fill=round(255 * min(opacity, 1.0)))
        mask = mask.filter(ImageFilter.GaussianBlur(blur)).resize(self.image.size, Image.BICUBIC)
        if clip is not None:
            inside = Image.new("L", self.image.size)
            ImageDraw.Draw(inside).polygon(self.place(clip), fill=255)
            mask = ImageChops.multiply(mask, inside)
        self.image.paste(colour, mask=mask)


@dataclass(frozen=True)
class Geometry:
    """Where the parts of a face are, in units before tilt and shift."""

    cx: float
    cy: float
    width: float
    top: float
    chin: float
    feature_x: float
    eye_y: float
    eye_x: float
    brow_y: float
    mouth_y: float


def geometry(p: Portrait) -> Geometry:
    chin = 35 + 4 * p.face_height
    return Geometry(
        cx=64,
        cy=62,
        width=28 + 5 * p.face_width,
        top=35 + 3 * p.face_height,
        chin=chin,
        feature_x=64 + 3.0 * p.yaw,
        eye_y=59,
        eye_x=12.5 + 2.0 * p.eye_gap,
        brow_y=47.5 - 4.0 * p.brow_raise,
        mouth_y=62 + 0.6 * chin,
    )


def face_outline(p: Portrait, g: Geometry) -> np.ndarray:
    a = np.radians(np.linspace(0, 360, 72, endpoint=False))
    down = np.clip(np.sin(a), 0, 1)
    x = g.width * np.cos(a) * (1 + (0.10 - 0.20 * p.jaw) * np.sin(2 * np.arcsin(down)) ** 2 * (down > 0))
    y = np.where(np.sin(a) < 0, g.top, g.chin) * np.sin(a)
    return np.stack([g.cx + x, g.cy + y], 1)


def hair_colour(p: Portrait) -> Colour:
    return mix(along(HAIR, p.hair_colour), (188, 188, 194), p.gray)


def render(portrait: Portrait, size: int = 128) -> Image.Image:
    """Draw a portrait as an RGB picture of `size` x `size` pixels (about 10 ms)."""
    p, g = portrait, geometry(portrait)
    c = Canvas(p, OVERSAMPLE * max(size, UNITS) / UNITS)
    skin = along(SKIN, p.skin * 5)
    shade, light = mix(skin, (92, 34, 24), 0.24), mix(skin, (255, 244, 230), 0.22)
    line = mix(skin, (40, 12, 10), 0.62)
    hair = hair_colour(p)
    hair_dark, hair_light = mix(hair, (12, 8, 14), 0.32), mix(hair, (255, 240, 220), 0.16)
    outline = face_outline(p, g)

    _background(c, p)
    _back_hair(c, p, g, hair_dark)
    _body(c, p, g, shade)
    for side in (-1, 1):
        ear_x = g.cx + side * (g.width + 0.5) + 0.8 * p.yaw
        c.fill(ellipse(ear_x, g.eye_y + 5, 5, 8), mix(skin, shade, 0.45))
        c.fill(ellipse(ear_x, g.eye_y + 5.5, 2.6, 5), shade)
    c.fill(outline, skin)
    c.soft([ellipse(g.cx - 14 * np.sign(p.yaw + 1e-9), g.cy - 4, 15, 26)], light, 0.5, 7, outline)
    c.soft([ellipse(g.cx + g.width * s, g.cy + 16, 7, 30) for s in (-1, 1)], shade, 0.55, 5, outline)
    c.soft([ellipse(g.feature_x + s * 17.5, 75, 8, 5) for s in (-1, 1)], (236, 92, 98), 0.8 * p.blush, 2.2, outline)
    _beard(c, p, g, hair_dark, outline)
    _wrinkles(c, p, g, shade, line)
    _nose(c, p, g, skin, shade, line, light)
    _mouth(c, p, g, skin)
    for side in (-1, 1):
        _eye(c, p, g, side, skin, shade, line)
    _front_hair(c, p, g, hair, hair_dark, hair_light)
    for side in (-1, 1):
        _brow(c, p, g, side, mix(mix(hair, hair_dark, 0.8), (50, 38, 34), 0.25))
    if p.glasses > 0.5:
        _glasses(c, g)
    return c.image.resize((size, size), Image.LANCZOS)


def _background(c: Canvas, p: Portrait) -> None:
    top = BACKGROUND[p.background]
    bottom = mix(top, (40, 46, 66), 0.12 + 0.30 * p.background_dark)
    ramp = np.linspace(0, 1, UNITS)[:, None, None]
    rows = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
    picture = np.broadcast_to(rows, (UNITS, UNITS, 3)).round().astype(np.uint8)
    c.image.paste(Image.fromarray(np.ascontiguousarray(picture)).resize(c.image.size, Image.BILINEAR))


def _back_hair(c: Canvas, p: Portrait, g: Geometry, colour: Colour) -> None:
    style = HAIR_STYLES[p.hair_style]
    w, top = g.width, g.cy - g.top
    if style == "long":
        left = [(g.cx - w - 7, g.cy - 4), (g.cx - w - 10, g.cy + 28), (g.cx - w - 7, g.cy + 50)]
        right = [(2 * g.cx - x, y) for x, y in left[::-1]]
        crown = [(g.cx + w - 2, top + 4), (g.cx, top - 7), (g.cx - w + 2, top + 4)]
        c.fill(smooth([*left, (g.cx - w + 12, g.cy + 56), (g.cx + w - 12, g.cy + 56), *right, *crown]), colour)
    if style == "curly":
        for a in np.radians(np.linspace(135, 405, 15)):
            c.fill(ellipse(g.cx + (w + 4) * np.cos(a), g.cy - 9 + (g.top - 3) * np.sin(a), 12.5, 12.5), colour)


def _body(c: Canvas, p: Portrait, g: Geometry, shade: Colour) -> None:
    cloth = CLOTHES[p.clothes]
    shoulders = [(2, 140), (9, 118), (26, 109), (64, 105), (102, 109), (119, 118), (126, 140), (64, 150)]
    c.fill(smooth(shoulders), cloth)
    neck = np.array([(52, 84), (51, 108), (64, 118), (77, 108), (76, 84)], float)
    if p.collar == 1:
        c.fill(np.array([(46, 106), (64, 128), (82, 106)], float), mix(cloth, (255, 255, 255), 0.75))
    c.fill(smooth([tuple(q) for q in neck]), mix(shade, (60, 20, 16), 0.1))
    if p.collar == 0:
        c.line(ellipse(64, 106.5, 15, 9, 10, 170), mix(cloth, (20, 20, 30), 0.25), 2.4)


def _eye(c: Canvas, p: Portrait, g: Geometry, side: int, skin: Colour, shade: Colour, line: Colour) -> None:
    x0, y0, half = g.feature_x + side * g.eye_x, g.eye_y, 8.2
    up, low = 7.2 * p.eye_open, 4.8 * p.eye_open
    c.soft([ellipse(x0, y0 - 1.0, half + 2.0, 6.5)], shade, 0.45, 1.8)
    x = np.linspace(-1, 1, 25)
    arch = 1 - np.abs(x) ** 2.2
    lid = 2.4 * (1 - p.eye_open) ** 2  # a closed eye's lid line hangs below the middle
    upper = np.stack([x0 + half * x, y0 - (up - lid) * arch], 1)
    lower = np.stack([x0 + half * x, y0 + (low + lid) * arch], 1)
    if p.eye_open > 0.08:
        c.fill(np.concatenate([upper, lower[::-1]]), (250, 249, 246))
        gx, gy, r = x0 + 3.6 * p.gaze, y0 - 0.8 + 2.2 * p.gaze_y, 4.5

        def visible(radius: float, cx: float, cy: float) -> np.ndarray:
            disc = ellipse(cx, cy, radius, radius)
            disc[:, 0] = np.clip(disc[:, 0], x0 - half, x0 + half)
            room = 1 - np.abs((disc[:, 0] - x0) / half) ** 2.2
            disc[:, 1] = np.clip(disc[:, 1], y0 - (up - lid) * room, y0 + (low + lid) * room)
            return disc

        c.fill(visible(r, gx, gy), along(IRIS, p.iris))
        c.fill(visible(2.3, gx, gy), (16, 12, 14))
        if p.eye_open > 0.3:
            c.fill(visible(1.2, gx - 1.5, gy - 1.6), (255, 255, 255))
    c.fill(ribbon(upper, 0.75 + 0.75 * arch), mix(line, (20, 10, 10), 0.5))
    c.line(lower, mix(shade, line, 0.35), 0.7)


def _brow(c: Canvas, p: Portrait, g: Geometry, side: int, colour: Colour) -> None:
    s = np.linspace(-1, 1, 17)  # from the inner to the outer end
    x = g.feature_x + side * (g.eye_x + 0.5 + 9.5 * s)
    slope = 5.2 * p.brow_angle
    y = g.brow_y - slope * s - 2.6 * (1 - s**2) - 0.6 * s
    c.fill(ribbon(np.stack([x, y], 1), (0.9 + 2.3 * p.brow_thick) * (1 - 0.55 * ((s + 1) / 2) ** 2)), colour)


def _nose(c: Canvas, p: Portrait, g: Geometry, skin: Colour, shade: Colour, line: Colour, light: Colour) -> None:
    w, y = 4.2 + 3.0 * p.nose, g.eye_y + 14
    x = g.feature_x + 1.2 * p.yaw
    c.soft(
        [np.array([(x - 1.8, y - 13), (x + 2, y - 13), (x + w, y + 1.5), (x - w, y + 1.5)], float)], shade, 0.55, 1.2
    )
    c.soft([ellipse(x - 0.8, y - 4, 1.2, 6)], light, 0.7, 0.9)
    c.line(ellipse(x, y - 1.2, w, 3.4, 15, 165), mix(shade, line, 0.55), 1.2)


def _mouth(c: Canvas, p: Portrait, g: Geometry, skin: Colour) -> None:
    half, rise = 13.2 + 1.6 * max(p.smile, 0), 7.6 * p.smile
    gap = 6.6 * p.mouth_open
    lip = mix(mix(skin, (170, 74, 74), 0.48), (208, 18, 44), p.lip_red)
    x = np.linspace(-1, 1, 33)
    xs = g.feature_x + 0.6 * p.yaw + half * x
    bow = 1 - x**2
    centre = g.mouth_y + rise * (0.42 - np.abs(x) ** 1.8)  # the corners go up by `rise`
    top, bottom = centre - gap * 0.75 * bow, centre + gap * 1.15 * bow
    upper = top - 3.0 * bow**0.7 * (1 - 0.28 * np.exp(-((x / 0.16) ** 2)))
    lower = bottom + 3.6 * bow**0.8
    c.fill(np.concatenate([np.stack([xs, upper], 1), np.stack([xs, lower], 1)[::-1]]), lip)
    if gap > 0.5:
        inner = np.concatenate([np.stack([xs, top], 1), np.stack([xs, bottom], 1)[::-1]])
        c.fill(inner, (84, 18, 26))
        teeth = np.minimum(top + min(3.0, gap * 0.8) * bow, bottom)
        c.fill(np.concatenate([np.stack([xs, top], 1), np.stack([xs, teeth], 1)[::-1]]), (250, 247, 240))
    else:
        c.line(np.stack([xs, centre], 1), mix(lip, (60, 10, 16), 0.6), 1.2)


def _beard(c: Canvas, p: Portrait, g: Geometry, colour: Colour, outline: np.ndarray) -> None:
    if p.beard <= 0:
        return
    t = np.linspace(0, np.pi, 40)
    outer = np.stack([g.cx + (g.width + 2) * np.cos(t), g.cy + 10 + (g.chin - 8) * np.sin(t)], 1)
    inner_y = g.mouth_y - 9.5 - 2.75 * np.cos(np.linspace(-np.pi, np.pi, 40))
    inner = np.stack([np.linspace(g.cx - g.width + 3, g.cx + g.width - 3, 40), inner_y], 1)
    jaw = (outline - [g.cx, g.cy]) * [1.03, 1.05] + [g.cx, g.cy]
    c.soft([np.concatenate([outer, inner])], mix(colour, (24, 16, 16), 0.2), 0.96 * p.beard, 0.7, jaw)


def _wrinkles(c: Canvas, p: Portrait, g: Geometry, shade: Colour, line: Colour) -> None:
    if p.age <= 0:
        return
    x0 = g.feature_x
    lines = [ellipse(x0, 40.0 + 4.0 * i, 15 - 2 * i, 3.0, 215, 325) for i in range(2)]
    for s in (-1, 1):
        lines.append(ellipse(x0 + s * 8.0, 82, 8.5, 11, *((285, 350) if s > 0 else (190, 255))))
        lines.append(ellipse(x0 + s * g.eye_x, g.eye_y + 3.5, 8.5, 6.0, 25, 155))
    c.soft([ribbon(q, np.full(len(q), 0.75)) for q in lines], mix(shade, line, 0.4), 0.2 + 0.65 * p.age, 0.35)


def _front_hair(c: Canvas, p: Portrait, g: Geometry, hair: Colour, dark: Colour, light: Colour) -> None:
    style = HAIR_STYLES[p.hair_style]
    w, top = g.width, g.cy - g.top
    if style == "bald":
        return
    if style == "curly":
        for a in np.radians(np.linspace(188, 352, 9)):
            x, y = g.cx + (w - 1) * np.cos(a), g.cy - 11 + (g.top - 9) * np.sin(a)
            c.fill(ellipse(x, y, 9.6, 9.0), hair)
            c.line(ellipse(x - 0.5, y - 0.5, 5.5, 5.2, 190, 300), light, 1.3)
        return
    low = 40 - 6 * p.fringe  # the hair line
    part = g.cx - 16 + 12 * p.fringe
    edge = [(g.cx + w + 2.5, g.cy - 2), (g.cx + w - 4, low + 8), (g.cx + 10, low + 1), (part, low - 4)]
    left = [(g.cx - w + 5, low + 7), (g.cx - w - 2.5, g.cy - 2)]
    crown = [
        (g.cx - w - 3, g.cy - 16),
        (g.cx - w + 9, top + 3),
        (g.cx, top - 6),
        (g.cx + w - 9, top + 3),
        (g.cx + w + 3, g.cy - 16),
    ]
    c.fill(smooth([*edge, *left, *crown]), hair)
    c.line(ellipse(g.cx - 2, g.cy - 12, w - 8, g.top - 14, 215, 295), light, 2.2)
    c.line(np.array([(part + 1, low - 3), (part + 3, top + 4)], float), mix(hair, dark, 0.6), 0.9)


def _glasses(c: Canvas, g: Geometry) -> None:
    frame = (34, 34, 42)
    for s in (-1, 1):
        lens = ellipse(g.feature_x + s * g.eye_x, g.eye_y + 0.5, 11.6, 10.4)
        c.line(np.concatenate([lens, lens[1:2]]), frame, 2.4)
        temple = [(g.feature_x + s * (g.eye_x + 11), g.eye_y - 2), (g.cx + s * (g.width + 1), g.eye_y - 3)]
        c.line(np.array(temple, float), frame, 2.2)
    bridge = g.eye_x - 11.2
    c.line(ellipse(g.feature_x, g.eye_y - 0.5, max(bridge, 1.5), 2.6, 180, 360), frame, 2.2)


PARTS = ("eyes", "brows", "mouth", "hair", "skin", "cheeks", "beard", "face")


def part_mask(portrait: Portrait, part: str, size: int = 128) -> np.ndarray:
    """(size, size) boolean mask of the face part that an attribute concerns (see `PARTS`), with a small margin."""
    p, g = portrait, geometry(portrait)
    c = Canvas(p, size / UNITS)
    mask = Image.new("L", (size, size))
    draw = ImageDraw.Draw(mask)
    x, w = g.feature_x, g.width
    face = face_outline(p, g)
    shapes: dict[str, list[np.ndarray]] = {
        "eyes": [ellipse(x + s * g.eye_x, g.eye_y, 13.5, 12.5) for s in (-1, 1)],
        "brows": [ellipse(x + s * g.eye_x, 46.5, 14, 11) for s in (-1, 1)],
        "mouth": [ellipse(x, g.mouth_y + 1, 20, 15)],
        "cheeks": [ellipse(x + s * 17.5, 75, 13, 10) for s in (-1, 1)],
        "face": [face],
        "skin": [face, np.array([(42, 80), (42, 122), (86, 122), (86, 80)], float)]
        + [ellipse(g.cx + s * w, g.eye_y + 5, 8, 11) for s in (-1, 1)],
        "beard": [ellipse(g.cx, g.cy + 20, w + 7, g.chin - 12)],
        "hair": [ellipse(g.cx, g.cy - 6, w + 20, g.top + 16)]
        + [np.array([(g.cx - w - 14, 50), (g.cx - w - 14, 122), (g.cx + w + 14, 122), (g.cx + w + 14, 50)], float)],
    }
    if part not in shapes:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}")
    for points in shapes[part]:
        draw.polygon(c.place(points), fill=255)
    if part == "hair":  # without the inner face, but with the brows, whose colour follows the hair
        inner = ellipse(g.cx, g.cy + 14, w - 7, g.chin - 10)
        draw.polygon(c.place(inner), fill=0)
        for s in (-1, 1):
            draw.polygon(c.place(ellipse(x + s * g.eye_x, 46.5, 14, 9)), fill=255)
    return np.asarray(mask) > 127


def varied(portrait: Portrait, **changes: float) -> Portrait:
    """The same person with some attributes set: the ground truth of an edit."""
    return replace(portrait, **changes)

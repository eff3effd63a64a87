"""The numbers to read off a portrait: its parameters as targets of regression, and where each of them can be seen."""

from __future__ import annotations

import numpy as np

from training.portraits import HAIR_STYLES, NAMES

CONTINUOUS = (
    "smile",
    "mouth_open",
    "lip_red",
    "eye_open",
    "gaze",
    "gaze_y",
    "brow_angle",
    "brow_raise",
    "brow_thick",
    "beard",
    "hair_colour",
    "gray",
    "skin",
    "age",
    "blush",
)
BINARY = ("glasses", "short_hair", "long_hair", "curly_hair", "bald")
STRUCTURE = ("face_width", "face_height", "jaw", "nose", "eye_gap", "iris", "fringe", "x", "y", "tilt", "yaw")
_STYLE_OF = dict(zip(("short_hair", "long_hair", "curly_hair", "bald"), range(len(HAIR_STYLES)), strict=True))


def values(parameters: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Parameters (N, len(NAMES)) -> float32 (N, len(names)): parameters by name, hair styles as 0 or 1."""
    columns = []
    for name in names:
        if name in _STYLE_OF:
            columns.append(parameters[:, NAMES.index("hair_style")].round() == _STYLE_OF[name])
        else:
            columns.append(parameters[:, NAMES.index(name)])
    return np.stack(columns, 1).astype(np.float32)


def visible(parameters: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Boolean (N, len(names)): False where nothing in the picture shows the value (the gaze of closed eyes, ...)."""
    eye_open = parameters[:, NAMES.index("eye_open")]
    style = parameters[:, NAMES.index("hair_style")].round()
    hidden = {
        "gaze": eye_open < 0.15,
        "gaze_y": eye_open < 0.25,
        "iris": eye_open < 0.15,
        "hair_colour": (parameters[:, NAMES.index("gray")] > 0.5) | (style == 3),
        "fringe": style >= 2,
    }
    return np.stack([~hidden.get(name, np.zeros(len(parameters), bool)) for name in names], 1)

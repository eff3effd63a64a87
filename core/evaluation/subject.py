"""A direction that is evaluated: what it is for, and where in a picture it should act."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..discovery.naming import SAYS
from ..instruments import Attribute
from ..parts import Parts
from ..presets import Preset
from ..regions import Region, parse_regions, union

# The part in which an attribute of the embedded probe is seen. Those that are seen in several have none.
SEEN_IN = {
    **dict.fromkeys(("smile", "mouth_open", "lip_red"), "Mouth"),
    **dict.fromkeys(("eye_open", "gaze", "gaze_y"), "Eyes"),
    **dict.fromkeys(("brow_angle", "brow_raise", "brow_thick"), "Brows"),
    **dict.fromkeys(("hair_colour", "gray", "short_hair", "long_hair", "curly_hair", "bald"), "Hair"),
    **dict.fromkeys(("skin", "age", "blush"), "Skin"),
    "beard": "Beard",
    "glasses": "Glasses",
}


@dataclass(frozen=True)
class Subject:
    """A direction with what it is for.

    attribute: the probe's, whose change upwards (sign 1) or downwards (-1) is the direction's own; "": known by its
    texts alone. also: attributes that the words imply, not counted as side effects. part: of the picture, by the
    model's network of parts, outside which nothing should change; "": the preset's region, if it has one. strengths:
    ascending, 0 among them. lacking: only pictures count that lack what it is for.
    """

    preset: Preset
    strengths: tuple[float, ...]
    attribute: str = ""
    sign: int = 1
    also: tuple[str, ...] = ()
    part: str = ""
    lacking: bool = False

    @property
    def main(self) -> int:
        """Which of the strengths is nearest to the suggested one."""
        return int(np.argmin([abs(c - self.preset.unit) for c in self.strengths]))

    @property
    def zero(self) -> int:
        """Which of the strengths is 0."""
        return self.strengths.index(0.0)

    def region(self, resolution: int) -> Region | None:
        """Where the preset was found. Raises RequestError: the file's region cannot be read."""
        return union(parse_regions(self.preset.region, resolution)) if self.preset.region else None


def purpose_of(preset: Preset, known: Mapping[str, Attribute], parts: Parts | None) -> tuple[str, int, str]:
    """The attribute that a preset is for, its sign and its part ("" where nothing says so): by the attribute among its
    measures, or else by its target text."""
    attribute, sign = "", 1
    measured = [name for name in preset.measured if name in known]
    if measured:
        attribute, sign = measured[0], -1 if preset.measured[measured[0]] < 0 else 1
    elif SAYS.get(preset.target_text, ("",))[0] in known:
        attribute, sign = SAYS[preset.target_text]
    part = SEEN_IN.get(attribute, "")
    return attribute, sign, part if parts is not None and part in parts.names and not preset.region else ""


def part_called(name: str, parts: Parts | None) -> str:
    """The network's own name of a part, whatever letters are large; the name as it is where it has none."""
    known = {} if parts is None else {part.lower(): part for part in parts.names}
    return known.get(name.lower(), name)


def with_zero(strengths: Iterable[float]) -> tuple[float, ...]:
    """Ascending, each once, 0 among them."""
    return tuple(sorted({*(float(c) for c in strengths), 0.0}))

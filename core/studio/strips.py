"""One direction on one picture at several strengths: what is there of it, what is missing, and what it was made of."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..presets import Preset
from .domain import Domain
from .edit import strip_strengths, what_made_it
from .frames import EditOptions, Frame, Picture
from .known_models import known_card

MAX_STRIPS = 6  # of one visit

_numbers = itertools.count(1)


@dataclass(eq=False)
class Strip:
    """A preset on a picture. It fills up while it is computed, and goes on where it was when it is asked for again.

    source: the name that the visit has for the preset. strength: the one that is looked at. frames: those that are
    there, in the order of their strengths. seconds: that the first one took. domain: whether the model knows the
    picture, once that was looked at. note: what else to know of it. number: tells strips apart.
    """

    picture: Picture
    source: str
    preset: Preset
    options: EditOptions
    strength: float
    frames: list[Frame] = field(default_factory=list)
    seconds: float = 0.0
    domain: Domain | None = None
    note: str = ""
    number: int = field(default_factory=_numbers.__next__)
    _settings: dict[str, Any] | None = field(default=None, init=False)

    @property
    def key(self) -> tuple[Hashable, ...]:
        """Everything that the pictures depend on."""
        return strip_key(self.picture, self.source, self.preset, self.options)

    @property
    def strengths(self) -> list[float]:
        """Those that are shown side by side."""
        return strip_strengths(self.preset)

    @property
    def missing(self) -> list[float]:
        """Strengths that are not there yet: the one that is looked at alone and first, then all others."""
        if not self.frames:
            return [self.strength]
        there = {frame.strength for frame in self.frames}
        return [strength for strength in self.strengths if strength not in there]

    @property
    def frame(self) -> Frame | None:
        """The picture nearest to the strength that is looked at, if there is any."""
        return min(self.frames, key=lambda frame: abs(frame.strength - self.strength), default=None)

    @property
    def made(self) -> dict[str, Any]:
        """Everything that the pictures depend on beside their strength, for their file of numbers. Worked out once:
        every report of a computation shows it."""
        if self._settings is None:
            self._settings = what_made_it(known_card(self.picture.model_id), self.preset, self.options)
            if self.picture.conditioning:
                self._settings["prompt"] = self.picture.conditioning
        return self._settings | {"direction": self.preset.name}  # which may have been renamed

    def add(self, frames: Sequence[Frame]) -> None:
        """Further pictures; one of a strength that is there already takes its place."""
        new = {frame.strength: frame for frame in [*self.frames, *frames]}
        self.frames[:] = [new[strength] for strength in sorted(new)]

    def within(self, strength: float) -> float:
        """The strength itself, or the end of the preset's range."""
        low, high = self.preset.strength_range
        return round(min(max(float(strength), low), high), 4)


def begin_strip(
    picture: Picture, source: str, preset: Preset, options: EditOptions, strength: float | None = None
) -> Strip:
    """A strip of which nothing is there yet. strength: the first one; None is the one that the preset suggests."""
    strip = Strip(picture, source, preset, options, preset.strength)
    strip.strength = strip.within(preset.strength if strength is None else strength)
    return strip


def strip_key(picture: Picture, source: str, preset: Preset, options: EditOptions) -> tuple[Hashable, ...]:
    """What pictures of a preset depend on. A preset of the visitor's own that was made anew is another one."""
    made = preset.created, preset.strength, preset.strength_range
    return *picture.key, source, made, options

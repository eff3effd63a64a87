"""What a visit has composed: the steps back, and the pictures that came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from core.composing.composition import Composition

if TYPE_CHECKING:  # a visit has a history
    from core.visit import Frame

STEPS_BACK, RESULTS = 60, 24


@dataclass(frozen=True)
class Result:
    """A picture that was made. key: everything it depends on. words: what it is made of. before: pixels (3, R, R)."""

    number: int
    key: Hashable
    composition: Composition
    words: str
    before: Tensor
    frame: Frame
    seconds: float


@dataclass
class History:
    """The last `STEPS_BACK` compositions and the last `RESULTS` pictures of a visit."""

    past: deque[Composition] = field(default_factory=lambda: deque(maxlen=STEPS_BACK))
    results: deque[Result] = field(default_factory=lambda: deque(maxlen=RESULTS))
    made: int = 0

    def keep(
        self, key: Hashable, composition: Composition, words: str, before: Tensor, frame: Frame, seconds: float
    ) -> Result:
        """Remember a picture under the next number."""
        self.made += 1
        self.results.append(Result(self.made, key, composition, words, before, frame, seconds))
        return self.results[-1]

    def find(self, key: Hashable) -> Result | None:
        """The picture that depends on the same things, if it was made before and is still kept."""
        return next((result for result in self.results if result.key == key), None)

    def result(self, number: int) -> Result | None:
        """The picture of that number, if it is still kept."""
        return next((result for result in self.results if result.number == number), None)

    def latest(self, composition: Composition) -> Result | None:
        """The last picture that was made of a composition."""
        return next((result for result in reversed(self.results) if result.composition == composition), None)

"""What a visit has composed: the steps back, and the pictures that came of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from torch import Tensor

from core.composing.composition import Composition

STEPS_BACK, RESULTS = 60, 24


@dataclass(frozen=True)
class Result:
    """A picture that was made: before and after (3, R, R), from which composition, its name in words, its measures."""

    number: int
    composition: Composition
    words: str
    before: Tensor
    after: Tensor
    measures: dict[str, object]


@dataclass
class History:
    """The last `STEPS_BACK` compositions and the last `RESULTS` pictures of a visit."""

    past: deque[Composition] = field(default_factory=lambda: deque(maxlen=STEPS_BACK))
    results: deque[Result] = field(default_factory=lambda: deque(maxlen=RESULTS))
    made: int = 0

    def keep(
        self, composition: Composition, words: str, before: Tensor, after: Tensor, measures: dict[str, object]
    ) -> Result:
        """Remember a picture; the same once more is not kept twice in a row."""
        if self.results:
            last = self.results[-1]
            if last.words == words and last.after.shape == after.shape and bool((last.after == after).all()):
                return last
        self.made += 1
        self.results.append(Result(self.made, composition, words, before, after, measures))
        return self.results[-1]

    def result(self, number: int) -> Result | None:
        """The picture of that number, if it is still kept."""
        return next((result for result in self.results if result.number == number), None)

"""What Compose keeps of a visit: the composition, the steps back, and the pictures that came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import Tensor

from ...process import Process
from ..frames import Frame
from .composition import Composition

MAX_STEPS_BACK, MAX_RESULTS = 60, 24


@dataclass(frozen=True)
class Result:
    """An edited picture. key: everything it depends on. words: the composition in words. before: pixels (3, R, R)."""

    number: int
    key: tuple[Hashable, ...]
    composition: Composition
    words: str
    before: Tensor
    frame: Frame
    seconds: float


@dataclass
class History:
    """The last `MAX_STEPS_BACK` compositions and the last `MAX_RESULTS` pictures of a visit. count: of all pictures."""

    past: deque[Composition] = field(default_factory=lambda: deque(maxlen=MAX_STEPS_BACK))
    results: deque[Result] = field(default_factory=lambda: deque(maxlen=MAX_RESULTS))
    count: int = 0

    def keep(
        self,
        key: tuple[Hashable, ...],
        composition: Composition,
        words: str,
        before: Tensor,
        frame: Frame,
        seconds: float,
    ) -> Result:
        """Remember a picture under the next number."""
        self.count += 1
        self.results.append(Result(self.count, key, composition, words, before, frame, seconds))
        return self.results[-1]

    def find(self, key: tuple[Hashable, ...]) -> Result | None:
        """The picture that depends on the same things, if it was made before and is still kept."""
        return next((result for result in self.results if result.key == key), None)

    def result(self, number: int) -> Result | None:
        """The picture of that number, if it is still kept."""
        return next((result for result in self.results if result.number == number), None)

    def latest(self, composition: Composition) -> Result | None:
        """The last picture that was made of a composition."""
        return next((result for result in reversed(self.results) if result.composition == composition), None)


@dataclass
class ComposeState:
    """restored: process, steps and seed of the link by which the visitor came, until they choose their own. shown: what
    the tab's widgets depend on, once all of it is there."""

    composition: Composition = Composition()
    history: History = field(default_factory=History)
    restored: tuple[Process, int, int] | None = None
    shown: tuple[Hashable, ...] | None = None

    def change(self, composition: Composition) -> None:
        """Another composition; the one before can be had again."""
        if composition != self.composition:
            self.history.past.append(self.composition)
            self.composition = composition

    def undo(self) -> bool:
        """One step back, if there is one."""
        if not self.history.past:
            return False
        self.composition = self.history.past.pop()
        return True

    def open(self, composition: Composition) -> None:
        """Another model: its directions are others, and so are the steps back. What was made stays in the history."""
        self.composition, self.shown = composition, None
        self.history.past.clear()

"""What Compose keeps of a visit: the composition, the steps back, and the results, its own and those of other tabs."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...models.cards import BaseCard
from ...process import Process
from .. import measuring
from ..device import DEVICE
from ..domain import Domain, honest
from ..frames import Frame, IntervalSource, Measures, Picture, in_units
from ..invert.state import InvertedEdit
from ..strips import Strip
from .composition import Composition
from .word_change import NO_CHANGE, WordChange

MAX_STEPS_BACK, MAX_RESULTS = 60, 24
COMPOSE = "Compose"


@dataclass(frozen=True)
class Result:
    """An edited picture. key: everything it depends on. words: what it was made with. before: pixels (3, R, R).

    tab: where it was made. card: of its model. picture: what it was made from. strip: of Text edit, all its strengths.
    inverted: of Invert, the edit by words. domain: whether the model knows the picture.
    made: everything else that it depends on. change: of words, of Compose.
    """

    number: int
    key: tuple[Hashable, ...]
    composition: Composition
    words: str
    before: Tensor
    frame: Frame
    seconds: float
    tab: str = COMPOSE
    card: BaseCard | None = None
    picture: Picture | None = None
    strip: Strip | None = None
    inverted: InvertedEdit | None = None
    domain: Domain | None = None
    made: dict[str, Any] = field(default_factory=dict)
    change: WordChange = NO_CHANGE

    def as_json(self) -> dict[str, Any]:
        """What made it, and what was measured."""
        about = {"number": self.number, "tab": self.tab, "model": None if self.card is None else self.card.id}
        about |= {"made with": self.words, "strength": self.frame.strength, "seconds": round(self.seconds, 2)}
        return about | {"settings": self.made} | self.frame.measures.as_json()


@dataclass
class History:
    """The last `MAX_STEPS_BACK` compositions with their changes of words, and the last `MAX_RESULTS` pictures of a
    visit. count: of all pictures."""

    past: deque[tuple[Composition, WordChange]] = field(default_factory=lambda: deque(maxlen=MAX_STEPS_BACK))
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
        **about: Any,
    ) -> Result:
        """Remember a picture under the next number. about: the further fields of a `Result`."""
        self.count += 1
        self.results.append(Result(self.count, key, composition, words, before, frame, seconds, **about))
        return self.results[-1]

    def keep_strip(self, strip: Strip, tab: str, card: BaseCard) -> Result | None:
        """Remember the picture of a strip that is looked at; another strength of the same strip takes its place."""
        frame = strip.frame
        if frame is None:
            return None
        words = f"{strip.preset.name} {in_units(frame.strength, strip.preset.strength)}"
        words = ", ".join([words, *strip.options.in_words()])
        about = {"tab": tab, "card": card, "picture": strip.picture, "strip": strip, "domain": strip.domain}
        about["made"] = strip.made
        for place, result in enumerate(self.results):
            if result.strip is strip:
                self.results[place] = replace(result, words=words, frame=frame)
                return self.results[place]
        key = ("strip", strip.number)
        return self.keep(key, Composition(), words, strip.picture.pixels[0], frame, strip.seconds, **about)

    def find(self, key: tuple[Hashable, ...]) -> Result | None:
        """The picture that depends on the same things, if it was made before and is still kept."""
        return next((result for result in self.results if result.key == key), None)

    def result(self, number: int) -> Result | None:
        """The picture of that number, if it is still kept."""
        return next((result for result in self.results if result.number == number), None)

    def latest(self, composition: Composition, change: WordChange = NO_CHANGE) -> Result | None:
        """The last picture that was made of a composition, or of another one with the same effect, and of a change of
        words."""
        made = (result for result in reversed(self.results) if result.tab == COMPOSE and result.change == change)
        return next((result for result in made if result.composition.effect == composition.effect), None)


def compare(first: Result, second: Result) -> Frame:
    """The second of two results, measured against the first. Without measures where they are of different models."""
    a, b = first.frame.pixels[None], second.frame.pixels[None]
    measures = Measures()
    if second.card is not None and first.card is second.card and a.shape == b.shape:
        with DEVICE.turn():
            [measures] = measuring.measure(second.card, a, b)
        for domain in (first.domain, second.domain):
            measures = measures if domain is None else honest(measures, domain)
    return replace(second.frame, measures=measures)


@dataclass(frozen=True)
class Film:
    """The pictures of a filmstrip (3, R, R) each, with everything that they depend on: asked for again, in another kind
    of file, they are only written anew. measures: of each, shares: of the composition."""

    made_of: tuple[Hashable, ...]
    picture: Picture
    frames: tuple[Tensor, ...]
    measures: tuple[Measures, ...] = ()
    shares: tuple[float, ...] = ()

    def answers(self, made_of: tuple[Hashable, ...], picture: Picture) -> bool:
        """Whether these are the pictures that are asked for."""
        return made_of == self.made_of and torch.equal(picture.pixels, self.picture.pixels)


@dataclass
class ComposeState:
    """picked: results of the history that are looked at, by their numbers. restored: process, steps and seed of the
    link by which the visitor came, until they choose their own. shown: what the tab's widgets depend on, once all of it
    is there. source: where the intervals come from; boost: quality is boosted also where a direction suggests not to.
    made: presets that took the places of others, and go when that is undone. film: the last filmstrip.
    change_of_words: together with the composition, in a text-to-image model. target_offered: the last target prompt
    that was written for the visitor. words_undone: a step back has changed the words, and what is written of them has
    not followed yet."""

    composition: Composition = Composition()
    history: History = field(default_factory=History)
    picked: list[str] = field(default_factory=list)
    restored: tuple[Process, int, int] | None = None
    shown: tuple[Hashable, ...] | None = None
    source: IntervalSource = "preset"
    boost: bool = False
    made: set[str] = field(default_factory=set)
    film: Film | None = None
    change_of_words: WordChange = NO_CHANGE
    target_offered: str = ""
    words_undone: bool = False

    def change(self, composition: Composition | None = None, words: WordChange | None = None) -> None:
        """Another composition, another change of words, or both; one step back brings back what was before."""
        before = self.composition, self.change_of_words
        after = before[0] if composition is None else composition, before[1] if words is None else words
        if after != before:
            self.history.past.append(before)
            self.composition, self.change_of_words = after

    def clear(self) -> None:
        """No direction and no change of words."""
        self.change(Composition(locked=self.composition.locked), NO_CHANGE)

    def undo(self) -> bool:
        """One step back, if there is one."""
        if not self.history.past:
            return False
        self.composition, words = self.history.past.pop()
        self.words_undone |= words != self.change_of_words
        self.change_of_words = words
        return True

    def open(self, composition: Composition, change: WordChange = NO_CHANGE) -> None:
        """Another model: its directions are others, and so are the steps back. What was made stays in the history."""
        self.composition, self.shown, self.change_of_words = composition, None, change
        self.history.past.clear()

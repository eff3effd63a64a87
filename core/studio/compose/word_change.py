"""A change of words beside a composition: what a visitor asks for, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ...errors import RequestError, quoted
from ...inversion.alignment import words_of
from ...inversion.word_differences import carried, differences
from ...models.t2i_cards import TEXT_TO_IMAGE
from ...regions import parse_regions
from ...text_to_image import read_prompt
from ..frames import Picture, require_range
from ..invert.targets import MAX_STRENGTH as MAX_WORDS
from ..invert.targets import MIN_STRENGTH as MIN_WORDS
from ..invert.targets import read_weights
from ..known_models import takes_prompt

MAX_GUIDANCE = 15.0
Axis = Literal["strength", "guidance", "weight"]  # that a sweep may go along


@dataclass(frozen=True)
class WordChange:
    """What the picture is to show beside what directions do to it.

    target: a prompt; "" for no change of words. strength: 0 is the picture's own prompt, 1 the target. guidance: None
    for the model's usual one. weights: of words of the target, by word. where: regions as JSON, outside which nothing
    changes, "" for everywhere. source: the prompt of the picture that the target was written for, "" for any picture.
    """

    target: str = ""
    strength: float = 1.0
    guidance: float | None = None
    weights: tuple[tuple[str, float], ...] = ()
    where: str = ""
    source: str = ""

    def __bool__(self) -> bool:
        return bool(self.target)

    @property
    def words(self) -> str:
        """In short: what is said instead of what."""
        changed = differences(self.source, self.target) if self.source else []
        what = ", ".join(map(str, changed)) or self.target
        said = [] if self.strength == 1 else [f"{self.strength:g}"]
        said += [] if self.guidance is None else [f"guidance {self.guidance:g}"]
        said += [f"{word} {weight:g}" for word, weight in self.weights]
        said += ["only in a region"] if self.where else []
        return quoted(what) + (f" ({', '.join(said)})" if said else "")

    def along(self, axis: Axis, value: float, word: str = "") -> WordChange:
        """The same at another place of one axis. word: whose weight it is."""
        if axis == "strength":
            return replace(self, strength=value)
        if axis == "guidance":
            return replace(self, guidance=value)
        return replace(self, weights=(*(pair for pair in self.weights if pair[0] != word), (word, value)))

    def on(self, prompt: str) -> WordChange:
        """The same change of another prompt, which has other words around it; `NO_CHANGE` if it has none of those that
        are changed. Weights stay with the words that it has."""
        if not self.source or words_of(self.source) == words_of(prompt):
            return self
        target = carried(self.source, self.target, prompt)
        if target is None:
            return NO_CHANGE
        words = set(words_of(target))
        weights = tuple((word, weight) for word, weight in self.weights if set(words_of(word)) <= words)
        if words_of(target) == words_of(prompt) and not weights:
            return NO_CHANGE
        return replace(self, source=prompt, target=target, weights=weights)


NO_CHANGE = WordChange()


def read_change(
    picture: Picture, target: str, strength: float, guidance: float | None, weights: str, where: str = ""
) -> WordChange:
    """What a visitor asks for.

    Raises:
        RequestError: the picture is of no text-to-image model, the target says nothing new, a number is out of range,
            or a weight is not one or of no word of the target.
    """
    if not takes_prompt(picture.model_id):
        raise RequestError(f"{picture.model_id} is no text-to-image model: there are no words to change.")
    if not target.strip():
        return WordChange()
    target = read_prompt(target, "Write what the picture should show instead.")
    require_range("strength of the words", strength, MIN_WORDS, MAX_WORDS)
    if guidance is not None:
        require_range("guidance", guidance, 1, MAX_GUIDANCE)
    weighed = read_weights(weights)
    for word, weight in weighed.items():
        require_range(f"weight of {quoted(word)}", weight, -5, 5)
        if not set(words_of(word)) <= set(words_of(target)):
            raise RequestError(f"{quoted(word)} is not a word of the target. Re-weight one of its words.")
    if not weighed and words_of(target) == words_of(picture.conditioning):
        raise RequestError("The target says what the picture's prompt says. Change, add or take out a word.")
    if where:
        parse_regions(where, TEXT_TO_IMAGE[picture.model_id].resolution)
    return WordChange(target, float(strength), guidance, tuple(weighed.items()), where, picture.conditioning)


def new_words(picture: Picture, change: WordChange) -> list[str]:
    """The words of the target that can be weighed along a sweep: those that the picture's own prompt lacks, and those
    that have a weight."""
    known = set(words_of(picture.conditioning))
    fresh = [word for word in words_of(change.target) if word not in known]
    return list(dict.fromkeys([*fresh, *(word for word, _ in change.weights)]))


def axis_name(axis: Axis, word: str = "") -> str:
    """What a sweep calls it."""
    return {"strength": "strength of the words", "guidance": "guidance"}.get(axis, f"weight of {quoted(word)}")

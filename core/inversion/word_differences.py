"""What a target prompt changes of its source, in short, and the same change in the prompt of another picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from .alignment import FILLING, words_of


@dataclass(frozen=True)
class Difference:
    """What one place of a prompt says, and what the other prompt says there instead; no words where some are added or
    taken out. left, right: the words beside the place in the first prompt, "" at its ends."""

    old: tuple[str, ...]
    new: tuple[str, ...]
    left: str
    right: str

    def __str__(self) -> str:
        old, new = (_written(_trimmed(words)) for words in (self.old, self.new))
        if not old:
            return f"+ {new}"
        return f"{old} → {new}" if new else f"− {old}"


def differences(source: str, target: str) -> list[Difference]:
    """Where two prompts differ, in the order of the first."""
    old, new = words_of(source), words_of(target)
    return [
        Difference(tuple(old[i0:i1]), tuple(new[j0:j1]), old[i0 - 1] if i0 else "", old[i1] if i1 < len(old) else "")
        for tag, i0, i1, j0, j1 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if tag != "equal"
    ]


def carried(source: str, target: str, prompt: str) -> str | None:
    """The target that changes another prompt as `target` changes `source`: words that are replaced or taken out are
    looked for there, words that are added go next to the word that they stood next to, or at the end. None where one of
    them has no place."""
    words = words_of(prompt)
    for difference in differences(source, target):
        place = _place(words, difference)
        if place is None:
            return None
        new = difference.new
        if not difference.old and new[0] in ("with", "and"):  # with short hair, and glasses
            new = ("and" if "with" in words[: place.start] else "with", *new[1:])
        words[place] = new
    return _written(words)


def _place(words: Sequence[str], difference: Difference) -> slice | None:
    """Where a prompt has what is changed."""
    if difference.old:
        return _first(words, difference.old)
    if not difference.right:
        return slice(len(words), len(words))
    if not difference.left:
        return slice(0, 0)
    beside = [(difference.left, 1), (difference.right, 0)]  # and how far after that word the place is
    for word, further in sorted(beside, key=lambda one: one[0] in FILLING):  # "a" may stand anywhere
        if word in words:
            at = words.index(word) + further
            return slice(at, at)
    return None


def _first(words: Sequence[str], wanted: Sequence[str]) -> slice | None:
    """Where a run of words stands for the first time."""
    n = len(wanted)
    return next((slice(i, i + n) for i in range(len(words) - n + 1) if list(words[i : i + n]) == list(wanted)), None)


def _trimmed(words: Sequence[str]) -> Sequence[str]:
    """Words without those around them that show nothing."""
    telling = [n for n, word in enumerate(words) if word not in FILLING]
    return words[telling[0] : telling[-1] + 1] if telling else words


def _written(words: Sequence[str]) -> str:
    """Words and marks as a line."""
    return re.sub(r" ([,.;:!?)]|'(?:s|t|re|ve|m|ll|d)\b)", r"\1", " ".join(words))

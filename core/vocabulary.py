"""Which words a model has learned, where that is known: the embedded ones have read their captions and nothing else."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import quoted
from .thesaurus import same_meaning

MAX_NEAR = 3
SHOWN = 6  # unknown words that are named
# Beside the captions: what prompts are made of.
COMMON = frozenset(
    ("a", "an", "and", "at", "by", "for", "in", "is", "of", "on", "one", "person", "photo", "picture", "portrait")
    + ("the", "to", "with", "without", "who")
)
# Those that are offered where nothing is like a word that was written.
TELLING = ("smiling", "sad", "angry", "surprised", "beard", "glasses", "bald", "blond", "curly", "lips", "old", "young")


@dataclass(frozen=True)
class Unknown:
    """A word that a model has not learned, with those that it has that are spelled like it, or that mean the same."""

    word: str
    near: tuple[str, ...] = ()


@cache
def learned(captions: Path) -> frozenset[str]:
    """The words of a model's captions, one caption a line."""
    return frozenset(words_of(captions.read_text(encoding="utf-8"))) | COMMON


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; those of any script, no numbers."""
    return re.findall(r"[^\W\d_]+", text.lower())


def unknown_words(text: str, known: Iterable[str]) -> list[Unknown]:
    """Words of a text that are not among the known ones, each once. Another ending of a known word counts as known."""
    vocabulary = set(known)
    stems = {_stem(word) for word in vocabulary}
    found: dict[str, Unknown] = {}
    for word in words_of(text):
        if word not in found and word not in vocabulary and _stem(word) not in stems:
            found[word] = Unknown(word, _near(word, vocabulary))
    return list(found.values())


def _near(word: str, vocabulary: set[str]) -> tuple[str, ...]:
    """What was meant, then what is spelled like it."""
    meant = [other for other in same_meaning(word) if other in vocabulary]
    slips = max(1, len(word) // 4)  # letters that may be missing or too many: "ear" is no "beard"
    alike = [other for other in sorted(vocabulary - COMMON) if abs(len(other) - len(word)) <= slips]
    spelled = difflib.get_close_matches(word, alike, MAX_NEAR, 0.72)
    return tuple(dict.fromkeys([*meant, *spelled]))[:MAX_NEAR]


def in_words(unknown: list[Unknown], known: Iterable[str]) -> str:
    """What to tell of unknown words; "" if there are none."""
    if not unknown:
        return ""
    named = ", ".join(quoted(one.word) for one in unknown[:SHOWN])
    if len(unknown) > SHOWN:
        named += f" and {len(unknown) - SHOWN} more"
    told = f"This model has never read {named}, and can't follow {'it' if len(unknown) == 1 else 'them'}."
    near = "; ".join(f"{', '.join(one.near)} for {quoted(one.word)}" for one in unknown[:SHOWN] if one.near)
    if near:
        told += f" Near words that it knows: {near}."
    alone = [quoted(one.word) for one in unknown[:SHOWN] if not one.near]
    if alone:
        vocabulary = set(known)
        some = ", ".join(word for word in TELLING if word in vocabulary)
        which = f"near {' or '.join(alone)}" if near else "like that"
        told += f" It knows no word {which}. Some of those that it does know: {some}."
    return told


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word

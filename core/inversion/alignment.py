"""Which words of a target prompt correspond to which of the source, by tokens (prompt-to-prompt, section 3.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Literal

import torch
from torch import Tensor

from ..errors import RequestError, quoted
from ..text_to_image import TextToImage

Kind = Literal["swap", "refine"]
Attention = Literal["none", "swap", "refine"]
FILLING = frozenset(["a", "an", "the", "and", "with", "of", "in", "on"])  # words that show nothing
NEGATIONS = {"without", "no"}


def align(model: TextToImage, source: str, target: str, kind: Kind) -> tuple[Tensor, Tensor]:
    """(mapping (L, L), share (L,)) for `StepControl`.

    Equal words keep their maps. kind "swap": a word that replaces another takes over its map, shared evenly between
    their tokens (Eq. 4, word swap). "refine": a replaced word has its own (Eq. 5, adding a phrase). Words that are
    inserted have their own in both; the beginning, the end and the padding correspond.
    """
    L = model.length
    mapping, share = torch.zeros(L, L), torch.zeros(L)
    source_words, target_words = words_of(source), words_of(target)
    old, new = _spans(model, source_words), _spans(model, target_words)
    for tag, i0, i1, j0, j1 in SequenceMatcher(None, source_words, target_words, autojunk=False).get_opcodes():
        if tag == "equal":
            pairs = zip(old[i0:i1], new[j0:j1], strict=True)
        elif tag == "replace" and kind == "swap":
            pairs = zip(_merged(old[i0:i1], j1 - j0), _merged(new[j0:j1], i1 - i0), strict=True)
        else:
            continue
        for a, b in pairs:
            _correspond(mapping, share, a, b)

    start, end = (spans[-1].stop if spans else 1 for spans in (old, new))
    for j in range(min(end, L - 1), L):
        mapping[min(start + j - end, L - 1), j] = share[j] = 1
    mapping[0, 0] = share[0] = 1
    return mapping, share


def suited(source: str, targets: Sequence[str]) -> tuple[Attention, str]:
    """The attention control that suits a change of words, with the reason in words.

    Words that are only taken out leave a source's attention nothing to act on: the maps of all that stays, glasses
    included, would be kept. Added words act by themselves, and replaced ones take over places.
    """
    changes = set()
    for target in targets:
        matcher = SequenceMatcher(None, _telling(source), _telling(target), autojunk=False)
        changes |= {tag for tag, *_ in matcher.get_opcodes() if tag != "equal"}
        if NEGATIONS & set(words_of(target)) - set(words_of(source)):
            changes.add("delete")
    if "delete" in changes:
        return "none", "words are taken out"
    if "replace" in changes:
        return "swap", "words are replaced"
    return "refine", "words are only added"


def absence(source: str, target: str, captions: str | None = None) -> str:
    """A target prompt from which things were taken out, with their absence in words: a model that was only not told of
    glasses draws those that it sees, one that was told "without glasses" does not. "" where no thing was taken out, or
    its absence is said already.

    A thing is what follows "with" or "wearing" in the source; words before the noun have no such form. captions: those
    that a model has learned from; then only absences that they say are said.
    """
    before, after = words_of(source), words_of(target)
    told = [n for n, word in enumerate(before) if word.isalnum() and word not in FILLING]
    first = next((n for n, word in enumerate(before) if word in ("with", "wearing")), len(before))
    gone = []
    matcher = SequenceMatcher(None, [before[n] for n in told], _telling(target), autojunk=False)
    for tag, i0, i1, _, _ in matcher.get_opcodes():
        if tag == "delete" and told[i0] > first:
            start = told[i0] - (before[told[i0] - 1] in ("a", "an", "the"))
            run = " ".join(before[start : told[i1 - 1] + 1])
            things = [thing.strip() for thing in re.split(r",| and |\bwith\b", run)]
            gone += [thing for thing in things if thing and (captions is None or f"without {thing}" in captions)]
    if not gone or "without" in after:
        return ""
    return f"{target.strip()} {'and ' if 'with' in after else ''}without {' and without '.join(gone)}"


def _telling(prompt: str) -> list[str]:
    """The words of a prompt that show something."""
    return [word for word in words_of(prompt) if word.isalnum() and word not in FILLING]


def scales(model: TextToImage, prompt: str, weights: Mapping[str, float]) -> Tensor:
    """(L,), 1 but for the tokens of the words whose attention is to be re-weighted (prompt-to-prompt, Eq. 6).

    Raises:
        RequestError: a word that is not in the prompt, or a weight out of range.
    """
    scale = torch.ones(model.length)
    for word, weight in weights.items():
        there = places(model, prompt, word)
        if not there.any():
            raise RequestError(f"{quoted(word)} is not a word of {quoted(prompt)}. Re-weight one of its words.")
        if not -5 <= weight <= 5:
            raise RequestError(f"The weight of {quoted(word)} must lie between -5 and 5, not {weight}.")
        scale[there] = weight
    return scale


def places(model: TextToImage, prompt: str, word: str) -> Tensor:
    """(L,) boolean, the tokens of a word wherever the prompt has it."""
    there, words = torch.zeros(model.length, dtype=torch.bool), words_of(prompt)
    for other, span in zip(words, _spans(model, words), strict=True):
        if [other] == words_of(word):
            there[span.start : span.stop] = True
    return there


def words_of(prompt: str) -> list[str]:
    """Words and punctuation marks, lower case, divided where CLIP's tokenizer divides."""
    return re.findall(r"'(?:s|t|re|ve|m|ll|d)\b|\w+|[^\w\s]+", prompt.lower())


def _spans(model: TextToImage, words: Sequence[str]) -> list[range]:
    """Token positions of each word, after the beginning at 0 and before the last, which is the end's."""
    last, first, spans = model.length - 1, 1, []
    for count in model.token_counts(words):
        spans.append(range(min(first, last), min(first + count, last)))
        first += count
    return spans


def _merged(spans: list[range], count: int) -> list[range]:
    """At most `count` spans: those in excess are one with the last."""
    return spans if len(spans) <= count else [*spans[: count - 1], range(spans[count - 1].start, spans[-1].stop)]


def _correspond(mapping: Tensor, share: Tensor, a: range, b: range) -> None:
    """Tokens one to one if there are as many, else each of b has the average of a's total."""
    if not len(a) or not len(b):
        return
    if len(a) == len(b):
        for i, j in zip(a, b, strict=True):
            mapping[i, j] = 1
    else:
        mapping[a.start : a.stop, b.start : b.stop] = 1 / len(b)
    share[b.start : b.stop] = 1

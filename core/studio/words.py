"""What a model is told about the words that a visitor writes."""

from __future__ import annotations

from pathlib import Path

from .. import vocabulary
from ..errors import RequestError, quoted
from ..models.cards import MODELS, PRESETS, BaseCard
from ..vocabulary import Unknown

MAX_TEXT = 200  # characters of a text or prompt that a direction is made from


def too_long(text: str) -> str:
    """That a text is too long to make a direction from, and how long it may be; "" if it is not."""
    text = " ".join(text.split())
    if len(text) <= MAX_TEXT:
        return ""
    told = f"{quoted(text)} is too long: it has {len(text):,} characters, and up to {MAX_TEXT} can be used."
    return f"{told} Shorten it."


def require_short(*texts: str) -> None:
    """Raises RequestError: one of the texts is `too_long`."""
    for text in texts:
        if said := too_long(text):
            raise RequestError(said)


def captions_of(card: BaseCard) -> Path | None:
    """The captions that a model has learned its words from, where they are here: those of the embedded ones."""
    for model in MODELS.values():
        captions = None if model.drawn is None else model.drawn.captions
        if captions is not None and card.instruments is not None and model.instruments == card.instruments:
            return PRESETS / captions
    return None


def known_words(card: BaseCard) -> frozenset[str] | None:
    """The words that a model has learned; None where that is not known (it has read much of the web)."""
    captions = captions_of(card)
    return None if captions is None or not captions.is_file() else vocabulary.learned(captions)


def unknown_words(card: BaseCard, *texts: str) -> list[Unknown]:
    """The words of texts that a model has not learned, as far as that is known."""
    known = known_words(card)
    return [] if known is None else vocabulary.unknown_words(" ".join(texts), known)


def remark(card: BaseCard, *texts: str) -> str:
    """What to tell a visitor of words that a model does not know; "" if there is nothing to tell."""
    known = known_words(card)
    return "" if known is None else vocabulary.in_words(unknown_words(card, *texts), known)


def unread(text: str, cut: str) -> str:
    """How much of a text a model reads, and from where on it does not.

    cut: the words at the end of the text that it does not read, at least one.
    """
    words = len(text.split())
    read = words - len(cut.split())
    if read <= 0:
        return "The model reads no more than the beginning of its first word."
    return (
        f"The model reads the first {read} of its {words} words and ignores the rest, from word {read + 1} on: "
        f"{quoted(cut)}."
    )

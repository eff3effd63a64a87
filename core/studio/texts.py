"""What to tell of the texts that a direction is to be trained from, before it is."""

from __future__ import annotations

from ..asyrp.prompts import templates
from ..errors import ModelUnavailable, quoted, shortened
from ..models.cards import EmbeddedClip, ModelCard
from . import measuring
from .words import MAX_TEXT, remark, too_long, unread


def remarks(card: ModelCard, *texts: str) -> list[str]:
    """One for each text that is too long, and one on the words that the model does not know."""
    given = [" ".join(text.split()) for text in texts]
    said = [told for text in given if (told := _length(card, text))]
    unknown = remark(card, *(shortened(text, MAX_TEXT) for text in given))
    return [*said, unknown] if unknown else said


def _length(card: ModelCard, text: str) -> str:
    """That a text is too long, and how long it may be; "" if it is not."""
    if said := too_long(text):
        return said
    if not isinstance(card.clip, EmbeddedClip):  # others would be downloaded for it, and read more than that
        return ""
    try:
        cut = measuring.image_text(card).words_cut(text, templates(card))
    except ModelUnavailable:
        return ""
    return f"{quoted(text)} is too long. {unread(text, cut)}" if cut else ""

"""Text-to-image models by id, as the inversion methods see them."""

from __future__ import annotations

from core.errors import ModelUnavailable, RequestError
from core.inversion.model import TextToImage
from core.models.cards import Embedded
from core.models.pipelines import pipelines
from core.models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard


def card_of(model_id: str) -> TextToImageCard:
    """Raises RequestError: there is no such model."""
    if model_id not in TEXT_TO_IMAGE:
        raise RequestError(f"There is no model {model_id!r}. Choose one of: {', '.join(TEXT_TO_IMAGE)}.")
    return TEXT_TO_IMAGE[model_id]


def not_here(card: TextToImageCard) -> str:
    """What to do about an embedded model that did not come with this copy; "" if it is there."""
    if not isinstance(card.source, Embedded) or (card.source.folder / "unet").is_dir():
        return ""
    others = " or ".join(other.title for other in TEXT_TO_IMAGE.values() if not isinstance(other.source, Embedded))
    return (
        f"“{card.title}” is not part of this copy: {card.source.path} has no network. Get a copy of the app that "
        f"has it, train it (the README says how), or choose {others}, which are downloaded on first use and need a GPU."
    )


def model_of(card: TextToImageCard) -> TextToImage:
    """A card's model, kept once loaded. Raises ModelUnavailable."""
    if words := not_here(card):
        raise ModelUnavailable(words)
    loaded = pipelines.get(card.id)
    return TextToImage.from_pipeline(loaded.pipeline, card.id, loaded.fingerprint)

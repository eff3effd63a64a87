"""The models of the app by their ids, unconditional ones and text-to-image ones alike: their cards, and their networks.

A text-to-image model is a model as any other once it is bound to what a picture shows (`core.prompted`). Here that is
the picture's own prompt: one picture with two prompts is two pictures, with an analysis, a path and a strip each.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ..errors import RequestError
from ..models.cards import MODELS, Embedded, ModelCard
from ..models.loader import DiffusionModel, models
from ..models.pipelines import pipelines
from ..models.t2i_cards import TEXT_TO_IMAGE
from ..prompted import listed_h_space, with_prompt
from ..text_to_image import load_text_to_image, read_prompt
from .frames import Picture
from .invert.suggesting import suggestion

REQUEST = "Say what the picture shows: a few words are enough, such as “{}”."


def known_models() -> list[ModelCard]:
    """All of them: those that come with the app first, then the others."""
    cards = [*MODELS.values(), *map(listed_h_space, TEXT_TO_IMAGE.values())]
    return sorted(cards, key=lambda card: not isinstance(card.source, Embedded))


def known_card(model_id: str) -> ModelCard:
    """Raises RequestError: there is no such model."""
    if model_id in MODELS:
        return MODELS[model_id]
    if model_id not in TEXT_TO_IMAGE:
        names = ", ".join([*MODELS, *TEXT_TO_IMAGE])
        raise RequestError(f"There is no model {model_id!r}. Choose one of: {names}.")
    return listed_h_space(TEXT_TO_IMAGE[model_id])


def is_known(model_id: str) -> bool:
    """Whether there is such a model."""
    return model_id in MODELS or model_id in TEXT_TO_IMAGE


def takes_prompt(model_id: str) -> bool:
    """Whether it is a text-to-image model."""
    return model_id not in MODELS and model_id in TEXT_TO_IMAGE


def is_loaded(model_id: str) -> bool:
    """Whether it is in memory."""
    return model_id in (pipelines if takes_prompt(model_id) else models).loaded()


def loaded_weights(model_id: str) -> str | None:
    """The fingerprint of a model's weights, if it is in memory."""
    if not is_loaded(model_id):
        return None
    return pipelines.get(model_id).fingerprint if takes_prompt(model_id) else models.get(model_id).fingerprint


def usual_prompt(model_id: str) -> str:
    """What every picture of a text-to-image model shows: "a face", "a picture"."""
    word = known_card(model_id).domain_word
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def bound_model(model_id: str, prompt: str = "") -> DiffusionModel:
    """A model's network; that of a text-to-image one is bound to what a picture shows, which others have no use for.

    prompt: the usual one if left out.

    Raises:
        RequestError: there is no such model, or the prompt is endless. ModelUnavailable: its files are not here and
            cannot be fetched, or are damaged.
    """
    if not takes_prompt(model_id):
        return models.get(model_id)
    return with_prompt(load_text_to_image(TEXT_TO_IMAGE[model_id]), prompt or usual_prompt(model_id))


def model_of(picture: Picture) -> DiffusionModel:
    """The network that a picture is edited with. Raises as `bound_model`."""
    return bound_model(picture.model_id, picture.conditioning)


def suggested_prompt(model_id: str, pixels: Tensor) -> str:
    """What a picture (1, 3, R, R) shows, as the instruments of its text-to-image model read it; the usual prompt where
    there are none."""
    return suggestion(TEXT_TO_IMAGE[model_id], pixels) or usual_prompt(model_id)


def described(picture: Picture, prompt: str = "") -> Picture:
    """A picture of a text-to-image model that says what it shows: the prompt, or what it says already, or what is
    suggested; one of any other model as it is.

    Raises:
        RequestError: the prompt is endless.
    """
    if not takes_prompt(picture.model_id):
        return picture
    if prompt.strip():
        return replace(picture, prompt=written_prompt(picture.model_id, prompt))
    return picture if picture.prompt else replace(picture, prompt=suggested_prompt(picture.model_id, picture.pixels))


def written_prompt(model_id: str, prompt: str) -> str:
    """What a visitor has written, as one line. Raises RequestError: there is nothing, or it is endless."""
    return read_prompt(prompt, REQUEST.format(usual_prompt(model_id)))

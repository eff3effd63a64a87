"""Whether a picture is one that its model knows, kept with the picture, and what can be said of an edit if not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..cache import Cache, Counted
from ..domain import denoised, nearest
from ..errors import ModelUnavailable
from ..imaging import content_hash
from ..memory import MAX_DOMAINS, bytes_of
from ..models.cards import MODELS, ModelCard
from ..models.loader import DiffusionModel, models
from ..models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from ..progress import Job, Progress
from . import measuring
from .device import DEVICE, Urgency, exclusively
from .frames import Measures, Picture

LOOKING = "Seeing whether the model knows this picture"
NOT_MEASURED = (
    "This model does not know pictures like this one: person, attributes and distance are read by instruments that "
    "know such pictures no better, so they are not shown."
)


@dataclass(frozen=True)
class Domain:
    """How far a picture is from what its model knows. error: perceptual distance to what the model denoises it to;
    limit: of pictures that it knows, None where that was not measured. nearest: of a picture that it does not know,
    the nearest one that it can make, uint8 (3, R, R)."""

    error: float
    limit: float | None
    nearest: Tensor | None = None

    @property
    def known(self) -> bool | None:
        """Whether the model knows the picture; None where that cannot be said."""
        return None if self.limit is None else self.error <= self.limit

    @property
    def nearest_pixels(self) -> Tensor | None:
        """(1, 3, R, R) in [-1, 1]."""
        return None if self.nearest is None else self.nearest[None].float() / 127.5 - 1


UNKNOWN = Domain(0.0, None)
_KEPT: Cache[Counted[Domain]] = Cache(MAX_DOMAINS, "domains")


def look_at(model: DiffusionModel, picture: Picture) -> Job[Domain]:
    """How far a picture is from what a model knows. One call of the network, wherever the caller is: a model that says
    what it knows is a small one, and not worth a GPU of its own.

    Raises:
        ModelUnavailable: its instruments cannot be had. ResourceError: out of memory.
    """
    yield Progress(0, 1, LOOKING)
    distance = measuring.distance(model.card)
    with DEVICE.shared(model, Urgency.FIRST) as shared:
        made = denoised(shared, picture.pixels)
    with DEVICE.turn(Urgency.FIRST), torch.no_grad():  # whoever is looked at waits no longer than who is edited
        error = float(distance(made, picture.pixels.to(made))[0])
    return Domain(error, model.card.domain_limit)


def draw_nearest(model: DiffusionModel, picture: Picture) -> Job[Tensor]:
    """The nearest picture that a model can make, uint8 (3, R, R). Raises ResourceError."""
    drawn = yield from exclusively(nearest(model, picture.pixels), Urgency.FIRST)
    return ((drawn[0].cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def domain_of(model: DiffusionModel, picture: Picture, to_show: bool = False) -> Job[Domain]:
    """The same, at once if it was asked for before, or if it cannot be said of this model. to_show: with the nearest
    picture, if this one is far. Raises ResourceError."""
    if model.card.id in TEXT_TO_IMAGE:
        return (yield from domain_in(TEXT_TO_IMAGE[model.card.id], picture.pixels, to_show))
    if model.card.domain_limit is None:
        return UNKNOWN
    key = content_hash(picture.pixels), model.fingerprint
    kept = _KEPT.get(key)
    try:
        found = (yield from look_at(model, picture)) if kept is None else kept.value
    except ModelUnavailable:  # a measure that cannot be had never stops an edit
        return UNKNOWN
    if to_show and found.known is False and found.nearest is None:
        found = replace(found, nearest=(yield from draw_nearest(model, picture)))
    if kept is None or kept.value is not found:
        _KEPT.put(key, Counted(found, bytes_of(found)))
    return found


def domain_in(card: TextToImageCard, pixels: Tensor, to_show: bool = False) -> Job[Domain]:
    """Of a picture (1, 3, R, R) in a text-to-image model: what the unconditional model says that has learned the same
    pictures, if there is one. Raises ResourceError."""
    if card.known_by is None:
        return UNKNOWN
    return (yield from domain_of(models.get(card.known_by), Picture(pixels, card.known_by), to_show))


def honest(measures: Measures, domain: Domain) -> Measures:
    """Measures of an edit without those that do not apply to a picture that the model does not know."""
    if domain.known is not False:
        return replace(measures, in_domain=domain.known)
    return Measures(in_domain=False, missing=(NOT_MEASURED, *measures.missing))


def measure_known(
    card: ModelCard | TextToImageCard, domain: Domain, before: Tensor, after: Tensor, *texts: str
) -> list[Measures]:
    """`measuring.measure` of edits, as far as it applies: of a picture that the model does not know nothing is shown,
    and so nothing is measured."""
    if domain.known is False:
        return [honest(Measures(), domain)] * len(after)
    with DEVICE.turn(Urgency.of_pictures(len(after))):
        rows = measuring.measure(card, before, after, *texts)
    return [honest(row, domain) for row in rows]


def warning(card: ModelCard | TextToImageCard) -> str:
    """What to tell of a picture that a model does not know."""
    shows = card.shows if isinstance(card, ModelCard) else MODELS[card.known_by or card.id].shows
    return f"“{card.title}” cannot draw this picture: it has learned {shows} and nothing else. Edits of it are guesses."


def in_words(card: ModelCard | TextToImageCard) -> str:
    """The same where the nearest picture is shown."""
    return f"{warning(card)} Beside this: the nearest picture that it can draw."


def others(card: ModelCard | TextToImageCard) -> list[ModelCard] | list[TextToImageCard]:
    """The listed models of photographs, for a picture that this one does not know: those of the same subject, or all if
    there are none."""
    if isinstance(card, TextToImageCard):
        return [other for other in TEXT_TO_IMAGE.values() if other.known_by is None]
    listed = [other for other in MODELS.values() if other.id != card.id and other.domain_limit is None]
    return [other for other in listed if other.domain_word == card.domain_word] or listed

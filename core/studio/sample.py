"""New pictures: drawn from words by the model that a card names, or by the model itself."""

from __future__ import annotations

from contextlib import suppress

from .. import sampling
from ..conditional_unet import PromptedUNet
from ..errors import RequestError, VisitorError
from ..models.cards import PRESETS, Drawn, ModelCard
from ..models.loader import DiffusionModel
from ..progress import Job, stage
from ..text_to_image import load_text_to_image, read_prompt, text_to_image_card
from .device import exclusively
from .frames import Picture, require_range
from .jobs import Work, device_job
from .words import remark, unread


def sample_work(model: DiffusionModel, seed: int, steps: int | None = None, words: str = "") -> Work:
    """Of `sample_picture`."""
    steps = sampling_steps(model.card) if steps is None else steps
    return Work(steps, 2 * steps)


@device_job(sample_work)
def sample_picture(model: DiffusionModel, seed: int, steps: int | None = None, words: str = "") -> Job[Picture]:
    """A new picture of the model's own; the same seed gives the same one.

    steps: of sampling; None is what the model needs. words: what it should show, for models whose pictures are drawn
    from words (`ModelCard.drawn`); without, the seed decides on that too, or it is what the model is bound to.

    Raises:
        RequestError: the seed or the steps are out of range, the words are endless, or the model takes none.
        ModelUnavailable: the model that draws cannot be had. ResourceError: out of memory.
    """
    require_range("seed", seed, 0, 2**31 - 1)
    drawn, words = model.card.drawn, words.strip()
    steps = sampling_steps(model.card) if steps is None else steps
    if drawn is not None:
        prompt = read_prompt(words or described(drawn, seed) or bound_to(model), "Say what the picture should show.")
        card = text_to_image_card(drawn.model)
        job = sampling.draw(
            load_text_to_image(card), [prompt], seed, steps, card.guidance if words else sampling.GUIDANCE
        )
    elif words:
        raise RequestError(f"{model.card.title} are imagined without words. Leave the description empty.")
    else:
        prompt, job = "", sampling.sample(model, seed, steps=steps)
    pixels = yield from stage(exclusively(job), "Imagining")
    return Picture(pixels.cpu(), model.card.id, None if words else seed, prompt=prompt)


def sampling_steps(card: ModelCard) -> int:
    """What a new picture of a model needs."""
    return sampling.STEPS if card.drawn is None else sampling.DRAWING_STEPS


def bound_to(model: DiffusionModel) -> str:
    """What a text-to-image model is bound to; "" of any other."""
    return model.unet.prompt.words if isinstance(model.unet, PromptedUNet) else ""


def described(drawn: Drawn, seed: int) -> str:
    """What the picture of a seed shows; "" where a seed does not say."""
    if drawn.captions is None:
        return ""
    captions = (PRESETS / drawn.captions).read_text().splitlines()
    return captions[seed % len(captions)]


def remarks(card: ModelCard, words: str, drawn: bool = False) -> list[str]:
    """What to tell a visitor of the words for a new picture: which of them the model that draws does not know, and,
    once it has `drawn`, how many it reads."""
    if card.drawn is None:
        return []
    painter = text_to_image_card(card.drawn.model)
    unknown = remark(painter, words)
    said = [unknown] if unknown else []
    with suppress(VisitorError):
        if drawn and (cut := load_text_to_image(painter).words_cut(words)):
            said.append(f"The description is too long. {unread(words, cut)}")
    return said

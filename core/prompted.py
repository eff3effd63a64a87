"""A text-to-image model with a prompt and guidance bound to it, as the kind of model that every method takes.

What is left of it is a function of (x_t, t) with an h-space, so editing, anchored paths, Discover and presets work as
they do with unconditional models.
"""

from __future__ import annotations

from .conditional_unet import Prompt, PromptedUNet, ShiftedBranch
from .errors import RequestError
from .models.cards import MODELS, InMemory, ModelCard, OpenClip
from .models.loader import DiffusionModel
from .models.t2i_cards import TEXT_TO_IMAGE
from .text_to_image import TextToImage, read_prompt

MAX_GUIDANCE = 30


def with_prompt(
    model: TextToImage,
    prompt: str,
    guidance: float = 1.0,
    shifted: ShiftedBranch = "both",
    empty: str = "",
) -> DiffusionModel:
    """The model as one of the pictures that a prompt describes. Networks are shared; nothing is computed but the
    prompt's embedding.

    prompt: what the picture shows. guidance: G, 1 is none. shifted: where directions act under guidance, see
    `core.conditional_unet.Prompt`. empty: what guidance pushes away from.

    Raises:
        RequestError: the prompt is empty or too long, or the guidance out of range.
    """
    prompt = read_prompt(prompt, "Write a prompt: what the picture shows.")
    if not 1 <= guidance <= MAX_GUIDANCE:
        raise RequestError(f"The guidance must lie between 1 and {MAX_GUIDANCE}, not {guidance}.")
    text, away = model.embed([prompt, empty]).split(1)
    bound = Prompt(text, away, float(guidance), shifted, prompt, empty)
    conditioning = f"“{prompt}”"
    if guidance != 1:
        conditioning += f", guidance {guidance:g} from “{empty}”, {shifted}"
    return DiffusionModel(
        h_space_card(model),
        PromptedUNet(model.unet, bound),
        model.schedule,
        model.codec,
        model.device,
        model.dtype,
        model.fingerprint,
        conditioning=conditioning,
    )


def h_space_card(model: TextToImage) -> ModelCard:
    """What is known of the h-space of a text-to-image model. What depends on the pictures that it has learned is that
    of the unconditional model that has learned the same, if there is one."""
    config = model.unet.config
    side = config.sample_size
    for _ in range(model.unet.num_upsamplers):
        side = (side + 1) // 2
    card = TEXT_TO_IMAGE.get(model.id)
    like = MODELS.get(card.known_by or "") if card is not None else None
    return ModelCard(
        id=model.id,
        title=card.title if card else model.id,
        description=card.description if card else "A text-to-image model that was given from outside.",
        source=card.source if card else InMemory(),
        resolution=model.resolution,
        h_shape=(config.block_out_channels[-1], side, side),
        codec="kl",
        domain_word=like.domain_word if like else "picture",
        clip=like.clip if like else OpenClip("ViT-B-16", "openai"),
        perceptual=card.perceptual if card else "lpips-alex",
        curves=None,
        licence=card.licence if card else "unknown",
        instruments=card.instruments if card else None,
        half=card.half if card else False,
        unit=card.unit if card else 1.0,
        framing=like.framing if like else None,
        parts=like.parts if like else None,
        domain_limit=like.domain_limit if like else None,
        shows=like.shows if like else "",
    )

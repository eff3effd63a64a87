"""What the app knows of each model: one card per model, all of them in `MODELS`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..errors import ModelUnavailable
from ..intervals import PUBLISHED, Curves, IntervalSource, Levels, PublishedTable, Typical, last_timestep
from ..photo.placement import CELEBA_HQ, Framing
from .codec import CodecName

# What comes with the app: models, directions and examples. An installed package has it inside, a clone beside it.
_INSTALLED = Path(__file__).resolve().parents[1] / "data"
PRESETS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).resolve().parents[2] / "presets"

MAX_SIDE = 1024  # pixels, of the pictures of models that are opened or converted


@dataclass(frozen=True)
class Embedded:
    """A model that comes with the app: `path`/unet and `path`/scheduler as written by `save_pretrained`.

    path: relative to `PRESETS`, or absolute.
    """

    path: str

    @property
    def folder(self) -> Path:
        return PRESETS / self.path


@dataclass(frozen=True)
class Hub:
    """A diffusers pipeline on the Hub. A 40-digit revision that is in the cache needs no request at all."""

    repo: str
    revision: str = "main"


@dataclass(frozen=True)
class Folder:
    """A diffusers pipeline in a folder of this machine, with an absolute path."""

    path: str


@dataclass(frozen=True)
class InMemory:
    """A network that the caller had already; see `wrapping`."""


@dataclass(frozen=True)
class EmbeddedClip:
    """An image-text model in open_clip form that comes with the app; `path` as in `Embedded`."""

    path: str

    @property
    def folder(self) -> Path:
        return PRESETS / self.path


@dataclass(frozen=True)
class OpenClip:
    """An image-text model that open_clip knows by name."""

    model: str
    pretrained: str


@dataclass(frozen=True)
class Drawn:
    """How new pictures are made for a model that does not draw them itself: by a text-to-image model, from one of the
    descriptions in a file (relative to `PRESETS`, one per line) or a visitor's own words. captions: that file; None:
    there is none, and only a visitor's words will do."""

    model: str
    captions: str | None


ACCUMULATION = 2.3  # of the avatars: 1.4 to 2.8


@dataclass(frozen=True, kw_only=True)
class BaseCard:
    """What is known of every model, whatever its kind.

    resolution: side of its pictures in pixels. perceptual: the distance that measures reconstructions and edits.
    instruments: folder of the probe that reads attributes and identity off its pictures, if there is one. half: half
    precision is good enough where the machine is faster with it. steps: default number of DDIM steps. unit: norm of the
    shifts of h that Discover finds, at strength 1, so that visible edits have strengths of tens. accumulation: how much
    more than P_t in one step the finished picture changes.
    """

    id: str
    title: str
    description: str
    source: Embedded | Hub | Folder | InMemory
    resolution: int
    perceptual: Literal["embedded", "lpips-alex"]
    licence: str
    instruments: str | None = None
    half: bool = True
    steps: int = 40
    unit: float = 1.0
    accumulation: float = ACCUMULATION


@dataclass(frozen=True, kw_only=True)
class ModelCard(BaseCard):
    """One unconditional model.

    h_shape: (C, H, W) of h-space. codec: key of `CODECS`, "vq" for the autoencoder among its files, or "kl" for that of
    a text-to-image model. domain_word: what its pictures show, as the source prompt says it. curves: the Asyrp paper's
    table, or the file with the model's own curves (relative to `PRESETS`); None: not known. drawn: how new pictures are
    made, None: by the model itself. framing: how its pictures show a face, None: they show none. parts: folder of the
    network that knows the parts of what they show, if there is one. domain_limit: the largest perceptual distance of
    pictures that it knows to what it denoises them to (`core.domain`), None: not measured. shows: what it has learned,
    for a sentence. levels: its noise levels, where they are others than those of the paper's models; known once it was
    loaded.
    """

    h_shape: tuple[int, int, int]
    codec: CodecName
    domain_word: str
    clip: EmbeddedClip | OpenClip
    curves: PublishedTable | str | None
    drawn: Drawn | None = None
    framing: Framing | None = None
    parts: str | None = None
    domain_limit: float | None = None
    shows: str = ""
    levels: Levels = field(default=None, repr=False, compare=False)

    @property
    def last_timestep(self) -> int:
        """T - 1."""
        return last_timestep(self.levels)

    def interval_source(self) -> IntervalSource:
        """Where the editing and boosting intervals come from.

        Raises:
            ModelUnavailable: the model's curves are not there, or not known.
        """
        if self.curves is None:
            raise ModelUnavailable(
                f"The intervals of {self.id} are not known: give the end of the editing interval (t_edit) and the "
                "start of the boosting interval (t_boost), or measure its curves (docs/models.md says how)."
            )
        if isinstance(self.curves, PublishedTable):
            return replace(self.curves, levels=self.levels)
        return Curves.load(PRESETS / self.curves)

    def known_or_typical(self) -> IntervalSource:
        """Where the intervals come from; those of a typical model where they are not known."""
        try:
            return self.interval_source()
        except ModelUnavailable:
            return Typical(self.levels)


def _google_ddpm(dataset: str, published: str | None, title: str, domain_word: str, shows: str) -> ModelCard:
    """A DDPM++ at 256x256 by Ho et al., EMA weights, as converted by Google (113.7 M parameters)."""
    return ModelCard(
        id=f"ddpm-ema-{dataset}-256",
        title=title,
        description=f"DDPM of {shows} at 256x256 (Ho et al. 2020). 455 MB, downloaded on first use.",
        source=Hub(f"google/ddpm-ema-{dataset}-256"),
        resolution=256,
        h_shape=(512, 8, 8),
        codec="identity",
        domain_word=domain_word,
        clip=OpenClip("ViT-B-16", "openai"),
        perceptual="lpips-alex",
        curves=None if published is None else PUBLISHED[published],
        licence="apache-2.0",
        framing=framing_of(domain_word),
    )


# Words for what shows faces, and names of data sets of aligned ones. With an s or without.
_PEOPLE = {"person", "people", "human", "man", "men", "woman", "women", "child", "children", "baby", "celebrity"}
_FACES = _PEOPLE | {"face", "head", "portrait", "headshot", "selfie", "metface", "ffhq", "celeba", "celebahq"}


def framing_of(*texts: str) -> Framing | None:
    """How pictures show a face, by the words that are used of them (a domain word, a repository's name, a published
    table): data sets of faces (CelebA-HQ, FFHQ, MetFaces) are aligned by one formula."""
    words = re.findall(r"[^\W\d_]+", " ".join(texts).lower())
    return CELEBA_HQ if any(word in _FACES or word.removesuffix("s") in _FACES for word in words) else None


class Registry(dict[str, ModelCard]):
    """Cards by id. Visitors open models meanwhile, so whoever goes through them goes through those of one moment."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().keys()))

    def values(self) -> list[ModelCard]:  # type: ignore[override]
        return list(super().values())

    def items(self) -> list[tuple[str, ModelCard]]:  # type: ignore[override]
        return list(super().items())


# The listed ones, and those that were opened since (`core.models.opening`).
MODELS: dict[str, ModelCard] = Registry(
    (card.id, card)
    for card in (
        ModelCard(
            id="avatars",
            title="Avatars",
            description="Drawn portraits at 128x128. Small, made for this app, and works offline.",
            source=Embedded("models/avatars"),
            resolution=128,
            h_shape=(256, 8, 8),
            codec="haar",
            domain_word="face",
            clip=EmbeddedClip("models/avatars/clip"),
            perceptual="embedded",
            curves="models/avatars/curves.json",
            licence="mit",
            instruments="models/avatars/instruments",
            drawn=Drawn("avatars-t2i", "models/avatars/captions.txt"),
            framing=Framing(2.37, 2.3, 0.2),  # the whole of a training portrait
            parts="models/avatars/parts",
            domain_limit=0.7,  # by `python -m benchmarks.domain`
            shows="drawn portraits",
        ),
        _google_ddpm("celebahq", "CelebA-HQ", "Celebrity faces", "face", "faces"),
        _google_ddpm("church", "LSUN-church", "Churches", "church", "churches"),
        _google_ddpm("bedroom", "LSUN-bedroom", "Bedrooms", "bedroom", "bedrooms"),
        _google_ddpm("cat", None, "Cats", "cat", "cats"),
        ModelCard(
            id="ldm-celebahq-256",
            title="Celebrity faces, latent",
            description="Latent diffusion of faces at 256x256 (Rombach et al. 2022): a third of the work of the model "
            "on pixels. 1.3 GB, downloaded on first use.",
            source=Hub("CompVis/ldm-celebahq-256"),
            resolution=256,
            h_shape=(896, 8, 8),
            codec="vq",
            domain_word="face",
            clip=OpenClip("ViT-B-16", "openai"),
            perceptual="lpips-alex",
            curves=None,
            licence="apache-2.0",
            framing=CELEBA_HQ,
        ),
    )
)

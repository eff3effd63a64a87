"""What a visit has on its bench: a picture with a prompt in a text-to-image model, and what was made of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from core import studio
from core.errors import ModelUnavailable, RequestError
from core.imaging import content_hash, crop_square, to_pil, to_pixels
from core.inversion import saved
from core.inversion.editing import EditSettings
from core.inversion.inversion import Inversion, read_prompt
from core.inversion.loading import card_of, model_of
from core.inversion.methods import METHODS
from core.inversion.model import TextToImage
from core.inversion.solution import Checkpoint, Settings
from core.inverting.captions import describe
from core.models.cards import MODELS
from core.models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from core.visit import DEVICE, Frame, Picture, Session, within

LEAST_STEPS, MOST_STEPS = 4, 200
MOST_BUDGET = 3600  # seconds
KEPT = 4  # trials of one visit


@dataclass(frozen=True)
class Try:
    """What one method made. peak: bytes of memory, if the machine tells. note: what had to be done otherwise."""

    inversion: Inversion
    peak: int | None = None
    note: str = ""

    @property
    def out_of_time(self) -> bool:
        return bool(self.inversion.measures.get("out of time"))


@dataclass(frozen=True)
class Cell:
    """One method on a noisy picture, or with another prompt. sigma: of the noise, of 255. All pixels (1, 3, R, R)."""

    sigma: float
    prompt: str
    method: str
    noisy: Tensor
    reconstruction: Tensor
    decoded: Tensor
    measures: dict[str, float]


@dataclass(eq=False)
class Trial:
    """One picture (1, 3, R, R) with one prompt in one model. Nothing in it is computed twice: `tries` has the methods
    that are done, `checkpoints` the ones that were stopped, `failed` what went wrong, `cells` the robustness study.

    fingerprint: of the model's weights. words_cut: the end of the prompt, if the model does not read it.
    """

    card: TextToImageCard
    fingerprint: str
    pixels: Tensor
    prompt: str
    settings: Settings
    words_cut: str = ""
    tries: dict[str, Try] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[float, str, str], Cell] = field(default_factory=dict)

    def same(self, other: Trial) -> bool:
        """Whether what one has made is good for the other: only the time that it may take can differ."""
        return self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        settings = replace(self.settings, budget=None)
        return self.card.id, self.fingerprint, content_hash(self.pixels), self.prompt, settings

    def missing(self, methods: Sequence[str]) -> list[str]:
        """Those of the methods that are not done, or ran out of a time that was shorter than it may take now."""
        longest = float("inf")
        now = longest if self.settings.budget is None else self.settings.budget
        return [
            method
            for method in methods
            if method not in self.tries
            or (self.tries[method].out_of_time and now > self.tries[method].inversion.measures["seconds"] + 1)
        ]


@dataclass(eq=False)
class Edits:
    """Target prompts for one inversion. frames: by prompt, in the order of their strengths; they change while
    `core.inverting.targets.run` does, and `version` tells that they did. shown: the prompt on the stage. seconds: that
    they took. note: what had to be done otherwise.
    """

    card: TextToImageCard
    inversion: Inversion
    settings: EditSettings
    weights: dict[str, float]
    prompts: list[str]
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    shown: str = ""
    seconds: float = 0.0
    note: str = ""
    version: int = 0


@dataclass
class Bench:
    """Of one visit. number: rises with every job, so that one can tell that it is out of date; last: that of each kind
    of job, as it began last. trial: the one that is shown, of `kept`, the last few. chosen: the method whose inversion
    is edited and saved. opened: the picture that came with a file, and its pixels in the file's model. prompt: the last
    one that was suggested.
    """

    trial: Trial | None = None
    kept: list[Trial] = field(default_factory=list)
    chosen: str | None = None
    number: int = 0
    last: dict[str, int] = field(default_factory=dict)
    opened: tuple[Picture, Tensor] | None = None
    prompt: str = ""
    edits: Edits | None = None

    def begin(self, kind: str = "") -> int:
        """A new job, or none any more: every older one is out of date."""
        self.number += 1
        self.last[kind] = self.number
        return self.number

    def show(self, trial: Trial | None) -> None:
        """Another trial, or none."""
        if trial is not self.trial:
            self.trial, self.edits = trial, None
        if trial is not None:
            self.kept = [*(other for other in self.kept if other is not trial), trial][-KEPT:]

    @property
    def inversion(self) -> Inversion | None:
        """The one that is edited and saved."""
        made = None if self.trial is None else self.trial.tries.get(self.chosen or "")
        return None if made is None else made.inversion


def bench_of(session: Session) -> Bench:
    if session.bench is None:
        session.bench = Bench()
    return session.bench


# -------------------------------------------------------------------------------------------------- models, pictures


def picture_of(session: Session, card: TextToImageCard) -> Tensor:
    """The visit's picture as a text-to-image model sees it: pixels (1, 3, R, R), as sharp as what it came from.

    Raises:
        RequestError: there is none.
    """
    picture, side = session.picture, card.resolution
    if picture is None:
        raise RequestError("There is no picture. Choose an example, upload one, or let the model imagine one.")
    opened = bench_of(session).opened
    if opened is not None and opened[0] is picture and opened[1].shape[-1] == side:
        return opened[1]
    if picture.pixels.shape[-1] >= side:
        source = to_pil(picture.pixels)[0]
    elif picture.example is not None:
        source = next(path for path in studio.examples(picture.model_id) if path.stem == picture.example)
    elif picture.seed is None and session.upload is not None:
        source = crop_square(session.upload, session.crop)
    else:
        source = to_pil(picture.pixels)[0]
    return to_pixels(source, side)


def trial_of(session: Session, card: TextToImageCard) -> Trial | None:
    """The last trial of the visit's picture in this model that is still there."""
    if session.picture is None:
        return None
    pixels = picture_of(session, card)
    kept = reversed(bench_of(session).kept)
    return next((trial for trial in kept if trial.card is card and torch.equal(trial.pixels, pixels)), None)


def suggestion(card: TextToImageCard, pixels: Tensor) -> str:
    """A source prompt for a picture (1, 3, R, R), where the model has a probe that reads it; else ""."""
    try:
        probe = studio.probe(card)
    except ModelUnavailable:
        return ""
    if probe is None:
        return ""
    with DEVICE, torch.no_grad():
        return describe(probe, pixels)


def within_limits(settings: Settings) -> None:
    """Raises RequestError for what would take too long. (`Settings` checks the rest.)"""
    within("steps", settings.steps, LEAST_STEPS, MOST_STEPS)
    within("seed", settings.seed, 0, 2**31 - 1)
    if settings.budget is not None:
        within("seconds", settings.budget, 0, MOST_BUDGET)


def known_methods(methods: Sequence[str]) -> list[str]:
    """In the order of `METHODS`, each once. Raises RequestError: none, or one that there is not."""
    for method in methods:
        if method not in METHODS:
            raise RequestError(f"There is no method {method!r}. Choose from: {', '.join(METHODS)}.")
    if not methods:
        raise RequestError("Choose at least one method.")
    return [method for method in METHODS if method in methods]


def begin_trial(
    model: TextToImage, pixels: Tensor, prompt: str, settings: Settings, kept: Sequence[Trial] = ()
) -> Trial:
    """A trial of a picture (1, 3, R, R), or the one of those that are kept that is the same.

    Raises:
        RequestError: a setting is out of range, the prompt is empty or endless.
    """
    within_limits(settings)
    prompt = read_prompt(prompt, "Write a source prompt: what the picture shows.")
    card = TEXT_TO_IMAGE[model.id]
    trial = Trial(card, model.fingerprint, pixels, prompt, settings, model.words_cut(prompt))
    for other in kept:
        if trial.same(other):
            other.settings = settings
            other.failed.clear()
            return other
    return trial


# -------------------------------------------------------------------------------------------------------------- files


def read_file(path: Path | str) -> Trial:
    """A saved inversion as the one thing that was made in a trial.

    Raises:
        PresetError: the file cannot be used. RequestError: it is of another model or other weights.
        ModelUnavailable: its model cannot be had.
    """
    inversion = saved.load(path)
    card = card_of(inversion.model)
    model = model_of(card)
    inversion.require(model)
    side = model.resolution
    if not inversion.pixels.shape == inversion.reconstruction.shape == (1, 3, side, side):
        raise RequestError(f"The picture in this file does not fit “{card.title}”. Invert the picture again.")
    settings = Settings(inversion.solution.steps, inversion.edit_guidance)
    cut = model.words_cut(inversion.prompt)
    made = Try(inversion, note="From a file.")
    return Trial(card, model.fingerprint, inversion.pixels, inversion.prompt, settings, cut, {inversion.method: made})


def open_file(session: Session, path: Path | str) -> Trial:
    """A saved inversion on the bench, as if it had just been made; its picture becomes the visit's. Raises as
    `read_file`."""
    trial = read_file(path)
    side = MODELS[session.model_id].resolution
    picture = Picture(to_pixels(to_pil(trial.pixels)[0], side), session.model_id)
    bench = bench_of(session)
    bench.begin()
    bench.show(trial)
    [bench.chosen], bench.opened = trial.tries, (picture, trial.pixels)
    session.picture, session.upload = picture, None
    return trial

"""A trial: a picture with a prompt in a text-to-image model, and what each method has made of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import RequestError
from ...imaging import content_hash
from ...inversion import saved
from ...inversion.inversion import Inversion
from ...inversion.methods import METHODS
from ...inversion.solution import Checkpoint, InversionSettings
from ...models.t2i_cards import TEXT_TO_IMAGE, TextToImageCard
from ...text_to_image import TextToImage, load_text_to_image, read_prompt, text_to_image_card
from ..domain import UNKNOWN, Domain
from ..frames import require_range

MIN_STEPS, MAX_STEPS = 4, 200
MAX_BUDGET = 3600  # seconds


@dataclass(frozen=True)
class MethodResult:
    """What one method made. peak: bytes of memory, if the machine tells. note: what had to be done otherwise."""

    inversion: Inversion
    peak: int | None = None
    note: str = ""

    @property
    def out_of_time(self) -> bool:
        return bool(self.inversion.measures.get("out of time"))


@dataclass(frozen=True)
class StudyCell:
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
    """One picture (1, 3, R, R) with one prompt in one model. Nothing in it is computed twice: `results` has the methods
    that are done, `checkpoints` the ones that were stopped, `failed` what went wrong, `cells` the robustness study.

    fingerprint: of the model's weights. words_cut: the end of the prompt, if the model does not read it. left: the
    method that was chosen and its edits, when another trial took its place. domain: whether the model knows the
    picture, once that was asked.
    """

    card: TextToImageCard
    fingerprint: str
    pixels: Tensor
    prompt: str
    settings: InversionSettings
    words_cut: str = ""
    results: dict[str, MethodResult] = field(default_factory=dict)
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    cells: dict[tuple[float, str, str], StudyCell] = field(default_factory=dict)
    left: tuple[str | None, Any] = (None, None)
    domain: Domain = UNKNOWN

    def made(self, method: str) -> dict[str, Any]:
        """Everything that a method's reconstruction depends on, for its file of numbers."""
        about = {"model": self.card.id, "method": method, "source prompt": self.prompt}
        return about | {name: value for name, value in asdict(self.settings).items() if value is not None}

    def same(self, other: Trial) -> bool:
        """Whether results of one are results of the other: only the time limit may differ."""
        return self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        settings = replace(self.settings, budget=None)
        return self.card.id, self.fingerprint, content_hash(self.pixels), self.prompt, settings

    def missing(self, methods: Sequence[str]) -> list[str]:
        """Those of the methods that have no result, or one that a shorter time limit cut short."""
        budget = float("inf") if self.settings.budget is None else self.settings.budget
        return [
            method
            for method in methods
            if method not in self.results
            or (self.results[method].out_of_time and budget > self.results[method].inversion.measures["seconds"] + 1)
        ]


# -------------------------------------------------------------------------------------------------------- beginning one


def check_limits(settings: InversionSettings) -> None:
    """Raises RequestError for what would take too long. (`InversionSettings` checks the rest.)"""
    require_range("steps", settings.steps, MIN_STEPS, MAX_STEPS)
    require_range("seed", settings.seed, 0, 2**31 - 1)
    if settings.budget is not None:
        require_range("seconds", settings.budget, 0, MAX_BUDGET)


def check_methods(methods: Sequence[str]) -> list[str]:
    """In the order of `METHODS`, each once. Raises RequestError: none, or one that there is not."""
    for method in methods:
        if method not in METHODS:
            raise RequestError(f"There is no method {method!r}. Choose from: {', '.join(METHODS)}.")
    if not methods:
        raise RequestError("Choose at least one method.")
    return [method for method in METHODS if method in methods]


def begin_trial(
    model: TextToImage, pixels: Tensor, prompt: str, settings: InversionSettings, kept: Sequence[Trial] = ()
) -> Trial:
    """A trial of a picture (1, 3, R, R). If there is one of the same picture, prompt and settings among `kept`, it is
    that one, so that nothing is computed again.

    Raises:
        RequestError: a setting is out of range, the prompt is empty or endless.
    """
    check_limits(settings)
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
    """A saved inversion as the only result of a trial.

    Raises:
        PresetError: the file cannot be used. RequestError: it is of another model or other weights.
        ModelUnavailable: its model cannot be had.
    """
    inversion = saved.load(path)
    card = text_to_image_card(inversion.model)
    model = load_text_to_image(card)
    inversion.require(model)
    side = model.resolution
    if not inversion.pixels.shape == inversion.reconstruction.shape == (1, 3, side, side):
        raise RequestError(f"The picture in this file does not fit “{card.title}”. Invert the picture again.")
    settings = InversionSettings(inversion.solution.steps, inversion.edit_guidance)
    cut = model.words_cut(inversion.prompt)
    results = {inversion.method: MethodResult(inversion, note="From a file.")}
    return Trial(card, model.fingerprint, inversion.pixels, inversion.prompt, settings, cut, results)

"""Directions that visitors train: from two texts to a preset, with pictures on the way and a stop at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any, get_args

import torch
from torch import Tensor

from ..asyrp.loss import s_dir
from ..asyrp.prompts import TABLE_3, coefficients, suggested_name, templates, without_article
from ..asyrp.sources import Sources
from ..asyrp.train import TrainedForm, Training, TrainingSettings
from ..editing import EditSettings, edit, sample_latent
from ..errors import DeviceRefused, ModelUnavailable, RequestError
from ..imaging import Source, content_hash, thumbnail
from ..intervals import Intervals
from ..memory import MAX_SOURCES
from ..models.cards import ModelCard
from ..models.loader import DiffusionModel
from ..presets import Preset, of_prompt
from ..progress import Job, Progress, Running, finish, stage
from . import library, measuring
from .device import DEVICE, exclusively
from .edit import Forms
from .frames import Frame, Picture, require_range
from .jobs import Work, device_job
from .known_models import takes_prompt
from .latents import edit_together
from .reference import reference_pictures
from .strips import MAX_STRIPS, Strip
from .turns import Turn, Turns
from .words import require_short

# Form: samples, steps.
SUGGESTED: dict[str, tuple[int, int]] = {"global": (32, 20), "implicit": (64, 40), "per_timestep": (64, 20)}
MIN_PICTURES, MAX_PICTURES = 4, 200  # of the visitor's own, to learn from
LOW_MATCH = 0.25  # S_dir: below, the pictures hardly change the way the words do (`python -m benchmarks.matches`)
PREVIEW_STEPS = 8
PREVIEW_EVERY = 4.0  # seconds


@dataclass
class TextEditState:
    """What Text edit keeps of a visit. frames: those of `strip`, which is the one that was asked for last. strips: the
    last few, so that going back to one costs nothing. turn: the request that fills `strip`. made: the visit's name for
    a preset that was just trained or opened, until it is shown; saved: for the one that can be saved. returning: a
    strip of the history that the tab shows when it is opened. forms: averaged forms of directions. sources: what the
    last training prepared. fitted: what directions of the visitor's own were fitted to, their names with the picture's
    content. analyses: requests for one, of which the newest replaces all others. trains: one runs.
    stop_training: set to stop it; discard_training: and to keep nothing."""

    frames: list[Frame] = field(default_factory=list)
    strip: Strip | None = None
    strips: list[Strip] = field(default_factory=list)
    turn: Turn | None = None
    made: str | None = None
    saved: str | None = None
    returning: Strip | None = None
    forms: Forms = field(default_factory=dict)
    sources: dict[tuple[Any, ...], Sources] = field(default_factory=dict)
    fitted: dict[str, str] = field(default_factory=dict)
    trains: bool = False
    analyses: Turns = field(default_factory=Turns)
    stop_training: bool = False
    discard_training: bool = False

    def show(self, strip: Strip) -> Strip:
        """The strip that is asked for, or the same one from before."""
        kept = next((other for other in self.strips if other.key == strip.key), strip)
        self.strips = [*(other for other in self.strips if other is not kept), kept][-MAX_STRIPS:]
        self.strip, self.frames = kept, kept.frames
        return kept

    def keep_sources(self, training: Training) -> None:
        """Remember what a training prepared, the last one only, and only if it is not large."""
        if training.sources is not None and training.sources.P.nbytes <= MAX_SOURCES:
            self.sources = {_sources_key(training): training.sources}


def training_settings(form: str, samples: int, steps: int, l_clip: float | None = None) -> TrainingSettings:
    """Settings from what a visitor chose. l_clip: None for what Table 3 of the paper has for the texts. Raises
    RequestError for numbers out of range."""
    if form not in get_args(TrainedForm):
        raise RequestError(f"There is no form {form!r} to train: use {', '.join(get_args(TrainedForm))}.")
    require_range("samples", samples, 4, 2000)
    require_range("steps", steps, 8, 200)
    if l_clip is not None:
        require_range("coefficient", l_clip, 0.05, 5)
    chosen: TrainedForm = next(known for known in get_args(TrainedForm) if known == form)
    return TrainingSettings(form=chosen, samples=int(samples), steps=int(steps), l_clip=l_clip)


def pictures_to_learn_from(model: DiffusionModel, count: int, files: Sequence[Source] = ()) -> Job[Tensor]:
    """Pixels (N, 3, R, R) for a training from inverted pictures: the visitor's own, or else `count` of the model's.

    Raises:
        RequestError: too few or too many. ImageError: one of them is no picture.
    """
    if not files:
        return (yield from reference_pictures(model, min(count, MAX_PICTURES)))
    if not MIN_PICTURES <= len(files) <= MAX_PICTURES:
        raise RequestError(f"Give between {MIN_PICTURES} and {MAX_PICTURES} pictures to learn from, not {len(files)}.")
    made = []
    for file in files:
        made.append(library.open_picture(file, model.card.id).pixels)
        yield Progress(len(made), len(files), "Opening the pictures")
    return torch.cat(made)


def start_training(
    model: DiffusionModel,
    source: str,
    target: str,
    settings: TrainingSettings,
    state: TextEditState | None = None,
    pixels: Tensor | None = None,
) -> Training:
    """A training that `train` will run; what an earlier one of the visit prepared is used again where it fits.

    pixels: (N, 3, R, R), pictures to learn from, which are inverted first; None: random noise.

    Raises:
        RequestError: the texts cannot be used.
    """
    source, target = (" ".join(text.split()) for text in (source, target))
    require_short(source, target)
    if takes_prompt(model.card.id):
        source, target = without_article(source), without_article(target)
    with DEVICE.turn():
        training = Training(model, measuring.image_text(model.card), source, target, settings, pixels=pixels)
    kept = state.sources.get(_sources_key(training)) if state else None
    if kept is not None and len(kept.timesteps) >= len(training.timesteps):
        training.sources = kept
    return training


def _sources_key(training: Training) -> tuple[Any, ...]:
    """What the prepared trajectories of latents depend on, apart from how far down they go."""
    settings, pixels = training.settings, training.pixels
    latents = (settings.samples, settings.first_seed) if pixels is None else content_hash(pixels)
    return training.model.key, training.model.fingerprint, settings.steps, latents


def coefficients_in_words(training: Training) -> str:
    """Which weights of Eq. 7 a training has, and whose they are."""
    known = (training.source.strip().lower(), training.target.strip().lower()) in TABLE_3
    numbers = f"λ for the words {training.l_clip:g}, for staying close {training.l_recon:.3g}"
    if (
        training.settings.l_clip is not None
        and training.l_clip != coefficients(training.source, training.target).l_clip
    ):
        return f"{numbers}; the first as you have set it"
    return f"{numbers}; {'from Table 3 of the paper' if known else 'by the rule of the paper'}"


def train_preset(
    training: Training, watched: Picture | None = None, stop: Callable[[], bool] = lambda: False
) -> Job[Preset]:
    """Run a training until it is done or `stop` says so; what was learned until then is the result.

    watched: a picture that the previews show before and after (2, 3, R, R); a fresh one by default.

    Raises:
        RequestError: it was stopped before it had learned anything. ResourceError: out of memory.
    """
    pixels = None if watched is None else watched.pixels
    preview, refused = None, ""
    running = Running(learn(training, pixels))
    try:
        for event in running:
            if stop():
                break
            preview = event.preview if event.preview is not None else preview
            yield event
    except DeviceRefused as refusal:  # what was learned before stays
        if not training.losses:
            raise
        refused = f": {refusal.reason}"
    finally:
        running.close()
    if not training.losses:
        raise RequestError("The training was stopped before it had learned anything.")
    if not refused:
        with suppress(DeviceRefused):
            preview = yield from stage(look(training, pixels), first=len(training.losses), total=training.total)
    note = f"Stopped early{refused}" if len(training.losses) < training.total else "Done"
    yield Progress(len(training.losses), training.total, note, preview)
    return _as_preset(training, preview, float("nan") if preview is None else match(training, preview))


def learned_so_far(training: Training) -> Preset | None:
    """What an unfinished training has learned, as a preset that nobody has looked at; None before its first step."""
    if not training.losses:
        return None
    preset, steps = _as_preset(training, None, float("nan")), f"{len(training.losses)} of {training.total}"
    return replace(preset, description=f"{preset.description} Its training ended after {steps} steps.")


def match(training: Training, preview: Tensor) -> float:
    """S_dir of a preview (2, 3, R, R), before and after: how far the picture changes the way the words do."""
    words = training.source, training.target, templates(training.model.card)
    with DEVICE.turn():
        return float(s_dir(measuring.image_text(training.model.card), preview[:1], preview[1:], *words)[0])


def learn_work(training: Training, pixels: Tensor | None) -> Work:
    """Of `learn`: a step is a pass there, and one there and back."""
    settings, left = training.settings, training.total - training.step
    to_prepare = training.unprepared * len(training.before + training.timesteps)
    to_prepare += training.to_invert * settings.steps
    return Work(to_prepare / 8 + 3 * left, to_prepare + 4 * left * settings.batch)


@device_job(learn_work, resumable=True)
def learn(training: Training, pixels: Tensor | None) -> Job[None]:
    """Go on with a training to its end. Events have what the direction does so far (2, 3, R, R) to show, now and then.

    pixels: of the picture that they show, (1, 3, R, R); None: a fresh one.
    """
    pixels = _watched(training.model) if pixels is None else pixels
    shown, preview = 0.0, None
    for event in exclusively(training.run()):
        if time.monotonic() - shown > PREVIEW_EVERY and training.losses:
            preview, shown = _preview(training, pixels), time.monotonic()
        yield replace(event, preview=preview)


def look_work(training: Training, pixels: Tensor | None) -> Work:
    """Of `look`."""
    return Work(3.0 * PREVIEW_STEPS, 5.0 * PREVIEW_STEPS)


@device_job(look_work)
def look(training: Training, pixels: Tensor | None) -> Job[Tensor]:
    """What the direction does so far: pixels (2, 3, R, R). Arguments as of `learn`."""
    pixels = _watched(training.model) if pixels is None else pixels
    yield Progress(0, 1, "Looking at it")
    return _preview(training, pixels)


def _watched(model: DiffusionModel) -> Tensor:
    """A fresh picture (1, 3, R, R)."""
    with DEVICE.shared(model) as shared:
        return finish(edit(shared, sample_latent(model, seed=1), settings=EditSettings(PREVIEW_STEPS)))


def _preview(training: Training, pixels: Tensor) -> Tensor:
    """What the direction does so far: pixels (2, 3, R, R), before and after, in a few steps."""
    settings = EditSettings(PREVIEW_STEPS, Intervals(training.t_edit, 0))
    weighted = [(training.direction(), [0.0, 1.0])]
    return finish(edit_together(training.model, pixels, 2, weighted, settings, "anchored")).cpu()


def _as_preset(training: Training, preview: Tensor | None, matched: float) -> Preset:
    card, settings = training.model.card, training.settings
    boost = _t_boost(card)
    return Preset(
        direction=training.direction(),
        name=suggested_name(training.source, training.target),
        model=card.id,
        fingerprint=training.model.fingerprint,
        description=f"Trained from “{training.source}” to “{training.target}”.",
        method="asyrp",
        parameters={
            "form": settings.form,
            "samples": settings.samples,
            "optimiser_steps": len(training.losses),
            "l_clip": training.l_clip,
            "l_recon": training.l_recon,
            "latents": "random" if training.pixels is None else "inverted",
        },
        source_text=training.source,
        target_text=training.target,
        t_edit=training.t_edit,
        t_boost=boost,
        measured={"s_dir": round(matched, 4)} if isfinite(matched) else {},
        thumbnail=None if preview is None else thumbnail(preview[1]),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **of_prompt(training.model),
    )


def _t_boost(card: ModelCard) -> int | None:
    try:
        return card.interval_source().t_boost()
    except ModelUnavailable:
        return None

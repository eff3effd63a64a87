"""What two prompts differ in as a preset of the visitor's own: a direction without an image-text model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from torch import Tensor

from ..asyrp import fitted_shift as fitted
from ..asyrp.fitted_shift import FittedShift, Fitting, fitted_shift
from ..asyrp.loss import require_both, s_dir
from ..asyrp.prompt_shift import SAMPLES, STEPS, everywhere, prompt_shift
from ..asyrp.prompts import suggested_name, templates, without_article
from ..directions import Direction, PerTimestepDirection
from ..editing import EditSettings
from ..errors import ModelUnavailable, RequestError
from ..imaging import thumbnail
from ..intervals import Intervals
from ..models.loader import DiffusionModel
from ..models.t2i_cards import TEXT_TO_IMAGE
from ..presets import Preset, of_prompt
from ..process import USUAL_STEPS
from ..progress import Job, Progress, Running, stage
from . import measuring
from .device import DEVICE, exclusively
from .frames import Picture, require_range
from .jobs import Work, device_job
from .known_models import bound_model, takes_prompt, written_prompt
from .latents import edit_together
from .words import require_short

MAX_SAMPLES, MIN_STEPS, MAX_STEPS = 200, 4, 200


def two_prompts(model_id: str, source: str, target: str) -> tuple[DiffusionModel, DiffusionModel]:
    """A text-to-image model bound to what pictures show, and to what they should show.

    Raises:
        RequestError: it takes no prompts, or the prompts are empty, endless or the same. ModelUnavailable.
    """
    if not takes_prompt(model_id):
        raise RequestError(f"{model_id} is no text-to-image model: choose one, or train the direction.")
    require_short(source, target)
    require_both(source, target)
    source, target = (written_prompt(model_id, text) for text in (source, target))
    if source.lower() == target.lower():
        raise RequestError("The two texts say the same. Change, add or take out a word of the second one.")
    return bound_model(model_id, source), bound_model(model_id, target)


def shift_work(source: DiffusionModel, target: DiffusionModel, samples: int = SAMPLES, steps: int = STEPS) -> Work:
    """Of `shift_of_prompts`."""
    return Work(2 * steps * (1 + samples // 8), 2 * steps * samples)


@device_job(shift_work)
def shift_of_prompts(
    source: DiffusionModel, target: DiffusionModel, samples: int = SAMPLES, steps: int = STEPS
) -> Job[PerTimestepDirection]:
    """`core.asyrp.prompt_shift`, for whoever waits for it.

    Raises:
        RequestError: a number is out of range. ResourceError: out of memory.
    """
    require_range("samples", samples, 1, MAX_SAMPLES)
    require_range("steps", steps, MIN_STEPS, MAX_STEPS)
    return (yield from stage(exclusively(prompt_shift(source, target, samples=samples, steps=steps)), "Comparing"))


EVALUATIONS = 1.25  # of an iteration, by line search


def fit_work(
    source: DiffusionModel,
    target: DiffusionModel,
    samples: int,
    steps: int,
    so_far: Fitting,
    picture: Tensor | None = None,
    bound: DiffusionModel | None = None,
) -> Work:
    """Of `fit_to_prompts`: predictions at every noise level, then decoders there and back."""
    paths, edits = (samples + fitted.HELD_OUT,) * 2 if picture is None else (1, len(fitted.STRENGTHS))
    fits, left = samples if picture is None else edits, steps - len(so_far.deltas)
    words, own, evaluations = 7, 3, 3 * EVALUATIONS * fitted.ITERATIONS  # with guidance; of the pictures, edited ones
    return steps * (Work(words, words * paths) + Work(own, own * edits)) + left * Work(evaluations, evaluations * fits)


@device_job(fit_work, resumable=True)
def fit_to_prompts(
    source: DiffusionModel,
    target: DiffusionModel,
    samples: int,
    steps: int,
    so_far: Fitting,
    picture: Tensor | None = None,
    bound: DiffusionModel | None = None,
) -> Job[FittedShift]:
    """`core.asyrp.fitted_shift`, for whoever waits for it.

    Raises:
        RequestError: a number is out of range. ResourceError: out of memory.
    """
    require_range("samples", samples, 1, MAX_SAMPLES)
    require_range("steps", steps, MIN_STEPS, MAX_STEPS)
    job = _fitted(source, target, samples, steps, so_far=so_far, picture=picture, bound=bound)
    return (yield from stage(exclusively(job), "Fitting the words"))


def _fitted(source: DiffusionModel, target: DiffusionModel, samples: int, steps: int, **how: Any) -> Job[FittedShift]:
    """`core.asyrp.fitted_shift`, with the guidance of edits by words."""
    card = TEXT_TO_IMAGE.get(source.card.id)
    guidance = card.working_guidance if card else fitted.GUIDANCE
    return fitted_shift(source, target, samples, steps, guidance=guidance, **how)


Shift = PerTimestepDirection | FittedShift


@dataclass(frozen=True)
class Way:
    """How prompts are compared. form: its name beside the forms that are trained; method: in presets. samples: pictures
    that are drawn for it; 0: it is made from one picture, that of the visitor. strength: a plain change where h takes
    the words up."""

    form: str
    method: str
    samples: int
    steps: int
    strength: float
    strength_range: tuple[float, float]

    @property
    def of_picture(self) -> bool:
        return self.samples == 0


REACH = max(fitted.STRENGTHS)  # sliders go as far as shifts are fitted
HERE = Way("picture", "prompt shift fitted to a picture", 0, fitted.STEPS, 1.0, (-REACH, REACH))
FITTED = Way("fitted", "fitted prompt shift", fitted.SAMPLES, fitted.STEPS, 1.0, (-REACH, REACH))
MEAN = Way("prompts", "prompt shift", SAMPLES, STEPS, 3.0, (-6.0, 6.0))
WAYS = {way.form: way for way in (HERE, FITTED, MEAN)}


def is_fitted_elsewhere(preset: Preset, content: str | None, picture: Picture) -> bool:
    """Whether a direction was fitted to one picture, and not to this one. content: of the one it was fitted to, as
    `Picture.key` begins; None: nobody knows."""
    return preset.method == HERE.method and content != picture.key[0]


def shift_between(
    source: DiffusionModel,
    target: DiffusionModel,
    way: Way,
    samples: int,
    steps: int,
    seed: int = 0,
    picture: Tensor | None = None,
    bound: DiffusionModel | None = None,
) -> Job[Shift]:
    """The shift between the prompts that two models are bound to, by one of the ways, on the device that they are on.

    Raises:
        RequestError: a number is out of range. ResourceError: out of memory.
    """
    if way is MEAN:
        return (yield from prompt_shift(source, target, None, samples, steps, seed))
    return (yield from _fitted(source, target, samples, steps, seed=seed, picture=picture, bound=bound))


def direction_between(
    source: DiffusionModel,
    target: DiffusionModel,
    watched: Picture | None = None,
    way: Way = FITTED,
    samples: int | None = None,
    steps: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Job[Preset]:
    """A preset of what two prompts differ in. watched: a picture to show it on, and to fit it to if that is the way.
    samples, steps: of the pictures that are drawn for it, by default the way's own. stop: asked after every step.

    Raises:
        RequestError: it was stopped, there is no picture to fit it to, or a number is out of range. ResourceError: out
        of memory.
    """
    samples, steps = 1 if way.of_picture else samples or way.samples, steps or way.steps
    running: Running[Shift]
    if way is MEAN:
        running = Running(shift_of_prompts(source, target, samples, steps))
    else:
        if way.of_picture and watched is None:
            raise RequestError("Choose a picture first: this direction is fitted to one.")
        pixels = watched.pixels if watched and way.of_picture else None
        running = Running(fit_to_prompts(source, target, samples, steps, Fitting(), pixels, _bound(source, watched)))
    for event in running:
        if stop():
            running.close()
            raise RequestError("Stopped: there is no direction before all of it was compared.")
        yield event
    edited = _bound(source, watched) if way.of_picture else source
    preset = shift_preset(source, target, running.result, way, samples, steps, bound=edited)
    if watched is None:
        return preset
    yield Progress(steps, steps, "Looking at it")
    preview = yield from _drawn(source, preset, watched)
    yield Progress(steps, steps, "Done", preview)
    matched, measured = _match(source, preset, preview), dict(preset.measured)
    if isfinite(matched):
        measured["s_dir"] = round(matched, 4)
    return replace(preset, thumbnail=thumbnail(preview[1]), measured=measured)


def shift_preset(
    source: DiffusionModel,
    target: DiffusionModel,
    made: Shift,
    way: Way,
    samples: int,
    steps: int,
    seed: int = 0,
    per_timestep: bool = True,
    bound: DiffusionModel | None = None,
) -> Preset:
    """The shift between the prompts that two models are bound to, with what is known of it. bound: the model as it
    edits, to which the shift was fitted; by default with the source prompt."""
    before, after = (of_prompt(model)["prompt"] for model in (source, target))
    what = f"from “{before}” to “{after}”"
    if isinstance(made, FittedShift):
        shift, measured = made.direction, {"explained": round(made.explained, 4)}
        on = f"{samples} pictures"
        if way.of_picture:
            on = f"one picture; there it explains {max(0.0, made.explained):.0%} of what the words do"
        description = f"A shift of h fitted to the change {what} on {on}."
    else:
        shift, measured = made, {}
        description = f"The shift of h {what}, mean of {samples} pictures."
    direction: Direction = shift if per_timestep else everywhere(shift)
    return Preset(
        direction,
        name=suggested_name(before, after)[:80],
        model=source.card.id,
        fingerprint=source.fingerprint,
        description=description[:2000],
        method=way.method,
        parameters={"samples": samples, "steps": steps, "seed": seed},
        source_text=before[:300],
        target_text=after[:300],
        injection="symmetric",
        t_edit=0,
        t_boost=0,
        strength=way.strength,
        strength_range=way.strength_range,
        measured=measured,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **of_prompt(bound or source),
    )


def _bound(model: DiffusionModel, watched: Picture | None) -> DiffusionModel:
    """The model as it edits a picture: bound to what that shows, if it says so."""
    return bound_model(watched.model_id, watched.conditioning) if watched and watched.conditioning else model


def _drawn(model: DiffusionModel, preset: Preset, watched: Picture) -> Job[Tensor]:
    """Pixels (2, 3, R, R) of a picture before and after, as edits are made."""
    bound = _bound(model, watched)
    settings = EditSettings(USUAL_STEPS["anchored"], Intervals(0, 0), preset.injection)
    weighted = [(preset.direction, [0.0, preset.strength])]
    return (yield from edit_together(bound, watched.pixels, 2, weighted, settings, "anchored")).cpu()


def _match(model: DiffusionModel, preset: Preset, preview: Tensor) -> float:
    """S_dir of a preview, as trained directions have it; not a number where there is no image-text model."""
    words = without_article(preset.source_text), without_article(preset.target_text), templates(model.card)
    try:
        with DEVICE.turn():
            return float(s_dir(measuring.image_text(model.card), preview[:1], preview[1:], *words)[0])
    except ModelUnavailable:
        return float("nan")

"""One direction on one picture: a preset and strengths go in, measured frames come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .. import presets
from ..asyrp.forms import global_direction, mean_direction
from ..asyrp.loss import similarity
from ..directions import Direction, ImplicitDirection, PerTimestepDirection, parts_of
from ..editing import EditSettings, edit, sample_latent
from ..errors import ModelUnavailable
from ..intervals import TYPICAL_SIMILARITY, Intervals, Typical
from ..models.cards import ModelCard
from ..models.loader import DiffusionModel
from ..presets import Preset, weights_in_words, works
from ..progress import Job, Progress, finish
from . import measuring, reference
from .device import DEVICE, exclusively
from .domain import domain_of, measure_known
from .frames import EditOptions, Form, Frame, Picture, require_range
from .jobs import Work, device_job
from .known_models import bound_model
from .latents import edit_together

STRIP = 7  # strengths shown side by side
MAX_STRENGTH = 100
NOISY = 0.9  # of the last timestep: what is edited from there on only leaves nearly nothing of it

Forms = dict[tuple[Any, ...], PerTimestepDirection]  # averaged forms of directions, by what they are of


def warm_up(model_id: str) -> None:
    """Load everything that the first edit needs, and run the network once. Quiet about what is not there."""
    try:
        model = bound_model(model_id)
        with suppress(ModelUnavailable):
            measuring.probe(model.card)
            measuring.image_text(model.card)
        finish(exclusively(edit(model, sample_latent(model, 0), settings=EditSettings(steps=2))))
    except ModelUnavailable:
        return


def strip_strengths(preset: Preset, count: int = STRIP) -> list[float]:
    """About `count` round shares of the preset's own strength over its range, zero among them where the range holds
    it."""
    unit = abs(preset.unit)
    low, high = (end / unit for end in preset.strength_range)
    step = next(s for s in (0.05, 0.1, 0.2, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50) if (high - low) / s <= count - 1 + 1e-9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step * unit, 4) for k in range(first, last + 1)]


def intervals_for(card: ModelCard, preset: Preset, options: EditOptions) -> Intervals:
    """Editing and boosting interval: the visitor's, else the preset's unless curves are asked for, else by the model's
    curves. What these need and is not to be had is taken as it is typical (`what_is_assumed`)."""
    return _intervals(card, preset, options)[0]


def what_made_it(card: ModelCard, preset: Preset, options: EditOptions) -> dict[str, Any]:
    """Everything that pictures of a preset depend on beside the strength, for their file of numbers."""
    intervals = intervals_for(card, preset, options)
    return {
        "model": card.id,
        "direction": preset.name,
        "process": options.process,
        "steps": options.step_count,
        "seed": options.seed,
        "form": options.form,
        "injection": options.injection or preset.injection,
        "t_edit": intervals.t_edit,
        "t_boost": intervals.t_boost,
    }


def what_is_assumed(card: ModelCard, preset: Preset, options: EditOptions) -> tuple[str, ...]:
    """In words, what `intervals_for` had to take as it is typical, that nothing is edited in what it says, and that a
    direction may not be for this model."""
    return (*_intervals(card, preset, options)[1], *_doubts(preset))


def _doubts(preset: Preset) -> tuple[str, ...]:
    """Of weights that are not known, unless it was seen to work with them."""
    doubtful = preset.certainty == "unknown" and not works(preset)
    return (f"{preset.name}: {weights_in_words(preset)}",) if doubtful else ()


def _intervals(card: ModelCard, preset: Preset, options: EditOptions) -> tuple[Intervals, tuple[str, ...]]:
    own = (None, None) if options.source == "curves" else (preset.t_edit, None if options.boost else preset.t_boost)
    t_edit = own[0] if options.t_edit is None else options.t_edit
    t_boost = own[1] if options.t_boost is None else options.t_boost
    assumed = []
    if t_edit is None or t_boost is None:
        source = card.known_or_typical()
        if isinstance(source, Typical):
            assumed.append(
                "The model's curves are not known: the intervals are those of a typical model until they are measured "
                "(docs/models.md says how)."
            )
        text_similarity = 1.0
        if t_edit is None and preset.source_text and preset.target_text:
            try:
                text_similarity = similarity(measuring.image_text(card), preset.source_text, preset.target_text)
            except ModelUnavailable:
                text_similarity = TYPICAL_SIMILARITY
                assumed.append(f"Without CLIP the two texts are taken to be as alike as is usual ({text_similarity}).")
        t_edit = source.t_edit(text_similarity) if t_edit is None else t_edit
        t_boost = source.t_boost() if t_boost is None else t_boost
    last, parts = card.last_timestep, parts_of(preset.direction)
    starts = [last if part.direction.t_start is None else min(last, part.direction.t_start) for part in parts]
    if not any(max(t_edit, part.t_edit) <= start for part, start in zip(parts, starts, strict=True)):
        assumed.append(
            f"Nothing is edited: {preset.name} acts from t = {max(starts)} down, and edits from there end at "
            f"t = {t_edit} already. Choose a smaller end of the editing interval (t_edit)."
        )
    return Intervals(t_edit, t_boost), tuple(assumed)


def intervals_in_words(preset: Preset, options: EditOptions, intervals: Intervals, last: int = 999) -> str:
    """Which intervals are in force, and whose they are. last: timestep of the model."""

    def whose(own: int | None, asked: int | None, boosting: bool = False) -> str:
        if asked is not None:
            return "as you have set it"
        suggested = options.source == "preset" and own is not None and not (boosting and options.boost)
        return f"as “{preset.name}” suggests" if suggested else "by the model's curves"

    edit = whose(preset.t_edit, options.t_edit)
    boost = whose(preset.t_boost, options.t_boost, True)
    boosting = f"quality boosted below t = {intervals.t_boost}" if intervals.t_boost else "no boosting"
    little = " Only the noisiest levels are edited: expect little change." if intervals.t_edit > NOISY * last else ""
    if edit == boost:
        return f"In force: editing down to t = {intervals.t_edit}, {boosting}; {edit}.{little}"
    return f"In force: editing down to t = {intervals.t_edit}, {edit}; {boosting}, {boost}.{little}"


def edit_work(
    model: DiffusionModel,
    picture: Picture,
    preset: Preset,
    strengths: Sequence[float],
    options: EditOptions = EditOptions(),
    forms: Forms | None = None,
) -> Work:
    """Of `edit_frames`."""
    steps, averaged = options.steps_taken([preset.injection]), preset.direction.steps
    editing = Work(2 * steps, steps * (1 + 2 * len(strengths)))
    if options.form == "trained" or not isinstance(preset.direction, ImplicitDirection):
        return editing
    return editing + reference.latents_work(model, averaged) + Work(2 * averaged, 2 * reference.COUNT * averaged)


@device_job(edit_work)
def edit_frames(
    model: DiffusionModel,
    picture: Picture,
    preset: Preset,
    strengths: Sequence[float],
    options: EditOptions = EditOptions(),
    forms: Forms | None = None,
) -> Job[list[Frame]]:
    """Edit one picture at several strengths in one batch: a `Frame` for each, in their order.

    forms: where averaged forms of directions are kept between calls.

    Raises:
        PresetError: the preset is for another model. RequestError: a strength out of range.
        ModelUnavailable, ResourceError.
    """
    for strength in strengths:
        require_range("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
    presets.require_model(preset, model)
    intervals, assumed = _intervals(model.card, preset, options)
    settings = EditSettings(options.step_count, intervals, options.injection or preset.injection, options.seed)

    direction = yield from _form(model, preset, options.form, intervals.t_edit, {} if forms is None else forms)

    domain = finish(domain_of(model, picture))
    weighted = [(direction, list(strengths))]
    edited = yield from edit_together(model, picture.pixels, len(strengths), weighted, settings, options.process)
    measured = measure_known(model.card, domain, picture.pixels, edited, preset.source_text, preset.target_text)
    rows = zip(strengths, edited.cpu(), measured, strict=True)
    assumed = (*assumed, *_doubts(preset))
    return [Frame(float(c), pixels, about.lacking(*assumed)) for c, pixels, about in rows]


def _form(model: DiffusionModel, preset: Preset, form: Form, t_edit: int, kept: Forms) -> Job[Direction]:
    """The direction as it was trained, or its mean over 20 inverted pictures, or that averaged over time too (Appendix
    L.1)."""
    direction = preset.direction
    if form == "trained" or not isinstance(direction, ImplicitDirection):
        return direction
    key = (direction, model.key, t_edit)
    if key not in kept:
        x_T = yield from reference.reference_latents(model, direction.steps)
        yield Progress(0, 1, f"Averaging the direction over {len(x_T)} pictures")
        with DEVICE.turn():
            kept[key] = mean_direction(model, direction, x_T, t_edit)
    return global_direction(kept[key]) if form == "global" else kept[key]

"""Applying several presets in one pass: h + S/S~ sum_i c_i f_i(h) (Asyrp Algorithm 1, line 15).

Presets differ in where they act, so this is the rule for a sum of them:

- Editing: each acts down to its own t_edit. What belongs to the coarse steps stays there, whatever it is added to.
- Boosting: noise is added below the smallest t_boost, where every one of them allows it. A preset that is muted has no
  say; one of strength 0 has, so that nothing jumps on the way to zero.
- Injection: asymmetric parts shift P_t, symmetric ones P_t and D_t, each as it would alone. With both kinds,
  eps_D = G(h + S) and eps_P = G(h + S + A).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from ... import presets
from ...directions import CompositeDirection, parts_of
from ...editing import EditSettings
from ...errors import RequestError
from ...intervals import Intervals
from ...models.cards import ModelCard
from ...models.loader import DiffusionModel
from ...presets import Preset, least_certain
from ...progress import Job, finish
from ..domain import domain_of, measure_known
from ..edit import intervals_for, what_is_assumed
from ..frames import EditOptions, Frame, Picture, in_units, require_range
from ..jobs import Work, device_job
from ..latents import edit_together
from .composition import MAX_STRENGTH, Composition

MAX_PICTURES = 121  # at once

Chosen: TypeAlias = Sequence[tuple[Preset, float]]  # presets with their strengths


def resolve(composition: Composition, available: Mapping[str, Preset]) -> list[tuple[Preset, float]]:
    """The presets of a composition's active components, with their strengths.

    available: by key.

    Raises:
        RequestError: one of them is not available any more.
    """
    if any(component.key not in available for component in composition.active):
        raise RequestError("A direction of this composition is not here any more. Remove it, or add it again.")
    return [(available[component.key], component.strength) for component in composition.active]


def intervals_of(card: ModelCard, chosen: Sequence[Preset], options: EditOptions = EditOptions()) -> Intervals:
    """The interval of a sum: from the smallest t_edit, boosting below the smallest t_boost."""
    each = [intervals_for(card, preset, options) for preset in chosen]
    return Intervals(min(i.t_edit for i in each), min(i.t_boost for i in each))


def what_made_it(card: ModelCard, chosen: Chosen, options: EditOptions) -> dict[str, Any]:
    """Everything that the picture of a sum depends on, for its file of numbers."""
    directions = []
    for preset, strength in chosen:
        about = {"direction": preset.name, "raw strength": strength, "strength": round(strength / preset.unit, 4)}
        own = intervals_for(card, preset, options)
        directions.append(about | {"injection": options.injection or preset.injection, "t_edit": own.t_edit})
    boost = intervals_of(card, [preset for preset, _ in chosen], options).t_boost
    about = {"model": card.id, "process": options.process, "steps": options.step_count, "seed": options.seed}
    return about | {"t_boost": boost, "directions": directions}


def intervals_in_words(card: ModelCard, chosen: Sequence[Preset], options: EditOptions = EditOptions()) -> str:
    """Which intervals are in force in a sum, and whose they are: of the editing ones each direction has its own."""
    if not chosen:
        return ""
    each = [(preset, intervals_for(card, preset, options)) for preset in chosen]
    ends = ", ".join(f"{preset.name} down to t = {own.t_edit}" for preset, own in each)
    whose = "by the model's curves" if options.source == "curves" else "as they suggest"
    words = f"In force: {ends}; {whose}. "
    t_boost = min(own.t_boost for _, own in each)
    if options.boost or options.source == "curves":
        return words + f"Quality boosted below t = {t_boost}, by the model's curves."
    if t_boost:
        return words + f"Quality boosted below t = {t_boost}, where all of them allow it."
    off = [preset.name for preset, own in each if own.t_boost == 0]
    return words + f"No boosting, because {' and '.join(off)} {'suggests' if len(off) == 1 else 'suggest'} none."


def as_composite(card: ModelCard, preset: Preset, options: EditOptions = EditOptions()) -> CompositeDirection:
    """A preset's direction as a sum whose parts carry their own t_edit and injection."""
    t_edit = intervals_for(card, preset, options).t_edit
    default = options.injection or preset.injection
    parts = parts_of(preset.direction)
    return CompositeDirection(
        tuple(part.direction for part in parts),
        tuple(part.weight for part in parts),
        tuple(max(t_edit, part.t_edit) for part in parts),
        tuple(part.injection or default for part in parts),
    )


def combine(card: ModelCard, chosen: Chosen, name: str, options: EditOptions = EditOptions()) -> Preset:
    """One preset of kind composite that does at strength 1 what `chosen` do at theirs. It carries all of their parts.

    Raises:
        RequestError: there are none, or more parts than a preset can carry.
    """
    if not chosen:
        raise RequestError("There is nothing to save yet: add a direction, and see that it is not muted.")
    sums = [(as_composite(card, preset, options), c) for preset, c in chosen]
    parts = [part for direction, _ in sums for part in direction.parts]
    if len(parts) > presets.MAX_PARTS:
        raise RequestError(f"These directions have {len(parts)} parts; a preset carries up to {presets.MAX_PARTS}.")
    direction = CompositeDirection(
        tuple(parts),
        tuple(c * weight for direction, c in sums for weight in direction.weights),
        tuple(t for direction, _ in sums for t in direction.t_edits),
        tuple(injection for direction, _ in sums for injection in direction.injections),
    )
    intervals = intervals_of(card, [preset for preset, _ in chosen], options)
    first = chosen[0][0]
    return Preset(
        direction,
        name=name,
        model=first.model,
        fingerprint=first.fingerprint,
        certainty=least_certain([preset for preset, _ in chosen]),
        description=describe_composition(chosen),
        method="composition",
        parameters={"parts": [{"name": preset.name, "strength": c} for preset, c in chosen]},
        injection=direction.injections[0],
        t_edit=intervals.t_edit,
        t_boost=intervals.t_boost,
        family=first.family,
        prompt=first.prompt,
        guidance=first.guidance,
        shifted=first.shifted,
    )


def describe_composition(chosen: Chosen) -> str:
    """What a composition is made of, in multiples of what the directions suggest: Smiling +1, Beard −0.5."""
    return ", ".join(f"{preset.name} {in_units(c, preset.strength)}" for preset, c in chosen)


def apply_work(
    model: DiffusionModel,
    picture: Picture,
    columns: Sequence[tuple[Preset, Sequence[float]]],
    options: EditOptions = EditOptions(),
) -> Work:
    """Of `apply`."""
    steps = options.steps_taken([preset.injection for preset, _ in columns])
    count = max((len(strengths) for _, strengths in columns), default=0)
    return Work(steps * (2 + count // 16), steps * (1 + 2 * count))


def require_strengths(strengths: Sequence[float]) -> None:
    """Raises RequestError: one is out of range."""
    for strength in strengths:
        require_range("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)


@device_job(apply_work)
def apply(
    model: DiffusionModel,
    picture: Picture,
    columns: Sequence[tuple[Preset, Sequence[float]]],
    options: EditOptions = EditOptions(),
) -> Job[list[Frame]]:
    """Edits of one picture in one batch. Returns their frames, in order, with the strength of the first preset.

    What the edits share is computed once: all of them start from one latent, the encoder and G(h) of the first step
    are the same for all, and edits with equal strengths are one (see `editing.edit`).

    columns: each preset with its strengths, one for every edit.

    Raises:
        PresetError: a preset is for another model. RequestError: strengths out of range, or different numbers of them.
        ModelUnavailable, ResourceError.
    """
    counts = {len(strengths) for _, strengths in columns}
    if len(counts) != 1 or not 1 <= max(counts) <= MAX_PICTURES:
        raise RequestError(f"Between 1 and {MAX_PICTURES} pictures can be made at once, with a strength for every one.")
    for preset, strengths in columns:
        presets.require_model(preset, model)
        require_strengths(strengths)
    count = counts.pop()
    intervals = intervals_of(model.card, [preset for preset, _ in columns], options)
    weighted = [(as_composite(model.card, preset, options), list(strengths)) for preset, strengths in columns]
    settings = EditSettings(options.step_count, intervals, seed=options.seed)
    domain = finish(domain_of(model, picture))
    edited = yield from edit_together(model, picture.pixels, count, weighted, settings, options.process)
    measured = measure_known(model.card, domain, picture.pixels, edited)
    rows = zip(columns[0][1], edited.cpu(), measured, strict=True)
    assumed = [words for preset, _ in columns for words in what_is_assumed(model.card, preset, options)]
    missing = tuple(dict.fromkeys(assumed))
    return [Frame(float(c), pixels, measures.lacking(*missing)) for c, pixels, measures in rows]

"""A composition together with a change of words, in one pass: prompt-to-prompt on the anchored inversion of the picture
(what Invert does), the directions of the composition in the same steps.

What the autoencoder loses of the picture is given back, as to edits by directions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ... import presets
from ...directions import Direction
from ...errors import RequestError
from ...inversion.editing import PromptEditSettings, Target
from ...inversion.inversion import Inversion
from ...inversion.solution import InversionSettings
from ...models.t2i_cards import TEXT_TO_IMAGE
from ...presets import Preset
from ...progress import Job, Progress, finish, stage
from ...regions import parse_regions, union
from ...text_to_image import TextToImage, load_text_to_image
from ..device import DEVICE
from ..domain import domain_of, measure_known
from ..edit import what_is_assumed
from ..frames import EditOptions, Frame, Picture
from ..invert.automatic import choose
from ..invert.targets import edit_in_memory
from ..invert.trial import Trial, begin_trial
from ..jobs import Work, device_job
from ..known_models import model_of
from .applying import MAX_PICTURES, as_composite, require_strengths
from .pictures import Sweep
from .word_change import Axis, WordChange, axis_name

METHOD = "anchored"


@dataclass(frozen=True)
class Cell:
    """One picture of several: the strengths of the directions, in their order, and the change of words."""

    strengths: tuple[float, ...]
    change: WordChange


def begin_inversion(picture: Picture, kept: Sequence[Trial] = ()) -> tuple[Trial, TextToImage]:
    """The trial in which the picture is or will be inverted, and its model; one of those that are kept if it is there.

    Raises:
        ModelUnavailable: the model cannot be had.
    """
    card = TEXT_TO_IMAGE[picture.model_id]
    model = load_text_to_image(card)
    settings = InversionSettings(card.steps, card.working_guidance)
    return begin_trial(model, picture.pixels, picture.conditioning, settings, kept), model


def inversion_in(trial: Trial) -> Inversion:
    """Raises RequestError: the picture could not be inverted."""
    if METHOD not in trial.results:
        raise RequestError(trial.failed.get(METHOD, "The picture could not be inverted. Try again."))
    return trial.results[METHOD].inversion


def apply_work(
    model: TextToImage,
    picture: Picture,
    inversion: Inversion,
    chosen: Sequence[Preset],
    cells: Sequence[Cell],
    options: EditOptions = EditOptions(),
) -> Work:
    """Of `apply_with_words`."""
    steps = inversion.solution.steps
    return Work(steps * (1 + len(cells) // 4), 3 * steps * (len(cells) + 1))


@device_job(apply_work)
def apply_with_words(
    model: TextToImage,
    picture: Picture,
    inversion: Inversion,
    chosen: Sequence[Preset],
    cells: Sequence[Cell],
    options: EditOptions = EditOptions(),
) -> Job[list[Frame]]:
    """A frame for each cell: the directions at their strengths and the change of words, in one pass each.

    options: where intervals come from. Cells of one guidance are computed together.

    Raises:
        PresetError: a direction is for another model. RequestError: a strength out of range, or a direction that words
            cannot be combined with. ModelUnavailable, ResourceError.
    """
    if not 1 <= len(cells) <= MAX_PICTURES:
        raise RequestError(f"Between 1 and {MAX_PICTURES} pictures can be made at once.")
    bound = model_of(picture)
    for place, preset in enumerate(chosen):
        presets.require_model(preset, bound)
        require_strengths([cell.strengths[place] for cell in cells])
    directions = [as_composite(bound.card, preset, options) for preset in chosen]
    groups: dict[tuple[str, float | None, str, bool], list[int]] = {}
    for i, cell in enumerate(cells):
        change = cell.change
        groups.setdefault((change.target, change.guidance, change.where, bool(change.weights)), []).append(i)
    made = torch.empty(len(cells), *picture.pixels.shape[1:])
    total = len(cells) * inversion.solution.steps
    with DEVICE.turn():
        lost = picture.pixels - model.decode(inversion.solution.trajectory[:1].to(model.device)).cpu()
    done, noted = 0, ""
    for group in groups.values():
        change = cells[group[0]].change
        settings, prompt, told = _settings(model, inversion, change)
        targets = [_target(cells[i], prompt, directions) for i in group]
        job = edit_in_memory(model, inversion, targets, settings)
        pixels, note = yield from stage(job, "Editing", first=done, total=total, previews=len(groups) == 1)
        made[group] = pixels.cpu()
        done, noted = done + len(group) * inversion.solution.steps, noted or f"{told} {note}".strip()
    made = (made + lost).clamp(-1, 1)
    yield Progress(total, total, "Measuring", made)
    domain = finish(domain_of(bound, picture))
    measured = measure_known(bound.card, domain, picture.pixels, made)
    assumed = [words for preset in chosen for words in what_is_assumed(bound.card, preset, options)]
    missing = tuple(dict.fromkeys([*([noted] if noted else []), *assumed]))
    first = [cell.strengths[0] if cell.strengths else cell.change.strength for cell in cells]
    return [
        Frame(float(c), pixels, measures.lacking(*missing))
        for c, pixels, measures in zip(first, made, measured, strict=True)
    ]


def sweep_with_words(
    model: TextToImage,
    picture: Picture,
    inversion: Inversion,
    chosen: Sequence[tuple[Preset, float]],
    acrosses: Sequence[float],
    change: WordChange,
    axis: Axis | None,
    downs: Sequence[float],
    word: str = "",
    options: EditOptions = EditOptions(),
) -> Job[Sweep]:
    """The first direction's strength against one of the numbers of a change of words, or, without an axis, against the
    second direction's; further directions stay as they are. Raises as `apply_with_words`."""
    if not change:
        raise RequestError("There is no change of words yet: write what the picture should show instead.")
    swept = 1 if axis is not None else 2
    if len(chosen) < swept:
        raise RequestError("A sweep needs two different directions, or one and a change of words.")
    rest = [c for _, c in chosen[swept:]]
    cells = [
        Cell((a, *rest), change.along(axis, d, word)) if axis is not None else Cell((a, d, *rest), change)
        for d in downs
        for a in acrosses
    ]
    frames = yield from apply_with_words(model, picture, inversion, [preset for preset, _ in chosen], cells, options)
    down = chosen[1][0].name if axis is None else axis_name(axis, word)
    return Sweep(chosen[0][0].name, down, tuple(acrosses), tuple(downs), tuple(frames))


def _settings(model: TextToImage, inversion: Inversion, change: WordChange) -> tuple[PromptEditSettings, str, str]:
    """How to change the words, the prompt that the model is told, and what to say of it."""
    card = TEXT_TO_IMAGE[model.id]
    region = union(parse_regions(change.where, model.resolution)) if change.where else None
    guidance = card.working_guidance if change.guidance is None else change.guidance
    choice = choose(model, card, inversion, [change.target], bool(change.weights))
    settings = choice.settings(guidance=guidance, cross_steps=card.cross_steps, region=region)
    return settings, choice.worded.get(change.target, change.target), choice.note


def _target(cell: Cell, prompt: str, directions: Sequence[Direction]) -> Target:
    return Target(
        prompt,
        cell.change.strength,
        dict(cell.change.weights),
        directions=[(one, c) for one, c in zip(directions, cell.strengths, strict=True) if c],
    )

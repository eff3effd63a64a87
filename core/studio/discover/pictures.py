"""Pictures of directions, names from them, and directions on other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...asyrp.prompts import suggested_name, templates
from ...cache import Cache, Counted
from ...calibration import steps_taken
from ...clip import ImageText
from ...discovery.locality import mean_squares, roir
from ...discovery.naming import Namer, Suggestion, agree, describe_changes
from ...editing import EditSettings
from ...errors import ModelUnavailable, RequestError
from ...intervals import Intervals
from ...memory import MAX_NAMERS, bytes_of
from ...models.cards import ModelCard
from ...process import USUAL_STEPS
from ...progress import Job, stage
from .. import measuring
from ..device import DEVICE
from ..edit import MAX_STRENGTH
from ..frames import Picture, require_range
from ..jobs import Work, device_job
from ..known_models import model_of
from ..latents import edit_together
from .exploration import Exploration
from .rows import DirectionRow

STEPS = USUAL_STEPS["anchored"]
DRAWN = steps_taken(STEPS, ["symmetric"])  # steps of a picture, at most


def draw_rows(exploration: Exploration, rows: list[DirectionRow]) -> Job[None]:
    """Pictures and names for those of the rows that have none, in place and all in one batch.

    Raises:
        RequestError: the picture is not analysed yet. ResourceError: out of memory.
    """
    missing = [i for i, row in enumerate(rows) if row.frames is None]
    if not missing:
        return
    model, picture = exploration.model, exploration.require_analysis().picture
    count = 2 * len(missing) + 1  # the picture itself, then every direction at both strengths
    weighted = []
    for place, i in enumerate(missing):
        strengths = torch.zeros(count)
        strengths[1 + 2 * place], strengths[2 + 2 * place] = -rows[i].strength, rows[i].strength
        weighted.append((rows[i].found.direction, strengths))
    settings = EditSettings(STEPS, Intervals(exploration.interval[1], 0), exploration.injection)
    job = edit_together(model, picture.pixels, count, weighted, settings, "anchored")
    pixels = (yield from stage(job, "Drawing them")).cpu()
    for place, i in enumerate(missing):
        frames, mask = pixels[[1 + 2 * place, 0, 2 + 2 * place]], rows[i].region.mask
        ratio, squares = None, None
        if not mask.all():
            ratio = roir(frames[[1, 1]], frames[[0, 2]], mask).mean().item()
            inside, outside = mean_squares(frames[[1, 1]], frames[[0, 2]], mask)
            squares = inside.mean().item(), outside.mean().item()
        with DEVICE.turn():
            suggestion = suggest_name(model.card, frames)
        row = rows[i]  # only now: the visitor may have named it meanwhile
        name = row.name if row.pinned else _unique(_name(model.card, i, suggestion), rows, i)
        rows[i] = replace(row, frames=frames, roir=ratio, mse=squares, suggestion=suggestion, name=name)
    exploration.version += 1


def _name(card: ModelCard, index: int, suggestion: Suggestion | None) -> str:
    """A name if the image-text model and the instruments agree on one; else what the instruments read."""
    if suggestion is not None and agree(suggestion):
        return suggested_name(card.domain_word, suggestion.text)
    number = f"Direction {index + 1}"
    read = describe_changes(suggestion.changes) if suggestion is not None else ""
    return f"{number}: {read}" if read else number


def _unique(name: str, rows: Sequence[DirectionRow], index: int) -> str:
    """The name of a row, with a number if another row has it."""
    taken, number, wanted = {row.name for i, row in enumerate(rows) if i != index}, 1, name
    while name in taken:
        number += 1
        name = f"{wanted} {number}"
    return name


def suggest_name(card: ModelCard, frames: Tensor) -> Suggestion | None:
    """A name from the two ends of a direction, or None where the model has no image-text model or no vocabulary.

    frames: pixels (3, 3, R, R) at the negative strength, at 0 and at the positive one.
    """
    try:
        return _namer(card).suggest(frames[:1], frames[2:], measuring.probe(card))
    except (ModelUnavailable, RequestError):
        return None


_NAMERS: Cache[Counted[Namer]] = Cache(MAX_NAMERS, "namers")


def _namer(card: ModelCard) -> Namer:
    """That of a model, kept. Raises ModelUnavailable, RequestError."""
    image_text = measuring.image_text(card)
    kept = _NAMERS.get(card.id)
    if kept is None or kept.value.image_text is not image_text:
        namer = Namer(image_text, card.domain_word, templates(card))
        kept = Counted(namer, bytes_of(namer, outside=(ImageText,)))
        _NAMERS.put(card.id, kept)
    return kept.value


def others_work(exploration: Exploration, row: DirectionRow, pictures: Sequence[Picture], strength: float) -> Work:
    """Of `apply_to_others`."""
    return Work(2.0 * DRAWN, 3.0 * DRAWN * len(pictures))


@device_job(others_work)
def apply_to_others(
    exploration: Exploration, row: DirectionRow, pictures: Sequence[Picture], strength: float
) -> Job[Tensor]:
    """A direction on other pictures, to see whether it transfers: pixels (2, B, 3, R, R), before and after. A
    text-to-image model is bound to what each of them shows.

    Raises:
        RequestError: the strength is out of range. ResourceError: out of memory.
    """
    require_range("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
    settings = EditSettings(STEPS, Intervals(exploration.interval[1], 0), exploration.injection)
    groups: dict[str, list[int]] = {}
    for i, picture in enumerate(pictures):
        groups.setdefault(picture.conditioning, []).append(i)
    edited = torch.empty(2, len(pictures), *pictures[0].pixels.shape[1:])
    for n, group in enumerate(groups.values()):
        first = pictures[group[0]]
        model = model_of(first) if first.conditioning else exploration.model
        strengths = torch.tensor([0.0, strength]).repeat(len(group))
        pixels = torch.cat([pictures[i].pixels for i in group])
        job = edit_together(model, pixels, 2, [(row.found.direction, strengths)], settings, "anchored")
        part = yield from stage(job, "Editing them", first=2 * DRAWN * n, total=2 * DRAWN * len(groups))
        edited[:, group] = part.cpu().unflatten(0, (len(group), 2)).transpose(0, 1)
    return edited

"""Pictures of directions, names from them, and directions on other pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...asyrp.prompts import suggested_name, templates
from ...discovery.locality import roir
from ...discovery.naming import Namer, Suggestion
from ...editing import EditSettings, edit, invert
from ...errors import ModelUnavailable, RequestError
from ...models.cards import ModelCard
from ...progress import Job, Progress
from .. import measuring
from ..device import DEVICE, exclusively
from ..frames import Picture, require_range
from ..latents import LATENTS
from .exploration import Exploration
from .rows import MAX_STRENGTH, Row

STEPS = 12  # of the small pictures


def draw(one: Exploration, rows: list[Row]) -> Job:
    """Pictures and names for those of the rows that have none, in place and all in one batch."""
    missing = [i for i, row in enumerate(rows) if row.frames is None]
    if not missing:
        return
    count = 2 * len(missing) + 1
    parts = []
    for place, i in enumerate(missing):
        strengths = torch.zeros(count)
        strengths[1 + 2 * place], strengths[2 + 2 * place] = -rows[i].strength, rows[i].strength
        parts.append((rows[i].found.direction, strengths))
    settings = EditSettings(STEPS, injection=one.injection)
    for event in exclusively(edit(one.model, one.analysis.latent.repeat(count), parts, settings)):
        if event.result is None:
            yield Progress(event.step, event.total, "Drawing them")
    pixels = event.result.cpu()
    for place, i in enumerate(missing):
        frames, mask = pixels[[1 + 2 * place, 0, 2 + 2 * place]], rows[i].region.mask
        sides = None if mask.all() else roir(frames[[1, 1]], frames[[0, 2]], mask).mean().item()
        with DEVICE:
            suggestion = suggest(one.model.card, frames)
        row = rows[i]  # only now: the visitor may have named it meanwhile
        name = row.name
        if suggestion is not None and suggestion.text and not row.touched:
            name = _unlike(suggested_name(one.model.card.domain_word, suggestion.text), rows)
        rows[i] = replace(row, frames=frames, roir=sides, suggestion=suggestion, name=name)
    one.version += 1


def _unlike(name: str, rows: Sequence[Row]) -> str:
    """The name, with a number if another row has it."""
    taken, number, wanted = {row.name for row in rows}, 1, name
    while name in taken:
        number += 1
        name = f"{wanted} {number}"
    return name


def suggest(card: ModelCard, frames: Tensor) -> Suggestion | None:
    """A name from the two ends of a direction, or None where the model has no image-text model or no vocabulary."""
    try:
        if card.id not in _NAMERS:
            _NAMERS[card.id] = Namer(measuring.image_text(card), card.domain_word, templates(card))
        return _NAMERS[card.id].suggest(frames[:1], frames[2:], measuring.probe(card))
    except (ModelUnavailable, RequestError):
        return None


_NAMERS: dict[str, Namer] = {}


def others(one: Exploration, row: Row, pictures: Sequence[Picture], strength: float) -> Job:
    """A direction on other pictures: the claim that it transfers. Result: pixels (2, B, 3, R, R), before and after."""
    require_range("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
    pixels = torch.cat([picture.pixels for picture in pictures])
    total = 2 * STEPS
    for event in exclusively(invert(one.model, pixels, STEPS, cache=LATENTS)):
        latent = event.result
        yield Progress(event.step, total, "Reading the pictures")
    strengths = torch.tensor([0.0, strength]).repeat(len(pictures))
    settings = EditSettings(STEPS, injection=one.injection)
    for event in exclusively(edit(one.model, latent.repeat(2), [(row.found.direction, strengths)], settings)):
        if event.result is None:
            yield Progress(STEPS + event.step, total, "Editing them")
    pairs = event.result.cpu().unflatten(0, (len(pictures), 2)).transpose(0, 1)
    yield Progress(total, total, "Done", result=pairs)

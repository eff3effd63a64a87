"""Presets as units: a direction with everything that is known of it, measured, with its thumbnail and a strip."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from torch import Tensor

from .. import presets
from ..api import load_preset
from ..directions import Direction
from ..editing import EditSettings
from ..errors import ResourceError
from ..evaluation.measures import VERSION as MEASURES
from ..imaging import thumbnail
from ..presets import Preset
from ..progress import Job, stage
from ..studio.compose.applying import combine
from ..studio.edit import intervals_for
from ..studio.frames import EditOptions
from ..studio.latents import edit_together
from . import compared
from .checks import is_elsewhere
from .found import packed, read_found, unpacked
from .found import unit as found_unit
from .measured import look
from .recipe import AnyDirection, Composition, PromptDirection, RegionDirection, TextDirection
from .shaped import final_file
from .team import HIDDEN
from .trained import Planned, read_direction
from .units import Unit
from .workshop import Workshop


@dataclass(frozen=True)
class Made:
    """What comes out of one entry of a recipe. strips: WebP, for each preset."""

    presets: tuple[Preset, ...]
    strips: tuple[bytes, ...]


def unit(shop: Workshop, direction: AnyDirection, plans: Mapping[str, Planned], pictures: Unit) -> Unit:
    """The unit of an entry's presets. pictures: that they are measured on."""
    recipe = shop.recipe
    said = {name: value for name, value in asdict(direction).items() if name not in ("note", "training", "pictures")}
    common = (said, recipe.author, recipe.licence, recipe.measure, MEASURES, shop.t_boost(), pictures.key)
    key = shop.key("preset", _made_of(shop, direction, plans), common)
    count = direction.count if isinstance(direction, RegionDirection) else 1
    return Unit(key, (f"{HIDDEN}/{key}.safetensors",), f"{direction.name}, its measures", 400.0 * count)


def _made_of(shop: Workshop, direction: AnyDirection, plans: Mapping[str, Planned]) -> list[Any]:
    """Keys of everything that a direction is made of."""
    if isinstance(direction, TextDirection):
        return [final_file(shop, direction, plans), plans[direction.name].t_edit]
    if isinstance(direction, PromptDirection):
        return [compared.unit(shop, direction).key]
    if isinstance(direction, RegionDirection):
        return [found_unit(shop, direction).key]
    parts: list[Any] = []
    for name, weight in direction.parts:
        if is_elsewhere(name):
            parts.append(
                (name, hashlib.sha256(presets.to_bytes(elsewhere(shop, direction, name))).hexdigest()[:20], weight)
            )
        else:
            parts.append((name, _made_of(shop, owner(shop, name), plans), weight))
    return parts


def owner(shop: Workshop, name: str) -> AnyDirection:
    """The entry that a composition's name belongs to."""
    for direction in shop.recipe.directions:
        if name in (direction.preset_names if isinstance(direction, RegionDirection) else [direction.name]):
            return direction
    raise KeyError(name)


def elsewhere(shop: Workshop, direction: Composition, name: str) -> Preset:
    """A preset that is no direction of the recipe. Raises RecipeError: it cannot be read, or is another model's."""
    place = f"directions.{direction.name}.sum.{name}"
    path = shop.recipe.file.parent / name
    try:
        return presets.for_model(load_preset(path if path.is_file() else name), shop.model)
    except Exception as error:
        raise shop.recipe.wrong(place, getattr(error, "message", str(error))) from error


def make(
    shop: Workshop, direction: AnyDirection, plans: Mapping[str, Planned], pixels: Mapping[str, Tensor], made: Unit
) -> Job[Mapping[str, bytes]]:
    """The work of `unit`. pixels: as `measured.make_pictures` has them."""
    contents: list[bytes] = []
    for preset in as_presets(shop, direction, plans):
        seen = yield from look(shop, preset, direction.purpose, pixels)
        done = replace(preset, measured={**preset.measured, **seen.measured})
        if done.thumbnail is None:
            done = replace(done, thumbnail=(yield from _thumbnail(shop, done, pixels["shown"])))
        contents += [presets.to_bytes(done), seen.strip]
    return {made.files[0]: packed(contents)}


def read_made(shop: Workshop, made: Unit) -> Made:
    """What `make` wrote. Raises ResourceError: it is not there."""
    contents = unpacked(shop.folder / made.files[0])
    return Made(tuple(presets.from_bytes(one) for one in contents[::2]), tuple(contents[1::2]))


def as_presets(shop: Workshop, direction: AnyDirection, plans: Mapping[str, Planned]) -> Sequence[Preset]:
    """The presets of an entry, not yet measured."""
    if isinstance(direction, TextDirection):
        own: Sequence[Preset] = [_from_texts(shop, direction, plans[direction.name], plans)]
    elif isinstance(direction, PromptDirection):
        own = [compared.read_compared(shop, direction, compared.unit(shop, direction))]
    elif isinstance(direction, RegionDirection):
        own = read_found(shop, direction, found_unit(shop, direction))
    else:
        own = [_composed(shop, direction, plans)]
    return [_described(shop, direction, preset) for preset in own]


def _from_texts(shop: Workshop, direction: TextDirection, planned: Planned, plans: Mapping[str, Planned]) -> Preset:
    found: tuple[Direction, dict[str, Any]] = read_direction(shop.folder / final_file(shop, direction, plans))
    settings, about = planned.settings, found[1]
    corrections = {"corrections": direction.corrections} if direction.corrections else {}
    latents = "inverted pictures" if planned.start.files else "random latents"
    trained = f"trained on {len(planned.start.rows)} {latents}"
    return Preset(
        direction=found[0],
        name=direction.name,
        model=shop.card.id,
        fingerprint=shop.model.fingerprint,
        description=f"From “{direction.source}” to “{direction.target}”, {trained}.",
        parameters={
            "form": direction.form,
            "steps": settings.steps,
            "samples": len(planned.start.rows),
            "latents": latents,
            "epochs": settings.epochs,
            "l_clip": settings.l_clip,
            "l_recon": None if settings.l_recon is None else round(settings.l_recon, 4),
            "similarity": round(about["similarity"], 4),
            "loss": settings.loss,
            "augment": settings.augment,
            "strengths": list(settings.strengths),
            "optimiser_steps": about["optimiser_steps"],
            "seconds": about["seconds"],
            **corrections,
        },
        source_text=direction.source,
        target_text=direction.target,
        t_edit=planned.t_edit,
        t_boost=shop.t_boost(),
        **presets.of_prompt(shop.model),
    )


def _composed(shop: Workshop, direction: Composition, plans: Mapping[str, Planned]) -> Preset:
    chosen = []
    for name, weight in direction.parts:
        if is_elsewhere(name):
            preset = elsewhere(shop, direction, name)
        else:
            entry = owner(shop, name)
            made = as_presets(shop, entry, plans)
            index = entry.preset_names.index(name) if isinstance(entry, RegionDirection) else 0
            if index >= len(made):
                raise ResourceError(f"The search of {entry.name} found no {name}.")
            preset = made[index]
        chosen.append((preset, weight * preset.unit))
    return combine(shop.card, chosen, direction.name)


def _described(shop: Workshop, direction: AnyDirection, preset: Preset) -> Preset:
    """With what the recipe says of it."""
    changes: dict[str, Any] = {
        "description": direction.description or preset.description,
        "author": shop.recipe.author if direction.author is None else direction.author,
        "licence": shop.recipe.licence if direction.licence is None else direction.licence,
        "name": preset.name[:1].upper() + preset.name[1:],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    for name in ("strength", "strength_range", "t_boost"):
        if getattr(direction, name) is not None:
            changes[name] = getattr(direction, name)
    return replace(preset, **changes)


def _thumbnail(shop: Workshop, preset: Preset, pixels: Tensor) -> Job[bytes]:
    """What a direction does to a picture (1, 3, R, R) at the suggested strength."""
    options = EditOptions()
    settings = EditSettings(options.step_count, intervals_for(shop.card, preset, options), preset.injection)
    weighted = [(preset.direction, [preset.unit])]
    job = edit_together(shop.model, pixels, 1, weighted, settings, options.process)
    edited = yield from stage(job, "drawing")
    return thumbnail(edited[0])

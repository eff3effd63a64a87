"""Searches for directions of regions as units: each finds all directions of one entry of the recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import presets
from ..discovery.methods import METHODS
from ..errors import RequestError
from ..imaging import to_pixels
from ..presets import Preset
from ..progress import Job, Running
from ..regions import READY_MADE, Named, Region, box_mask, ready_made_region, region_from_mask
from ..sampling import sample
from ..studio.discover.analysis import ANALYSES, timestep_from_share
from ..studio.discover.exploration import Exploration
from ..studio.discover.preset import as_preset
from ..studio.discover.search import explore
from ..studio.frames import Picture
from ..studio.regions import part_named, parts_of
from . import kept
from .recipe import RegionDirection, RegionShape
from .team import HIDDEN
from .units import Unit
from .workshop import Workshop


def unit(shop: Workshop, direction: RegionDirection) -> Unit:
    """The unit of an entry. Raises RecipeError: its picture is not there."""
    picture: object = direction.seed
    if direction.picture is not None:
        try:
            picture = hashlib.sha256(direction.picture.read_bytes()).hexdigest()[:20]
        except OSError as error:
            words = f"the picture {direction.picture} cannot be read ({error.strerror})."
            raise shop.recipe.wrong(f"directions.{direction.name}.picture", words) from error
    settings = replace(direction.discovery, prepared=None)
    said = (direction.method, direction.timestep, direction.size, direction.refine, direction.injection)
    key = shop.key("found", direction.regions, settings, said, picture)
    cost = 60.0 * direction.size * (2 if direction.refine else 1) * max(1, len(direction.regions))
    return Unit(key, (f"{HIDDEN}/{key}.safetensors",), direction.name, cost)


def find(shop: Workshop, direction: RegionDirection, made: Unit) -> Job[Mapping[str, bytes]]:
    """The work of `unit`: the picture is analysed and the regions are searched, as Discover does it. A search goes on
    from what an earlier one of the same picture has left; not so here, where what is found must not depend on which
    entries this process has done before.

    Raises:
        RecipeError: a region has a name that nothing of this picture has.
    """
    model = shop.model
    if direction.picture is not None:
        pixels = to_pixels(direction.picture, shop.card.resolution)
    else:
        pixels = yield from sample(model, direction.seed)
    picture = Picture(pixels, shop.card.id, seed=direction.seed if direction.picture is None else None)
    exploration = Exploration(
        model,
        picture,
        regions(shop, direction, pixels),
        direction.method,
        direction.discovery,
        None if direction.timestep is None else timestep_from_share(model, direction.timestep),
        direction.size,
        direction.injection,
    )
    ANALYSES.clear()
    running = Running(explore(exploration, direction.refine and METHODS[direction.method].refine is not None))
    yield from running
    found = [presets.to_bytes(as_preset(exploration, row)) for row in exploration.rows]
    return {made.files[0]: packed(found)}


def regions(shop: Workshop, direction: RegionDirection, pixels: Tensor) -> list[Region]:
    """The regions of an entry in its picture (1, 3, R, R). Raises RecipeError."""
    made, named = [], part_named(shop.card.id, pixels)
    for shape in direction.regions:
        if shape.boxes:
            resolution = shop.card.resolution
            masks = [box_mask(box, resolution) for box in shape.boxes]
            made.append(Region(shape.label, np.logical_or.reduce(masks), shape.boxes))
            continue
        try:
            made.append(_named(shop, shape, pixels, named))
        except RequestError as error:
            raise shop.recipe.wrong(
                f"directions.{direction.name}.regions", f"{_small(error)} Or give boxes."
            ) from error
    return made


def _small(error: RequestError) -> str:
    return error.message[:1].lower() + error.message[1:]


def _named(shop: Workshop, shape: RegionShape, pixels: Tensor, named: Named) -> Region:
    """A part of the picture, else a ready-made place: unless a part it must be, one that the model has a network of its
    own for. Raises RequestError, ModelUnavailable."""
    if shape.exact:
        return region_from_mask(named(shape.part), shape.label, shop.card.resolution)
    wanted, domain = shape.part.lower(), shop.card.domain_word
    parts = {name.lower(): mask for name, mask in parts_of(shop.card.id, pixels, by="own").items()}
    if wanted in parts:
        return region_from_mask(parts[wanted], shape.label, shop.card.resolution)
    places = {label.lower(): label for label in READY_MADE.get(domain, {})}
    if wanted in places:
        return replace(ready_made_region(domain, places[wanted], shop.card.resolution), label=shape.label)
    known = ", ".join(dict.fromkeys([*parts, *places])) or "none"
    raise RequestError(f"This picture has no part “{shape.part}”. It has: {known}.")


def read_found(shop: Workshop, direction: RegionDirection, made: Unit) -> list[Preset]:
    """The presets that a search found, under the recipe's names.

    Raises: ResourceError: they are not there, because the unit failed.
    """
    contents = unpacked(shop.folder / made.files[0])
    found = [presets.from_bytes(content) for content in contents]
    return [replace(preset, name=name) for preset, name in zip(found, direction.preset_names, strict=False)]


def packed(contents: list[bytes]) -> bytes:
    """Files in one, because a search does not say beforehand how many directions it finds."""
    tensors = {f"{n}": torch.frombuffer(bytearray(content), dtype=torch.uint8) for n, content in enumerate(contents)}
    return kept.to_bytes(tensors, {"count": len(contents)})


def unpacked(path: Path) -> list[bytes]:
    """What `packed` put together. Raises ResourceError: it is not there, because its unit failed."""
    tensors, about = kept.read(path)
    return [tensors[f"{n}"].numpy().tobytes() for n in range(about["count"])]

"""What a recipe says of an evaluation: its presets as they were made, what each is for, and on what to measure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .. import presets
from ..errors import PresetError, RequestError
from ..presets import Preset
from ..recipes.recipe import PictureSource, Purpose, Recipe, RegionDirection


@dataclass(frozen=True)
class Made:
    """The presets of a recipe's folder of results, each with what it is for, if the recipe says it. missing: directions
    that are not there. unusable: files, each with the reason."""

    presets: tuple[tuple[Preset, Purpose | None], ...]
    missing: tuple[str, ...]
    unusable: tuple[str, ...]


def presets_of(recipe: Recipe) -> Made:
    """Raises RequestError: none of them was made yet."""
    purposes: dict[str, Purpose | None] = {}
    for direction in recipe.directions:
        names = direction.preset_names if isinstance(direction, RegionDirection) else [direction.name]
        purposes |= dict.fromkeys(names, direction.purpose)
    found: dict[str, Preset] = {}
    unusable = []
    for path in sorted(recipe.output.rglob(f"*{presets.SUFFIX}")):
        if any(part.startswith(".") for part in path.relative_to(recipe.output).parts):
            continue
        try:
            preset = presets.load(path)
        except PresetError as error:
            unusable.append(f"{path}: {error.message}")
            continue
        found[preset.name] = preset
    if not found:
        raise RequestError(
            f"There are no presets in {recipe.output} yet. Make them first: hspace precompute {recipe.file}"
        )
    there = {presets.file_name(name) for name in found}
    missing = [
        direction.name
        for direction in recipe.directions
        if not isinstance(direction, RegionDirection) and presets.file_name(direction.name) not in there
    ]
    by_file = {presets.file_name(name): purpose for name, purpose in purposes.items()}
    pairs = tuple((preset, by_file.get(presets.file_name(name))) for name, preset in found.items())
    return Made(pairs, tuple(missing), tuple(unusable))


def pictures_of(recipe: Recipe) -> PictureSource:
    """Those that the recipe measures on, as many as it says. Raises RequestError: it names none."""
    source = None if recipe.measure is None else recipe.measure.pictures
    if recipe.measure is None or source is None:
        raise RequestError(
            f"{recipe.file.name} names no pictures to measure on: say with --pictures which, a folder or a data set on "
            "the Hub, or write them under measure."
        )
    return source if source.count is not None else replace(source, count=recipe.measure.count)

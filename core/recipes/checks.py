"""What the fields of a recipe say together: names that clash, sums of what is not there, too many names."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from graphlib import CycleError, TopologicalSorter

from .. import presets
from ..discovery.methods import METHODS
from ..models.t2i_cards import TEXT_TO_IMAGE
from . import fields
from .fields import Mistakes
from .recipe import Composition, PromptDirection, Recipe, RegionDirection, TextDirection


def check(recipe: Recipe, declared: AbstractSet[str], mistakes: Mistakes) -> None:
    """Adds what is wrong to the mistakes. declared: names of all directions, those that have mistakes too."""
    _names(recipe, mistakes)
    if recipe.prompt and recipe.model and recipe.model not in TEXT_TO_IMAGE:
        mistakes.at("prompt", f"only text-to-image models take a prompt ({', '.join(TEXT_TO_IMAGE)}). Remove it.")
    for direction in recipe.directions:
        place = f"directions.{direction.name}"
        if isinstance(direction, TextDirection | PromptDirection):
            _two_texts(direction, place, mistakes)
        if isinstance(direction, TextDirection):
            _text(recipe, direction, declared, place, mistakes)
        elif isinstance(direction, PromptDirection):
            _prompts(recipe, direction, place, mistakes)
        elif isinstance(direction, RegionDirection):
            _region(direction, place, mistakes)
        else:
            _composition(recipe, direction, declared, place, mistakes)
    _circles(recipe, mistakes)


def available(recipe: Recipe) -> list[str]:
    """Names by which a composition can mean directions of the recipe."""
    names = []
    for direction in recipe.directions:
        names += direction.preset_names if isinstance(direction, RegionDirection) else [direction.name]
    return list(dict.fromkeys(names))


def is_elsewhere(name: str) -> bool:
    """Whether the part of a composition is a file or on the Hub."""
    return name.endswith(presets.SUFFIX) or presets.SUFFIX + "@" in name


def _names(recipe: Recipe, mistakes: Mistakes) -> None:
    """Every preset needs a file of its own."""
    taken: dict[str, str] = {}
    for direction in recipe.directions:
        place = f"directions.{direction.name}"
        names = [direction.name]
        if isinstance(direction, RegionDirection):
            place, names = f"{place}.names" if direction.names else place, direction.preset_names
        for name in names:
            file = presets.file_name(name)
            if file in taken:
                mistakes.at(place, f"“{name}” would have the file of “{taken[file]}”, {file}. Use another name.")
            taken.setdefault(file, name)


def _two_texts(direction: TextDirection | PromptDirection, place: str, mistakes: Mistakes) -> None:
    if " ".join(direction.source.lower().split()) == " ".join(direction.target.lower().split()):
        mistakes.at(f"{place}.target", "says the same as the source. Write what the pictures should show.")


def _prompts(recipe: Recipe, direction: PromptDirection, place: str, mistakes: Mistakes) -> None:
    if recipe.model and recipe.model not in TEXT_TO_IMAGE:
        known = ", ".join(TEXT_TO_IMAGE)
        mistakes.at(f"{place}.form", f"“{direction.form}” is for text-to-image models ({known}). Use another form.")


def _text(recipe: Recipe, direction: TextDirection, declared: AbstractSet[str], place: str, mistakes: Mistakes) -> None:
    training = direction.training
    if training.t_start is not None and training.t_edit is not None and training.t_start < training.t_edit:
        mistakes.at(f"{place}.t_start", f"is below t_edit, {training.t_edit}: edits go from t_start down to it.")
    if direction.latents == "pictures" and direction.pictures is None and recipe.pictures is None:
        mistakes.at(f"{place}.latents", "there are no pictures: say a folder or a dataset under “pictures”.")
    texts = [one.name for one in recipe.texts if one.name != direction.name]
    unread = declared - {one.name for one in recipe.directions}
    for name in direction.corrections:
        if name not in texts and name not in unread:
            words = (
                fields.unknown(name, texts, "other direction from texts") if texts else "there is no other direction."
            )
            mistakes.at(f"{place}.corrections.{name}", words)
    if direction.corrections and direction.form != "implicit":
        mistakes.at(f"{place}.corrections", "only the implicit form (f_t) can learn them. Leave them out, or the form.")


def _region(direction: RegionDirection, place: str, mistakes: Mistakes) -> None:
    method = METHODS[direction.method]
    if method.needs_region and not direction.regions:
        mistakes.at(f"{place}.method", f"{direction.method} needs regions: say which under “regions”.")
    labels = [shape.label for shape in direction.regions]
    for label in {label for label in labels if labels.count(label) > 1}:
        mistakes.at(f"{place}.regions", f"“{label}” stands there twice.")
    if len(direction.names) > (most := direction.count):
        mistakes.at(f"{place}.names", f"has {len(direction.names)} names for {most} directions (see “count”).")


def _composition(
    recipe: Recipe, direction: Composition, declared: AbstractSet[str], place: str, mistakes: Mistakes
) -> None:
    if not 1 <= len(direction.parts) <= presets.MAX_PARTS:
        mistakes.at(f"{place}.sum", f"must have from 1 to {presets.MAX_PARTS} directions, not {len(direction.parts)}.")
    known = [name for name in available(recipe) if name != direction.name]
    unread = declared - {one.name for one in recipe.directions}
    for name, _ in direction.parts:
        if name not in known and name not in unread and not is_elsewhere(name):
            words = fields.unknown(name, known, "direction in this recipe")
            mistakes.at(f"{place}.sum.{name}", f"{words} A preset file ends in {presets.SUFFIX}.")


def _circles(recipe: Recipe, mistakes: Mistakes) -> None:
    graph = {one.name: [name for name, _ in one.parts] for one in recipe.compositions}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        mistakes.at(f"directions.{circle[0]}.sum", f"is made of itself: {' of '.join(circle[::-1])}.")

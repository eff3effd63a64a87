"""From a recipe file to a `Recipe`: YAML, every field checked, all mistakes told at once with line and field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, TypeVar, get_args

from yaml.nodes import Node

from ..asyrp.loss import LossForm
from ..asyrp.train import TrainingSettings
from ..directions import Injection
from ..discovery.basis import MAX_BASIS_SIZE
from ..discovery.interface import DiscoverySettings
from ..discovery.methods import METHODS
from ..errors import RecipeError, RequestError
from ..hub.names import checked_revision, repository_id
from ..models.cards import MODELS
from ..models.opening import read_word
from ..models.t2i_cards import TEXT_TO_IMAGE
from ..regions import MAX_REGIONS
from ..studio.between_prompts import MAX_SAMPLES, MAX_STEPS, MIN_STEPS
from ..studio.discover.analysis import MIN_BASIS_SIZE
from ..studio.discover.exploration import MAX_COUNT
from ..studio.edit import MAX_STRENGTH
from ..studio.words import MAX_TEXT
from ..text_to_image import MAX_PROMPT, read_prompt
from . import fields
from .checks import check
from .fields import Field, Mistakes, Wrong
from .recipe import (
    AnyDirection,
    Composition,
    Form,
    Latents,
    Measuring,
    PictureSource,
    PromptDirection,
    PromptForm,
    Publishing,
    Purpose,
    Recipe,
    RegionDirection,
    TextDirection,
)
from .shapes import regions

T = TypeVar("T")

MAX_DIRECTIONS = 200
MAX_PICTURES = 100_000
MAX_SEED = 2**31 - 1
# Fields of `TrainingSettings` and `DiscoverySettings` that a recipe calls otherwise.
TRAINING_NAMES = {"seed": "first_seed"}


def read_recipe(path: Path | str) -> Recipe:
    """The recipe in a file.

    Raises:
        RecipeError: it cannot be read, is not YAML, or has mistakes: a line of the message for each.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise RecipeError(f"There is no recipe {path}. Write one as docs/recipes.md says.")
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"The recipe {path} cannot be read ({error.strerror}).") from error
    if len(data) > fields.MAX_FILE:
        raise RecipeError(f"{path.name} is larger than {fields.MAX_FILE // 2**20} MB: it is not a recipe.")
    try:
        return parse_recipe(data.decode("utf-8"), path)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path.name} is not a text in UTF-8.") from error


def parse_recipe(content: str, path: Path) -> Recipe:
    """The recipe of a file's text; paths in it are relative to the file. Raises RecipeError: see `read_recipe`."""
    root, mistakes, folder = fields.compose(content, path), Mistakes(path), path.parent
    if root is None:
        raise RecipeError(f"{path.name} is empty. Write a recipe as docs/recipes.md says.")
    if not fields.is_mapping(root):
        got = fields.said(root)
        raise RecipeError(f"{path.name}, line 1: a recipe has fields, such as “model: avatars”, not {got}.")
    found = fields.mapping(
        root,
        "",
        mistakes,
        {
            "model": Field(_model(folder), required=True),
            "shows": Field(_checked(200, read_word)),
            "prompt": Field(_checked(MAX_PROMPT, lambda text: read_prompt(text, "is empty. Write what they show."))),
            "output": Field(fields.path(folder)),
            "pictures": Field(_pictures(folder)),
            "shown": Field(fields.path(folder)),
            "author": Field(fields.text(120)),
            "licence": Field(fields.text(80)),
            "defaults": Field(_defaults(folder)),
            "directions": Field(None, required=True),
            "measure": Field(_measuring(folder)),
            "publish": Field(_publishing),
        },
    )
    defaults = found.pop("defaults", {})
    declared: set[str] = set()
    if directions := fields.items(root, "", mistakes).get("directions"):
        read = _directions(folder, defaults, declared)
        found |= fields.attempt(directions[1], "directions", mistakes, read, "directions")
    recipe = Recipe(file=path, lines=dict(mistakes.lines), **{"output": folder / path.stem, **_FALLBACKS, **found})
    check(recipe, declared, mistakes)
    mistakes.require_none()
    return recipe


_FALLBACKS: dict[str, Any] = {"model": "", "directions": ()}  # of a recipe that is refused in the end


# ---------------------------------------------------------------------------------------------------- fields of the top


def _model(folder: Path) -> fields.Read[str]:
    def read(node: Node, place: str, mistakes: Mistakes) -> str:
        name = fields.text(300)(node, place, mistakes)
        here = folder / Path(name).expanduser()
        if name in MODELS or name in TEXT_TO_IMAGE:
            return name
        if here.is_dir():
            return str(here.resolve())
        if name.count("/") == 1 and not name.startswith((".", "/", "~")):
            return name
        known = ", ".join([*MODELS, *TEXT_TO_IMAGE])
        options = f"Use one of {known}, a repository on the Hub (OWNER/NAME), or a folder."
        raise Wrong(f"there is no model and no folder {fields.said(node)}. {options}")

    return read


def _checked(most: int, check_text: Callable[[str], T]) -> fields.Read[T]:
    """A text that the app has words for when it cannot be used."""

    def read(node: Node, place: str, mistakes: Mistakes) -> T:
        value = fields.text(most)(node, place, mistakes)
        try:
            return check_text(value)
        except RequestError as error:
            raise Wrong(error.message) from error

    return read


def _pictures(folder: Path) -> fields.Read[PictureSource]:
    known = {
        "folder": Field(fields.path(folder)),
        "dataset": Field(_checked(200, repository_id)),
        "revision": Field(_checked(120, checked_revision)),
        "files": Field(fields.text(200)),
        "count": Field(fields.whole(1, MAX_PICTURES)),
    }

    def read(node: Node, place: str, mistakes: Mistakes) -> PictureSource:
        if not fields.is_mapping(node):
            return PictureSource(fields.path(folder)(node, place, mistakes))
        before = len(mistakes.found)
        found = fields.mapping(node, place, mistakes, known)
        if len(mistakes.found) == before and ("folder" in found) == ("dataset" in found):
            raise Wrong("must have a folder or a dataset of the Hub, one of the two.")
        return PictureSource(**found)

    return read


def _measuring(folder: Path) -> fields.Read[Measuring | None]:
    known = {
        "pictures": Field(_pictures(folder)),
        "count": Field(fields.whole(1, MAX_PICTURES)),
        "seed": Field(fields.whole(0, MAX_SEED)),
        "strengths": Field(fields.several(_nonzero(10), 1, 20)),
    }

    def read(node: Node, place: str, mistakes: Mistakes) -> Measuring | None:
        if not fields.is_mapping(node):
            return Measuring() if fields.truth()(node, place, mistakes) else None
        return Measuring(**fields.mapping(node, place, mistakes, known))

    return read


def _publishing(node: Node, place: str, mistakes: Mistakes) -> Publishing:
    repository = _checked(200, repository_id)
    if not fields.is_mapping(node):
        return Publishing(repository(node, place, mistakes))
    known = {"repository": Field(repository, required=True), "private": Field(fields.truth())}
    return Publishing(**{"repository": "", **fields.mapping(node, place, mistakes, known)})


def _nonzero(most: float) -> fields.Read[float]:
    def read(node: Node, place: str, mistakes: Mistakes) -> float:
        value = fields.number(-most, most)(node, place, mistakes)
        if value == 0:
            raise Wrong("must not be 0.")
        return value

    return read


# ----------------------------------------------------------------------------------------------------------- directions


def _directions(
    folder: Path, defaults: dict[str, dict[str, Any]], declared: set[str]
) -> fields.Read[tuple[AnyDirection, ...]]:
    """declared: is filled with the names of all of them."""

    def read(node: Node, place: str, mistakes: Mistakes) -> tuple[AnyDirection, ...]:
        found = fields.items(node, place, mistakes, "directions")
        if not 0 < len(found) <= MAX_DIRECTIONS:
            raise Wrong(f"must have from 1 to {MAX_DIRECTIONS} directions below it, not {len(found)}.")
        declared.update(found)
        made: list[AnyDirection] = []
        for name, (key, inner) in found.items():
            at = f"{place}.{name}"
            if not name or len(name) > 80 or not name.isprintable():
                mistakes.add(key, at, "the name of a direction has from 1 to 80 characters that can be printed.")
                continue
            one = fields.attempt(inner, at, mistakes, _direction(name, folder, defaults), name)
            made += [direction for direction in one.values() if direction is not None]
        return tuple(made)

    return read


def _direction(name: str, folder: Path, defaults: dict[str, dict[str, Any]]) -> fields.Read[AnyDirection | None]:
    def read(node: Node, place: str, mistakes: Mistakes) -> AnyDirection | None:
        found, before = fields.items(node, place, mistakes), len(mistakes.found)
        given = found.keys()
        kinds = [kind for kind, words in KIND_WORDS.items() if given & words]
        if kinds == [TEXTS] and "form" in found and fields.is_one_of(found["form"][1], get_args(PromptForm)):
            kinds = [PROMPTS]
        if len(kinds) != 1:
            both = f", not of {' and of '.join(kinds)}" if kinds else ""
            raise Wrong(
                f"must have the fields of one kind{both}: “source” and “target” for a direction from texts, “regions” "
                "or “method” for directions from regions, “sum” for a composition."
            )
        kind_of: dict[str, tuple[dict[str, Field], Callable[[str, dict[str, Any]], AnyDirection]]] = {
            TEXTS: (_text_fields(folder, (*get_args(Form), *get_args(PromptForm))), _text),
            PROMPTS: (_prompt_fields(), _prompts),
            REGIONS: (_region_fields(folder), _region),
            SUM: (_sum_fields(), _composition),
        }
        known, make = kind_of[kinds[0]]
        own = fields.mapping(node, place, mistakes, known)
        emptied = {key for key, (_, value) in found.items() if fields.is_empty(value)}  # whatever the defaults say
        values = {key: value for key, value in defaults.get(kinds[0], {}).items() if key not in emptied} | own
        return make(name, values) if len(mistakes.found) == before else None

    return read


TEXTS, PROMPTS, REGIONS, SUM = "texts", "prompts", "regions", "a composition"
KIND_WORDS = {TEXTS: {"source", "target"}, REGIONS: {"regions", "method"}, SUM: {"sum"}}


def _defaults(folder: Path) -> fields.Read[dict[str, dict[str, Any]]]:
    """What directions of a kind have that do not say otherwise."""

    def optional(known: dict[str, Field]) -> fields.Read[dict[str, Any]]:
        loose = {name: Field(one.read) for name, one in known.items()}
        return lambda node, place, mistakes: fields.mapping(node, place, mistakes, loose)

    known = {
        TEXTS: Field(optional(_text_fields(folder, get_args(Form)))),
        PROMPTS: Field(optional(_prompt_fields())),
        REGIONS: Field(optional(_region_fields(folder))),
    }
    return lambda node, place, mistakes: fields.mapping(node, place, mistakes, known)


def _common() -> dict[str, Field]:
    return {
        "description": Field(fields.text(2000)),
        "note": Field(fields.text(2000)),
        "strength": Field(_nonzero(MAX_STRENGTH)),
        "strength_range": Field(_range),
        "t_boost": Field(fields.whole(0, 1000)),
        "purpose": Field(_purpose),
        "author": Field(fields.text(120)),
        "licence": Field(fields.text(80)),
    }


def _text_fields(folder: Path, forms: Sequence[str]) -> dict[str, Field]:
    return _common() | {
        "source": Field(fields.text(300), required=True),
        "target": Field(fields.text(300), required=True),
        "form": Field(fields.choice(forms)),
        "steps": Field(fields.whole(2, 1000)),
        "samples": Field(fields.whole(1, 100_000)),
        "epochs": Field(fields.whole(1, 1000)),
        "batch": Field(fields.whole(1, 256)),
        "l_clip": Field(fields.number(0, 1000)),
        "l_recon": Field(fields.number(0, 1000)),
        "t_edit": Field(fields.whole(0, 1000)),
        "t_start": Field(fields.whole(0, 1000)),
        "rate": Field(fields.number(0, 10, above=True)),
        "loss": Field(fields.choice(get_args(LossForm))),
        "augment": Field(fields.number(0, 10)),
        "strengths": Field(fields.several(_nonzero(10), 1, 20)),
        "seed": Field(fields.whole(0, MAX_SEED)),
        "latents": Field(fields.choice(get_args(Latents))),
        "pictures": Field(_pictures(folder)),
        "mean_over": Field(fields.whole(1, 1000)),
        "corrections": Field(fields.named(_nonzero(10))),
    }


def _prompt_fields() -> dict[str, Field]:
    prompt = _checked(MAX_TEXT, lambda text: read_prompt(text, "must not be empty."))
    return _common() | {
        "source": Field(prompt, required=True),
        "target": Field(prompt, required=True),
        "form": Field(fields.choice(get_args(PromptForm))),
        "samples": Field(fields.whole(1, MAX_SAMPLES)),
        "steps": Field(fields.whole(MIN_STEPS, MAX_STEPS)),
        "seed": Field(fields.whole(0, MAX_SEED)),
    }


def _region_fields(folder: Path) -> dict[str, Field]:
    ranks = ("rank", "joint_rank", "individual_rank", "projection_rank")
    return (
        _common()
        | {name: Field(fields.whole(1, 512)) for name in ranks}
        | {
            "regions": Field(regions),
            "method": Field(fields.choice(METHODS)),
            "count": Field(fields.whole(1, MAX_COUNT)),
            "mu": Field(fields.number(1e-6, 10)),
            "timestep": Field(fields.number(0, 1000)),
            "size": Field(fields.whole(MIN_BASIS_SIZE, MAX_BASIS_SIZE)),
            "refine": Field(fields.truth()),
            "picture": Field(fields.path(folder)),
            "seed": Field(fields.whole(0, MAX_SEED)),
            "names": Field(fields.several(fields.text(80), 1, MAX_COUNT * MAX_REGIONS)),
            "injection": Field(fields.choice(get_args(Injection))),
        }
    )


def _sum_fields() -> dict[str, Field]:
    return _common() | {"sum": Field(fields.named(_nonzero(100), "directions with their weights"), required=True)}


def _text(name: str, values: dict[str, Any]) -> TextDirection:
    names = {item.name for item in fields_of(TrainingSettings)} - {"form"}
    settings = {TRAINING_NAMES.get(key, key): value for key, value in values.items()}
    form = values.get("form", "implicit")
    trained = TrainingSettings(
        form="global" if form == "trained_global" else "implicit",
        **{key: value for key, value in settings.items() if key in names},
    )
    own = {item.name for item in fields_of(TextDirection)}
    return TextDirection(name=name, training=trained, **{key: v for key, v in values.items() if key in own})


def _prompts(name: str, values: dict[str, Any]) -> PromptDirection:
    return PromptDirection(name=name, **values)


def _region(name: str, values: dict[str, Any]) -> RegionDirection:
    names = {item.name for item in fields_of(DiscoverySettings)}
    settings = DiscoverySettings(**{"count": 1, **{key: v for key, v in values.items() if key in names}})
    own = {item.name for item in fields_of(RegionDirection)}
    return RegionDirection(name=name, discovery=settings, **{key: v for key, v in values.items() if key in own})


def _composition(name: str, values: dict[str, Any]) -> Composition:
    parts = tuple(values.pop("sum").items())
    return Composition(name=name, parts=parts, **values)


def _range(node: Node, place: str, mistakes: Mistakes) -> tuple[float, float]:
    read = fields.several(fields.number(-MAX_STRENGTH, MAX_STRENGTH), 2, 2, single=False)
    ends = read(node, place, mistakes)
    if len(ends) < 2:  # one of them is wrong, which is said
        return (0.0, 1.0)
    if ends[0] >= ends[1]:
        raise Wrong(f"must rise, [lowest, highest], not [{ends[0]:g}, {ends[1]:g}].")
    return ends[0], ends[1]


def _purpose(node: Node, place: str, mistakes: Mistakes) -> Purpose:
    known = {
        "attribute": Field(fields.text(40), required=True),
        "sign": Field(fields.choice(["1", "+1", "-1"])),
        "also": Field(fields.several(fields.text(40), 0, 40)),
        "part": Field(fields.text(40)),
    }
    found = {"attribute": "", **fields.mapping(node, place, mistakes, known)}
    return Purpose(**{**found, "sign": int(found.get("sign", 1))})

"""The folder of a recipe on the Hub, all of it in one commit."""

from __future__ import annotations

from pathlib import Path

from .. import presets
from ..errors import RequestError
from ..hub.publishing import FOLDER, Published, publish
from ..presets import SUFFIX
from ..progress import Job
from .joined import RECIPE, figure_path, figures_text
from .reading import read_recipe
from .recipe import Publishing, Recipe

MAX_OTHER = 256 * 2**20  # bytes of files that are no presets
OWN = (FOLDER, "thumbnails", "README.md")  # that publishing presets writes itself


def folder_and_target(place: Path) -> tuple[Path, Publishing | None]:
    """The folder of results, and where its recipe says that it goes. place: the folder, or its recipe.

    Raises:
        RequestError: it is neither. RecipeError: the recipe has mistakes.
    """
    if place.is_dir():
        recipe = place / RECIPE
        return place, _target(recipe) if recipe.is_file() else None
    if place.suffix.lower() in (".yaml", ".yml") and place.is_file():
        read: Recipe = read_recipe(place)
        return read.output, read.publish
    raise RequestError(
        f"{place} is neither a folder of results nor a recipe. Give one of them, or a repository and files."
    )


def _target(recipe: Path) -> Publishing | None:
    return read_recipe(recipe).publish


def publish_folder(folder: Path, repository: str, token: str, private: bool = False) -> Job[Published]:
    """Upload everything that `precompute` (and `hspace curves`, `hspace evaluate`) has put into a folder: presets,
    thumbnails, figures, measures and the recipe, with a card, in one commit. What is hidden stays here.

    Raises:
        RequestError: there are no presets, or the other files are too large. What `core.hub.publish` raises: then
            nothing has changed on the Hub that anybody can see, and the same call goes on.
    """
    paths = sorted((folder / FOLDER).rglob(f"*{SUFFIX}"))
    if not paths:
        raise RequestError(f"There are no presets in {folder / FOLDER}. Compute them first: hspace precompute.")
    owned = [presets.load(path) for path in paths]
    others = {name: path for name, path in _files(folder).items() if name.split("/")[0] not in OWN}
    size = sum(path.stat().st_size for path in others.values())
    if size > MAX_OTHER:
        raise RequestError(
            f"The files of {folder} that are no presets have {size / 2**20:.0f} MB; up to {MAX_OTHER // 2**20} MB are "
            "published. Move what does not belong there."
        )
    shown = [(path.relative_to(folder).as_posix(), preset) for path, preset in zip(paths, owned, strict=True)]
    figures = figures_text([(path, preset) for path, preset in shown if figure_path(path) in others])
    contents = {name: path.read_bytes() for name, path in others.items()}
    return (yield from publish(owned, repository, token, private, contents, figures))


def _files(folder: Path) -> dict[str, Path]:
    """All files that are not hidden, by their paths in the folder."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in sorted(found.items()) if not any(p.startswith(".") for p in name.split("/"))}

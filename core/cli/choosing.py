"""The models and presets that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PresetError, RequestError
from .output import follow, login, naming

if TYPE_CHECKING:
    from ..models.loader import DiffusionModel
    from ..presets import Preset


def one_preset(source: str | Path) -> Preset:
    """A preset by its name, file or place on the Hub. Raises what `load_preset` raises, with the file's name."""
    from ..api import load_preset

    with naming(source):
        return load_preset(source, token=login())


def several_presets(sources: Sequence[str]) -> list[Preset]:
    """The same for several, and of each folder all that are in it. Raises RequestError: a folder has none."""
    from .. import presets

    found = []
    for source in sources:
        files: list[str | Path] = [source]
        if Path(source).is_dir():
            files = sorted(Path(source).glob(f"*{presets.SUFFIX}"))
            if not files:
                raise RequestError(f"There are no presets in the folder {source}.")
        found += [one_preset(file) for file in files]
    return found


def model_of(
    made_for: Sequence[Preset], name: str | None, prompt: str | None = None
) -> tuple[DiffusionModel, list[Preset]]:
    """The model that presets are used with, and the presets as its own. name: with its weights, a repository on the
    Hub, a folder or an id; None: the one that they were made for. prompt: of a text-to-image model, what the pictures
    show; as the first preset says if left out.

    Raises:
        PresetError: they were made for other weights, or for a model that is not known here. RequestError: for several
            models. Whatever opening a model raises.
    """
    from .. import presets
    from ..models.cards import MODELS
    from ..models.loader import models
    from ..models.opening import open_model
    from ..studio.known_models import bound_model, takes_prompt

    chosen = made_for[0].model if name is None else name
    if prompt is not None and not takes_prompt(chosen):
        raise RequestError(f"{chosen} takes no prompt: leave --prompt out.")
    if name is not None and takes_prompt(name):
        model = bound_model(name, made_for[0].prompt if prompt is None else prompt)
        return model, [presets.for_model(preset, model) for preset in made_for]
    if name is not None:
        model = models.get(follow(open_model(name)).id)
        return model, [presets.for_model(preset, model) for preset in made_for]
    ids = {preset.model for preset in made_for}
    if len(ids) > 1:
        raise RequestError(f"These directions are of several models ({', '.join(sorted(ids))}): take one at a time.")
    (model_id,) = ids
    if takes_prompt(model_id):
        return bound_model(model_id, made_for[0].prompt if prompt is None else prompt), list(made_for)
    if model_id not in MODELS:
        raise PresetError(
            f"“{made_for[0].name}” was made for the model {model_id}, which this app does not have. Say where it is: "
            "--model with a repository on the Hub or a folder."
        )
    return models.get(model_id), list(made_for)

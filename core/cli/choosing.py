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

    if name is None:
        ids = {preset.model for preset in made_for}
        if len(ids) > 1:
            raise RequestError(
                f"These directions are of several models ({', '.join(sorted(ids))}): take one at a time."
            )
    chosen = made_for[0].model if name is None else name
    if takes_prompt(chosen):
        model = bound_model(chosen, made_for[0].prompt if prompt is None else prompt)
    elif prompt is not None:
        raise RequestError(f"{chosen} takes no prompt: leave --prompt out.")
    elif name is not None:
        model = models.get(follow(open_model(name)).id)
    elif chosen in MODELS:
        model = models.get(chosen)
    else:
        raise PresetError(
            f"“{made_for[0].name}” was made for the model {chosen}, which this app does not have. Say where it is: "
            "--model with a repository on the Hub or a folder."
        )
    return model, list(made_for) if name is None else [presets.for_model(preset, model) for preset in made_for]

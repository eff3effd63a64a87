"""What comes with the app for a model: example pictures and directions; and a visitor's own pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from .. import presets
from ..errors import RequestError
from ..imaging import Crop, Source, to_pixels
from ..models.cards import PRESETS
from ..models.t2i_cards import TEXT_TO_IMAGE
from ..presets import Preset
from .frames import Picture
from .known_models import described, known_card

ORDER = "order.txt"  # beside presets: names of files, one a line
PICTURES = (".png", ".webp", ".jpg")


def examples(model_id: str) -> list[Path]:
    """The pictures that come with a model, in order; with a text-to-image one those of the unconditional model that has
    learned the same."""
    card = TEXT_TO_IMAGE.get(model_id)
    folder = PRESETS / "examples" / ((card and card.known_by) or model_id)
    return sorted(path for path in folder.glob("*") if path.suffix in PICTURES)


def shipped(model_id: str) -> dict[str, Preset]:
    """The presets that come with a model, by the name of their file: first those that the folder's `order.txt` names,
    what most people look for, then the others by name."""
    folder = PRESETS / "directions" / model_id
    found = {path.stem: preset for path, preset in presets.shelf(folder)}
    order = folder / ORDER
    wanted = order.read_text(encoding="utf-8").split() if order.is_file() else []
    return {key: found[key] for key in dict.fromkeys([*wanted, *found]) if key in found}


def find_preset(
    model_id: str, name: str, source: str = "", target: str = "", own: Mapping[str, Preset] | None = None
) -> Preset | None:
    """The preset that a request means, by its name, or else by its pair of texts; the visitor's own first. None: the
    pair is a new one.

    Raises:
        RequestError: there is no preset of that name, or neither a name nor both texts.
    """
    mine = [(key, preset) for key, preset in reversed(list((own or {}).items())) if preset.model == model_id]
    candidates = [*mine, *shipped(model_id).items()]
    wanted, *pair = (" ".join(text.lower().split()) for text in (name, source, target))
    if wanted:
        for key, preset in candidates:
            if wanted in (key.lower(), preset.name.lower(), preset.target_text.lower()):
                return preset
        known = ", ".join(preset.name for _, preset in candidates) or "none"
        raise RequestError(f"There is no direction “{name[:80]}” for {model_id}. Known ones: {known}.")
    if not all(pair):
        raise RequestError("Give the name of a direction, or both texts: what the pictures show and what they should.")
    for _, preset in candidates:
        if pair == [preset.source_text.lower(), preset.target_text.lower()]:
            return preset
    return None


def named_preset(model_id: str, name: str, own: Mapping[str, Preset] | None = None) -> Preset:
    """The preset of a name; the visitor's own first.

    Raises:
        RequestError: the name is empty, or there is no preset of that name.
    """
    preset = find_preset(model_id, name, own=own)
    assert preset is not None  # only a pair of texts can be new
    return preset


def open_picture(source: Source, model_id: str, crop: Crop | None = None, prompt: str = "") -> Picture:
    """A visitor's picture for a model. prompt: what it shows, of use to a text-to-image model; suggested if left out.
    Raises ImageError."""
    return described(Picture(to_pixels(source, known_card(model_id).resolution, crop), model_id), prompt)


def open_example(path: Path, model_id: str) -> Picture:
    """One of `examples` as a picture that knows which one it is."""
    return replace(open_picture(path, model_id), example=path.stem)

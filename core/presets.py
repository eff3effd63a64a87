"""The preset: a direction with everything that is known of it, in one safetensors file.

`presets/README.md` documents the format. A file may come from anyone, so it is checked completely before any of it is
used: its size before it is read, its header before a tensor is made, every field before it is believed. Nothing in a
file is ever executed, and no string of a file becomes a path.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from . import tensor_file
from .cache import Cache, Counted
from .conditional_unet import PromptedUNet, ShiftedBranch
from .directions import Direction, Injection, from_state
from .errors import PresetError
from .intervals import Intervals
from .memory import MAX_PRESETS, bytes_of
from .models.loader import DiffusionModel
from .models.t2i_cards import with_title
from .tensor_file import Damaged, Limits, expect, header, integers, numbers, parse_json, tensors, write

log = logging.getLogger(__name__)

FORMAT = "h-space-direction"
VERSION = 2
SUFFIX = ".safetensors"

LIMITS = Limits(64 * 2**20, other_kind="it holds numbers of a kind that no direction has")
MAX_PARTS = 32
MAX_DEPTH = 4  # of composites
MAX_NESTING = 16  # of objects and lists in parameters and regions
MAX_THUMBNAIL = 96 * 2**10
MAX_THUMBNAIL_SIDE = 256
MAX_MEASURES = 64

INJECTIONS = {"asymmetric", "symmetric"}
Family = Literal["unconditional", "text-to-image"]
Certainty = Literal["exact", "claimed", "unknown"]
# In words, for whoever uses a direction; from the surest on.
CERTAINTIES: dict[str, str] = {
    "exact": "It was made with these weights.",
    "claimed": "It is said to be made for these weights.",
    "unknown": "It is not known whether it was made for these weights.",
}
# What a preset keeps of its effect on the weights that it names (`core.studio.effect`).
OWN_CHANGE, MONOTONE, WORKS = "own change by CLIP", "own change is monotone", "works with these weights"
_TEXT_LIMITS = {
    "name": 80,
    "description": 2000,
    "model": 120,
    "fingerprint": 64,
    "method": 40,
    "source_text": 300,
    "target_text": 300,
    "injection": 20,
    "licence": 80,
    "author": 120,
    "created": 40,
    "prompt": 2000,
}
# What version 2 says of directions of text-to-image models, and what that is of all others.
_OF_PROMPTS: dict[str, Any] = {"family": "unconditional", "prompt": "", "guidance": 1.0, "shifted": "both"}


def _says_the_family(about: dict[str, Any]) -> dict[str, Any]:
    """Version 1 knew unconditional models only."""
    expect(not about.keys() & _OF_PROMPTS.keys(), "it has fields of a newer version")
    return about | _OF_PROMPTS


# How to read older files: MIGRATIONS[n] turns the metadata of version n into that of version n + 1.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _says_the_family}


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a direction: all of a preset but the tensors.

    model, fingerprint: the model it was made for, and which weights of it. certainty: how sure that is: "exact", they
    are those it was made with; "claimed" by whoever imported it; "unknown". method: how it was found ("asyrp", ...),
    parameters: the method's own settings. source_text, target_text or region: what it was found from. timestep: of
    methods that work at one t. injection, t_edit, t_boost: how it is best applied (None: by the model's curves).
    strength, strength_range: suggested. measured: its effect, name -> number. thumbnail: PNG, WebP or JPEG.
    family: of the model. Of a text-to-image model also prompt, guidance and shifted, with which it is best applied
    (see `core.prompted`); the prompt may be another one, if it says what the picture shows.
    """

    name: str
    model: str
    fingerprint: str
    certainty: Certainty = "exact"
    description: str = ""
    method: str = "asyrp"
    parameters: dict[str, Any] = field(default_factory=dict)
    source_text: str = ""
    target_text: str = ""
    region: list[Any] | None = None
    timestep: int | None = None
    injection: Injection = "asymmetric"
    t_edit: int | None = None
    t_boost: int | None = None
    strength: float = 1.0
    strength_range: tuple[float, float] = (-1.0, 2.0)
    measured: dict[str, float] = field(default_factory=dict)
    thumbnail: bytes | None = None
    licence: str = "mit"
    author: str = ""
    created: str = ""
    family: Family = "unconditional"
    prompt: str = ""
    guidance: float = 1.0
    shifted: ShiftedBranch = "both"

    @property
    def unit(self) -> float:
        """What 1 means on the page: the strength that the direction suggests, or 1 where it suggests none."""
        return self.strength or 1.0

    @property
    def intervals(self) -> Intervals | None:
        """The intervals it carries, if it carries both."""
        return None if self.t_edit is None or self.t_boost is None else Intervals(self.t_edit, self.t_boost)

    def picture(self) -> Image.Image | None:
        """The thumbnail."""
        return None if self.thumbnail is None else Image.open(io.BytesIO(self.thumbnail)).convert("RGB")


@dataclass(frozen=True)
class Preset(About):
    """A direction and what is known of it."""

    direction: Direction


# ---------------------------------------------------------------------------------------------------------- writing


def save(preset: Preset, path: Path, dtype: torch.dtype | None = None) -> Path:
    """Write a preset so that a crash or a full disk leaves what was there; several may write the same file.

    Args:
        path: the file, ending in .safetensors; its folder is made.
        dtype: of the stored floats; as they are by default.

    Raises:
        PresetError: a field is out of bounds. ResourceError: the file cannot be written.
    """
    write(path, to_bytes(preset, dtype), "preset")
    return path


def to_bytes(preset: Preset, dtype: torch.dtype | None = None) -> bytes:
    """The file's content. Raises PresetError where `from_bytes` would."""
    tensors, state = preset.direction.state()
    tensors = {name: _stored(value, dtype) for name, value in tensors.items()}
    about = {item.name: getattr(preset, item.name) for item in fields(About)}
    about["thumbnail"] = None if preset.thumbnail is None else base64.b64encode(preset.thumbnail).decode()
    about["direction"] = state
    if preset.certainty == "exact" == _unsaid_certainty(preset.parameters):  # as in all older files
        del about["certainty"]
    version = VERSION
    if {name: about[name] for name in _OF_PROMPTS} == _OF_PROMPTS:  # older copies of the app can use it
        version, about = 1, {name: value for name, value in about.items() if name not in _OF_PROMPTS}
    try:
        metadata = {"format": FORMAT, "format_version": str(version), "preset": json.dumps(about, allow_nan=False)}
    except (TypeError, ValueError, RecursionError) as error:
        raise PresetError(f"This preset cannot be saved: {error}.") from error
    data = tensor_file.to_bytes(tensors, metadata)
    from_bytes(data)
    return data


def _stored(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A copy, because the parts of a composite may share their memory, which the file format refuses."""
    dtype = dtype if dtype is not None and value.is_floating_point() else value.dtype
    return value.detach().to("cpu", dtype, copy=True).contiguous()


def file_name(name: str) -> str:
    """A safe file name for any name: lower-case letters, digits and hyphens, never empty, no path, no device."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "direction"
    if re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", stem):
        stem += "-direction"
    return stem + SUFFIX


# ---------------------------------------------------------------------------------------------------------- reading


def load(path: Path | str) -> Preset:
    """Read and check a preset file.

    Raises:
        PresetError: not a preset, damaged, hostile, too large, or of a newer version.
    """
    path = Path(path)
    try:
        if not path.is_file():  # a device or a pipe could be read for ever
            raise PresetError("This preset file could not be read. Choose it again.")
        if path.stat().st_size > LIMITS.bytes:
            raise PresetError(f"This file is larger than {LIMITS.bytes // 2**20} MB: it is not a preset of this app.")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise PresetError("This preset file could not be read. Choose it again.") from error
    return from_bytes(data)


def from_bytes(data: bytes) -> Preset:
    """The preset in a file's content. Raises PresetError like `load`."""
    with _explain_damage():
        about, direction_state = _described(data, len(data))
        held = tensors(data)
    return Preset(from_state(held, direction_state), **vars(about))


def header_size(start: bytes, size: int) -> int:
    """How many bytes at the start of a file `describe` needs. start: its first 8 bytes or more, size: of the file.

    Raises:
        PresetError: it is not a safetensors file, or too large.
    """
    with _explain_damage():
        return tensor_file.header_size(start, size, LIMITS)


def describe(start: bytes, size: int) -> tuple[About, str]:
    """What a file says of its direction, and the direction's kind, from its first `header_size` bytes alone.

    Raises:
        PresetError: like `load`, but for faults of the tensors' values.
    """
    with _explain_damage():
        about, direction_state = _described(start, size)
    return about, direction_state["kind"]


def require_model(preset: Preset, model: DiffusionModel) -> None:
    """Refuse a preset that was made for another model, or whose shapes do not fit this one. Equal weights are the same
    model, whatever it is called.

    Raises:
        PresetError: says which model the preset needs.
    """
    if preset.model != model.card.id and preset.fingerprint != model.fingerprint:
        raise PresetError(
            f"“{preset.name}” was made for the model {with_title(preset.model)}, and {with_title(model.card.id)} is "
            f"chosen. Choose {with_title(preset.model)} to use it."
        )
    if preset.fingerprint != model.fingerprint:
        raise PresetError(
            f"“{preset.name}” was made for other weights of {preset.model} than the ones here; directions do not carry "
            "over. Train it again for this model."
        )
    embedding = model.unet.unet.time_embedding.linear_2.out_features
    h = torch.zeros(1, *model.card.h_shape)
    try:
        shape = torch.broadcast_shapes(preset.direction.delta_h(h, torch.zeros(1, embedding), 500).shape, h.shape)
    except RuntimeError:
        shape = None
    if shape != h.shape:
        raise PresetError(f"The direction in “{preset.name}” does not have the shape that {model.card.id} needs.")


def for_model(preset: Preset, model: DiffusionModel) -> Preset:
    """The preset as one of this model's, under the name that its weights have here. Raises PresetError: see
    `require_model`."""
    require_model(preset, model)
    return replace(preset, model=model.card.id)


def of_prompt(model: DiffusionModel) -> dict[str, Any]:
    """What a preset says of the prompt and guidance that a model is bound to: nothing of an unconditional one."""
    if not isinstance(model.unet, PromptedUNet):
        return {}
    bound = model.unet.prompt
    return {
        "family": "text-to-image",
        "prompt": bound.words,
        "guidance": bound.guidance,
        "shifted": bound.shifted,
    }


def works(about: About) -> bool | None:
    """Whether a direction was seen to do what its texts say, on the weights that it names; None: nobody has looked."""
    return bool(about.measured[WORKS]) if WORKS in about.measured else None


def weights_in_words(about: About) -> str:
    """How sure the weights are that a direction was made for; of unknown ones what was measured, if anything was."""
    seen = works(about)
    if about.certainty != "unknown" or seen is None:
        return CERTAINTIES[about.certainty]
    change = f"{OWN_CHANGE} {about.measured.get(OWN_CHANGE, 0):+.3f}"
    if seen:
        return f"Measured with these weights, it does what its texts say ({change})."
    return f"Measured with these weights, it does not do what its texts say ({change})."


def least_certain(presets: Sequence[About]) -> Certainty:
    """How sure the weights of several directions together are."""
    order = list(CERTAINTIES)
    return max((preset.certainty for preset in presets), key=order.index, default="exact")


def shelf(folder: Path) -> list[tuple[Path, Preset]]:
    """The presets in a folder with their files, by name; files that cannot be used are left out."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        try:
            stat = path.stat()
            found.append((path, _unchanged(path, stat.st_mtime_ns, stat.st_size)))
        except (PresetError, OSError) as error:
            log.warning("%s is left out: %s", path.name, error)
    return sorted(found, key=lambda entry: entry[1].name.lower())


_READ: Cache[Counted[Preset]] = Cache(MAX_PRESETS, "presets")


def _unchanged(path: Path, modified: int, size: int) -> Preset:
    """What `load` gives, read once until the file changes."""
    kept = _READ.get((path, modified, size))
    if kept is None:
        preset = load(path)
        kept = Counted(preset, bytes_of(preset))
        _READ.put((path, modified, size), kept)
    return kept.value


# ---------------------------------------------------------------------------------------------------------- checking


@contextmanager
def _explain_damage() -> Iterator[None]:
    """Within the block, what is wrong with a file becomes a visitor's error. Raises PresetError."""
    try:
        yield
    except Damaged as fault:
        raise PresetError(f"This is not a usable preset file: {fault}.") from fault


def _described(start: bytes, size: int) -> tuple[About, dict[str, Any]]:
    """All that a header says, checked: what is known of the direction, and the state to make it from."""
    about = _metadata(header(start, size, LIMITS))
    direction_state = about.pop("direction", None)
    _check_state(direction_state)
    return _about(about), direction_state


def _metadata(head: dict[str, Any]) -> dict[str, Any]:
    """The description of the preset, of the current version."""
    metadata = head.get("__metadata__")
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise Damaged("it does not describe a direction")
    version = metadata.get("format_version")
    if not isinstance(version, str) or re.fullmatch(r"[1-9]\d{0,5}", version) is None:
        raise Damaged("its version is damaged")
    version = int(version)
    if version > VERSION:
        raise PresetError(
            f"This preset was written by a newer version of the app (format {version}, and this one reads up to "
            f"{VERSION}). Update the app to use it."
        )
    about = parse_json(metadata.get("preset"), "its description is damaged")
    expect(isinstance(about, dict), "its description is damaged")
    for older in range(version, VERSION):
        try:
            about = MIGRATIONS[older](about)
        except Damaged:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise Damaged("its description is damaged") from error
    return about


def _about(about: dict[str, Any]) -> About:
    """Every field checked for type, length and range."""
    known = {item.name for item in fields(About)}
    expect(about.keys() <= known, f"it has unknown fields {sorted(about.keys() - known)[:3]}")
    values = dict(about)
    for key, limit in _TEXT_LIMITS.items():
        if key in values:
            values[key] = _text(values[key], key, limit)
    for key in ("name", "model", "fingerprint"):
        expect(bool(values.get(key)), f"its {key} is missing")
    expect(values.get("injection", "asymmetric") in INJECTIONS, "its injection mode is unknown")
    _check_prompt(_OF_PROMPTS | values)
    certainty = values.setdefault("certainty", _unsaid_certainty(values.get("parameters")))
    expect(isinstance(certainty, str) and certainty in CERTAINTIES, "how sure its weights are is not understood")
    for key in ("timestep", "t_edit", "t_boost"):
        expect(values.get(key) is None or integers([values[key]], -1, 100_000), f"its {key} is out of range")
    expect(numbers([values.get("strength", 1.0)], 100), "its strength is out of range")
    low_high = values.get("strength_range", [-1.0, 2.0])
    expect(numbers(low_high, 100) and len(low_high) == 2 and low_high[0] < low_high[1], "its strengths are damaged")
    values["strength_range"] = (float(low_high[0]), float(low_high[1]))
    measured = values.get("measured", {})
    expect(isinstance(measured, dict) and len(measured) <= MAX_MEASURES, "its measures are damaged")
    expect(numbers(list(measured.values()), 1e9), "its measures are damaged")
    values["measured"] = {_text(key, "measures", 80): float(value) for key, value in measured.items()}
    for key, kind in (("parameters", dict), ("region", list)):
        value = values.get(key)
        expect(value is None or isinstance(value, kind), f"its {key} is damaged")
        expect(_shallow(value, MAX_NESTING), f"its {key} is nested too deeply")
        expect(len(json.dumps(value)) <= 16_384, f"its {key} is too long")
    values["parameters"] = values.get("parameters") or {}
    values["thumbnail"] = _thumbnail(values.get("thumbnail"))
    return About(**values)


def _check_prompt(values: dict[str, Any]) -> None:
    """What is said of the family and of the prompt."""
    family, shifted = values["family"], values["shifted"]
    expect(isinstance(family, str) and family in get_args(Family), "the family of its model is unknown")
    expect(isinstance(shifted, str) and shifted in get_args(ShiftedBranch), "the branch that it acts on is unknown")
    expect(numbers([values["guidance"]], 100) and values["guidance"] >= 1, "its guidance is out of range")
    said = {name: values[name] for name in _OF_PROMPTS}
    expect(family != "unconditional" or said == _OF_PROMPTS, "its model takes no prompt")


def _unsaid_certainty(parameters: Any) -> Certainty:
    """Of a file that does not say it: "exact", unless it was imported from another format, which never knew."""
    file = parameters.get("file") if isinstance(parameters, dict) else None
    return "unknown" if isinstance(file, str) and file.lower().endswith(".pth") else "exact"


def _text(value: Any, key: str, limit: int) -> str:
    """One line of printable text (several in a description)."""
    expect(isinstance(value, str), f"its {key} is not text")
    expect(len(value) <= limit, f"its {key} is longer than {limit} characters")
    kept = "".join(c for c in value if c == "\n" and key == "description" or unicodedata.category(c)[0] != "C")
    return kept.strip()


def _thumbnail(encoded: Any) -> bytes | None:
    """A small picture in a format that cannot carry anything else, decoded once to be sure."""
    if encoded is None:
        return None
    expect(isinstance(encoded, str) and len(encoded) <= MAX_THUMBNAIL * 4 // 3 + 4, "its thumbnail is too large")
    try:
        data = base64.b64decode(encoded, validate=True)
        picture = Image.open(io.BytesIO(data), formats=["PNG", "WEBP", "JPEG"])
        expect(max(picture.size) <= MAX_THUMBNAIL_SIDE, "its thumbnail is too large")
        picture.load()
    except Damaged:
        raise
    except (binascii.Error, Exception) as error:  # Pillow's decoders raise almost anything on a damaged file.
        raise Damaged("its thumbnail is not a picture") from error
    return data


def _check_state(state: Any, depth: int = 1) -> None:
    """The part that `Direction.from_state` will read: bounded in depth and number, plain values only."""
    expect(isinstance(state, dict) and isinstance(state.get("kind"), str), "its direction is not described")
    expect(depth <= MAX_DEPTH, "its directions are nested too deeply")
    expect(len(state) <= 16, "its direction is damaged")
    for key, value in state.items():
        if key == "parts":
            expect(isinstance(value, list) and 0 < len(value) <= MAX_PARTS, "it has too many parts")
            for part in value:
                _check_state(part, depth + 1)
        elif key == "weights":
            expect(numbers(value, 1e4), "its weights are out of range")
        elif key == "steps":
            expect(integers([value], 1, 100_000), "its step count is out of range")
        elif key == "t_edits":
            expect(integers(value, 0, 100_000) and len(value) <= MAX_PARTS, "its intervals are out of range")
        elif key == "injections":
            expect(isinstance(value, list) and set(map(str, value)) <= INJECTIONS, "its injection mode is unknown")
        else:
            expect(isinstance(value, str | int | float | bool), "its direction is damaged")


def _shallow(value: Any, depth: int) -> bool:
    """Whether objects and lists are nested no deeper than this."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth >= 0 and all(_shallow(one, depth - 1) for one in inner)

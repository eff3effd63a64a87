"""The library in a few lines: a model, a direction, an edited picture.

    model = load_model("avatars")
    smiling = load_preset("smiling")
    edit(model, Image.open("portrait.png"), smiling, strength=1.2).save("out.png")

Everything that goes wrong for a reason that the caller can mend is an error of `errors`, all of them `VisitorError`,
with a `message` that says what to do.
"""

from __future__ import annotations

import logging
import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import astuple
from numbers import Real
from pathlib import Path
from reprlib import repr as shortened
from typing import Literal, get_args, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import hub, presets
from .api_directions import between_prompts, discover, find_parts, prompted_model
from .directions import Injection
from .editing import EditSettings
from .errors import HubError, RequestError
from .imaging import Crop, Source, open_picture, to_pil, to_pixels
from .models.cards import MODELS
from .models.loader import DiffusionModel, load, models
from .models.opening import open_model
from .models.placing import usable_device
from .models.t2i_cards import TEXT_TO_IMAGE
from .models.wrapping import read_model, wrap_model
from .photo import yunet
from .photo.faces import found_faces
from .photo.placement import CELEBA_HQ, Placement, from_crop
from .photo.warp import cut, put_back
from .presets import Preset
from .process import Process, edit_pictures
from .progress import Progress, Running, finish
from .studio import library
from .studio.edit import MAX_STRENGTH, intervals_for, what_is_assumed
from .studio.frames import EditOptions, require_range
from .studio.photographs import RETURNED, placed, require_returned

__all__ = [
    "DEFAULT_MODEL",
    "between_prompts",
    "discover",
    "edit",
    "find_faces",
    "find_parts",
    "load_model",
    "load_preset",
    "wrap_model",
]

log = logging.getLogger(__name__)

DEFAULT_MODEL = "avatars"

Returned = Literal["square", "photo", "photo with the whole square"]

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w.-]+)?", re.ASCII)
_ON_THE_HUB = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[\w.-]+)/(?P<path>[^@]+\.safetensors)(@(?P<revision>[^@]+))?", re.ASCII
)


def load_model(
    name_or_folder: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    *,
    prompt: str | None = None,
    guidance: float | None = None,
) -> DiffusionModel:
    """A model, frozen and ready to edit.

    Args:
        name_or_folder: "avatars", which comes with the package; another id of `core.models.cards.MODELS`, which is
            downloaded from the Hub once; OWNER/NAME of any unconditional diffusers model there, with @REVISION or
            without; or the folder of one.
        device: the GPU if there is one.
        dtype: of the network; half precision where the machine computes in it natively and the model is as good with
            it, else float32. The sampler around the network is float32 in any case.
        prompt: of a text-to-image model ("avatars-t2i", "stable-diffusion-1-5", ...), what the picture shows; needed
            there, and of no use elsewhere. The model is bound to it, and edited with as any other.
        guidance: of a text-to-image model, 1 (none) if left out.

    Returns:
        The model. By its name and without further wishes, it is loaded once for the process.

    Raises:
        RequestError: there is no such model, device or precision, or the folder's network is of another kind.
        ModelUnavailable: its files are not here and cannot be fetched, or are damaged.
    """
    known = f"Choose one of: {', '.join(MODELS)}."
    if not isinstance(name_or_folder, str | Path) or not str(name_or_folder):
        given = shortened(name_or_folder)
        raise RequestError(f"A model is loaded by its name or from its folder, not from {given}. {known}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise RequestError(f"The precision is a dtype of floats, such as torch.float32, not {shortened(dtype)}.")
    name = str(name_or_folder)
    if name in TEXT_TO_IMAGE:
        if prompt is None:
            raise RequestError(f"{name} draws what a prompt says: give the prompt that the picture shows (prompt=...).")
        return prompted_model(name, prompt, 1.0 if guidance is None else guidance, device, dtype)
    if prompt is not None or guidance is not None:
        models_with_prompts = ", ".join(TEXT_TO_IMAGE)
        raise RequestError(f"{name} takes no prompt and no guidance. Models that do: {models_with_prompts}.")
    device = None if device is None else usable_device(device)
    if name in MODELS:
        return models.get(name) if device is None and dtype is None else load(MODELS[name], device, dtype)
    if os.path.isdir(name):
        return read_model(Path(name), device, dtype)
    if _REPOSITORY.fullmatch(name):
        card = finish(open_model(name, folders=False))
        return models.get(card.id) if device is None and dtype is None else load(card, device, dtype)
    raise RequestError(f"There is no model and no folder {name!r}. {known}")


def load_preset(source: str | Path, *, model: str = DEFAULT_MODEL, token: str | None = None) -> Preset:
    """A direction with everything that is known of it.

    Args:
        source: one of
            - a file;
            - `owner/name/path.safetensors` of a repository on the Hub, with `@revision` (a branch, tag or commit) or
              without: it is downloaded once, checked completely, and needs no network at a commit that was fetched;
            - the name of a direction that comes with the package, such as "smiling".
        model: whose directions a name is looked for in.
        token: for private and gated repositories. None is used but the one that is given.

    Returns:
        The preset: `direction` is what `edit` applies, `strength` what it suggests, `measured` what it was seen to do.

    Raises:
        PresetError: the file cannot be read, or is not a preset: damaged, hostile, too large or of a newer version.
        RequestError: it is nothing of that, there is no direction of that name, or the repository's name, the revision
            or token cannot be one.
        HubError: no network, no such repository, revision or file, gated, rate limit, interrupted.
        ResourceError: the disk is full.
    """
    if not isinstance(source, str | Path) or not str(source).strip():
        raise RequestError(
            "A preset is the name of a direction, such as “smiling”, a file, or owner/name/path.safetensors on the "
            f"Hub, not {shortened(source)}."
        )
    if not isinstance(model, str):
        raise RequestError(f"load_preset takes the id of a model, such as “{DEFAULT_MODEL}”, not {_kind(model)}.")
    name = str(source)
    if not isinstance(source, str) or os.path.exists(name):
        return presets.load(name)
    if place := _ON_THE_HUB.fullmatch(name):
        return _from_hub(name, place["repository"], place["path"], place["revision"] or "main", token)
    if name.endswith(presets.SUFFIX):
        return presets.load(name)
    return library.named_preset(model, name)


def _from_hub(name: str, repository: str, path: str, revision: str, token: str | None) -> Preset:
    try:
        entry = hub.download(repository, path, revision, token)
    except HubError as error:
        raise HubError(f"There is no file {name} here, so it is one on the Hub. {error.message}") from error
    file = hub.cached(entry.repository, entry.revision, entry.path)
    assert file is not None  # it has just been kept there
    return presets.load(file)


@overload
def edit(
    model: DiffusionModel,
    picture: Source,
    preset: Preset,
    strength: float | None = None,
    steps: int | None = None,
    seed: int = 0,
    *,
    process: Process = "anchored",
    injection: Injection | None = None,
    t_edit: int | None = None,
    t_boost: int | None = None,
    crop: Crop | None = None,
    placement: Placement | Mapping[str, object] | str | None = None,
    returned: Returned = "square",
    on_progress: Callable[[Progress], None] | None = None,
) -> Image.Image: ...


@overload
def edit(
    model: DiffusionModel,
    picture: Source,
    preset: Preset,
    strength: Sequence[float],
    steps: int | None = None,
    seed: int = 0,
    *,
    process: Process = "anchored",
    injection: Injection | None = None,
    t_edit: int | None = None,
    t_boost: int | None = None,
    crop: Crop | None = None,
    placement: Placement | Mapping[str, object] | str | None = None,
    returned: Returned = "square",
    on_progress: Callable[[Progress], None] | None = None,
) -> list[Image.Image]: ...


def edit(
    model: DiffusionModel,
    picture: Source,
    preset: Preset,
    strength: float | Sequence[float] | None = None,
    steps: int | None = None,
    seed: int = 0,
    *,
    process: Process = "anchored",
    injection: Injection | None = None,
    t_edit: int | None = None,
    t_boost: int | None = None,
    crop: Crop | None = None,
    placement: Placement | Mapping[str, object] | str | None = None,
    returned: Returned = "square",
    on_progress: Callable[[Progress], None] | None = None,
) -> Image.Image | list[Image.Image]:
    """A picture, edited: sampled again with the direction added to h, by default in a few anchored steps.

    Args:
        model: from `load_model` or `wrap_model`.
        picture: a PIL image, a file, its bytes, or an array (H, W, 3) of uint8 or of floats in [0, 1]. It is cropped to
            a square and reduced to the model's resolution.
        preset: from `load_preset`, made for these weights.
        strength: how much of the direction, from -100 to 100; 0 is the picture itself (as the model gives it back,
            where the process is the paper's), negative is the opposite. As the preset suggests if left out. Several are
            edited in one batch, which is faster.
        steps: of the process, 4 to 1000; by default 8, or 40 as in the paper. A strength means the same at any number.
        seed: of the boosting noise, the same for every strength; without effect where `t_boost` is 0.
        process: "anchored": the source is held on its path, and what that takes is given to the edit
            (`core.anchoring`); "paper": DDIM inversion and the asymmetric reverse process (Asyrp, Algorithm 1); or
            "published": the same with the plain inversion and the timesteps of Asyrp's authors (`core.algorithm_1`).
        injection: where the shift of h acts, "asymmetric" (in P_t only) or "symmetric" (in P_t and D_t); as the preset
            says if left out.
        t_edit: end of the editing interval: the direction acts at timesteps t >= t_edit, of 0 to 1000. As the preset
            says if left out, else by the model's curves.
        t_boost: start of the boosting interval: noise is added at t < t_boost. Likewise.
        crop: the square part of the picture to use; the largest, by default.
        placement: the square part in place of `crop`, on a photograph: "face" for the largest face, framed as the model
            knows faces; a `Placement`, such as one of `find_faces`; {"left_eye": (x, y), "right_eye": (x, y), "mouth":
            (x, y)}; or {"x": ..., "y": ..., "side": ..., "angle": ...}, in pixels of the upright photograph.
        returned: "square", as the model makes it; "photo", the whole picture at its own resolution with what changed
            added to it, which keeps its detail; or "photo with the whole square".
        on_progress: called after every step.

    Returns:
        The edited picture, RGB, of the model's resolution, or the whole picture of its own size; a list of them, in
        order, if several strengths are given.

    Raises:
        PresetError: the preset was made for other weights.
        RequestError: a number is out of range, or an argument is of another kind: a preset's name in place of the
            preset, model and picture swapped.
        ImageError: the picture is too large, too small, broken, or not a picture, or the square lies outside it.
        ModelUnavailable: faces are to be found and what finds them is not here.
        NumberError: the network computes values that are not numbers. ResourceError: out of memory.
    """
    _require_inputs(model, preset, crop, placement, on_progress)
    require_returned(returned)
    single = strength is None or not _are_several(strength)
    strengths = _strengths(preset.strength if strength is None else strength)
    steps, seed = None if steps is None else _whole("steps", steps), _whole("seed", seed)
    t_edit = None if t_edit is None else _whole("t_edit", t_edit)
    t_boost = None if t_boost is None else _whole("t_boost", t_boost)
    options = EditOptions(steps, "trained", injection, t_edit, t_boost, seed, _process(process))
    presets.require_model(preset, model)
    intervals = intervals_for(model.card, preset, options)
    for words in what_is_assumed(model.card, preset, options):
        log.warning("%s: %s", preset.name, words)
    settings = EditSettings(options.step_count, intervals, injection or preset.injection, seed)

    whole = None if placement is None and returned == "square" else open_picture(picture)
    if whole is None:
        pixels = to_pixels(picture, model.card.resolution, crop)
    else:
        wanted = from_crop(crop, *whole.size) if crop is not None else placement
        wanted = dict(wanted) if isinstance(wanted, Mapping) else wanted
        at = placed(whole, wanted, model.card.framing)
        pixels = cut(whole, at, model.card.resolution)
    weighted = [(preset.direction, strengths)]
    running = Running(edit_pictures(model, pixels, len(strengths), weighted, settings, options.process))
    for event in running:
        if on_progress is not None:
            on_progress(event)
    if whole is None or returned == "square":
        pictures = to_pil(running.result)
    else:
        pictures = [put_back(whole, at, edited, pixels, RETURNED[returned]) for edited in running.result]
    return pictures[0] if single else pictures


def find_faces(picture: Source, model: DiffusionModel | None = None) -> list[Placement]:
    """The squares in which a model wants to see the faces of a photograph, the largest face first; none: [].

    Args:
        picture: as `edit` takes it.
        model: framed as its pictures are; as CelebA-HQ is, if left out.

    Raises:
        ImageError: it is no picture. ModelUnavailable: what finds faces is not here and cannot be fetched.
    """
    if model is not None and not isinstance(model, DiffusionModel):
        raise RequestError(f"find_faces takes a picture and a model, not {_kind(model)}.")
    framing = (model.card.framing if model is not None else None) or CELEBA_HQ
    return list(found_faces(open_picture(picture), yunet.load(), framing).placements)


# -------------------------------------------------------------------------------------------------- what callers mix up


def _kind(value: object) -> str:
    return shortened(value) if value is None or isinstance(value, str) else type(value).__name__


def _require_inputs(model: object, preset: object, crop: object, placement: object, on_progress: object) -> None:
    """Raises RequestError if one of the arguments of `edit` is something else than it has to be."""
    if not isinstance(model, DiffusionModel):
        raise RequestError(
            f"edit takes a model, a picture and a preset, in this order: {_kind(model)} is no model. Load one with "
            "load_model, or make one of your network with wrap_model."
        )
    if not isinstance(preset, Preset):
        raise RequestError(
            f"edit takes a model, a picture and a preset, in this order: {_kind(preset)} is no preset. Load it with "
            "load_preset."
        )
    if crop is not None and not (isinstance(crop, Crop) and all(isinstance(value, Real) for value in astuple(crop))):
        raise RequestError(f"crop is a Crop of three numbers, such as Crop(x=0.5, y=0.4, size=0.8), not {_kind(crop)}.")
    if placement is not None and crop is not None:
        raise RequestError("Say either with crop or with placement what part of the picture to use.")
    if placement is not None and not isinstance(placement, Placement | Mapping | str):
        raise RequestError(f"placement is “face”, a Placement or a dict of points, not {_kind(placement)}.")
    if on_progress is not None and not callable(on_progress):
        raise RequestError(f"on_progress is a function that is called with a Progress, not {_kind(on_progress)}.")


def _are_several(strength: object) -> bool:
    return isinstance(strength, Iterable) and getattr(strength, "ndim", 1) > 0


def _strengths(strength: object) -> list[float]:
    """One number or several, each in its range. Raises RequestError."""
    if isinstance(strength, str | bytes | Mapping | AbstractSet):
        raise RequestError(f"strength must be a number or a list of numbers, not {shortened(strength)}.")
    values = [
        _number(value)
        for value in (strength if isinstance(strength, Iterable) and _are_several(strength) else [strength])
    ]
    if not values:
        raise RequestError("Give at least one strength.")
    for value in values:
        require_range("strength", value, -MAX_STRENGTH, MAX_STRENGTH)
    return values


def _number(value: object) -> float:
    """A number of Python, numpy or torch. Raises RequestError."""
    if isinstance(value, np.ndarray | Tensor) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, Real):
        raise RequestError(f"strength must be a number or a list of numbers, not {shortened(value)}.")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _process(value: object) -> Process:
    """Raises RequestError."""
    if value not in get_args(Process):
        raise RequestError(f"process must be {' or '.join(map(repr, get_args(Process)))}, not {shortened(value)}.")
    return value  # type: ignore[return-value]


def _whole(name: str, value: object) -> int:
    """A whole number of Python or numpy. Raises RequestError."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise RequestError(f"{name} must be a whole number, not {shortened(value)}.") from None

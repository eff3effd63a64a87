"""The library's ways to new directions: found in a picture, or between two prompts.

model = load_model("avatars-t2i", prompt="a face")
[smile, *others] = discover(model, "portrait.png", "Mouth")
smiling = between_prompts("avatars-t2i", "the sad face", "the smiling face")
edit(model, "portrait.png", smiling)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import TypeVar

import numpy as np
import torch

from .discovery.basis import BASIS_SIZE
from .discovery.interface import DiscoverySettings
from .discovery.methods import DEFAULT_METHOD
from .errors import RequestError
from .imaging import Crop, Source, to_pixels
from .models.loader import DiffusionModel
from .models.pipelines import load as load_pipeline
from .models.placing import usable_device
from .presets import Preset
from .progress import Job, Progress, Running
from .prompted import with_prompt
from .regions import Region, parse_regions, ready_made_region, region_from_mask
from .studio.between_prompts import FITTED, HERE, MEAN, shift_between, shift_preset
from .studio.discover.analysis import analyse_picture
from .studio.discover.exploration import Exploration
from .studio.discover.preset import as_preset
from .studio.discover.search import find_rows
from .studio.frames import Picture
from .studio.regions import parts_of
from .text_to_image import TextToImage, load_text_to_image, text_to_image_card

Place = str | Region | np.ndarray | Sequence[float]
OnProgress = Callable[[Progress], None]
T = TypeVar("T")


def discover(
    model: DiffusionModel,
    picture: Source,
    region: Place | Iterable[Place] = (),
    *,
    count: int = 5,
    method: str = DEFAULT_METHOD,
    size: int = BASIS_SIZE,
    timestep: int | None = None,
    crop: Crop | None = None,
    on_progress: OnProgress | None = None,
) -> list[Preset]:
    """Directions that change a region of a picture, per region the best first. A second region of the same picture
    costs milliseconds.

    Args:
        model: from `load_model` or `wrap_model`; a text-to-image model bound to what the picture shows.
        picture: as `edit` takes it.
        region: the label of a ready-made one ("Mouth"), a box (left, top, right, bottom) in fractions, a boolean array
            (R, R) such as one of `find_parts`, a `Region`, or several of them; none for a method that looks at the
            whole picture.
        count: directions per region.
        method: of `core.discovery.methods`.
        size: vectors of the basis: more are finer and slower.
        timestep: at which the picture is analysed, 0.6 T if left out.
        crop: the square part of the picture to use; the largest, by default.
        on_progress: called after every step.

    Returns:
        Presets for `edit`, with a suggested strength each; the sign means nothing. No pictures of them are made.

    Raises:
        RequestError: there is no such region or method, or a number is out of range. ImageError: it is no picture.
        ResourceError: out of memory.
    """
    if not isinstance(model, DiffusionModel):
        raise RequestError("discover takes a model, a picture and a region, in this order.")
    pixels = to_pixels(picture, model.card.resolution, crop)
    settings = DiscoverySettings(count=count)
    places = _places(region)
    regions = [_region(place, f"region {k}", model) for k, place in enumerate(places, start=1)]
    exploration = Exploration(
        model, Picture(pixels, model.card.id), regions, method, settings, timestep=timestep, size=size
    )
    job = analyse_picture(model, exploration.picture, timestep, size)
    exploration.analysis = _followed(job, on_progress)
    return [as_preset(exploration, row) for row in find_rows(exploration)]


def find_parts(model: DiffusionModel, picture: Source, *, crop: Crop | None = None) -> dict[str, np.ndarray]:
    """The parts that a picture shows, by name ("Mouth", "Left eye", ...), boolean (R, R) each, the smallest first: a
    region for `discover`.

    Args:
        model: "avatars" has a network for it that comes with the package; for models of photographed faces one is
            downloaded once (`core.photo.face_parsing`), and what other models show has no parts by name: {}.
        picture, crop: as `edit` takes them.

    Raises:
        ImageError: it is no picture. ModelUnavailable: the network is not here and cannot be fetched.
    """
    if not isinstance(model, DiffusionModel):
        raise RequestError("find_parts takes a model and a picture, in this order.")
    return parts_of(model.card.id, to_pixels(picture, model.card.resolution, crop))


def between_prompts(
    model: str | TextToImage,
    source: str,
    target: str,
    *,
    picture: Source | None = None,
    crop: Crop | None = None,
    prompt: str | None = None,
    fit: bool = True,
    per_timestep: bool = True,
    samples: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Preset:
    """What two prompts differ in as a direction, without an image-text model: the shift of h that does what the change
    of words does (`core.asyrp.fitted_shift`), on one picture, or on any, which takes longer; or the mean one, which is
    weak for many words (`core.asyrp.prompt_shift`).

    Args:
        model: the id of a text-to-image model, such as "avatars-t2i", or the model.
        source, target: what pictures show, and what they should show.
        picture, crop: what to fit it to, as `edit` takes them; by default pictures that the model draws.
        prompt: what pictures are bound to when they are edited, as `load_model` takes it; by default the source prompt.
        fit: whether the shift is fitted to what the words do, without a picture.
        per_timestep: a shift for each timestep, or their mean for all of them.
        samples, steps, seed: of the pictures that are drawn for it; None: 8 and 14 for a fit, 16 and 20 for a mean.
            With a picture none are drawn.
        on_progress: called after every step.

    Raises:
        RequestError: there is no such model, a prompt is empty, or a number is out of range. ModelUnavailable: its
        files are not here and cannot be fetched. ResourceError: out of memory.
    """
    text_model = load_text_to_image(text_to_image_card(model)) if isinstance(model, str) else model
    bound, other = with_prompt(text_model, source), with_prompt(text_model, target)
    way = HERE if picture is not None else FITTED if fit else MEAN
    samples = (way.samples or 1) if samples is None else samples
    steps = way.steps if steps is None else steps
    pixels = None if picture is None else to_pixels(picture, bound.card.resolution, crop)
    edited = with_prompt(text_model, prompt) if prompt else bound
    made = _followed(shift_between(bound, other, way, samples, steps, seed, pixels, edited), on_progress)
    return shift_preset(bound, other, made, way, samples, steps, seed, per_timestep, edited)


def prompted_model(
    name: str,
    prompt: str,
    guidance: float,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> DiffusionModel:
    """A listed text-to-image model, bound to a prompt; loaded once for the process if nothing else is wished for."""
    card = text_to_image_card(name)
    if device is None and dtype is None:
        return with_prompt(load_text_to_image(card), prompt, guidance)
    loaded = load_pipeline(card, None if device is None else usable_device(device), dtype)
    return with_prompt(TextToImage.from_pipeline(loaded.pipeline, card.id, loaded.fingerprint), prompt, guidance)


def _followed(job: Job[T], on_progress: OnProgress | None) -> T:
    running = Running(job)
    for event in running:
        if on_progress is not None:
            on_progress(event)
    return running.result


def _places(region: Place | Iterable[Place]) -> list[Place]:
    """One region is a list of itself."""
    if isinstance(region, str | Region | np.ndarray):
        return [region]
    items = list(region)
    if len(items) == 4 and all(isinstance(item, Real) for item in items):
        return [items]  # type: ignore[list-item]
    return items  # type: ignore[return-value]


def _region(place: Place, label: str, model: DiffusionModel) -> Region:
    if isinstance(place, Region):
        return place
    if isinstance(place, str):
        return ready_made_region(model.card.domain_word, place, model.card.resolution)
    if isinstance(place, np.ndarray):
        return region_from_mask(place, label, model.card.resolution)
    [made] = parse_regions([{"label": label, "boxes": [list(place)]}], model.card.resolution)
    return made

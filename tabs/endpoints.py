"""What the named endpoints of all tabs share: their declaration, reading a picture, telling their progress."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

import gradio as gr
import numpy as np

from core.errors import RequestError
from core.imaging import MAX_BYTES, open_picture
from core.photo.placement import Placement
from core.process import USUAL_STEPS
from core.progress import Job, Running
from core.studio.frames import Picture
from core.studio.known_models import known_card, known_models, takes_prompt
from core.studio.photographs import RETURNED, cut_out, requested_placement
from core.studio.regions import mask_for
from tabs.shell import Shell, for_clients
from tabs.widgets import PictureInput

T = TypeVar("T")

PROGRESS_INTERVAL = 0.5  # seconds between reports of progress
QUEUE: dict[str, Any] = {"concurrency_id": "api", "concurrency_limit": 2}

Answers = Iterator[tuple[Any, ...]]


def declare(shell: Shell, handler: Callable[..., Iterator[Any]], inputs: Sequence[Any], outputs: Any) -> None:
    """Offer a handler to programs under its own name; it gets the session and the values of `inputs`.

    What the labels of the inputs say of the parameters also stands in the endpoint's description, where those who see
    it as a tool read it.
    """
    endpoint = for_clients(handler)
    names = [name for name in inspect.signature(handler).parameters if name not in ("session", "request")]
    about = "\n".join(f"    {name}: {one.label}" for name, one in zip(names, inputs, strict=True))
    endpoint.__doc__ = f"{inspect.cleandoc(handler.__doc__ or '')}\n\nArgs:\n{about}\n"
    gr.on([], endpoint, [shell.session, *inputs], outputs, api_name=handler.__name__, **QUEUE)


PLACEMENT = (
    'Where the square lies that the model sees: {} for the largest one in the middle; "face" for the largest face; '
    '{"left_eye": [x, y], "right_eye": [x, y], "mouth": [x, y]}; or {"x": ..., "y": ..., "side": ..., "angle": ...}: '
    "its middle, side and turn, in pixels and degrees; /find_faces gives such squares"
)
REGIONS_LABEL = (
    'Regions, in fractions of the side: [{"label": "mouth", "boxes": [[left, top, right, bottom]], "strokes": '
    '[{"points": [[x, y]], "width": 0.1, "erases": false}], "masks": ["data:image/png;base64,..."]}]'
)
RETURNED_LABEL = "What comes back: the square, the photo with what changed, or the photo with the whole square"
STEPS_LABEL = "Steps of the process, 4 to 1000; 0: as many as it needs (anchored 7, paper and published 40)"
SEED_LABEL = "Seed of the noise that is added for quality, 0 to 2147483647; of no effect without boosting"
COMPOSITION_LABEL = (
    'Directions by name with their strengths, as JSON, for example {"smiling": 1, "old": -0.5}; -100 to 100, in each '
    "direction's own unit: 0 changes nothing, 1 is as trained; /presets says what each suggests"
)
BOOST_LABEL = "Add noise for quality below the model's t_boost, also where a direction suggests not to"


def source_input() -> gr.Dropdown:
    """The input of an endpoint for where intervals come from."""
    label = "Intervals: preset (as directions suggest, else by the curves) or curves (the model's perceptual ones)"
    return gr.Dropdown(["preset", "curves"], value="preset", label=label)


def process_input() -> gr.Dropdown:
    """The input of an endpoint for one of the ways to edit."""
    label = (
        "Process: anchored (a few steps, held to the picture), paper (inverted first, 40 steps) or published (the same "
        "with the plain inversion and the timesteps of Asyrp's authors)"
    )
    return gr.Dropdown(list(USUAL_STEPS), value="anchored", label=label)


def model_input(shell: Shell) -> gr.Dropdown:
    """The parameter that a model is given as."""
    label = "Model: its id, of the list or as /open_model gave it"
    ids = [card.id for card in known_models()]
    return gr.Dropdown(ids, value=shell.model.value, label=label, allow_custom_value=True)


def prompt_input() -> gr.Textbox:
    """The parameter that says what a picture shows."""
    label = "Text-to-image models alone: what the picture shows; empty: what is suggested for it"
    return gr.Textbox("", label=label)


def picture_input(label: str = f"Picture: a file in any common format, up to {MAX_BYTES // 2**20} MB") -> PictureInput:
    """The parameter that a picture is given as."""
    return PictureInput(type="filepath", image_mode=None, label=label)


def mask_input() -> PictureInput:
    """The parameter that a mask is given as."""
    label = (
        "Mask of one more region: a picture file, white (or opaque) inside; of the whole photo, or of its square, to "
        "which it is resized"
    )
    return PictureInput(type="filepath", image_mode=None, label=label)


def given_mask(mask: str | None, resolution: int, placement: Placement | None = None) -> np.ndarray | None:
    """The mask (R, R) that a program gave, if it gave one. placement: of the picture, see `mask_for`. Raises
    VisitorError."""
    return mask_for(mask, resolution, placement) if mask else None


def given_path(image: str | None) -> str:
    """The file of a picture that a program gave. Raises RequestError: it gave none."""
    if not image:
        raise RequestError("There is no picture. Give one as `image`.")
    return image


def given_picture(image: str | None, model_id: str, placement: Any = None, prompt: str | None = "") -> Picture:
    """The picture that a program gave, for a model: the square at `placement`. prompt: what it shows. Raises
    VisitorError."""
    prompt = (prompt or "").strip()
    if prompt and known_card(model_id) and not takes_prompt(model_id):
        raise RequestError(f"{model_id} is no text-to-image model and takes no prompt. Leave it empty.")
    photo = open_picture(given_path(image))
    return cut_out(photo, requested_placement(photo, placement, model_id), model_id, prompt)


def placement_input() -> gr.JSON:
    """The parameter that says where the square of a picture lies."""
    return gr.JSON({}, label=PLACEMENT)


def returned_input() -> gr.Dropdown:
    """The parameter that says whether the square or the whole picture comes back."""
    return gr.Dropdown(list(RETURNED), value="square", label=RETURNED_LABEL)


def told_placement(picture: Picture) -> dict[str, float] | None:
    """Where the square of a picture lies, as endpoints take it."""
    return picture.placement.as_json() if picture.placement else None


def told_prompt(picture: Picture) -> dict[str, str]:
    """What a text-to-image model was told that a picture shows; nothing of other models."""
    return {"prompt": picture.conditioning} if picture.conditioning else {}


def stream_progress(job: Job[T], beside: int = 1) -> Generator[tuple[Any, ...], None, T]:
    """The result of a job; meanwhile its progress, at most once in `PROGRESS_INTERVAL` seconds. beside: outputs before
    the JSON."""
    last, running = time.monotonic(), Running(job)
    for event in running:
        if time.monotonic() - last > PROGRESS_INTERVAL:
            last = time.monotonic()
            yield *(None,) * beside, {"note": event.note, "step": event.step, "total": event.total}
    return running.result

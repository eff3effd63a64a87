"""Discover for programs: `/analyse` looks at a picture once, `/discover` gives the directions of its regions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
from PIL import Image

from core import regions as drawing
from core.discovery.basis import SIZE
from core.discovery.found import DEFAULTS, Settings
from core.discovery.methods import METHODS, WITHOUT_REGION
from core.errors import RequestError
from core.imaging import to_pil
from core.models.cards import MODELS
from core.models.loader import models
from core.studio import library
from core.studio.discover import analysis
from core.studio.discover.exploration import Exploration
from core.studio.discover.preset import as_preset
from core.studio.discover.rows import Row
from core.studio.discover.search import explore
from core.studio.visit.session import Session
from tabs.endpoints import Answers, stream_progress
from tabs.shell import Shell, for_clients
from tabs.widgets import PictureInput

REGIONS = (
    'Regions, in fractions of the side: [{"label": "mouth", "boxes": [[left, top, right, bottom]], "strokes": '
    '[{"points": [[x, y]], "width": 0.1}]}]; none for global and pca'
)
Answers = Iterator[tuple[Any, ...]]


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    with gr.Column(visible=False):
        image = PictureInput(
            type="filepath", image_mode=None, label="Picture: a file in any common format; its central square is used"
        )
        regions = gr.JSON(label=REGIONS)
        method = gr.Dropdown(list(METHODS), value="contrast", label="Method")
        count = gr.Number(DEFAULTS.count, precision=0, label="Directions per region, 1 to 12")
        rank = gr.Number(DEFAULTS.rank, precision=0, label="JIVE: singular vectors kept of each region")
        joint = gr.Number(DEFAULTS.joint_rank, precision=0, label="JIVE: rank of the joint part")
        individual = gr.Number(DEFAULTS.individual_rank, precision=0, label="JIVE: rank of each individual part")
        off = gr.Number(DEFAULTS.projection_rank, precision=0, label="Projection: vectors of the outside taken off")
        timestep = gr.Number(600, precision=0, label="Timestep, 0 to 1000; the nearest one of 40 steps is taken")
        injection = gr.Dropdown(["symmetric", "asymmetric"], value="symmetric", label="How directions are applied")
        refine = gr.Checkbox(True, label="Converge the directions of these regions; without, the quick answer")
        size = gr.Number(SIZE, precision=0, label="Basis vectors, 8 to 512")
        model = gr.Dropdown(list(MODELS), value=shell.model.value, label="Model")
        seen = gr.Image(label="Picture as the model sees it", format="png")
        about = gr.JSON(label="Measures")
        files = gr.File(label="Preset files, one per direction", file_count="multiple")
        pictures = gr.Gallery(label="One picture per direction: at -, 0 and + its strength", format="png")

        def declare(handler: Any, inputs: list[Any], outputs: list[Any]) -> None:
            gr.on([], handler, [shell.session, *inputs], outputs, api_name=handler.__name__, **QUEUE)

        declare(analyse, [image, timestep, size, model], [seen, about])
        asked = [image, regions, method, count, rank, joint, individual, off, timestep, injection, refine, size, model]
        declare(discover, asked, [files, pictures, about])


@for_clients
def analyse(session: Session, image: str | None, timestep: int, size: int, model: str) -> Answers:
    """Analyse a picture once, for any region that is asked of `/discover` afterwards.

    Returns the picture as the model sees it, on which regions are drawn, and a JSON with the timestep that was taken,
    the singular values of the whole picture, the products with the Jacobian and the seconds taken. Until then the JSON
    tells how far it is.
    """
    started = time.monotonic()
    picture = library.open_picture(given(image), model)
    known = yield from stream_progress(analysis.analyse(models.get(model), picture, timestep, size))
    basis = known.basis
    about = {"model": model, "timestep": basis.t, "basis": len(basis), "values": rounded(basis.values.tolist())}
    about |= {"products": basis.forwards + basis.reverses, "seconds": round(time.monotonic() - started, 2)}
    yield to_pil(picture.pixels)[0], about


@for_clients
def discover(
    session: Session,
    image: str | None,
    regions: Any,
    method: str,
    count: int,
    rank: int,
    joint_rank: int,
    individual_rank: int,
    projection_rank: int,
    timestep: int,
    injection: str,
    refine: bool,
    size: int,
    model: str,
) -> Answers:
    """Find directions that change regions of a picture; a picture is analysed once, whatever is asked of it later.

    Returns a preset file and a picture per direction, and a JSON: timestep, seconds, and for each direction its name,
    region, value, linearised and measured ROIR, strength, and what the image-text model and the probe say of it. Until
    then the JSON tells how far it is. In the same session, `/edit_text` finds the directions by their names.
    """
    started = time.monotonic()
    loaded, picture = models.get(model), library.open_picture(given(image), model)
    free = method in WITHOUT_REGION and not regions
    areas = [] if free else drawing.parse([] if regions is None else regions, loaded.card.resolution)
    settings = Settings(count, rank, joint_rank, individual_rank, projection_rank)
    one = Exploration(loaded, picture, areas, method, settings, timestep, size, injection)
    yield from stream_progress(explore(one, bool(refine)), beside=2)
    made = [as_preset(one, row) for row in one.rows]
    for preset in made:
        session.keep(preset)
    about = {"model": model, "method": method, "timestep": one.analysis.t, "basis": len(one.analysis.basis)}
    about |= {"directions": [row.as_json() for row in one.rows], "seconds": round(time.monotonic() - started, 2)}
    yield [str(session.write(preset)) for preset in made], [strip_of(row) for row in one.rows], about


def given(image: str | None) -> str:
    if not image:
        raise RequestError("There is no picture. Give one as `image`.")
    return image


def rounded(values: list[float]) -> list[float]:
    return [round(value, 5) for value in values]


def strip_of(row: Row) -> tuple[Image.Image, str]:
    """The three pictures of a row side by side, with its name."""
    frames = to_pil(row.frames)
    side = frames[0].width
    strip = Image.new("RGB", (3 * side, side))
    for i, frame in enumerate(frames):
        strip.paste(frame, (i * side, 0))
    return strip, row.name

"""Discover for programs: `/analyse` looks at a picture once, `/discover` gives the directions of its regions."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from core.directions import Injection
from core.discovery.basis import BASIS_SIZE
from core.discovery.interface import DEFAULT_SETTINGS, DiscoverySettings
from core.discovery.methods import DEFAULT_METHOD, METHODS
from core.imaging import to_pil
from core.studio.discover.analysis import analyse_picture, timestep_from_share
from core.studio.discover.exploration import MAX_COUNT, Exploration, requested_regions
from core.studio.discover.preset import as_preset
from core.studio.discover.search import explore
from core.studio.discover.spectrum import spectra
from core.studio.known_models import model_of
from core.studio.regions import part_named
from core.studio.visit.session import Session
from tabs.charts import spectrum_plot
from tabs.discover.search import acting_levels
from tabs.endpoints import (
    REGIONS_LABEL,
    Answers,
    declare,
    given_mask,
    given_picture,
    mask_input,
    model_input,
    picture_input,
    placement_input,
    prompt_input,
    stream_progress,
    told_placement,
    told_prompt,
)
from tabs.exports import all_svg, csv_text
from tabs.shell import Shell
from tabs.tables import direction_rows, spectrum_rows

PART = ', or a part of the picture, [{"part": "mouth"}], of those that /find_parts tells'
REGIONS = f"{REGIONS_LABEL}{PART}; none for " + " and ".join(
    name for name, method in METHODS.items() if not method.needs_region
)
METHOD_WORDS = "; ".join(f"{name} ({method.label})" for name, method in METHODS.items())


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    defaults = DEFAULT_SETTINGS
    with gr.Column(visible=False):
        image = picture_input()
        regions = gr.JSON(label=REGIONS)
        method = gr.Dropdown(list(METHODS), value=DEFAULT_METHOD, label=f"Method: {METHOD_WORDS}")
        count = gr.Number(defaults.count, precision=0, label=f"Directions per region, 1 to {MAX_COUNT}")
        rank = gr.Number(
            defaults.rank, precision=0, label="JIVE methods only: singular vectors kept of each region, 1 to 512"
        )
        joint = gr.Number(defaults.joint_rank, precision=0, label="JIVE methods only: rank of the joint part, 1 to 512")
        individual = gr.Number(
            defaults.individual_rank, precision=0, label="JIVE methods only: rank of each individual part, 1 to 512"
        )
        projection = gr.Number(
            defaults.projection_rank,
            precision=0,
            label="Method projection only: vectors of the outside projected out, 1 to 512",
        )
        timestep = gr.Number(
            600,
            precision=0,
            label="Timestep of the analysis, 0 (picture) to 1000 (noise); the nearest one of 40 steps is taken",
        )
        injection = gr.Dropdown(
            ["symmetric", "asymmetric"],
            value="symmetric",
            label="How directions are applied: symmetric step, or asymmetric step (as in Asyrp)",
        )
        refine = gr.Checkbox(True, label="Converge the directions of these regions; without, the quick answer")
        size = gr.Number(
            BASIS_SIZE,
            precision=0,
            label="Vectors of the basis of h-space, 8 to 512; more take longer and are more exact",
        )
        acts_from = gr.Number(
            999, precision=0, label="Noise level from which directions act, 999 (noise) to 0 (picture), as of 1000"
        )
        acts_to = gr.Number(
            0,
            precision=0,
            label="Noise level down to which they act; 999 and 0: as the method has it, boundary at one level alone",
        )
        strength = gr.Number(
            0,
            label="Strength of the pictures as the papers count a (theirs is 50), 0.1 to 100; 0: a well visible change",
        )
        model = model_input(shell)
        seen = gr.Image(label="Picture as the model sees it", format="png")
        about = gr.JSON(label="Measures")
        files = gr.File(label="Preset files, one per direction", file_count="multiple")
        pictures = gr.Gallery(label="One picture per direction: at -, 0 and + its strength", format="png")

        placement = placement_input()
        prompt = prompt_input()
        declare(shell, analyse, [image, timestep, size, model, placement, prompt], [seen, about])
        ranks = [rank, joint, individual, projection]
        how = [method, count, *ranks, timestep, injection, refine, size]
        inputs = [image, regions, *how, model, placement, mask_input(), acts_from, acts_to, strength, prompt]
        declare(shell, discover, inputs, [files, pictures, about])


def analyse(
    session: Session, image: str | None, timestep: int, size: int, model: str, placement: Any, prompt: str = ""
) -> Answers:
    """Analyse a picture once, for any region that is asked of `/discover` afterwards.

    Returns the picture as the model sees it, on which regions are drawn, and a JSON with the timestep that was taken,
    the singular values of the whole picture, the products with the Jacobian and the seconds taken. Until then the JSON
    tells how far it is.
    """
    started = time.monotonic()
    picture = given_picture(image, model, placement, prompt)
    loaded = model_of(picture)
    t = timestep_from_share(loaded, timestep)
    analysis = yield from stream_progress(analyse_picture(loaded, picture, t, size))
    basis = analysis.basis
    values = [round(value, 5) for value in basis.values.tolist()]
    about = {"model": model, "timestep": basis.t, "basis": len(basis), "values": values}
    about |= told_prompt(picture)
    about |= {"products": basis.forwards + basis.reverses, "seconds": round(time.monotonic() - started, 2)}
    yield to_pil(picture.pixels)[0], about | {"placement": told_placement(picture)}


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
    injection: Injection,
    refine: bool,
    size: int,
    model: str,
    placement: Any,
    mask: str | None = None,
    acts_from: int = 999,
    acts_to: int = 0,
    strength: float = 0,
    prompt: str = "",
) -> Answers:
    """Find directions that change regions of a picture; a picture is analysed once, whatever is asked of it later.

    Returns a preset file and a picture per direction, and a JSON: timestep, seconds, and for each direction its name,
    region, value, linearised and measured ROIR, mean squared change inside and outside, strength a, and what the
    image-text model and the probe say of it. Until then the JSON tells how far it is. In the same session, `/edit_text`
    finds the directions by their names, and gives back the whole photo with one of them.
    """
    started = time.monotonic()
    picture = given_picture(image, model, placement, prompt)
    loaded = model_of(picture)
    painted = given_mask(mask, loaded.card.resolution, picture.placement)
    named = part_named(loaded.card.id, picture.pixels)
    areas = requested_regions(regions, method, loaded.card.resolution, painted, named)
    settings = DiscoverySettings(count, rank, joint_rank, individual_rank, projection_rank)
    t = timestep_from_share(loaded, timestep)
    start, end = acting_levels(loaded, acts_from, acts_to)
    asked = Exploration(
        loaded,
        picture,
        areas,
        method,
        settings,
        t,
        size,
        injection,
        acts_from=start,
        acts_to=end,
        strength=strength or None,
    )
    job = explore(asked, bool(refine))
    exploration = yield from stream_progress(job, beside=2)
    keys = [session.keep(as_preset(exploration, row)) for row in exploration.rows]
    presets = [session.own[key] for key in keys]
    analysis = exploration.require_analysis()
    about = {"model": model, "method": method, "timestep": analysis.t, "basis": len(analysis.basis)}
    about |= told_prompt(picture)
    rows = [replace(row, name=preset.name) for row, preset in zip(exploration.rows, presets, strict=True)]
    about |= {"directions": [row.as_json() for row in rows]}
    regions = spectra(exploration)
    drawings = all_svg(spectrum_plot(regions))
    about |= {"csv": csv_text(direction_rows(rows)), "spectrum_csv": csv_text(spectrum_rows(regions))}
    about |= {"chart_svg": drawings[0], "split_svg": drawings[1] if len(drawings) > 1 else ""}
    about |= {"seconds": round(time.monotonic() - started, 2), "placement": told_placement(picture)}
    strips = [(side_by_side(row.frames), row.name) for row in rows if row.frames is not None]
    yield [str(session.write(preset)) for preset in presets], strips, about


def side_by_side(frames: Tensor) -> Image.Image:
    """Pictures (n, 3, R, R) in one row."""
    pictures = to_pil(frames)
    side = pictures[0].width
    strip = Image.new("RGB", (len(pictures) * side, side))
    for i, picture in enumerate(pictures):
        strip.paste(picture, (i * side, 0))
    return strip

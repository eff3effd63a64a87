"""Named endpoints of composing: several directions on one picture, a sweep of two, and what directions there are."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from PIL import Image

from core.errors import RequestError
from core.presets import Preset
from core.process import Process
from core.studio import library
from core.studio.compose import animation, applying, pictures
from core.studio.compose.composition import MAX_COMPONENTS
from core.studio.frames import EditOptions, Frame, IntervalSource, Picture
from core.studio.known_models import known_card, model_of
from core.studio.photographs import given_back, reduced, require_returned
from core.studio.visit.session import Session
from tabs.endpoints import (
    BOOST_LABEL,
    COMPOSITION_LABEL,
    SEED_LABEL,
    STEPS_LABEL,
    Answers,
    declare,
    given_picture,
    model_input,
    picture_input,
    placement_input,
    process_input,
    prompt_input,
    returned_input,
    source_input,
    stream_progress,
    told_placement,
    told_prompt,
)
from tabs.exports import csv_text
from tabs.shell import Shell
from tabs.tables import sweep_rows

MAX_TEXT = 4000  # characters of a composition
MAX_CELL = 512  # pixels of the longer side of a photograph among others: in a sweep, in a filmstrip


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    with gr.Column(visible=False):
        image = picture_input()
        composition = gr.Textbox("", label=COMPOSITION_LABEL)
        across = gr.Textbox(label="Name of the direction whose strength grows to the right, as /presets lists it")
        down = gr.Textbox(label="Name of the direction whose strength grows downwards, as /presets lists it")
        low = gr.Number(-1.0, label="Lowest strength of both, -100 to 100, in the directions' own units")
        high = gr.Number(1.0, label="Highest strength of both, -100 to 100, in the directions' own units")
        count = gr.Number(5, precision=0, label="Strengths of each, 2 to 11, in even steps from low to high")
        steps = gr.Number(0, precision=0, label=STEPS_LABEL)
        seed = gr.Number(0, precision=0, label=SEED_LABEL)
        model = model_input(shell)
        process = process_input()
        picture = gr.Image(label="Picture", format="png")
        about = gr.JSON(label="About it")

        placement, back, source = placement_input(), returned_input(), source_input()
        boost = gr.Checkbox(False, label=BOOST_LABEL)
        asked = [image, composition, steps, seed, model, process, placement, back]
        prompt = prompt_input()
        declare(shell, compose, [*asked, source, boost, prompt], [picture, about])
        asked = [image, across, down, low, high, count, composition, steps, seed, model, process]
        asked += [placement, back, prompt]
        declare(shell, sweep, asked, [picture, about])
        declare(shell, presets, [model], about)


def compose(
    session: Session,
    image: str | None,
    composition: str,
    steps: int,
    seed: int,
    model: str,
    process: Process,
    placement: Any,
    returned: str,
    intervals: IntervalSource,
    boost: bool,
    prompt: str = "",
) -> Answers:
    """Apply several directions to a picture in one pass.

    Directions are presets by their names, or ones trained before in this session; their strengths may be negative.

    Returns the picture and a JSON of measures, the intervals used and the seconds taken. Until then the JSON tells how
    far it is.
    """
    started = time.monotonic()
    require_returned(returned)
    asked = EditOptions(steps or None, seed=seed, process=process, source=intervals, boost=bool(boost))
    chosen = chosen_directions(session, composition, model)
    source = given_picture(image, model, placement, prompt)
    loaded = model_of(source)
    columns = [(preset, [c]) for preset, c in chosen]
    [frame] = yield from stream_progress(applying.apply(loaded, source, columns, asked))
    presets_used = [preset for preset, _ in chosen]
    used = applying.intervals_of(loaded.card, presets_used, asked)
    about: dict[str, Any] = {"composition": applying.describe_composition(chosen), "model": model}
    about |= {"process": process, "steps": asked.step_count}
    about |= {"t_edit": used.t_edit, "t_boost": used.t_boost}
    about |= {"intervals": applying.intervals_in_words(loaded.card, presets_used, asked)}
    about |= {"seconds": round(time.monotonic() - started, 2)}
    about |= {"placement": told_placement(source)} | told_prompt(source)
    yield given_back(source, frame.pixels, returned), about | frame.measures.as_json()


def sweep(
    session: Session,
    image: str | None,
    across: str,
    down: str,
    low: float,
    high: float,
    count: int,
    composition: str,
    steps: int,
    seed: int,
    model: str,
    process: Process,
    placement: Any,
    returned: str,
    prompt: str = "",
) -> Answers:
    """Two directions against each other: a grid of pictures with every pair of their strengths.

    `composition` may hold further directions that stay as they are.

    Returns the grid as one picture with its strengths at the edges, and a JSON with the measures of every cell, row by
    row. Until then the JSON tells how far it is. Cells that show the whole photo are small; `/compose` gives any of
    them at the photo's own resolution.
    """
    started = time.monotonic()
    require_returned(returned)
    options = EditOptions(steps or None, seed=seed, process=process)
    strengths = pictures.evenly_spaced(low, high, count)
    pair = [(named_direction(session, name, model), 0.0) for name in (across, down)]
    rest = chosen_directions(session, composition, model) if (composition or "").strip() else []
    others = [(preset, c) for preset, c in rest if preset not in (pair[0][0], pair[1][0])]
    if pair[0][0] is pair[1][0]:
        raise RequestError("A sweep needs two different directions.")
    source = given_picture(image, model, placement, prompt)
    loaded = model_of(source)
    job = pictures.sweep(loaded, source, [*pair, *others], 0, 1, strengths, strengths, options)
    result = yield from stream_progress(job)
    about: dict[str, Any] = {"across": result.across, "down": result.down, "strengths": strengths, "model": model}
    about |= {"process": process, "steps": options.step_count}
    about["cells"] = [frame.measures.as_json() for frame in result.frames]
    about["csv"] = csv_text(sweep_rows(result))
    about |= {"seconds": round(time.monotonic() - started, 2), "placement": told_placement(source)}
    about |= told_prompt(source)
    yield animation.sheet(result, each_given_back(source, result.frames, returned)), about


def each_given_back(source: Picture, frames: Sequence[Frame], returned: str) -> list[Image.Image] | None:
    """The whole photo with each edit in it, reduced to stand beside the others; None where the squares are wanted."""
    small = reduced(source, MAX_CELL)
    return None if returned == "square" else [given_back(small, frame.pixels, returned) for frame in frames]


def presets(session: Session, model: str) -> Iterator[list[dict[str, Any]]]:
    """The directions that there are for a model: those that come with it, and those of this session.

    Returns a JSON list with the name, description, kind, method, texts, suggested strengths, intervals and measured
    effect of each.
    """
    known_card(model)
    own = [_described(preset, True) for preset in session.own.values() if preset.model == model]
    yield [*own, *(_described(preset, False) for preset in library.shipped(model).values())]


def _described(preset: Preset, own: bool) -> dict[str, Any]:
    about = {"name": preset.name, "own": own, "kind": preset.direction.kind}
    for name in ("description", "method", "source_text", "target_text", "strength", "strength_range"):
        about[name] = getattr(preset, name)
    return about | {"t_edit": preset.t_edit, "t_boost": preset.t_boost, "measured": preset.measured}


def named_direction(session: Session, name: str, model: str) -> Preset:
    """Raises RequestError: there is no such direction."""
    if not (name or "").strip():
        raise RequestError("Give the names of two directions.")
    return library.named_preset(model, name, session.own)


def chosen_directions(session: Session, composition: str, model: str) -> list[tuple[Preset, float]]:
    """The directions of a JSON object of names and strengths. Raises RequestError."""
    try:
        named = json.loads((composition or "")[:MAX_TEXT])
    except (ValueError, RecursionError) as error:
        raise RequestError('The composition is not JSON. Write it like {"smiling": 1, "old": -0.5}.') from error
    fits = isinstance(named, dict) and all(type(c) in (int, float) for c in named.values())
    if not fits or not 1 <= len(named) <= MAX_COMPONENTS:
        raise RequestError(
            f'A composition names 1 to {MAX_COMPONENTS} directions with strengths, like {{"smiling": 1, "old": -0.5}}.'
        )
    return [(named_direction(session, name, model), float(c)) for name, c in named.items()]

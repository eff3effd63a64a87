"""Named endpoints of Compose for what its sections show: similarity, several pictures, the filmstrip, the history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import RequestError
from core.process import Process
from core.progress import Running
from core.studio.compose import animation, orthogonalise, pictures
from core.studio.compose.common_start import comparison_words
from core.studio.frames import EditOptions
from core.studio.known_models import bound_model, model_of
from core.studio.photographs import require_returned
from core.studio.visit.session import Session
from tabs.compose.endpoints import chosen_directions, each_given_back, named_direction
from tabs.compose.similarity import legend
from tabs.endpoints import (
    COMPOSITION_LABEL,
    PLACEMENT,
    PROGRESS_INTERVAL,
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
    stream_progress,
    told_placement,
)
from tabs.exports import csv_text
from tabs.shell import Shell
from tabs.tables import batch_rows, frame_rows, matrix_rows, result_rows


def build(shell: Shell) -> None:
    """Declare the endpoints; their parameters are components that are never shown."""
    with gr.Column(visible=False):
        image = picture_input()
        names = gr.Textbox("", label="Names of two directions or more, separated by commas, as /presets lists them")
        metric = gr.Dropdown(
            list(orthogonalise.METRICS),
            value="effect",
            label="What is compared: effect (what each is for), response (what they do to this picture) or h-space",
        )
        files = gr.File(file_count="multiple", label=f"Pictures, up to {pictures.MAX_FILES}")
        composition = gr.Textbox("", label=COMPOSITION_LABEL)
        count = gr.Number(9, precision=0, label="Pictures of the filmstrip, 2 to 48")
        start = gr.Number(
            0.0,
            label="First multiple of the composition: 0 is the picture, 1 the composition; negative is the opposite",
        )
        end = gr.Number(
            1.0, label="Last multiple of the composition: 0 is the picture, 1 the composition, 2 twice as much"
        )
        steps = gr.Number(0, precision=0, label=STEPS_LABEL)
        seed = gr.Number(0, precision=0, label=SEED_LABEL)
        model = model_input(shell)
        process = process_input()
        placement, back = placement_input(), returned_input()
        each = gr.JSON({}, label=f"{PLACEMENT}; one for all pictures, or a list with one for each")
        picture, about = gr.Image(label="Picture", format="png"), gr.JSON(label="About it")
        archive = gr.File(label="The edited pictures, as a zip")

        prompt = prompt_input()
        declare(shell, similarity, [image, names, metric, model, placement, prompt], about)
        declare(shell, batch, [files, composition, steps, seed, model, process, each], [archive, about])
        asked = [image, composition, count, start, end, steps, seed, model, process, placement, back, prompt]
        declare(shell, filmstrip, asked, [picture, about])
        declare(shell, history, [], about)


def similarity(
    session: Session,
    image: str | None,
    directions: str,
    metric: orthogonalise.Metric,
    model: str,
    placement: Any,
    prompt: str = "",
) -> Iterator[Any]:
    """How much directions have in common at a picture.

    Returns a JSON with the names, the square table of similarities row by row, the same as CSV, and what was compared.
    Until then the JSON tells how far it is.
    """
    wanted = [name.strip() for name in (directions or "").split(",") if name.strip()]
    if len(wanted) < 2:
        raise RequestError("Give the names of two directions or more, separated by commas.")
    chosen = [named_direction(session, name, model) for name in wanted]
    source, last = given_picture(image, model, placement, prompt), time.monotonic()
    running = Running(orthogonalise.similarities(model_of(source), source, chosen, metric))
    for event in running:
        if time.monotonic() - last > PROGRESS_INTERVAL:
            last = time.monotonic()
            yield {"note": event.note, "step": event.step, "total": event.total}
    names, values = [preset.name for preset in chosen], running.result.tolist()
    compared = f"{legend(metric, None)} {comparison_words(chosen, metric)}".strip()
    about = {"directions": names, "metric": metric, "similarity": values, "compared": compared}
    yield about | {"csv": csv_text(matrix_rows(names, values)), "placement": told_placement(source)}


def batch(
    session: Session,
    images: list[str] | None,
    composition: str,
    steps: int,
    seed: int,
    model: str,
    process: Process,
    placement: Any,
) -> Answers:
    """Apply the same directions to several pictures.

    Returns a zip of PNG files with `contents.json`, and a JSON: for each picture its measures and the placement of its
    square or why it could not be edited, the same as CSV, and in `unknown_to_model` the pictures that the model cannot
    draw, whose edits are guesses. Until then the JSON tells how far it is. The files are the squares;
    `/return_to_photo` puts any of them back.
    """
    options = EditOptions(steps or None, seed=seed, process=process)
    chosen = chosen_directions(session, composition, model)
    files = [(Path(path).name, Path(path)) for path in images or []]
    result = yield from stream_progress(pictures.batch(bound_model(model), files, chosen, options, placement))
    path = session.file("batch.zip", result.data)
    yield str(path), result.contents | {"done": result.done, "csv": csv_text(batch_rows(result))}


def filmstrip(
    session: Session,
    image: str | None,
    composition: str,
    count: int,
    start: float,
    end: float,
    steps: int,
    seed: int,
    model: str,
    process: Process,
    placement: Any,
    returned: str,
    prompt: str = "",
) -> Answers:
    """The way from one multiple of a composition to another, in even steps.

    Returns the pictures side by side, and a JSON with the measures of each and the same as CSV. Until then the JSON
    tells how far it is. Pictures that show the whole photo are small; `/compose` gives any of them at the photo's own
    resolution.
    """
    require_returned(returned)
    options = EditOptions(steps or None, seed=seed, process=process)
    chosen = chosen_directions(session, composition, model)
    first, last = ([(preset, c * multiple) for preset, c in chosen] for multiple in (start, end))
    source = given_picture(image, model, placement, prompt)
    job = pictures.interpolate(model_of(source), source, first, last, count, options)
    frames = yield from stream_progress(job)
    shares = [{"share": share} for share in pictures.shares(start, end, count)]
    cells = [about | frame.measures.as_json() for about, frame in zip(shares, frames, strict=True)]
    about = {"model": model, "pictures": cells, "csv": csv_text(frame_rows(frames, shares))}
    whole = each_given_back(source, frames, returned)
    yield animation.filmstrip([frame.pixels for frame in frames], whole), about | {"placement": told_placement(source)}


def history(session: Session) -> Iterator[dict[str, Any]]:
    """All numbers of the results that were made in this session, the oldest first.

    Returns a JSON with a record for each result of the page's tabs: tab, model, what it was made with, and its
    measures; and the same as CSV.
    """
    results = list(session.compose.history.results)
    rows = csv_text(result_rows(results)) if results else ""
    yield {"results": [result.as_json() for result in results], "csv": rows}

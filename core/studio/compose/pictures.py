"""Many pictures of compositions: a sweep over two strengths, an interpolation of two compositions, a batch of files."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ... import presets
from ...errors import RequestError, VisitorError
from ...imaging import open_picture, to_pil
from ...models.loader import DiffusionModel
from ...presets import Preset
from ...progress import Job, stage
from ..domain import warning
from ..frames import EditOptions, Frame, Picture
from ..known_models import model_of
from ..photographs import cut_out, requested_placement
from .applying import Chosen, apply

MAX_FILES = 24


@dataclass(frozen=True)
class Sweep:
    """A grid of pictures: the strength of `across` grows to the right, that of `down` downwards.

    frames: row by row, len(downs) x len(acrosses) of them.
    """

    across: str
    down: str
    acrosses: tuple[float, ...]
    downs: tuple[float, ...]
    frames: tuple[Frame, ...]


def evenly_spaced(low: float, high: float, count: int) -> list[float]:
    """`count` strengths from low to high, both included.

    Raises:
        RequestError: not between 2 and 11 of them, or low is not below high.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 11:
        raise RequestError(f"A sweep has 2 to 11 strengths of each direction, not {count}.")
    if not low < high:
        raise RequestError(f"Strengths go from the lower to the higher: {low:g} is not below {high:g}.")
    return [round(low + (high - low) * k / (count - 1), 3) for k in range(count)]


def sweep(
    model: DiffusionModel,
    picture: Picture,
    chosen: Chosen,
    across: int,
    down: int,
    acrosses: Sequence[float],
    downs: Sequence[float],
    options: EditOptions = EditOptions(),
) -> Job[Sweep]:
    """Two strengths of a composition against each other, the others as they are (the local-editing paper's figure 4,
    Asyrp's figure 33). Returns the grid.

    across, down: indices in `chosen`. acrosses, downs: their strengths.

    Raises:
        RequestError: the two are the same, or there are too many pictures.
    """
    if across == down or not all(0 <= i < len(chosen) for i in (across, down)):
        raise RequestError("A sweep needs two different directions of the composition.")
    cells = [(a, d) for d in downs for a in acrosses]
    columns = []
    for i, (preset, strength) in enumerate(chosen):
        values = [a if i == across else d if i == down else strength for a, d in cells]
        columns.append((preset, values))
    frames = yield from apply(model, picture, columns, options)
    return Sweep(chosen[across][0].name, chosen[down][0].name, tuple(acrosses), tuple(downs), tuple(frames))


def shares(start: float, end: float, count: int) -> list[float]:
    """`count` multiples of a composition from one to another, in even steps."""
    return [round(start + (end - start) * k / (count - 1), 4) for k in range(count)]


def interpolate(
    model: DiffusionModel,
    picture: Picture,
    start: Chosen,
    end: Chosen,
    count: int,
    options: EditOptions = EditOptions(),
) -> Job[list[Frame]]:
    """From one composition to another in `count` even steps of all strengths. Returns a frame for each.

    A preset that only one of the two has comes from, or goes to, strength 0; an empty start is the picture itself.

    Raises:
        RequestError: both are empty, or not between 2 and 48 pictures.
    """
    if isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 48:
        raise RequestError(f"A filmstrip has 2 to 48 pictures, not {count}.")
    ends: dict[int, tuple[Preset, list[float]]] = {}
    for side, chosen in enumerate((start, end)):
        for preset, strength in chosen:
            ends.setdefault(id(preset), (preset, [0.0, 0.0]))[1][side] = strength
    columns = [(preset, [a + (b - a) * k / (count - 1) for k in range(count)]) for preset, (a, b) in ends.values()]
    return (yield from apply(model, picture, columns, options))


@dataclass(frozen=True)
class Batch:
    """Several pictures edited. data: the zip. done: how many. problems: the others, each with the reason. contents:
    what `contents.json` in the zip says. frames: those that were edited. before: their pixels as they were,
    (1, 3, R, R) each. unknown: the names of those of them that the model does not know, see `domain`."""

    data: bytes
    done: int
    problems: tuple[tuple[str, str], ...] = ()
    contents: dict[str, Any] = field(default_factory=dict)
    frames: tuple[Frame, ...] = ()
    before: tuple[Tensor, ...] = ()
    unknown: tuple[str, ...] = ()


def batch(
    model: DiffusionModel,
    files: Sequence[tuple[str, Path]],
    chosen: Chosen,
    options: EditOptions = EditOptions(),
    placements: Any = None,
) -> Job[Batch]:
    """The same composition on several pictures. Returns a zip of PNG files named after theirs, with `contents.json`; a
    picture that cannot be used is listed there and in `problems` with the reason, and does not stop the others; one
    that the model does not know is edited, with a warning there.

    files: (name as the visitor knows it, file). placements: where their squares lie, see `photographs.placed`: one for
    all, or a list with one for each; the largest upright square, in the middle, by default.

    Raises:
        RequestError: no pictures or too many, or another number of placements; nothing to apply.
    """
    if not 1 <= len(files) <= MAX_FILES:
        raise RequestError(f"Between 1 and {MAX_FILES} pictures can be edited at once, not {len(files)}.")
    if isinstance(placements, list) and len(placements) != len(files):
        raise RequestError(f"There are {len(files)} pictures and {len(placements)} placements: give one for each.")
    wanted = placements if isinstance(placements, list) else [placements] * len(files)
    if not chosen:
        raise RequestError("There is nothing to apply yet: add a direction first.")
    columns = [(preset, [strength]) for preset, strength in chosen]
    archived, contents, frames, before = io.BytesIO(), [], [], []
    steps = 2 * options.step_count
    with zipfile.ZipFile(archived, "w") as archive:
        for number, ((name, path), placement) in enumerate(zip(files, wanted, strict=True), start=1):
            entry: dict[str, Any] = {"picture": Path(name).name[:120]}
            try:
                photo = open_picture(path)
                place = requested_placement(photo, placement, model.card.id)
                picture = cut_out(photo, place, model.card.id)
                own = model_of(picture) if picture.conditioning else model  # what each of them shows is another thing
                job, note = apply(own, picture, columns, options), f"Picture {number} of {len(files)}"
                [frame] = yield from stage(job, note, first=steps * (number - 1), total=steps * len(files))
                stem = presets.file_name(Path(name).stem).removesuffix(presets.SUFFIX)
                file = f"{number:02d}-{stem}.png"
                archive.writestr(file, to_png(to_pil(frame.pixels)[0]))
                entry |= {"file": file, "placement": place.as_json()} | frame.measures.as_json()
                frames.append(frame)
                before.append(picture.pixels)
                if frame.measures.in_domain is False:
                    entry["warning"] = warning(model.card)
            except VisitorError as error:
                entry["problem"] = error.message
            contents.append(entry)
        if not any("file" in entry for entry in contents):
            raise RequestError(f"None of these pictures could be edited. The first: {contents[0]['problem']}")
        applied = [{"name": preset.name, "strength": strength} for preset, strength in chosen]
        unknown = tuple(str(entry["picture"]) for entry in contents if "warning" in entry)
        table = {"model": model.card.id, "steps": options.step_count, "directions": applied, "pictures": contents}
        table["unknown_to_model"] = unknown
        archive.writestr("contents.json", json.dumps(table, indent=2, ensure_ascii=False))
    problems = tuple((str(entry["picture"]), str(entry["problem"])) for entry in contents if "problem" in entry)
    done = len(files) - len(problems)
    return Batch(archived.getvalue(), done, problems, table, tuple(frames), tuple(before), unknown)


def to_png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()

"""A model's perceptual curves over many pictures, in units that any number of processes share, and what follows from
them: where to edit for each pair of texts, and where to boost (Asyrp, Table 2 and Figure 19)."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..asyrp.loss import similarity
from ..clip import ImageText
from ..curves import measure_curves
from ..drawing import Line, Mark, line_plot
from ..errors import RequestError
from ..intervals import PUBLISHED, Curves
from ..kept_on_disk import keep
from ..metrics import Distance
from ..models.loader import DiffusionModel
from ..progress import Job, stage
from ..recipes.pictures import Readable as Pictures
from ..recipes.pictures import load_pictures
from ..recipes.team import HIDDEN, Team
from ..recipes.units import Unit, run_units
from ..sampling import sample
from ..studio.sample import sample_picture
from ..tensor_file import write
from .results import as_csv

BATCH = 4  # pictures of a unit
COUNT = 100  # pictures, as the paper
STEPS = 100  # noise levels
MAX_TEXTS = 1000
ALONE = Team()

Texts = tuple[str, str]


@dataclass(frozen=True)
class MeasuredCurves:
    """curves: means over `count` pictures."""

    curves: Curves
    count: int


@dataclass(frozen=True)
class EditingEnd:
    """Where the editing interval of a pair of texts ends. similarity: of the texts, None where CLIP cannot be had;
    published: (similarity, t_edit) in the paper, for another model."""

    source: str
    target: str
    similarity: float | None
    t_edit: int | None
    published: tuple[float, int] | None = None


def curves_together(
    model: DiffusionModel,
    pictures: Pictures | None,
    distance: Distance,
    out: Path,
    count: int = COUNT,
    steps: int = STEPS,
    team: Team = ALONE,
    batch: int = BATCH,
) -> Job[MeasuredCurves | None]:
    """The curves of a model, over pictures or, without any, over `count` that the model makes itself.

    They are kept where the model is looked up (`core.kept_on_disk`), and written to `curves.json` of a folder. Of
    several processes, the main one joins and writes; the others return None, and so does a share of the work as long as
    others are not done.

    Raises:
        RequestError: steps out of range. ResourceError: a unit failed.
    """
    steps = min(steps, model.schedule.T)
    model.schedule.timesteps(steps)  # in range
    pictures = team.first(pictures)
    total = count if pictures is None else len(pictures.files)
    parts: dict[Unit, range] = {}
    for first in range(0, total, batch):
        part = range(first, min(first + batch, total))
        which = [f"seed {i}" if pictures is None else pictures.digests[i] for i in part]
        said = json.dumps([model.fingerprint, str(model.dtype), model.card.perceptual, steps, which])
        key = f"curves-{first}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
        label = f"pictures {part.start + 1} to {part.stop}"
        parts[Unit(key, (f"{HIDDEN}/measured/{key}.npz",), label, cost=len(part))] = part

    def work(unit: Unit) -> Job[Mapping[str, bytes]]:
        part = parts[unit]
        if pictures is None:
            pixels = yield from _made(model, part)
        else:
            pixels = load_pictures([pictures.files[i] for i in part], model.card.resolution)
        curves = yield from stage(measure_curves(model, pixels, distance, steps), previews=False)
        table = {"count": np.array(len(part)), "t": curves.t}
        table |= {"predicted_x0": curves.predicted_x0, "noisy": curves.noisy}
        written = io.BytesIO()
        np.savez(written, **table)  # type: ignore[arg-type]
        return {unit.files[0]: written.getvalue()}

    outcome = yield from run_units(list(parts), work, out, team)
    outcome.require_complete()
    if not team.main or not all(unit.is_done(out) for unit in parts):
        return None
    measured = joined([out / unit.files[0] for unit in parts])
    content = measured.curves.as_json() | {"pictures": measured.count}
    write(out / "curves.json", (json.dumps(content) + "\n").encode(), "file curves.json")
    keep("curves", model.fingerprint, content)
    return measured


def joined(units: Sequence[Path]) -> MeasuredCurves:
    """The mean over all pictures, of the means of the units (at least one)."""
    tables = []
    for path in units:
        with np.load(path, allow_pickle=False) as table:
            tables.append(dict(table))
    counts = [int(table["count"]) for table in tables]
    predicted_x0, noisy = (
        np.average([table[key] for table in tables], axis=0, weights=counts) for key in ("predicted_x0", "noisy")
    )
    return MeasuredCurves(Curves(tables[0]["t"], predicted_x0, noisy), sum(counts))


def _made(model: DiffusionModel, seeds: range) -> Job[Tensor]:
    """New pictures of a model, one for each seed."""
    if model.card.drawn is None:
        return (yield from stage(sample(model, seeds.start, len(seeds)), "making pictures", previews=False))
    made = []
    for seed in seeds:
        made.append((yield from stage(sample_picture(model, seed), "making pictures", previews=False)).pixels)
    return torch.cat(made)


# --------------------------------------------------------------------------------------------------- what follows of it


def papers_texts() -> list[Texts]:
    """The 33 pairs of prompts of Asyrp's Table 2."""
    return [pair for table in PUBLISHED.values() for pair in table.texts]


def read_texts(path: Path) -> list[Texts]:
    """Pairs of texts from a file: a line for each, “face -> smiling face” or two cells of a CSV file. Empty lines and
    those that begin with # do not count.

    Raises:
        RequestError: it cannot be read, or a line is something else; the message says which.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"The texts in {path} cannot be read: a text file in UTF-8 is needed.") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = re.split(r"\s*(?:->|→)\s*", line) if re.search(r"->|→", line) else next(csv.reader([line]))
        pair = [" ".join(cell.split()) for cell in cells]
        if len(pair) != 2 or not all(pair):
            raise RequestError(f"{path}, line {number}: write two texts, such as “face -> smiling face”.")
        pairs.append((pair[0], pair[1]))
    if not 0 < len(pairs) <= MAX_TEXTS:
        raise RequestError(f"{path} has {len(pairs)} pairs of texts; from 1 to {MAX_TEXTS} can be used.")
    return pairs


def editing_ends(curves: Curves, texts: Sequence[Texts], image_text: ImageText | None) -> list[EditingEnd]:
    """t_edit for each pair: where LPIPS(x0, P_t) reaches 0.33 times the texts' similarity (Asyrp, section 4.1)."""
    known = {pair: knot for table in PUBLISHED.values() for pair, knot in zip(table.texts, table.knots, strict=True)}
    ends = []
    for source, target in texts:
        alike = None if image_text is None else similarity(image_text, source, target)
        t_edit = None if alike is None else curves.t_edit(alike)
        ends.append(EditingEnd(source, target, alike, t_edit, known.get((source, target))))
    return ends


def ends_as_csv(ends: Sequence[EditingEnd]) -> str:
    """A table of the pairs."""
    return as_csv(
        [
            {
                "source": end.source,
                "target": end.target,
                "similarity": end.similarity,
                "t_edit": end.t_edit,
                "published_similarity": end.published[0] if end.published else None,
                "published_t_edit": end.published[1] if end.published else None,
            }
            for end in ends
        ]
    )


def curves_plot(measured: MeasuredCurves, title: str) -> str:
    """Both curves from T down to 0, as an SVG file of its own, with the thresholds of t_edit and t_boost."""
    curves = measured.curves
    lines = [
        Line("P_t, what is predicted", curves.t, curves.predicted_x0, dots=False),
        Line("x_t, what is seen", curves.t, curves.noisy, dots=False),
    ]
    marks = [
        Mark(curves.edit_threshold, f"{curves.edit_threshold:g}: t_edit up to {curves.t_edit(1.0)}", level=True),
        Mark(curves.boost_threshold, f"{curves.boost_threshold:g}: t_boost {curves.t_boost()}", level=True),
    ]
    words = f"Perceptual distance to the picture along the inversion of {measured.count} pictures, {title}"
    return line_plot(words, lines, "t", "perceptual distance", marks, downwards=True, alone=True, include=(0.0,))

"""Directions measured on many pictures: in units of a batch and a direction, which any number of processes share."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from .. import presets
from ..anchoring import PathCache
from ..editing import EditSettings
from ..errors import RequestError
from ..imaging import to_pil
from ..latents import LatentCache
from ..models.loader import DiffusionModel
from ..process import Kept, edit_pictures
from ..progress import Job, stage
from ..recipes.pictures import Readable as Pictures
from ..recipes.pictures import load_pictures
from ..recipes.team import HIDDEN, Team
from ..recipes.units import Unit, run_units
from ..studio.edit import intervals_for, strip_strengths, what_is_assumed
from ..studio.frames import EditOptions
from ..tensor_file import write
from .gauges import Gauges
from .measures import VERSION, Table, lacking, lacking_words, measure, require_known
from .page import page
from .results import Evaluation, Found, Joined, Shown
from .subject import Subject, with_zero

BATCH = 8  # pictures of a unit
SHOWN = 4  # pictures of each direction on the page
THUMBNAIL = 144  # pixels of their sides at most
STRENGTHS = 5  # of a strip, if none are given
ALONE = Team()
KEPT_BYTES = 256 * 2**20  # of a batch's paths or latents, for the next direction; more is computed again


@dataclass(frozen=True)
class _Piece:
    """What a unit is: a direction and some pictures, by number."""

    subject: int
    pictures: range

    @property
    def shows(self) -> bool:
        """Whether some of its pictures are on the page."""
        return self.pictures.start == 0


def evaluate(
    model: DiffusionModel,
    subjects: Sequence[Subject],
    pictures: Pictures,
    source: str,
    out: Path,
    gauges: Gauges,
    options: EditOptions = EditOptions(),
    team: Team = ALONE,
    batch: int = BATCH,
) -> Job[Evaluation | None]:
    """Measure directions on pictures, and write `evaluation.csv`, `evaluation.json` and `evaluation.html` to a folder.

    source: of the pictures, in words. What was measured before with the same settings, on the same pictures, is not
    computed again. Of several processes, the main one joins and writes; the others return None, and so does a share of
    the work as long as others are not done.

    Raises:
        PresetError: a preset is for another model. RequestError: an attribute or part is unknown, or two directions
            have one name. ResourceError: a unit failed; the message says which and why, and everything else is kept.
    """
    for subject in subjects:
        presets.require_model(subject.preset, model)
        require_known(gauges, subject)
    if len({subject.preset.name for subject in subjects}) < len(subjects):
        raise RequestError("Two of the directions have the same name: their figures could not be told apart.")
    pictures = team.first(pictures)
    pieces = _pieces(model, subjects, pictures, gauges, options, batch)
    last: dict[range, Kept] = {}  # of the batch at hand alone

    def work(unit: Unit) -> Job[Mapping[str, bytes]]:
        piece = pieces[unit]
        if piece.pictures not in last:
            last.clear()
            last[piece.pictures] = Kept(PathCache(KEPT_BYTES), LatentCache(KEPT_BYTES))
        kept = last[piece.pictures]
        measured = yield from _measured(model, subjects[piece.subject], piece, pictures, gauges, options, kept)
        return {unit.files[0]: _packed(measured)}

    outcome = yield from run_units(list(pieces), work, out, team)
    outcome.require_complete()
    if not team.main or not all(unit.is_done(out) for unit in pieces):
        return None
    evaluation = _joined(model, subjects, pictures, source, pieces, out, gauges, options)
    write_results(evaluation, out)
    return evaluation


def write_results(evaluation: Evaluation, out: Path) -> None:
    """Raises ResourceError: the files cannot be written."""
    as_json = json.dumps(evaluation.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    contents = {"csv": evaluation.as_csv(), "json": as_json, "html": page(evaluation)}
    for ending, content in contents.items():
        write(out / f"evaluation.{ending}", content.encode("utf-8"), f"file evaluation.{ending}")


def usual_strengths(preset: presets.Preset) -> tuple[float, ...]:
    """Round shares of the suggested strength over its range, 0 and the suggested one among them."""
    return with_zero([*strip_strengths(preset, STRENGTHS), preset.unit])


# ---------------------------------------------------------------------------------------------------------------- units


def _pieces(
    model: DiffusionModel,
    subjects: Sequence[Subject],
    pictures: Pictures,
    gauges: Gauges,
    options: EditOptions,
    batch: int,
) -> dict[Unit, _Piece]:
    """All directions of a batch come one after the other, so that what they share of it is at hand."""
    how = [_digest(_how(model, subject, gauges, options)) for subject in subjects]
    pieces = {}
    for first in range(0, len(pictures.files), batch):
        part = range(first, min(first + batch, len(pictures.files)))
        which = [pictures.digests[i] for i in part]
        for n, subject in enumerate(subjects):
            name = presets.file_name(subject.preset.name).removesuffix(presets.SUFFIX)
            key = f"{name[:40]}-{first}-{_digest([how[n], which])}"
            label = f"{subject.preset.name}, pictures {part.start + 1} to {part.stop}"
            cost = len(part) * len(subject.strengths)
            pieces[Unit(key, (f"{HIDDEN}/measured/{key}.npz",), label, cost)] = _Piece(n, part)
    return pieces


def _how(model: DiffusionModel, subject: Subject, gauges: Gauges, options: EditOptions) -> dict[str, Any]:
    """Everything that a unit's figures depend on beside its pictures."""
    preset = subject.preset
    direction, state = preset.direction.state()
    content = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(direction):
        content.update(direction[name].detach().float().cpu().contiguous().numpy().tobytes())
    gauge = ("probe", "image_text", "distance", "parts", "identity", "features")
    return {
        "measures": VERSION,
        "weights": model.fingerprint,
        "dtype": str(model.dtype),
        "direction": content.hexdigest(),
        "texts": [preset.source_text, preset.target_text],
        "region": preset.region,
        "strengths": subject.strengths,
        "purpose": [subject.attribute, subject.sign, subject.part, subject.lacking],
        "process": [options.process, options.step_count, options.seed, options.injection or preset.injection],
        "intervals": _intervals(model, preset, options),
        "gauges": [[name for name in gauge if getattr(gauges, name) is not None], gauges.names],
    }


def _intervals(model: DiffusionModel, preset: presets.Preset, options: EditOptions) -> tuple[int, int]:
    intervals = intervals_for(model.card, preset, options)
    return intervals.t_edit, intervals.t_boost


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _measured(
    model: DiffusionModel,
    subject: Subject,
    piece: _Piece,
    pictures: Pictures,
    gauges: Gauges,
    options: EditOptions,
    kept: Kept,
) -> Job[Table]:
    """What a unit's file holds: the measures, what was not measured, and pictures for the page."""
    pixels = load_pictures([pictures.files[i] for i in piece.pictures], model.card.resolution)
    rows = lacking(gauges, subject, pixels)
    if not len(rows):
        return {}
    pixels = pixels[rows]
    edited = yield from edited_at(model, subject, pixels, options, kept)
    table, said = measure(gauges, subject, pixels, edited)
    table |= {"said": np.array(said, dtype=str), "rows": rows.numpy()}
    if piece.shows:
        table["shown"] = _thumbnails(edited[:SHOWN])
    return table


def edited_at(
    model: DiffusionModel, subject: Subject, pixels: Tensor, options: EditOptions, kept: Kept | None = None
) -> Job[Tensor]:
    """Pictures (N, 3, R, R) at each of the subject's strengths: (N, K, 3, R, R)."""
    preset, K = subject.preset, len(subject.strengths)
    intervals = intervals_for(model.card, preset, options)
    settings = EditSettings(options.step_count, intervals, options.injection or preset.injection, options.seed)
    weighted = [(preset.direction, list(subject.strengths) * len(pixels))]
    job = edit_pictures(model, pixels, K, weighted, settings, options.process, kept)
    edited = yield from stage(job, previews=False)
    return edited.cpu().unflatten(0, (len(pixels), K))


def _thumbnails(edited: Tensor) -> np.ndarray:
    """uint8 (n, K, h, w, 3)."""
    rows = []
    for picture in to_pil(edited.flatten(0, 1)):
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        rows.append(np.asarray(picture))
    return np.stack(rows).reshape(*edited.shape[:2], *rows[0].shape)


def _packed(table: Table) -> bytes:
    written = io.BytesIO()
    np.savez(written, **table)  # type: ignore[arg-type]
    return written.getvalue()


# -------------------------------------------------------------------------------------------------------------- joining


def _joined(
    model: DiffusionModel,
    subjects: Sequence[Subject],
    pictures: Pictures,
    source: str,
    pieces: Mapping[Unit, _Piece],
    out: Path,
    gauges: Gauges,
    options: EditOptions,
) -> Evaluation:
    """All units' files in the order of the units, so that however many processes made them the sums are the same."""
    attributes = list(gauges.probe.known) if gauges.probe is not None else []
    found: list[Found] = []
    for n, subject in enumerate(subjects):
        joined, shown = Joined(subject, attributes), []
        remarks = [*what_is_assumed(model.card, subject.preset, options), *lacking_words(gauges, subject)]
        for unit in (unit for unit, piece in pieces.items() if piece.subject == n):
            with np.load(out / unit.files[0], allow_pickle=False) as archive:
                table = dict(archive)
            if not table:  # no picture of it lacks what the direction is for
                continue
            rows = table.pop("rows")
            remarks += [words for words in table.pop("said").tolist() if words not in remarks]
            if "shown" in table:
                names = [pictures.files[row].name for row in rows]  # the unit that shows some begins with the first
                shown += [Shown(name, row) for name, row in zip(names, table.pop("shown"), strict=False)]
            joined.add(table)
        if not joined.count:
            remarks.append("None of the pictures lacks what this direction is for, so nothing was measured.")
        found.append(joined.found(_intervals(model, subject.preset, options), shown, remarks))
    return Evaluation(
        model=model.card.id,
        title=model.card.title,
        fingerprint=model.fingerprint,
        resolution=model.card.resolution,
        process=options.process,
        steps=options.step_count,
        seed=options.seed,
        source=source,
        count=len(pictures.files),
        found=tuple(found),
        left_out=pictures.left_out,
        names=dict(gauges.names),
        missing=gauges.missing,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )

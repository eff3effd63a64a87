"""Tables of results as rows, for CSV files and for programs: one form for all tabs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.studio.compose.pictures import Batch, Sweep
from core.studio.compose.state import Result
from core.studio.discover.rows import DirectionRow
from core.studio.discover.spectrum import Spectrum
from core.studio.frames import Frame, Measures
from tabs.exports import csv_link, json_link

Rows = list[list[Any]]
MEASURES = ("s_dir", "identity", "distance", "in_domain")


def links(rows: Sequence[Sequence[Any]], value: Any, name: str) -> str:
    """A table as CSV and JSON, to take away."""
    return f'<p class="legend takes">{csv_link(rows, name)} {json_link(value, name)}</p>'


def records(rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """The same rows by the names of their columns, which are the first row."""
    head, *body = rows
    return [dict(zip(head, row, strict=True)) for row in body]


def measured(about: Sequence[Mapping[str, Any]], measures: Sequence[Measures]) -> Rows:
    """A row for each picture: what it is, its measures, and every attribute before and after."""
    columns = list(dict.fromkeys(name for one in about for name in one))
    attributes = sorted({reading.name for one in measures for reading in one.attributes})
    head = [*columns, *MEASURES, *(f"{name} {when}" for name in attributes for when in ("before", "after"))]
    rows: Rows = [head]
    for one, own in zip(about, measures, strict=True):
        read = {reading.name: (reading.before, reading.after) for reading in own.attributes}
        pairs = [value for name in attributes for value in read.get(name, (None, None))]
        rows.append([*(one.get(name) for name in columns), *(getattr(own, name) for name in MEASURES), *pairs])
    return rows


def frame_rows(frames: Sequence[Frame], about: Sequence[Mapping[str, Any]]) -> Rows:
    """Of pictures with what each of them is."""
    return measured(about, [frame.measures for frame in frames])


def sweep_rows(sweep: Sweep, units: tuple[float, float] = (1.0, 1.0)) -> Rows:
    """A row for each cell. units: of the strengths, across and down."""
    cells = [(a / units[0], d / units[1]) for d in sweep.downs for a in sweep.acrosses]
    return frame_rows(sweep.frames, [{sweep.across: round(a, 4), sweep.down: round(d, 4)} for a, d in cells])


def batch_rows(batch: Batch) -> Rows:
    """A row for each picture that was edited, and for each that could not be, with the reason."""
    pictures = batch.contents["pictures"]
    about = [{name: entry.get(name) for name in ("picture", "file", "problem", "warning")} for entry in pictures]
    frames = iter(batch.frames)
    return measured(about, [Measures() if "problem" in entry else next(frames).measures for entry in pictures])


def matrix_rows(names: Sequence[str], values: Sequence[Sequence[float]]) -> Rows:
    """A square table with its names at the edges."""
    return [["", *names], *([name, *row] for name, row in zip(names, values, strict=True))]


def result_rows(results: Sequence[Result]) -> Rows:
    """The history: a row for each result."""
    about = []
    for result in results:
        value = result.as_json()
        about.append({name: value[name] for name in ("number", "tab", "model", "made with", "strength", "seconds")})
    return measured(about, [result.frame.measures for result in results])


def direction_rows(rows: Sequence[DirectionRow]) -> Rows:
    """What Discover has found: a row for each direction, with the attributes that it changes."""
    values = [row.as_json() for row in rows]
    attributes = sorted({name for value in values for name in value["attributes"]})
    columns = ["name", "region", "method", "value", "inside", "linear_roir", "roir", "strength", "confidence"]
    columns += ["mse_inside", "mse_outside"]
    table: Rows = [[*columns, *attributes]]
    for value in values:
        table.append([*(value[name] for name in columns), *(value["attributes"].get(name) for name in attributes)])
    return table


def spectrum_rows(spectra: Sequence[Spectrum]) -> Rows:
    """A row for each singular value of each region, with the region's joint and individual share."""
    rows: Rows = [["region", "number", "singular value", "joint share", "individual share"]]
    for spectrum in spectra:
        shares = [spectrum.joint, spectrum.individual]
        rows += [[spectrum.label, number, value, *shares] for number, value in enumerate(spectrum.values, start=1)]
    return rows

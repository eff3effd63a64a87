"""What an evaluation found, as plain numbers: joined batch by batch, and written as CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .measures import MEASURES, Table, largest_other
from .statistics import FeatureSums, Moments, frechet_distance
from .subject import Subject


@dataclass(frozen=True)
class Shown:
    """A picture of the page: its file's name, and uint8 (K, h, w, 3) at each strength."""

    name: str
    pictures: np.ndarray


@dataclass(frozen=True)
class Found:
    """What one direction does. K strengths, ascending.

    count: pictures. means, errors: mean over the pictures and its standard error, (K,) by key of `MEASURES`; no number
    where a measure is undefined. attributes: mean changes (K,) in standard deviations, by name. others: the attribute
    that changes most besides, and by how much, at each strength. frechet: distance (K,) of the edited pictures to the
    originals. rank_correlation: of strength and own change, mean over the pictures, and its standard error.
    intervals: t_edit and t_boost that were in force. remarks: in sentences.
    """

    subject: Subject
    intervals: tuple[int, int]
    count: int
    means: dict[str, np.ndarray]
    errors: dict[str, np.ndarray]
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    others: tuple[tuple[str, float], ...] = ()
    frechet: np.ndarray | None = None
    rank_correlation: tuple[float, float] | None = None
    shown: tuple[Shown, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.subject.preset.name

    def rows(self) -> list[dict[str, Any]]:
        """A row for each strength; None where there is no number."""
        preset, made = self.subject.preset, []
        for k, c in enumerate(self.subject.strengths):
            row: dict[str, Any] = {
                "direction": preset.name,
                "strength": c,
                "of_suggested": c / preset.unit,
                "pictures": self.count,
                "attribute": self.subject.attribute,
                "part": self.subject.part or ("region" if preset.region else ""),
            }
            for key in MEASURES:
                row[key] = _number(self.means[key][k]) if key in self.means else None
                row[f"{key}_se"] = _number(self.errors[key][k]) if key in self.errors else None
                if key == "own":
                    which, value = self.others[k] if self.others else ("", math.nan)
                    row |= {"other": _number(value), "other_attribute": which}
            row["frechet"] = None if self.frechet is None else _number(self.frechet[k])
            correlation = self.rank_correlation or (math.nan, math.nan)
            row |= {"rank_correlation": _number(correlation[0]), "rank_correlation_se": _number(correlation[1])}
            made.append(row)
        return made

    def main_row(self) -> dict[str, Any]:
        """That of the suggested strength."""
        return self.rows()[self.subject.main]

    def as_json(self) -> dict[str, Any]:
        preset = self.subject.preset
        return {
            "direction": preset.name,
            "source_text": preset.source_text,
            "target_text": preset.target_text,
            "method": preset.method,
            "injection": preset.injection,
            "suggested_strength": preset.strength,
            "attribute": self.subject.attribute,
            "sign": self.subject.sign,
            "implied": list(self.subject.also),
            "part": self.subject.part,
            "t_edit": self.intervals[0],
            "t_boost": self.intervals[1],
            "strengths": self.rows(),
            "attributes": {name: [_number(v) for v in values] for name, values in self.attributes.items()},
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class Evaluation:
    """What was measured, on what, how, and what came of it.

    process, steps: of the edits. source: where the pictures come from. found_pictures: how many there are. left_out:
    files that cannot be used, each with the reason. names: what measures distance, identity and features. missing:
    what could not be measured, in sentences.
    """

    model: str
    title: str
    fingerprint: str
    resolution: int
    process: str
    steps: int
    seed: int
    source: str
    count: int
    found: tuple[Found, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    created: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "fingerprint": self.fingerprint,
            "resolution": self.resolution,
            "process": self.process,
            "steps": self.steps,
            "seed": self.seed,
            "pictures": {
                "source": self.source,
                "used": self.count,
                "left_out": [{"file": name, "reason": reason} for name, reason in self.left_out],
            },
            "measured_by": dict(self.names),
            "measures": {key: {"name": name, "what": what} for key, (name, what) in MEASURES.items()},
            "not_measured": list(self.missing),
            "directions": [found.as_json() for found in self.found],
            "created": self.created,
        }

    def as_csv(self) -> str:
        """A line for each direction and strength, with how it was measured."""
        how = {"model": self.model, "fingerprint": self.fingerprint, "process": self.process, "steps": self.steps}
        return as_csv([{**how, **row} for found in self.found for row in found.rows()])


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the keys as its head; None is empty. Cells that a spreadsheet would take for a formula get a '."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(rows[0] if rows else ())
    for row in rows:
        writer.writerow([_cell(value) for value in row.values()])
    return written.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


class Joined:
    """The measures of a direction's batches as they come in, in any number; what it holds does not grow with it."""

    def __init__(self, subject: Subject, attributes: Sequence[str]) -> None:
        self.subject, self.names, self.count = subject, tuple(attributes), 0
        self._moments: dict[str, Moments] = {}
        self._edited = [FeatureSums() for _ in subject.strengths]
        self._originals = FeatureSums()

    def add(self, table: Table) -> None:
        """The measures of a batch, as `measure` gives them."""
        self.count += len(table["mse"])
        for key, values in table.items():
            if key in ("features", "original_features"):
                continue
            self._moments.setdefault(key, Moments(values.shape[1:])).add(values)
        if "features" in table:
            self._originals.add(table["original_features"])
            for k, sums in enumerate(self._edited):
                sums.add(table["features"][:, k])

    def found(self, intervals: tuple[int, int], shown: Sequence[Shown] = (), remarks: Sequence[str] = ()) -> Found:
        """What all of them say together."""
        means = {key: self._moments[key].means for key in MEASURES if key in self._moments}
        errors = {key: self._moments[key].errors for key in MEASURES if key in self._moments}
        attributes, others = {}, []
        if "attributes" in self._moments:
            changes = self._moments["attributes"].means  # (K, A)
            attributes = {name: changes[:, a] for a, name in enumerate(self.names)}
            for row in changes:
                change = dict(zip(self.names, row.tolist(), strict=True))
                others.append(largest_other(change, self.subject.attribute, self.subject.also))
        frechet = None
        if self._originals.count:
            frechet = np.array([frechet_distance(self._originals, sums) for sums in self._edited])
        correlation = None
        if "rank_correlation" in self._moments:
            moments = self._moments["rank_correlation"]
            correlation = float(moments.means), float(moments.errors)
        return Found(
            subject=self.subject,
            intervals=intervals,
            count=self.count,
            means=means,
            errors=errors,
            attributes=attributes,
            others=tuple(others),
            frechet=frechet,
            rank_correlation=correlation,
            shown=tuple(shown),
            remarks=tuple(remarks),
        )

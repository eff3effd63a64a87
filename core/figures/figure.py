"""A figure: what the paper shows, what must hold of it, and what came of drawing it here."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from PIL import Image

from ..progress import Job
from .bench import Bench

Verdict = Literal["agrees", "partly", "does not hold here"]
Row = dict[str, str | float | int]


@dataclass(frozen=True)
class Check:
    """A number that a claim is about, and the bound that was stated before it was measured. what: the number, in words.
    at_least: the bound is the lowest that is right; otherwise the highest."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """A number that is none holds nothing."""
        return math.isfinite(self.value) and (self.value >= self.bound if self.at_least else self.value <= self.bound)

    @property
    def words(self) -> str:
        """With the bound."""
        limit = "at least" if self.at_least else "at most"
        return f"{self.what} {short(self.value)} ({limit} {short(self.bound)}{'' if self.holds else ': no'})"


@dataclass(frozen=True)
class Drawn:
    """picture: pixels, or the SVG of a plot. rows: the numbers behind it, each with the same columns. checks: that
    decide on the verdict. says: a sentence on what was done, on how many pictures."""

    picture: Image.Image | str
    rows: Sequence[Row]
    checks: Sequence[Check]
    says: str

    @property
    def verdict(self) -> Verdict:
        """Of all checks."""
        return verdict_of([check.holds for check in self.checks])

    def as_csv(self) -> str:
        """The rows with a head; numbers with five digits."""
        written = io.StringIO()
        table = csv.DictWriter(written, list(self.rows[0]), lineterminator="\n")
        table.writeheader()
        for row in self.rows:
            table.writerow({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in row.items()})
        return written.getvalue()

    def as_json(self) -> dict[str, Any]:
        """What is kept beside the picture and the rows."""
        checks = [{**asdict(check), "value": _number(check.value), "holds": check.holds} for check in self.checks]
        return {"says": self.says, "verdict": self.verdict, "checks": checks}


@dataclass(frozen=True)
class Figure:
    """A kind of figure or table of a paper.

    name: in the command and of its files, PAPER-NUMBER. title: which of the paper's it is. theirs: what it shows there.
    claim: what the paper says of it. read: the file and the names in it that do this. draw: the job that draws it here.
    """

    name: str
    title: str
    theirs: str
    claim: str
    read: tuple[tuple[str, str], ...]
    draw: Callable[[Bench], Job[Drawn]]

    @property
    def paper(self) -> str:
        """The key of its paper."""
        return self.name.partition("-")[0]


def verdict_of(held: Sequence[bool]) -> Verdict:
    """All of the checks, some, or none."""
    if all(held):
        return "agrees"
    return "partly" if any(held) else "does not hold here"


def short(value: float) -> str:
    """Three digits and no exponent: 0.904, 12.3, 0."""
    if not math.isfinite(value):
        return "no number"
    digits = max(0, min(5, 2 - math.floor(math.log10(abs(value))))) if value else 0
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None

"""What all edits measured: one CSV row per picture, and the table of means as the paper prints it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .measures import Value
from .published import PUBLISHED

Rows = Mapping[str, Mapping[str, Mapping[str, Value]]]  # method -> id of the edit -> measure -> value


@dataclass(frozen=True)
class Column:
    """A column of the table. factor: by which the paper multiplies."""

    measure: str
    head: str
    factor: float = 1.0
    digits: int = 2


COLUMNS = (
    Column("structure_distance", "structure distance x 1e3", 1e3),
    Column("psnr_unedit_part", "PSNR"),
    Column("lpips_unedit_part", "LPIPS x 1e3", 1e3),
    Column("mse_unedit_part", "MSE x 1e4", 1e4),
    Column("ssim_unedit_part", "SSIM x 1e2", 1e2),
    Column("clip_similarity_target_image", "CLIP, whole"),
    Column("clip_similarity_target_image_edit_part", "CLIP, edited part"),
)
MENDED_COLUMNS = (
    Column("structure_distance_0_to_1", "structure distance of 0 to 1, x 1e3", 1e3),
    Column("psnr_background", "PSNR of the background"),
    Column("lpips_background", "LPIPS of the background x 1e3", 1e3),
    Column("mse_background", "MSE of the background x 1e4", 1e4),
    Column("ssim_background", "SSIM of the background x 1e2", 1e2),
)


def csv_text(ids: Sequence[str], rows: Rows, measures: Sequence[str]) -> str:
    """A row per edit, a column per method and measure, named as in PnPInversion: "direct|psnr_unedit_part". "nan" where
    there is no background, empty where a network could not be had or the edit was not made."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file_id", *(f"{method}|{measure}" for method in rows for measure in measures)])
    for id_ in ids:
        cells = [found.get(id_, {}).get(measure) for found in rows.values() for measure in measures]
        writer.writerow([id_, *("" if value is None else repr(value) for value in cells)])
    return text.getvalue()


def mean(values: Sequence[Any]) -> tuple[float, int]:
    """Of the numbers among some values, and how many they are; NaN of none."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    return (sum(numbers) / len(numbers) if numbers else math.nan), len(numbers)


def markdown(rows: Rows, missing: Mapping[str, str], left_out: int, failed: int, total: int) -> str:
    """The two tables of means, with what they do not hold in words.

    missing: network -> why it could not be had. left_out: edits that could not be read. failed: edits by a method that
    could not be made. total: edits, those that were left out not counted.
    """
    lines = [f"{total} edits.", ""]
    if left_out:
        lines += [f"{left_out} more were left out: their picture, mask or prompts cannot be read.", ""]
    if failed:
        lines += [f"{failed} results are missing: they could not be made.", ""]
    lines += ["### As PnPInversion computes them", ""]
    lines += _table(COLUMNS, rows, published=True)
    lines += ["", *(f"- {one.name}: {one.source}." for one in PUBLISHED)]
    lines += ["", "### Of the background alone, and with pictures in [0, 1]", ""]
    lines += _table(MENDED_COLUMNS, rows)
    lines += [f"\n{network} could not be had, so its columns are empty: {why}" for network, why in missing.items()]
    return "\n".join(lines) + "\n"


def _table(columns: Sequence[Column], rows: Rows, published: bool = False) -> list[str]:
    lines = [_line(["method", *(column.head for column in columns), "edits"]), "|---" * (len(columns) + 2) + "|"]
    for method, found in rows.items():
        cells = []
        for column in columns:
            value, _ = mean([values.get(column.measure) for values in found.values()])
            cells.append("" if math.isnan(value) else f"{column.factor * value:.{column.digits}f}")
        lines.append(_line([method, *cells, str(len(found))]))
    for one in PUBLISHED if published else ():
        cells = [f"{one.figures[c.measure]:.{c.digits}f}" if c.measure in one.figures else "" for c in columns]
        lines.append(_line([one.name, *cells, ""]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

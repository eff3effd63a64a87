"""Line plots as SVG, without a library and without scripts: for pages that take their colours from classes, and as
files that bring their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 26, 46
LETTER = 7.0  # width of a letter at the size of the labels

# The lines' colours, told apart by people who are colour-blind too (Okabe and Ito 2008), and their dashes.
COLOURS = 6
_LIGHT = ("#0b6fb8", "#c2410c", "#047857", "#a21caf", "#a16207", "#57534e")
_DARK = ("#5fb4f0", "#fb923c", "#34d399", "#e879f9", "#facc15", "#d6d3d1")
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "12 4", "4 4")

STYLE = "\n".join(
    [
        ".plot { --ink: #1c1917; --quiet: #6b6560; --grid: #e2dfdb; --paper: #fff; "
        + " ".join(f"--line-{i}: {colour};" for i, colour in enumerate(_LIGHT))
        + " }",
        "@media (prefers-color-scheme: dark) { .plot { --ink: #f2f0ee; --quiet: #a8a29e; --grid: #3f3b38; "
        "--paper: #1c1a19; " + " ".join(f"--line-{i}: {colour};" for i, colour in enumerate(_DARK)) + " } }",
        ".plot text { font: 13px system-ui, sans-serif; fill: var(--quiet); }",
        ".plot .label { fill: var(--ink); }",
        ".plot .words { fill: var(--ink); stroke: var(--paper); stroke-width: 4px; paint-order: stroke; }",
        ".plot .grid { stroke: var(--grid); fill: none; }",
        ".plot .mark { stroke: var(--quiet); stroke-dasharray: 3 3; fill: none; }",
        *(
            f".plot .line-{i} {{ stroke: var(--line-{i}); fill: none; stroke-width: 2; "
            f"stroke-dasharray: {dash or 'none'}; }} "
            f".plot .dot-{i} {{ fill: var(--line-{i}); }} .plot .band-{i} {{ fill: var(--line-{i}); opacity: 0.15; }}"
            for i, dash in enumerate(_DASHES)
        ),
    ]
)


Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Line:
    """Points (x, y) in order, those that are not finite left out. error: of each y, drawn as a band. dots: the points
    are marked, and say their values."""

    name: str
    x: Values
    y: Values
    error: Values | None = None
    dots: bool = True


@dataclass(frozen=True)
class Mark:
    """A dashed line across the plot at a value of one axis, with words; of x, unless `level`."""

    at: float
    words: str
    level: bool = False


def line_plot(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    y_label: str = "",
    marks: Sequence[Mark] = (),
    downwards: bool = False,
    alone: bool = False,
    include: Sequence[float] = (),
) -> str:
    """An SVG drawing with a legend of the lines below it, if there are several.

    downwards: x falls from left to right, as t does. alone: as a file of its own, with its colours. include: values of
    y that the axis reaches in any case.
    """
    drawn = [_finite(line) for line in lines]
    if not any(len(x) for x, _, _ in drawn):
        return ""
    xs = np.concatenate([np.asarray(line.x, dtype=float) for line in lines])
    low = np.concatenate([y - e for _, y, e in drawn])
    high = np.concatenate([y + e for _, y, e in drawn])
    levels = [mark.at for mark in marks if mark.level]
    least, most = _range([*low, *high, *levels, *include])
    left, right = float(xs.min()), float(xs.max())
    right = right if right > left else left + 1
    legend = _legend(lines) if len(lines) > 1 else []
    height = HEIGHT + 18 * len(legend)

    def at_x(value: np.ndarray | float) -> np.ndarray:
        share = (np.asarray(value, dtype=float) - left) / (right - left)
        return LEFT + (WIDTH - LEFT - RIGHT) * (1 - share if downwards else share)

    def at_y(value: np.ndarray | float) -> np.ndarray:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (np.asarray(value, dtype=float) - least) / (most - least)

    body = []
    for value, label in ticks(least, most):
        level = float(at_y(value))
        body.append(f'<path class="grid" d="M{LEFT} {level:.1f}H{WIDTH - RIGHT}"/>')
        body.append(f'<text x="{LEFT - 6}" y="{level + 4:.1f}" text-anchor="end">{label.replace("-", "−")}</text>')
    for value, label in _places(xs, left, right):
        place = float(at_x(value))
        body.append(f'<path class="grid" d="M{place:.1f} {HEIGHT - BOTTOM}v4"/>')
        body.append(f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    body.append(f'<text class="label" x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>')
    if y_label:
        body.append(f'<text class="label" x="2" y="13">{escape(y_label)}</text>')
    for i, (line, (x, y, e)) in enumerate(zip(lines, drawn, strict=True)):
        colour, points = i % COLOURS, list(zip(at_x(x), at_y(y), strict=True))
        if line.error is not None:
            upper, lower = (list(zip(at_x(x), at_y(y + side * e), strict=True)) for side in (1, -1))
            for above, below in zip(_runs(line, upper), _runs(line, lower), strict=True):
                body.append(f'<path class="band-{colour}" d="{_path([*above, *reversed(below)])}Z"/>')
        body += [f'<path class="line-{colour}" d="{_path(run)}"/>' for run in _runs(line, points)]
        if line.dots:
            for (a, b), value_x, value_y in zip(points, x, y, strict=True):
                said = escape(f"{line.name}: {value_y:.3g} at {value_x:g}")
                dot = f'<circle class="dot-{colour}" cx="{a:.1f}" cy="{b:.1f}" r="3">'
                body.append(f"{dot}<title>{said}</title></circle>")
    body += [_mark(mark, at_x, at_y, drawn) for mark in marks]
    for row, entries in enumerate(legend):
        line_at = HEIGHT + 6 + 18 * row
        for i, begin, name in entries:
            body.append(f'<path class="line-{i % COLOURS}" d="M{begin:.0f} {line_at}h22"/>')
            body.append(f'<text class="label" x="{begin + 27:.0f}" y="{line_at + 4}">{escape(name)}</text>')
    style = f"<style>{STYLE} .plot {{ background: var(--paper); }}</style>" if alone else ""
    space = ' xmlns="http://www.w3.org/2000/svg"' if alone else ""
    return (
        f'<svg{space} class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{style}{''.join(body)}</svg>"
    )


def ticks(least: float, most: float, about: int = 4) -> list[tuple[float, str]]:
    """Round values between two, about so many, each with a label that says exactly where it is."""
    span = max(most - least, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(s * power for s in (1, 2, 5, 10) if span / (s * power) <= about)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    values = np.arange(math.ceil(least / step - 1e-9), math.floor(most / step + 1e-9) + 1) * step
    return [(float(value), f"{value:.{digits}f}") for value in values]


Points = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, y and the error of y
Place = Callable[[np.ndarray | float], np.ndarray]  # where values lie on the drawing


def _finite(line: Line) -> Points:
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    e = np.zeros_like(y) if line.error is None else np.nan_to_num(np.asarray(line.error, dtype=float))
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known], e[known]


def _range(values: Sequence[float]) -> tuple[float, float]:
    least, most = min(values), max(values)
    margin = 0.06 * (most - least) if most > least else max(0.5 * abs(most), 0.5)
    return least - margin, most + margin


def _places(xs: np.ndarray, left: float, right: float) -> list[tuple[float, str]]:
    """Of the labels below: the values themselves where there are few, and room for all of them."""
    values = np.unique(xs)
    room = np.diff(values).min(initial=np.inf) * (WIDTH - LEFT - RIGHT) / (right - left)
    if len(values) <= 9 and room >= 5 * LETTER:
        return [(float(value), f"{value:g}".replace("-", "−")) for value in values]
    return [(value, label.replace("-", "−")) for value, label in ticks(left, right, 6)]


def _runs(line: Line, points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points (those that are finite) in pieces that end where the line has no value."""
    runs: list[list[tuple[float, float]]] = [[]]
    left = iter(points)
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            runs[-1].append(next(left))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) > 1]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b in points)


def _mark(mark: Mark, at_x: Place, at_y: Place, drawn: Sequence[Points]) -> str:
    width = LETTER * len(mark.words)
    if mark.level:
        y = float(at_y(mark.at))
        lefts = (WIDTH - RIGHT - width, LEFT + 4.0, (LEFT + WIDTH - RIGHT - width) / 2)
        left = min(lefts, key=lambda left: _crossings((left, y - 17), (left + width, y - 2), at_x, at_y, drawn))
        words = f'<text class="words" x="{left:.1f}" y="{y - 5:.1f}">{escape(mark.words)}</text>'
        return f'<path class="mark" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>{words}'
    x = float(at_x(mark.at))
    middle = min(max(x, LEFT + width / 2), WIDTH - RIGHT - width / 2)
    words = f'<text class="words" x="{middle:.1f}" y="{TOP - 3}" text-anchor="middle">{escape(mark.words)}</text>'
    return f'<path class="mark" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>{words}'


def _crossings(
    low: tuple[float, float], high: tuple[float, float], at_x: Place, at_y: Place, drawn: Sequence[Points]
) -> int:
    """How much of the lines lies in a box of the drawing."""
    count = 0
    for x, y, _ in drawn:
        if len(x):
            fine = np.linspace(0, len(x) - 1, 200)
            a, b = (at(np.interp(fine, np.arange(len(x)), v)) for at, v in ((at_x, x), (at_y, y)))
            count += int(((low[0] < a) & (a < high[0]) & (low[1] < b) & (b < high[1])).sum())
    return count


def _legend(lines: Sequence[Line]) -> list[list[tuple[int, float, str]]]:
    """Rows of (which line, where its entry begins, its name), as many in a row as fit."""
    rows: list[list[tuple[int, float, str]]] = [[]]
    x = float(LEFT)
    for i, line in enumerate(lines):
        wide = 27 + LETTER * len(line.name) + 16
        if rows[-1] and x + wide > WIDTH:
            rows.append([])
            x = float(LEFT)
        rows[-1].append((i, x, line.name))
        x += wide
    return rows

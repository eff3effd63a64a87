"""Small drawings as SVG that take their colours from the page, so that they follow light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from core import presets
from core.asyrp.consistency import AtTimestep
from core.drawing import ticks
from core.errors import ModelUnavailable
from core.intervals import Curves, Intervals
from core.models.cards import ModelCard
from core.studio.discover.spectrum import Spectrum
from tabs import labels
from tabs.exports import csv_link, svg_link

WIDTH, HEIGHT, PAD = 400, 124, 2
MIN_BAND, NARROW = 3, 10  # width of the narrowest interval that is drawn, and that from which its colour can be seen
LEAST_SECONDS = 0.001  # shorter times are shown as this


def _path(x: np.ndarray, y: np.ndarray) -> str:
    return "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _svg(body: str, title: str, height: int = HEIGHT) -> str:
    drawing = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )
    return drawing + (svg_link(drawing, presets.file_name(title).removesuffix(presets.SUFFIX)) if body else "")


def loss_curve(losses: Sequence[float], total: int, window: int) -> str:
    """Loss over the optimiser steps: every step faint, its running mean over `window` steps plain."""
    if len(losses) < 2:
        return _svg("", "No loss yet")
    values = np.asarray(losses, dtype=float)
    window = min(window, len(values))
    smooth = np.convolve(np.pad(values, (window - 1, 0), mode="edge"), np.ones(window) / window, mode="valid")
    keep = np.unique(np.linspace(0, len(values) - 1, 400).round().astype(int))
    low, high = float(values.min()), float(values.max())
    x = PAD + (WIDTH - PAD - 6) * keep / max(1, total - 1)
    y = lambda v: HEIGHT - 20 - (HEIGHT - 34) * (v[keep] - low) / max(1e-6, high - low)  # noqa: E731
    body = (
        f'<path class="grid" d="M{PAD} {HEIGHT - 20}H{WIDTH - 6}"/>'
        f'<path class="faint" d="{_path(x, y(values))}"/><path class="plain" d="{_path(x, y(smooth))}"/>'
        f'<circle class="dot" r="3.5" cx="{x[-1]:.1f}" cy="{y(smooth)[-1]:.1f}"/>'
        f'<text x="{PAD}" y="{HEIGHT - 5}">step 0</text>'
        f'<text x="{WIDTH - 6}" y="{HEIGHT - 5}" text-anchor="end">{total}</text>'
        f'<text x="{PAD}" y="11">loss {smooth[-1]:.3f}</text>'
    )
    return _svg(body, f"Training loss, now {smooth[-1]:.3f}")


def intervals_plot(chosen: Intervals, curves: Curves | None, t_start: int | None = None, T: int = 1000) -> str:
    """Editing, denoising and boosting interval along the generation (T at the left), with the perceptual curves they
    are read from, if the model has them. t_start: where the direction begins to act, if not at T, the model's number of
    timesteps.

    What is boosted may be edited as well: noise is added below t_boost, whatever t_edit is."""
    height = 180
    x = lambda t: PAD + (WIDTH - PAD - 6) * (1 - np.asarray(t, dtype=float) / T)  # noqa: E731
    y = lambda v: height - 24 - (height - 48) * np.clip(np.asarray(v, dtype=float) / 1.6, 0, 1)  # noqa: E731
    t_edit, t_boost = (int(t) for t in np.clip([chosen.t_edit, chosen.t_boost], 0, T))
    begins = T if t_start is None else min(t_start, T)
    begun, edited = max(t_edit, begins), t_edit <= begins and t_edit < T
    bands = [("calm", T, begun, "as it is"), ("edit", begun, t_edit, "editing")]
    bands += [("calm", t_edit, min(t_boost, t_edit), "denoising"), ("boost", t_boost, 0, "boosting")]
    shown = [band for band in bands if band[1] > band[2] or (band[0] == "edit" and edited)]
    spans = [(name, float(x(start)), float(x(end)), label) for name, start, end, label in shown]
    body = ""
    for name, left, right, _ in spans:
        wide = max(right - left, MIN_BAND)
        left = min(left, WIDTH - 6 - wide)
        narrow = " narrow" if wide < NARROW else ""
        body += f'<rect class="band {name}{narrow}" x="{left:.1f}" y="16" width="{wide:.1f}" height="{height - 40}"/>'
    for middle, label in _apart([((left + right) / 2, label) for _, left, right, label in spans]):
        body += f'<text class="band-name" x="{middle:.1f}" y="11" text-anchor="middle">{label}</text>'
    body += f'<path class="grid" d="M{PAD} {height - 24}H{WIDTH - 6}"/>'
    if curves is not None:
        body += f'<path class="plain" d="{_path(x(curves.t), y(curves.predicted_x0))}"/>'
        body += f'<path class="second" d="{_path(x(curves.t), y(curves.noisy))}"/>'
        for t, curve in ((t_edit, curves.predicted_x0), (t_boost, curves.noisy)):
            level = float(np.interp(t, curves.t, curve))
            body += f'<path class="threshold" d="M{PAD} {float(y(level)):.1f}H{WIDTH - 6}"/>'
            body += f'<circle class="dot" r="3.5" cx="{float(x(t)):.1f}" cy="{float(y(level)):.1f}"/>'
    inner = dict.fromkeys(t for t in (t_edit, t_boost, begins) if 0 < t < T)
    body += _time_axis(x, [*inner], height - 10, T)
    editing = f"Editing from t = {begun} to {t_edit}" if begins < T else f"Editing above t = {t_edit}"
    said = ""
    if not edited:
        editing = f"No editing: the direction begins to act at t = {begins}, and editing ends at t = {t_edit}"
        said = f'<p class="message" role="status">{editing}. Choose a lower t_edit.</p>'
    strength = 0.0
    if curves is not None and edited:  # of the interval that is edited, which may begin below T
        strength = curves.editing_flexibility(begins) - curves.editing_flexibility(t_edit)
    drawing = said + _svg(body, f"{editing}, boosting below t = {t_boost}", height)
    if curves is None:
        return drawing + '<p class="legend">From the table that the Asyrp paper prints for this model.</p>'
    return drawing + (
        f'<p class="legend">Perceptual distance to the picture:{_key("from what is predicted", "plain")}'
        f"{_key('from what is seen', 'second')} {csv_link(curve_rows(curves), 'curves')}</p>"
        f'<p class="legend">Editing strength of the interval: ξ = {strength:.2f}; '
        f"left to change below it: {curves.editing_flexibility(t_edit):.2f}; quality deficiency where boosting begins: "
        f"γ = {curves.quality_deficiency(t_boost):.2f}.</p>"
    )


def consistency_plot(rows: Sequence[AtTimestep]) -> str:
    """How much a direction's shift is the same for all pictures and at all noise levels, along the generation (the
    noisiest at the left), and how large it is."""
    height, top = 170, 18
    bottom = height - 26
    T = max(row.t for row in rows)
    low = min(row.t for row in rows)
    x = lambda t: 30 + (WIDTH - 40) * (T - np.asarray(t, dtype=float)) / max(1, T - low)  # noqa: E731
    y = lambda v: bottom - (bottom - top) * np.clip(np.asarray(v, dtype=float), 0, 1)  # noqa: E731
    t, largest = np.array([row.t for row in rows]), max(max(row.size for row in rows), 1e-9)
    lines = {
        "plain": [row.across for row in rows],
        "second": [row.along for row in rows],
        "faint": [row.size / largest for row in rows],
    }
    body = ""
    for value in (0.0, 0.5, 1.0):
        body += f'<path class="grid" d="M30 {float(y(value)):.1f}H{WIDTH - 10}"/>'
        body += f'<text class="tick" x="{PAD}" y="{float(y(value)) + 4:.1f}">{value:g}</text>'
    for kind, values in lines.items():
        body += f'<path class="{kind}" d="{_path(x(t), y(values))}"/>'
    body += f'<text x="30" y="{height - 8}">t = {T}</text>'
    body += f'<text x="{WIDTH - 10}" y="{height - 8}" text-anchor="end">t = {low}</text>'
    across, along = (float(np.mean(lines[kind])) for kind in ("plain", "second"))
    title = f"Consistency of a direction: {across:.2f} over pictures, {along:.2f} over noise levels"
    drawing = _svg(body, title, height)
    return drawing + (
        f'<p class="legend">Cosine:{_key(f"of pictures and their mean ({across:.2f})", "plain")}'
        f"{_key(f'of that mean and the global Δh ({along:.2f})', 'second')}"
        f"{_key(f'size, of the largest ({largest:.3g})', 'faint')}</p>"
    )


def _apart(names: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Middles of names on one line, moved as far as it takes that they do not touch and stay on the drawing; there is
    room for all of them."""
    names = sorted(names)
    half = [3.3 * len(name) + 3 for _, name in names]
    middles, free = [], float(PAD)
    for (middle, _), room in zip(names, half, strict=True):
        middles.append(max(middle, free + room))
        free = middles[-1] + room
    free = float(WIDTH)
    for i in reversed(range(len(names))):
        middles[i] = min(middles[i], free - half[i])
        free = middles[i] - half[i]
    return [(middle, name) for middle, (_, name) in zip(middles, names, strict=True)]


def _key(label: str, kind: str = "", style: str = "") -> str:
    """What a line or colour of a drawing means, with a swatch of it, for a legend."""
    return f' <span class="key"><i class="{kind}" style="{style}"></i>{escape(label)}</span>'


def curve_rows(curves: Curves) -> list[list[Any]]:
    """Perceptual curves as a table."""
    columns = ("t", "predicted_x0", "noisy")
    known = curves.as_json()
    return [list(columns), *(list(row) for row in zip(*(known[name] for name in columns), strict=True))]


def intervals_of(card: ModelCard, chosen: Intervals, t_start: int | None = None) -> str:
    """`intervals_plot` with the curves of a model, if it has any."""
    try:
        source = card.interval_source()
    except ModelUnavailable:
        source = None
    curves = source if isinstance(source, Curves) else None
    return intervals_plot(chosen, curves, t_start, card.last_timestep + 1)


def _time_axis(x: Callable[[float], Any], inner: Sequence[int], line: int, T: int) -> str:
    """Labels of the time axis that do not touch: those inside come first, in their order, and the ends where there is
    room for them."""
    half = lambda text: 3.3 * len(text) + 3  # noqa: E731
    taken: list[tuple[float, float]] = []
    body = ""
    for t in inner:
        text = f"t = {t}" if t > 0.85 * T else f"{t}"
        middle = min(max(float(x(t)), PAD + half(text)), WIDTH - 6 - half(text))
        if any(middle - half(text) < right and left < middle + half(text) for left, right in taken):
            continue
        taken.append((middle - half(text), middle + half(text)))
        body += f'<text class="tick" x="{middle:.1f}" y="{line}" text-anchor="middle">{text}</text>'
    for text, anchor, left in ((f"t = {T}", "start", PAD), ("0", "end", WIDTH - 6)):
        box = (left, left + 2 * half(text)) if anchor == "start" else (left - 2 * half(text), left)
        if not any(box[0] < right and other < box[1] for other, right in taken):
            body += f'<text x="{left}" y="{line}" text-anchor="{anchor}">{text}</text>'
    return body


def spectrum_plot(spectra: Sequence[Spectrum]) -> str:
    """Singular values of every region on a logarithmic scale, and below how JIVE splits each region's energy."""
    most = max(max(spectrum.values) for spectrum in spectra)
    floor = min(0.5, max(1e-4, min(min(spectrum.values) for spectrum in spectra) / most))
    longest = max(len(spectrum.values) for spectrum in spectra)
    top, bottom = 18, HEIGHT + 20
    scale = lambda v: np.log10(np.clip(np.asarray(v) / most, floor, 1)) / np.log10(floor)  # noqa: E731
    body = f'<path class="grid" d="M{PAD} {bottom}H{WIDTH - 6}"/>'
    for power in range(math.floor(-math.log10(floor)) + 1):
        y = top + (bottom - top) * scale(most * 10.0**-power)
        body += f'<path class="grid" d="M{PAD} {y:.1f}H{WIDTH - 6}"/>'
        body += f'<text x="{WIDTH - 6}" y="{y - 3:.1f}" text-anchor="end">{most * 10.0**-power:.2g}</text>'
    for index, spectrum in enumerate(spectra):
        x = PAD + 4 + (WIDTH - PAD - 44) * np.arange(len(spectrum.values)) / max(1, longest - 1)
        y = top + (bottom - top) * scale(spectrum.values)
        colour = _colour(index, spectrum)
        body += f'<path class="value" style="stroke:{colour}" d="{_path(x, y)}"/>'
        body += "".join(
            f'<circle r="2" style="fill:{colour}" cx="{a:.1f}" cy="{b:.1f}"/>' for a, b in zip(x, y, strict=True)
        )
    body += f'<text x="{PAD}" y="{bottom + 15}">1st</text>'
    body += f'<text x="{WIDTH - 42}" y="{bottom + 15}" text-anchor="end">{longest}th singular value</text>'
    drawing = _svg(body, "Singular values of the regions", bottom + 20)
    keys = "".join(
        _key(spectrum.label, style=f"background:{_colour(i, spectrum)}") for i, spectrum in enumerate(spectra)
    )
    return drawing + f'<p class="legend">{keys}</p>' + _split_plot(spectra)


def _split_plot(spectra: Sequence[Spectrum]) -> str:
    """One bar per region: joint, individual, and what is neither."""
    split = [
        (i, s, (s.joint, s.individual))
        for i, s in enumerate(spectra)
        if s.joint is not None and s.individual is not None
    ]
    if not split:
        return ""
    body, step = "", 30
    for place, (index, spectrum, shares) in enumerate(split):
        y, x, colour = 16 + step * place, float(PAD), _colour(index, spectrum)
        body += f'<text x="{PAD}" y="{y - 4}">{escape(spectrum.label)}</text>'
        for share, opacity in ((shares[0], 0.35), (shares[1], 1.0), (max(0.0, 1 - sum(shares)), 0.1)):
            width = (WIDTH - PAD - 6) * share
            body += (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="9" style="fill:{colour};opacity:{opacity}">'
                f"<title>{share:.0%}</title></rect>"
            )
            if width > 30:
                body += f'<text class="tick" x="{x + width:.1f}" y="{y - 4}" text-anchor="end">{share:.0%}</text>'
            x += width
    return (
        '<h4 class="split">Joint and individual</h4>'
        + _svg(body, "Joint and individual share of each region", 16 + step * len(split) - 12)
        + '<p class="legend">Pale: what regions change together. Full: what a region changes alone.</p>'
    )


def _colour(index: int, spectrum: Spectrum) -> str:
    return "var(--quiet)" if spectrum.label == "Rest" else f"var(--region-{index % 6})"


@dataclass(frozen=True)
class Point:
    """A method in the plane of time and accuracy."""

    name: str
    seconds: float
    psnr: float


def front_plot(points: Sequence[Point], bound: float | None) -> str:
    """PSNR over seconds (logarithmic) with the front of the methods that no other beats in both; the autoencoder's
    bound is dotted."""
    height, top, right = 250, 18, WIDTH - 14
    bottom = height - 40
    seconds = np.log10(np.maximum([point.seconds for point in points], LEAST_SECONDS))
    psnr = np.array([point.psnr for point in points])
    low, high = math.floor(seconds.min()), math.floor(seconds.max()) + 1
    ends = [*psnr, *([bound] if bound is not None else [])]
    least, most = min(ends), max(ends)
    margin = max(0.5, 0.1 * (most - least))
    least, most = least - margin, most + margin
    x = lambda v: 34 + (right - 34) * (np.asarray(v) - low) / (high - low)  # noqa: E731
    y = lambda v: bottom - (bottom - top) * (np.asarray(v) - least) / (most - least)  # noqa: E731
    body = f'<path class="grid" d="M34 {bottom}H{right}"/>'
    for power in range(low, high + 1):
        body += f'<path class="grid" d="M{float(x(power)):.1f} {top}V{bottom}"/>'
        label = f"{10.0**power:g} s"
        body += f'<text class="tick" x="{float(x(power)):.1f}" y="{bottom + 15}" text-anchor="middle">{label}</text>'
    for value, label in ticks(least, most):
        body += f'<path class="grid" d="M34 {float(y(value)):.1f}h5"/>'
        body += f'<text class="tick" x="{PAD}" y="{float(y(value)) + 4:.1f}">{label}</text>'
    body += f'<text class="tick" x="{PAD}" y="10">PSNR, dB</text>'
    if bound is not None:
        body += f'<path class="threshold" d="M34 {float(y(bound)):.1f}H{right}"/>'
    best, front = -math.inf, []
    for i in np.lexsort((-psnr, seconds)):
        if psnr[i] > best + 1e-6:
            best = psnr[i]
            front.append(i)
    if len(front) > 1:
        body += f'<path class="second" d="{_path(x(seconds[front]), y(psnr[front]))}"/>'
    dots = [(float(x(t)), float(y(v))) for t, v in zip(seconds, psnr, strict=True)]
    lines = labels.along([dots[i] for i in front])
    if bound is not None:
        lines += labels.along([(34, float(y(bound))), (right, float(y(bound)))])
    names = [point.name for point in points]
    for name, (left, line) in zip(names, labels.places(dots, names, (36, 14, WIDTH, bottom), lines), strict=True):
        body += f'<text class="name" x="{left:.1f}" y="{line:.1f}">{escape(name)}</text>'
    for point, (a, b) in zip(points, dots, strict=True):
        body += (
            f'<circle class="dot" r="4" cx="{a:.1f}" cy="{b:.1f}"><title>{escape(_described(point))}</title></circle>'
        )
    described = "; ".join(_described(point) for point in points)
    drawing = _svg(body, f"Time and accuracy: {described}", height)
    keys = _key("not beaten in both", "second") if len(front) > 1 else ""
    dotted = " Dotted: the autoencoder alone." if bound is not None else ""
    return drawing + f'<p class="legend">PSNR over computing time.{dotted}{keys}</p>'


def in_seconds(seconds: float) -> str:
    """A time as tables and drawings tell it, to the millisecond where it is short."""
    if seconds < LEAST_SECONDS:
        return f"< {LEAST_SECONDS:g}"
    return f"{seconds:.3f}" if seconds < 0.1 else f"{seconds:.1f}"


def _described(point: Point) -> str:
    return f"{point.name}, {in_seconds(point.seconds)} s, {point.psnr:.1f} dB"

"""Discover, without the page: a picture is analysed once, then any region has its directions, with pictures and names.

An `Exploration` is one search: regions, method, settings, and its rows, which fill up while the job `explore` runs:
quick directions first (no network call once the picture is analysed), then pictures of each, then what the refinement
of the region makes better. Work is a `Job`; visitors' jobs take turns on the device, as in `core.studio`.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core import studio
from core.asyrp.prompts import templates
from core.directions import GlobalDirection
from core.discovery import basis as krylov
from core.discovery import contrast, global_jacobian, jive, pca
from core.discovery.basis import Basis
from core.discovery.found import DEFAULTS, Found, Settings, leading, union, with_rest
from core.discovery.linear import Jacobian, descend, nearest_timestep
from core.discovery.locality import measure, roir, strength_for
from core.discovery.methods import METHODS, discover
from core.discovery.naming import Namer, Suggestion
from core.discovery.refinement import refine
from core.discovery.regions import Region
from core.editing import EditSettings, edit, invert
from core.errors import ModelUnavailable, RequestError
from core.imaging import to_pil
from core.latents import Latent, latent_key
from core.models.cards import ModelCard
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.progress import Job, Progress
from core.visit import DEVICE, Frame, Picture, exclusively, within

STEPS = 12  # of the small pictures
SAME = 0.97  # cosine above which a refined direction is the one that was shown
AT = 0.6  # of T (Local editing, section 5)
REACH = 1.5  # suggested strengths go this many times as far as the pictures of a row
MOST_STRENGTH = 100.0
MOST_COUNT, MOST_ROWS = 12, 24  # directions per region, and in all
MOST_REGION_TEXT = 12_000  # characters of a preset's regions
KEPT_BYTES = 384 * 2**20
WHOLE = ""  # label of the whole picture
GLOW, INK = (221, 90, 53), (20, 16, 12)

# ----------------------------------------------------------------------------------------------------------- analysis


@dataclass(frozen=True)
class Analysis:
    """What is known of one picture at one timestep: x_t, and the basis that serves every region.

    x_t: (1, C, h, w) in network space. latent: of the model's own step count. size: basis vectors that were asked for.
    """

    model: DiffusionModel
    picture: Picture
    latent: Latent
    x_t: Tensor
    basis: Basis
    size: int

    @property
    def t(self) -> int:
        return self.basis.t

    def jacobian(self) -> Jacobian:
        """Its linearisation, made again: it holds the decoder's activations, which are larger than the basis."""
        return Jacobian(self.model, self.x_t, self.t)


Key = tuple[Any, ...]


class AnalysisCache:
    """Analyses of all visitors by what they are of; the least recently used are dropped beyond `capacity` bytes."""

    def __init__(self, capacity: int = KEPT_BYTES) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[Key, Analysis] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Analysis | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Key, analysis: Analysis) -> None:
        with self._lock:
            self._kept[key] = analysis
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self.nbytes > self.capacity:
                self._kept.popitem(last=False)

    @property
    def nbytes(self) -> int:
        return sum(analysis.basis.nbytes for analysis in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)


ANALYSES = AnalysisCache()


def analysis_key(model: DiffusionModel, picture: Picture, t: int, size: int) -> Key:
    return latent_key(picture.pixels, model.card.id, model.card.steps), model.card.id, model.fingerprint, t, size


def nearest(model: DiffusionModel, timestep: int | None) -> int:
    """The timestep of the model's trajectory that is nearest to one that was asked for, by default 0.6 T.

    Raises:
        RequestError: it is out of range.
    """
    T = model.schedule.T
    if timestep is not None:
        within("timestep", timestep, 0, T)
    return nearest_timestep(model, model.card.steps, AT if timestep is None else timestep / T)


def analyse(model: DiffusionModel, picture: Picture, timestep: int | None = None, size: int = krylov.SIZE) -> Job:
    """Analyse a picture at a timestep; at once if it has been analysed before. Result: an `Analysis`.

    Raises:
        RequestError: timestep or size out of range. ResourceError: out of memory.
    """
    within("basis size", size, 8, krylov.MOST)
    t, steps = nearest(model, timestep), model.card.steps
    key = analysis_key(model, picture, t, size)
    known = ANALYSES.get(key)
    total = 2 * steps + 2 * size
    if known is not None:
        yield Progress(total, total, "Already analysed", result=known)
        return
    for event in exclusively(invert(model, picture.pixels, steps, cache=studio.LATENTS)):
        latent = event.result
        yield Progress(event.step, total, "Reading the picture")
    for event in exclusively(descend(model, latent.x_T, t, steps)):
        x_t = event.result
        yield Progress(steps + event.step, total, "Finding its place")
    with DEVICE:
        jacobian = Jacobian(model, x_t, t)
    for event in exclusively(krylov.analyse(jacobian, size)):
        if event.result is None:
            yield Progress(2 * steps + event.step, total, "Analysing")
    analysis = Analysis(model, picture, latent, x_t, event.result, size)
    ANALYSES.put(key, analysis)
    yield Progress(total, total, "Analysed", result=analysis)


# --------------------------------------------------------------------------------------------------------- directions


@dataclass(frozen=True)
class Row:
    """A direction with what is shown of it.

    region: where its effect is measured; the whole picture where there is nothing else. strength: of its pictures.
    heat: (R, R), sum of |J v| over the channels: where it changes the picture. frames: pixels (3, 3, R, R) at
    -strength, 0 and +strength. roir: of the frames, mean of both sides. name: suggested, until the visitor writes one.
    touched: named or opened by the visitor, and so not to be replaced. key: of the preset that it was saved as.
    """

    found: Found
    region: Region
    strength: float
    heat: Tensor
    name: str
    touched: bool = False
    frames: Tensor | None = None
    roir: float | None = None
    suggestion: Suggestion | None = None
    key: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Its measures as plain values."""
        found, known = self.found, self.suggestion
        return {
            "name": self.name,
            "region": self.region.label or "whole picture",
            "method": found.method,
            "value": round(found.value, 5),
            "inside": None if found.inside is None else round(found.inside, 5),
            "linear_roir": _finite(found.ratio),
            "roir": _finite(self.roir),
            "strength": self.strength,
            "confidence": known.confidence if known else None,
            "likely": [list(pair) for pair in known.likely] if known else [],
            "attributes": {change.attribute: change.change for change in known.changes} if known else {},
        }


def _finite(value: float | None) -> float | None:
    return round(value, 4) if value is not None and math.isfinite(value) else None


@dataclass
class Exploration:
    """One search of a picture. `rows` and `analysis` change while `explore` runs, and `version` tells that they did.

    timestep: nearest on the trajectory is taken; None is 0.6 T. size: of the basis. opened: the row that is on the
    stage, frames: what is there of its strip. number: tells explorations apart.

    Raises:
        RequestError: a setting is out of range.
    """

    model: DiffusionModel
    picture: Picture
    regions: Sequence[Region]
    method: str = contrast.NAME
    settings: Settings = DEFAULTS
    timestep: int | None = None
    size: int = krylov.SIZE
    injection: Literal["symmetric", "asymmetric"] = "symmetric"
    analysis: Analysis | None = None
    rows: list[Row] = field(default_factory=list)
    refined: bool = False
    version: int = 0
    opened: int | None = None
    frames: list[Frame] = field(default_factory=list)
    number: int = field(default_factory=itertools.count(1).__next__)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise RequestError(f"There is no method {self.method!r}. Choose one of: {', '.join(METHODS)}.")
        if self.injection not in ("symmetric", "asymmetric"):
            raise RequestError(f"There is no injection {self.injection!r}: use asymmetric or symmetric.")
        within("count", self.settings.count, 1, MOST_COUNT)
        within("basis size", self.size, 8, krylov.MOST)
        nearest(self.model, self.timestep)

    def touch(self, index: Any, name: str | None = None) -> Row:
        """The visitor opens a row, or names it. Raises RequestError: there is no such row, or the name is empty."""
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.rows):
            raise RequestError("This direction is no longer here. Choose another one.")
        row = replace(self.rows[index], touched=True)
        if name is not None:
            row = replace(row, name=_plain(name))
        self.rows[index] = row
        return row


def _plain(name: str) -> str:
    """A name on one line. Raises RequestError for an empty one."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name[:400]).split())[:80]
    if not name:
        raise RequestError("A direction needs a name.")
    return name


def explore(exploration: Exploration, refining: bool = True) -> Job:
    """Run a search. Result: the exploration itself, which is filled along the way.

    refining: after the quick answer, converge the drawn regions and replace what that changes.

    Raises:
        RequestError: what was asked cannot be done with this picture. ResourceError: out of memory.
    """
    one = exploration
    for event in analyse(one.model, one.picture, one.timestep, one.size):
        if event.result is None:
            yield event
    one.analysis = event.result
    one.settings = yield from _sampled(one)
    with DEVICE:
        one.rows = find(one)
    one.version += 1
    yield Progress(0, 1, "Drawing them")
    yield from _draw(one, one.rows)
    if refining and one.method not in (global_jacobian.NAME, jive.JOINT, pca.NAME):
        for region in one.regions:
            mu = one.settings.mu if one.method == contrast.NAME else None
            job = refine(one.analysis.jacobian(), one.analysis.basis, region.mask, one.settings.count, mu)
            for event in exclusively(job):
                yield Progress(event.step, event.total, "Refining")
            one.analysis = replace(one.analysis, basis=event.result)
        key = analysis_key(one.model, one.picture, one.analysis.t, one.size)
        ANALYSES.put(key, one.analysis)
        with DEVICE:
            rows = _kept(one.rows, find(one))
        yield from _draw(one, rows)
        one.rows = _untouched(one.rows, rows)
    one.refined = True
    one.version += 1
    yield Progress(1, 1, "Done", result=one)


def _sampled(one: Exploration) -> Generator[Progress, None, Settings]:
    """The settings, with principal components of h at the timestep if the method is PCA. Returns them."""
    if one.method != pca.NAME:
        return one.settings
    key = one.model.card.id, one.model.fingerprint, one.analysis.t
    if key not in _COMPONENTS:
        job = pca.collect(one.model, [one.analysis.t], components=MOST_COUNT)
        for event in exclusively(job):
            yield Progress(event.step, event.total, "Sampling the model")
        while len(_COMPONENTS) >= 8:
            _COMPONENTS.pop(next(iter(_COMPONENTS)), None)
        _COMPONENTS[key] = event.result
    return replace(one.settings, components=_COMPONENTS[key])


_COMPONENTS: dict[Key, Any] = {}


def find(one: Exploration) -> list[Row]:
    """Rows without pictures: dense algebra in the basis alone (PCA: one product per direction)."""
    basis, regions = one.analysis.basis, list(one.regions)
    everywhere = Region(WHOLE, np.ones((basis.resolution,) * 2, bool))
    together = union(regions) or everywhere
    rows, each = [], max(1, MOST_ROWS // max(1, len(regions)))
    for found in discover(basis, regions, one.method, one.settings):
        region = next((r for r in regions if r.label == found.region), together)
        if found.y is None:
            [found] = measure(one.analysis.jacobian(), [found], region)
            found = replace(found, ratio=None if region is everywhere else found.ratio)
        number = 1 + sum(row.region is region for row in rows)
        if number > each:
            continue
        name = f"{region.label or 'Whole picture'}, no. {number}"
        rows.append(Row(found, region, strength_for(found, region), heat(one.analysis, found), name))
    if not rows:
        raise RequestError("Nothing in this region changes with h. Draw it elsewhere.")
    return rows


def heat(analysis: Analysis, found: Found) -> Tensor:
    """Where a direction changes the picture: sum over channels of |J v|, (R, R) in pixel units per unit of strength."""
    if found.y is not None:
        return analysis.basis.response(found.y).abs().sum(0)
    h = torch.zeros(1, *analysis.basis.vectors.shape[1:])
    delta = found.direction.delta_h(h, torch.zeros(1, 1), analysis.t)
    return analysis.jacobian().forward(delta)[0].abs().sum(0).cpu()


def _kept(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """New rows; where one is almost an old one, it keeps that one's sign, pictures and name."""
    rows, left = [], list(old)
    for row in new:
        like = max(left, key=lambda other: abs(_cosine(row, other)), default=None)
        if like is not None and abs(_cosine(row, like)) >= SAME:
            left.remove(like)
            found = _flipped(row.found) if _cosine(row, like) < 0 else row.found
            row = replace(like, found=found, heat=row.heat)
        rows.append(row)
    return rows


def _untouched(old: list[Row], new: list[Row]) -> list[Row]:
    """New rows, with the old ones that the visitor has touched in their places instead of what is most like them."""
    rows = [*new, *old[len(new) :]]
    touched = {i: row for i, row in enumerate(old) if row.touched}
    for row in touched.values():
        if rows:
            del rows[max(range(len(rows)), key=lambda i: abs(_cosine(rows[i], row)))]
    for i, row in sorted(touched.items()):
        rows.insert(i, row)
    return rows


def _cosine(one: Row, other: Row) -> float:
    return float((one.found.direction.delta * other.found.direction.delta).sum())


def _flipped(found: Found) -> Found:
    direction = found.direction
    return replace(found, direction=GlobalDirection(-direction.delta, direction.steps), y=-found.y)


# ----------------------------------------------------------------------------------------------- pictures and names


def _draw(one: Exploration, rows: list[Row]) -> Job:
    """Pictures and names for those of the rows that have none, in place and all in one batch."""
    missing = [i for i, row in enumerate(rows) if row.frames is None]
    if not missing:
        return
    count = 2 * len(missing) + 1
    parts = []
    for place, i in enumerate(missing):
        strengths = torch.zeros(count)
        strengths[1 + 2 * place], strengths[2 + 2 * place] = -rows[i].strength, rows[i].strength
        parts.append((rows[i].found.direction, strengths))
    settings = EditSettings(STEPS, injection=one.injection)
    for event in exclusively(edit(one.model, one.analysis.latent.repeat(count), parts, settings)):
        if event.result is None:
            yield Progress(event.step, event.total, "Drawing them")
    pixels = event.result.cpu()
    for place, i in enumerate(missing):
        frames, mask = pixels[[1 + 2 * place, 0, 2 + 2 * place]], rows[i].region.mask
        sides = None if mask.all() else roir(frames[[1, 1]], frames[[0, 2]], mask).mean().item()
        with DEVICE:
            suggestion = suggest(one.model.card, frames)
        row = rows[i]  # only now: the visitor may have named it meanwhile
        name = row.name
        if suggestion is not None and suggestion.text and not row.touched:
            name = _unlike(studio.suggested_name(one.model.card.domain_word, suggestion.text), rows)
        rows[i] = replace(row, frames=frames, roir=sides, suggestion=suggestion, name=name)
    one.version += 1


def _unlike(name: str, rows: Sequence[Row]) -> str:
    """The name, with a number if another row has it."""
    taken, number, wanted = {row.name for row in rows}, 1, name
    while name in taken:
        number += 1
        name = f"{wanted} {number}"
    return name


def suggest(card: ModelCard, frames: Tensor) -> Suggestion | None:
    """A name from the two ends of a direction, or None where the model has no image-text model or no vocabulary."""
    try:
        if card.id not in _NAMERS:
            _NAMERS[card.id] = Namer(studio.image_text(card), card.domain_word, templates(card))
        return _NAMERS[card.id].suggest(frames[:1], frames[2:], studio.probe(card))
    except (ModelUnavailable, RequestError):
        return None


_NAMERS: dict[str, Namer] = {}


def others(one: Exploration, row: Row, pictures: Sequence[Picture], strength: float) -> Job:
    """A direction on other pictures: the claim that it transfers. Result: pixels (2, B, 3, R, R), before and after."""
    within("strength", strength, -MOST_STRENGTH, MOST_STRENGTH)
    pixels = torch.cat([picture.pixels for picture in pictures])
    total = 2 * STEPS
    for event in exclusively(invert(one.model, pixels, STEPS, cache=studio.LATENTS)):
        latent = event.result
        yield Progress(event.step, total, "Reading the pictures")
    strengths = torch.tensor([0.0, strength]).repeat(len(pictures))
    settings = EditSettings(STEPS, injection=one.injection)
    for event in exclusively(edit(one.model, latent.repeat(2), [(row.found.direction, strengths)], settings)):
        if event.result is None:
            yield Progress(STEPS + event.step, total, "Editing them")
    pairs = event.result.cpu().unflatten(0, (len(pictures), 2)).transpose(0, 1)
    yield Progress(total, total, "Done", result=pairs)


def glow(values: Tensor, size: int) -> Image.Image:
    """A heat map (R, R) as a picture to lie over another: one colour, the more opaque the larger the value."""
    opacity = (values / values.max().clamp(min=1e-12)).sqrt()
    return _tinted(opacity, GLOW, size)


def shade(regions: Sequence[Region], size: int) -> Image.Image:
    """What lies outside all regions, darkened: a picture to lie over the one that they were drawn on."""
    outside = ~np.logical_or.reduce([region.mask for region in regions])
    return _tinted(0.5 * torch.from_numpy(outside).float(), INK, size, Image.Resampling.NEAREST)


def _tinted(
    opacity: Tensor, colour: tuple[int, int, int], size: int, how: Image.Resampling = Image.Resampling.BILINEAR
) -> Image.Image:
    alpha = Image.fromarray((255 * opacity).round().byte().numpy()).resize((size, size), how)
    picture = Image.new("RGBA", (size, size), (*colour, 0))
    picture.putalpha(alpha)
    return picture


# ------------------------------------------------------------------------------------------------- what is plotted


@dataclass(frozen=True)
class Spectrum:
    """Of one region: its singular values, the largest first, and how JIVE splits its energy (None: it cannot).

    joint, individual: shares of ||X||^2; what is left of 1 is noise to both.
    """

    label: str
    values: tuple[float, ...]
    joint: float | None = None
    individual: float | None = None


def spectra(one: Exploration, count: int = 30) -> list[Spectrum]:
    """Of each drawn region and of the rest; of the whole picture where nothing is drawn."""
    basis = one.analysis.basis
    if union(one.regions) is None:
        return [Spectrum("Whole picture", tuple(basis.values[:count].tolist()))]
    parts = with_rest(one.regions)
    split = jive.decompose(basis, one.regions, one.settings)
    made = []
    for region, C, A in zip(parts, split.joint, split.individual, strict=True):
        energies, _ = leading(basis.gram(region.mask), max(count, len(C)))
        energies = energies.clamp(min=0)
        total = energies[: len(C)].sum().item()
        shares = [part.square().sum().item() / max(total, 1e-30) for part in (C, A)]
        made.append(Spectrum(region.label.capitalize(), tuple(energies.sqrt()[:count].tolist()), *shares))
    return made


# ------------------------------------------------------------------------------------------------------------ presets


def as_preset(one: Exploration, row: Row) -> Preset:
    """A row as a preset: everything that is needed to use it elsewhere and to know where it came from."""
    card, settings = one.model.card, one.settings
    reach = float(f"{min(MOST_STRENGTH, REACH * row.strength):.2g}")
    ranks = ("rank", "joint_rank", "individual_rank", "projection_rank", "mu")
    where = f"“{row.region.label}”" if row.region.label else "the whole picture"
    measured = {"value": row.found.value, "inside": row.found.inside, "linear_roir": row.found.ratio, "roir": row.roir}
    return Preset(
        direction=row.found.direction,
        name=row.name,
        model=card.id,
        fingerprint=one.model.fingerprint,
        description=f"Found in {where} of one picture, at t = {one.analysis.t}.",
        method=row.found.method,
        parameters={"basis": len(one.analysis.basis), **{name: getattr(settings, name) for name in ranks}},
        region=drawn(one.regions),
        timestep=one.analysis.t,
        injection=one.injection,
        t_edit=0,
        t_boost=0,
        strength=row.strength,
        strength_range=(-reach, reach),
        measured={name: round(value, 5) for name, value in measured.items() if value and math.isfinite(value)},
        thumbnail=_thumbnail(row),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def drawn(regions: Sequence[Region]) -> list[Any]:
    """Regions as a preset keeps them: strokes with fewer points where they would not fit, at worst the box around."""
    for every in (1, 2, 4, 8, 16, 32):
        kept = [region.as_json() for region in regions]
        for region in kept:
            region["boxes"] = [_short(box) for box in region["boxes"]]
            for stroke in region["strokes"]:
                points = stroke["points"]
                stroke["points"] = [_short(point) for point in [*points[:-1:every], points[-1]]]
        if len(json.dumps(kept)) <= MOST_REGION_TEXT:
            return kept
    return [{"label": region.label, "boxes": [_around(region.mask)], "strokes": []} for region in regions]


def _short(numbers: Sequence[float]) -> list[float]:
    return [round(number, 4) for number in numbers]


def _around(mask: np.ndarray) -> list[float]:
    (top, bottom), (left, right) = ((np.flatnonzero(mask.any(axis))[[0, -1]] + (0, 1)) / len(mask) for axis in (1, 0))
    return _short([float(left), float(top), float(right), float(bottom)])


def _thumbnail(row: Row) -> bytes | None:
    if row.frames is None:
        return None
    buffer = io.BytesIO()
    to_pil(row.frames[2:], size=128)[0].save(buffer, "WEBP", quality=85)
    return buffer.getvalue()

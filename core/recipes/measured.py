"""What directions do, measured on the same pictures for all of a recipe, in the app's usual process."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

from .. import metrics
from ..editing import EditSettings
from ..errors import ModelUnavailable
from ..imaging import to_pil, to_pixels
from ..models.cards import MODELS
from ..presets import Preset
from ..progress import Job, Progress, Running, stage
from ..sampling import sample
from ..studio import measuring
from ..studio.edit import intervals_for
from ..studio.frames import EditOptions, Measures
from ..studio.latents import edit_together
from . import kept
from .pictures import load_pictures
from .recipe import Measuring, Purpose
from .team import HIDDEN
from .units import Unit
from .workshop import Workshop

TOGETHER = 4  # pictures that are edited at once
SIDE = 128  # of a picture in a strip
SHOWN_SEED = 1  # of the picture that thumbnails show


@dataclass(frozen=True)
class Seen:
    """measured: by name. strip: one picture at rising strengths, as WebP."""

    measured: dict[str, float]
    strip: bytes


def pictures_unit(shop: Workshop) -> Unit:
    """The unit that makes the pictures to measure on, the first of which is what thumbnails show."""
    how, shown = shop.recipe.measure, ""
    rows: list[str] = []
    if how is not None and how.pictures is not None:
        rows = list(shop.pictures[how.pictures].digests[: how.count])
    elif how is not None:
        rows = [f"seed {how.seed + n}" for n in range(how.count)]
    if shop.recipe.shown is not None:
        try:
            shown = kept.content_key("file", shop.recipe.shown.read_bytes().hex())
        except OSError as error:
            words = f"the picture {shop.recipe.shown} cannot be read ({error.strerror})."
            raise shop.recipe.wrong("shown", words) from error
    key = shop.key("pictures", shop.card.resolution, rows, shown)
    return Unit(key, (f"{HIDDEN}/{key}.safetensors",), "pictures to measure on", 25.0 * (len(rows) + 1))


def make_pictures(shop: Workshop, made: Unit) -> Job[Mapping[str, bytes]]:
    """The work of `pictures_unit`: pixels "shown" (1, 3, R, R) and "measured" (N, 3, R, R)."""
    recipe, how, resolution = shop.recipe, shop.recipe.measure, shop.card.resolution
    if recipe.shown is not None:
        shown = to_pixels(recipe.shown, resolution)
    else:
        shown = yield from stage(sample(shop.model, SHOWN_SEED), "Making pictures")
    pixels = torch.zeros(0, 3, resolution, resolution)
    if how is not None and how.pictures is not None:
        pixels = load_pictures(shop.pictures[how.pictures].files[: how.count], resolution)
    elif how is not None:
        parts = []
        for first in range(0, how.count, TOGETHER):
            job = sample(shop.model, how.seed + first, min(TOGETHER, how.count - first))
            parts.append((yield from stage(job, "Making pictures")).cpu())
        pixels = torch.cat(parts)
    return {made.files[0]: kept.to_bytes({"shown": shown.cpu(), "measured": pixels.cpu()}, {})}


def look(shop: Workshop, preset: Preset, purpose: Purpose | None, pixels: Mapping[str, Tensor]) -> Job[Seen]:
    """Edit the pictures with a preset at rising strengths, and measure what changes from strength 0 to the suggested
    one; of pictures only those that lack what the direction is for, if that can be read off them.

    Raises: RecipeError: the purpose names what the model's instruments do not know.
    """
    how = shop.recipe.measure or Measuring()
    low, high = (end / preset.unit for end in sorted(preset.strength_range, key=lambda end: end / preset.unit))
    inside = [c for c in how.strengths if low <= c <= high and c != 1]
    strengths = sorted({0.0, 1.0, *inside})
    shown = yield from _edited(shop, preset, pixels["shown"], strengths)
    strip = _strip(shown[0])
    rows = pixels["measured"]
    if not len(rows):
        return Seen({}, strip)
    chosen = rows[lacking(shop, purpose, rows)]
    parts = []
    pieces = chosen.split(TOGETHER)
    for n, part in enumerate(pieces):
        running = Running(_edited(shop, preset, part, strengths))
        for event in running:
            done = (n + event.step / max(1, event.total)) / len(pieces)
            yield Progress(round(100 * done), 100, "measuring")
        parts.append(running.result)
    edited = torch.cat(parts)
    yield Progress(1, 1, "measuring")
    return Seen(figures(shop, preset, purpose, edited, strengths), strip)


def _edited(shop: Workshop, preset: Preset, pixels: Tensor, strengths: list[float]) -> Job[Tensor]:
    """Pictures (B, S, 3, R, R) of pixels (B, 3, R, R)."""
    options = EditOptions()
    settings = EditSettings(options.step_count, intervals_for(shop.card, preset, options), preset.injection)
    weighted = [(preset.direction, [c * preset.unit for c in strengths] * len(pixels))]
    job = edit_together(shop.model, pixels, len(strengths), weighted, settings, options.process)
    edited = yield from stage(job, "measuring")
    return edited.cpu().unflatten(0, (len(pixels), len(strengths)))


@torch.no_grad()
def lacking(shop: Workshop, purpose: Purpose | None, pixels: Tensor) -> Tensor:
    """Which rows of the pictures lie on the near side of the population's mean of the attribute; all, if fewer than two
    do, or it cannot be read."""
    everything = torch.arange(len(pixels))
    probe = measuring.probe(shop.card)
    if purpose is None or probe is None or purpose.attribute not in probe.known:
        return everything
    value = torch.cat([probe.attributes(part)[purpose.attribute] for part in pixels.split(16)])
    near = ((value - probe.known[purpose.attribute].mean) * purpose.sign < 0).nonzero()[:, 0].cpu()
    return near if len(near) >= 2 else everything


def figures(
    shop: Workshop, preset: Preset, purpose: Purpose | None, edited: Tensor, strengths: list[float]
) -> dict[str, float]:
    """The measures of edits (N, S, 3, R, R), means over the N pictures; changes in standard deviations of the model's
    pictures, from strength 0 to the suggested one."""
    before, after = edited[:, strengths.index(0.0)], edited[:, strengths.index(1.0)]
    source, target = preset.source_text, preset.target_text
    rows: list[Measures] = []
    for b, a in zip(before, after, strict=True):
        rows += measuring.measure(shop.card, b[None], a[None], source, target)
    seen = {
        "identity": _mean([row.identity for row in rows]),
        "s_dir": _mean([row.s_dir for row in rows]),
        "distance": _mean([row.distance for row in rows]),
    }
    change = _changes(rows)
    if purpose is not None and change:
        _require_known(shop, preset, purpose, change)
        own = purpose.sign * change[purpose.attribute]
        others = {name: abs(v) for name, v in change.items() if name not in (purpose.attribute, *purpose.also)}
        seen = {
            purpose.attribute: change[purpose.attribute],
            "own_change": own,
            "largest_other_change": max(others.values(), default=0.0),
            **seen,
            "strength_correlation": _correlation(shop, purpose, edited, strengths),
        }
    if purpose is not None and purpose.part:
        seen["psnr_outside"] = _outside(shop, purpose, before, after)
    return {name: round(value, 4) for name, value in seen.items() if value is not None and isfinite(value)}


def _changes(rows: list[Measures]) -> dict[str, float]:
    names = [reading.name for reading in rows[0].attributes] if rows else []
    read = [{reading.name: reading.change for reading in row.attributes} for row in rows]
    return {name: float(np.mean([row[name] for row in read])) for name in names}


def _require_known(shop: Workshop, preset: Preset, purpose: Purpose, change: Mapping[str, float]) -> None:
    unknown = [name for name in (purpose.attribute, *purpose.also) if name not in change]
    if unknown:
        name = next((one.name for one in shop.recipe.directions if one.purpose == purpose), preset.name)
        known = ", ".join(sorted(change))
        raise shop.recipe.wrong(f"directions.{name}.purpose", f"there is no attribute “{unknown[0]}”. Use of: {known}.")


@torch.no_grad()
def _correlation(shop: Workshop, purpose: Purpose, edited: Tensor, strengths: list[float]) -> float | None:
    """Mean Spearman correlation of strength and attribute."""
    probe = measuring.probe(shop.card)
    if probe is None or len(strengths) < 3:
        return None
    along = torch.stack([probe.attributes(column)[purpose.attribute] for column in edited.unbind(1)]) * purpose.sign
    found = [spearmanr(strengths, column.cpu().numpy()).statistic for column in along.T]
    return float(np.nanmean(found)) if np.isfinite(found).any() else None


def _outside(shop: Workshop, purpose: Purpose, before: Tensor, after: Tensor) -> float | None:
    """PSNR in dB outside the part that the direction is for, of pictures that show it."""
    try:
        parts = measuring.parts(MODELS[shop.card.id])
    except (ModelUnavailable, KeyError):
        return None
    values = []
    for b, a in zip(before, after, strict=True):
        found = {} if parts is None else {name.lower(): mask for name, mask in parts.found(b[None]).items()}
        mask = found.get(purpose.part.lower())
        if mask is not None:
            values.append(float(metrics.psnr(a[None], b[None], torch.from_numpy(~mask)[None, None])))
    return _mean(values)


def _mean(values: list[float | None] | list[float]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def _strip(pictures: Tensor) -> bytes:
    """Pictures (S, 3, R, R) side by side."""
    small = [picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for picture in to_pil(pictures)]
    row = Image.new("RGB", (SIDE * len(small), SIDE))
    for n, picture in enumerate(small):
        row.paste(picture, (SIDE * n, 0))
    written = io.BytesIO()
    row.save(written, "WEBP", quality=85)
    return written.getvalue()

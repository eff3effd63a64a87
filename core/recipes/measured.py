"""What directions do, measured on the same pictures for all of a recipe, in the app's usual process."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from ..evaluation.evaluate import edited_at
from ..evaluation.gauges import Gauges, gauges_of
from ..evaluation.measures import lacking, measure
from ..evaluation.results import Joined
from ..evaluation.subject import Subject, part_called, with_zero
from ..imaging import to_pil, to_pixels
from ..presets import Preset
from ..progress import Job, Progress, Running, stage
from ..sampling import sample
from ..studio.frames import EditOptions
from . import kept
from .pictures import load_pictures
from .recipe import Measuring, Purpose
from .team import HIDDEN
from .units import Unit
from .workshop import Workshop

TOGETHER = 4  # pictures that are edited at once
SIDE = 128  # of a picture in a strip
SHOWN_SEED = 1  # of the picture that thumbnails show
USUAL = EditOptions()  # the app's usual process


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
    how, unit = shop.recipe.measure or Measuring(), preset.unit
    low, high = (end / unit for end in sorted(preset.strength_range, key=lambda end: end / unit))
    inside = [c for c in how.strengths if low <= c <= high and c != 1]
    gauges = gauges_of(shop.card, with_features=False)
    subject = _subject(shop, gauges, preset, purpose, with_zero(c * unit for c in (1.0, *inside)))
    shown = yield from stage(edited_at(shop.model, subject, pixels["shown"], USUAL), "measuring")
    strip = _strip(shown[0] if unit > 0 else shown[0].flip(0))
    rows = pixels["measured"]
    if not len(rows):
        return Seen({}, strip)
    chosen = lacking(gauges, subject, rows)
    pieces = rows[chosen if len(chosen) > 1 else slice(None)].split(TOGETHER)
    joined = Joined(subject, list(gauges.probe.known) if gauges.probe is not None else [])
    for n, part in enumerate(pieces):
        running = Running(edited_at(shop.model, subject, part, USUAL))
        for event in running:
            done = (n + event.step / max(1, event.total)) / len(pieces)
            yield Progress(round(100 * done), 100, "measuring")
        joined.add(measure(gauges, subject, part, running.result)[0])
    yield Progress(1, 1, "measuring")
    return Seen(figures(subject, joined), strip)


def _subject(
    shop: Workshop, gauges: Gauges, preset: Preset, purpose: Purpose | None, strengths: tuple[float, ...]
) -> Subject:
    """Raises RecipeError: the purpose names an attribute that the probe does not read."""
    if purpose is None:
        return Subject(preset, strengths)
    part = part_called(purpose.part, gauges.parts)
    part = part if gauges.parts is not None and part in gauges.parts.names else ""
    if gauges.probe is None:
        return Subject(preset, strengths, part=part)
    unknown = [name for name in (purpose.attribute, *purpose.also) if name not in gauges.probe.known]
    if unknown:
        entry = next((one.name for one in shop.recipe.directions if one.purpose == purpose), preset.name)
        words = f"there is no attribute “{unknown[0]}”. Use of: {', '.join(sorted(gauges.probe.known))}."
        raise shop.recipe.wrong(f"directions.{entry}.purpose", words)
    return Subject(preset, strengths, purpose.attribute, purpose.sign, purpose.also, part, lacking=True)


def figures(subject: Subject, joined: Joined) -> dict[str, float]:
    """Means over the pictures, by the names that presets have; changes in standard deviations of the model's pictures,
    from strength 0 to the suggested one."""
    found = joined.found((0, 0))
    row, seen = found.main_row(), {}
    if subject.attribute:
        change = float(found.attributes[subject.attribute][subject.main])
        seen = {subject.attribute: change, "own_change": row["own"], "largest_other_change": row["other"]}
    seen |= {name: row[name] for name in ("identity", "s_dir", "distance")}
    if subject.attribute and len(subject.strengths) > 2:
        correlation = row["rank_correlation"]
        rising = subject.preset.unit > 0 or correlation is None
        seen["strength_correlation"] = correlation if rising else -correlation
    if subject.part:
        seen["psnr_outside"] = row["psnr_outside"]
    return {name: round(value, 4) for name, value in seen.items() if value is not None}


def _strip(pictures: Tensor) -> bytes:
    """Pictures (S, 3, R, R) side by side."""
    small = [picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS) for picture in to_pil(pictures)]
    row = Image.new("RGB", (SIDE * len(small), SIDE))
    for n, picture in enumerate(small):
        row.paste(picture, (SIDE * n, 0))
    written = io.BytesIO()
    row.save(written, "WEBP", quality=85)
    return written.getvalue()

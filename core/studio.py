"""What the page and its API do, without either: a picture, a preset and strengths go in, measured frames come out.

Work is a `Job` (a generator of `Progress`). Visitors' jobs take turns on the device, one step at a time.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core import clip, instruments, metrics, presets, sampling
from core.asyrp.loss import similarity
from core.asyrp.prompts import templates
from core.asyrp.train import global_direction, mean_direction
from core.directions import Direction, ImplicitDirection
from core.editing import EditSettings, edit, invert, sample_latent
from core.errors import ModelUnavailable, RequestError
from core.imaging import Crop, Source, to_pixels
from core.intervals import Intervals
from core.inversion.inversion import read_prompt
from core.inversion.loading import card_of, model_of
from core.latents import LatentCache
from core.models.cards import MODELS, ROOT, Drawn, EmbeddedClip, ModelCard
from core.models.loader import DiffusionModel, models
from core.models.t2i_cards import TextToImageCard
from core.presets import Preset
from core.progress import Job, Progress, finish
from core.visit import DEVICE, EditOptions, Form, Frame, Measures, Picture, Reading, exclusively, within

LATENTS = LatentCache()

STRIP = 7  # strengths shown side by side
MEAN_OVER = 12  # portraits that the mean forms of a direction are averaged over
PICTURES = (".png", ".webp", ".jpg")


# --------------------------------------------------------------------------------------------- what belongs to a model


def image_text(card: ModelCard) -> clip.ImageText:
    """The image-text model of a card, kept once loaded. Raises ModelUnavailable."""
    return _image_text(card)


def probe(card: ModelCard | TextToImageCard) -> instruments.Instruments | None:
    """The instruments that read a model's pictures, if it has any."""
    return _probe(ROOT / card.instruments) if card.instruments else None


def distance(card: ModelCard | TextToImageCard) -> metrics.Distance:
    """The perceptual distance of a card, kept once loaded. Raises ModelUnavailable."""
    instrument = probe(card)
    return instrument.distance if instrument else _lpips(card)


_LOADING = threading.Lock()


def _once(load: Callable[..., Any]) -> Callable[..., Any]:
    """Kept, and loaded by one thread however many ask."""
    kept = lru_cache(maxsize=3)(load)

    def get(*arguments: Any) -> Any:
        with _LOADING:
            return kept(*arguments)

    return get


@_once
def _image_text(card: ModelCard) -> clip.ImageText:
    if isinstance(card.clip, EmbeddedClip):
        return clip.load_embedded(card.clip.folder, models.device)
    return clip.load_open_clip(card.clip.model, card.clip.pretrained, models.device)


@_once
def _probe(folder: Path) -> instruments.Instruments:
    return instruments.load(folder, models.device)


@_once
def _lpips(card: ModelCard) -> metrics.Distance:
    return metrics.perceptual(card, models.device)


def warm_up(model_id: str) -> None:
    """Load everything that the first edit needs, and run the network once. Quiet about what is not there."""
    try:
        model = models.get(model_id)
        probe(model.card)
        image_text(model.card)
        finish(exclusively(edit(model, sample_latent(model, 0), settings=EditSettings(steps=2))))
    except ModelUnavailable:
        return


def examples(model_id: str) -> list[Path]:
    """The pictures that come with a model, in order."""
    folder = ROOT / "presets" / "examples" / model_id
    return sorted(path for path in folder.glob("*") if path.suffix in PICTURES)


def library(model_id: str) -> dict[str, Preset]:
    """The presets that come with a model, by the name of their file."""
    folder = ROOT / "presets" / "directions" / model_id
    return {path.stem: preset for path, preset in presets.shelf(folder)}


def find_direction(
    model_id: str, name: str, source: str, target: str, own: dict[str, Preset] | None = None
) -> Preset | None:
    """The preset that a request means, by its name, or else by its pair of texts; the visitor's own first. None: the
    pair is a new one.

    Raises:
        RequestError: there is no preset of that name, or neither a name nor both texts.
    """
    mine = [(key, preset) for key, preset in reversed((own or {}).items()) if preset.model == model_id]
    candidates = [*mine, *library(model_id).items()]
    wanted, *pair = (" ".join(text.lower().split()) for text in (name, source, target))
    if wanted:
        for key, preset in candidates:
            if wanted in (key.lower(), preset.name.lower(), preset.target_text.lower()):
                return preset
        known = ", ".join(preset.name for _, preset in candidates) or "none"
        raise RequestError(f"There is no direction “{name[:80]}” for {model_id}. Known ones: {known}.")
    if not all(pair):
        raise RequestError("Give the name of a direction, or both texts: what the pictures show and what they should.")
    for _, preset in candidates:
        if pair == [preset.source_text.lower(), preset.target_text.lower()]:
            return preset
    return None


# ----------------------------------------------------------------------------------------------------------- pictures


def open_picture(source: Source, model_id: str, crop: Crop | None = None) -> Picture:
    """A visitor's picture for a model. Raises ImageError."""
    return Picture(to_pixels(source, MODELS[model_id].resolution, crop), model_id)


def imagine(model: DiffusionModel, seed: int, steps: int | None = None, words: str = "") -> Job:
    """A new picture of the model's own; the same seed gives the same one. Result: a `Picture`.

    steps: of sampling; None is what the model needs. words: what it should show, for models whose pictures are drawn
    from words (`ModelCard.drawn`); without, the seed decides on that too.

    Raises:
        RequestError: the seed or the steps are out of range, the words are endless, or the model takes none.
        ModelUnavailable: the model that draws cannot be had. ResourceError: out of memory.
    """
    within("seed", seed, 0, 2**31 - 1)
    drawn, words = model.card.drawn, words.strip()
    steps = sampling_steps(model.card) if steps is None else steps
    if drawn is not None:
        prompt = read_prompt(words or described(drawn, seed), "Say what the picture should show.")
        card = card_of(drawn.model)
        job = sampling.draw(model_of(card), [prompt], seed, steps, card.guidance if words else sampling.GUIDANCE)
    elif words:
        raise RequestError(f"{model.card.title} are imagined without words. Leave the description empty.")
    else:
        prompt, job = "", sampling.sample(model, seed, steps=steps)
    for event in exclusively(job):
        made = None
        if event.result is not None:
            made = Picture(event.result.cpu(), model.card.id, None if words else seed, prompt=prompt)
        yield replace(event, note="Imagining", result=made)


def sampling_steps(card: ModelCard) -> int:
    """What a new picture of a model needs."""
    return sampling.STEPS if card.drawn is None else sampling.DRAWING_STEPS


def described(drawn: Drawn, seed: int) -> str:
    """What the picture of a seed shows."""
    captions = _captions(ROOT / drawn.captions)
    return captions[seed % len(captions)]


@lru_cache
def _captions(path: Path) -> list[str]:
    return path.read_text().splitlines()


# ------------------------------------------------------------------------------------------------------------ editing


def strip_strengths(preset: Preset, count: int = STRIP) -> list[float]:
    """About `count` round strengths over the preset's range, zero among them where the range holds it."""
    low, high = preset.strength_range
    step = next(s for s in (0.05, 0.1, 0.2, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50) if (high - low) / s <= count - 1 + 1e-9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 4) for k in range(first, last + 1)]


def intervals_for(card: ModelCard, preset: Preset, options: EditOptions) -> Intervals:
    """Editing and boosting interval: the visitor's, else the preset's, else by the model's curves."""
    t_edit = preset.t_edit if options.t_edit is None else options.t_edit
    t_boost = preset.t_boost if options.t_boost is None else options.t_boost
    if t_edit is None or t_boost is None:
        source = card.interval_source()
        alike = 1.0
        if t_edit is None and preset.source_text and preset.target_text:
            alike = similarity(image_text(card), preset.source_text, preset.target_text)
        t_edit = source.t_edit(alike) if t_edit is None else t_edit
        t_boost = source.t_boost() if t_boost is None else t_boost
    return Intervals(t_edit, t_boost)


def edit_frames(
    model: DiffusionModel,
    picture: Picture,
    preset: Preset,
    strengths: Sequence[float],
    options: EditOptions = EditOptions(),
    forms: dict[tuple[Any, ...], Direction] | None = None,
) -> Job:
    """Edit one picture at several strengths in one batch. Result: a list of `Frame`, in the order of `strengths`.

    forms: where averaged forms of directions are kept between calls.

    Raises:
        PresetError: the preset is for another model. RequestError: a strength out of range.
        ModelUnavailable, ResourceError.
    """
    for strength in strengths:
        within("strength", strength, -100, 100)
    presets.require_model(preset, model)
    intervals = intervals_for(model.card, preset, options)
    settings = EditSettings(options.steps, intervals, options.injection or preset.injection, options.seed)
    total = 2 * options.steps

    for event in exclusively(invert(model, picture.pixels, options.steps, cache=LATENTS)):
        latent = event.result
        yield Progress(event.step, total, "Reading the picture", event.preview)
    if options.form != "trained" and isinstance(preset.direction, ImplicitDirection):
        yield Progress(options.steps, total, f"Averaging the direction over {MEAN_OVER} pictures")
    direction = _form(model, preset, options.form, intervals.t_edit, {} if forms is None else forms)

    weighted = [(direction, list(strengths))]
    for event in exclusively(edit(model, latent.repeat(len(strengths)), weighted, settings)):
        if event.result is None:
            yield Progress(options.steps + event.step, total, event.note.capitalize(), event.preview)
    with DEVICE:
        edited = event.result
        measured = measure(model.card, picture.pixels, edited, preset.source_text, preset.target_text)
    rows = zip(strengths, edited.cpu(), measured, strict=True)
    yield Progress(total, total, "Done", result=[Frame(float(c), pixels, about) for c, pixels, about in rows])


def _form(
    model: DiffusionModel, preset: Preset, form: Form, t_edit: int, kept: dict[tuple[Any, ...], Direction]
) -> Direction:
    """The direction as it was trained, or its mean over pictures, or that averaged over time too (Appendix L.1)."""
    direction = preset.direction
    if form == "trained" or not isinstance(direction, ImplicitDirection):
        return direction
    key = (direction, model.card.id, t_edit)
    with DEVICE:
        if key not in kept:
            x_T = sample_latent(model, seed=0, count=MEAN_OVER).x_T
            kept[key] = mean_direction(model, direction, x_T, t_edit)
    return global_direction(kept[key]) if form == "global" else kept[key]


@torch.no_grad()
def measure(
    card: ModelCard | TextToImageCard, before: Tensor, after: Tensor, source: str = "", target: str = ""
) -> list[Measures]:
    """Measures of each edited picture against the one it came from.

    before: pixels (1, 3, R, R). after: (B, 3, R, R). S_dir needs both texts, and a card with an image-text model. What
    cannot be had is left out.
    """
    rows = [Measures() for _ in after]
    originals = before.to(after).expand_as(after)
    if source and target:
        try:
            values = metrics.s_dir(image_text(card), before, after, source, target, templates(card))
            rows = [replace(row, s_dir=float(v)) for row, v in zip(rows, values, strict=True)]
        except ModelUnavailable:
            pass
    try:
        instrument = probe(card)
        values = distance(card)(originals, after)
        rows = [replace(row, distance=float(v)) for row, v in zip(rows, values, strict=True)]
    except ModelUnavailable:
        return rows
    if instrument is None:
        return rows
    alike = (instrument.identity(after) * instrument.identity(before)).sum(-1)
    read, original = instrument.attributes(after), instrument.attributes(before)
    for i, row in enumerate(rows):
        attributes = []
        for name, known in instrument.known.items():
            was, now = float(original[name][0]), float(read[name][i])
            attributes.append(Reading(name, was, now, known.low, known.high, (now - was) / known.spread))
        attributes.sort(key=lambda reading: -abs(reading.change))
        rows[i] = replace(row, identity=float(alike[i]), attributes=tuple(attributes))
    return rows

"""What belongs to a model beside its network, kept once loaded, and what it says of an edit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from .. import captioner as captioning
from .. import clip, instruments, metrics
from .. import parts as face_parts
from ..asyrp.loss import s_dir
from ..asyrp.prompts import templates
from ..asyrp.segmentation import segmentation_consistency
from ..cache import Cache, Counted
from ..errors import ModelUnavailable
from ..forking import ForkedLock
from ..memory import MAX_INSTRUMENTS, bytes_of
from ..models.cards import PRESETS, BaseCard, EmbeddedClip, ModelCard
from ..models.loader import models
from ..photo import face_parsing, segment_anything, snapshots
from .frames import AttributeReading, Measures

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


NO_IMAGE_TEXT = "How well the change fits the words is not measured: CLIP is not here and cannot be downloaded."
NO_DISTANCE = "How visible the change is, is not measured: its network is not here and cannot be downloaded."
AGAIN = 300.0  # seconds after which what could not be had is asked for again: each time can take half a minute

_failed: dict[Any, tuple[float, ModelUnavailable]] = {}  # when, and how; one for each kind and model


_LOADING = ForkedLock()
_KEPT: Cache[Counted[Any]] = Cache(MAX_INSTRUMENTS, "instruments", always=4)  # a model has up to four


def _once(load: Callable[[Key], T]) -> Callable[[Key], T]:
    """Kept, and loaded by one thread however many ask."""

    def get(key: Key) -> T:
        with _LOADING:
            kept = _KEPT.get((load, key))
            if kept is None:
                since, error = _failed.get((load, key), (-math.inf, None))
                if error is not None and time.monotonic() - since < AGAIN:
                    raise ModelUnavailable(error.message)
                try:
                    made = load(key)
                except ModelUnavailable as error:
                    _failed[load, key] = time.monotonic(), error
                    raise
                _failed.pop((load, key), None)
                kept = Counted(made, bytes_of(made))
                _KEPT.put((load, key), kept)
            value: T = kept.value
            return value

    _LOADERS[load.__name__] = get
    return get


_LOADERS: dict[str, Callable[[Any], Any]] = {}


def name_of(instrument: object) -> tuple[str, Hashable] | None:
    """By what `named` finds an instrument again in another process; None for anything else."""
    for key, kept in _KEPT.items():
        load, of = cast(tuple[Callable[[Any], Any], Hashable], key)
        if kept.value is instrument or kept.value == instrument:
            return load.__name__, of
    return None


def named(name: tuple[str, Hashable]) -> Any:
    """The instrument of a name. Raises ModelUnavailable."""
    loader, of = name
    return _LOADERS[loader](of)


def move_kept() -> None:
    """What is kept goes to the device of this process; what cannot be moved is loaded again when it is needed."""
    kept = _KEPT.items()
    _KEPT.clear()
    for key, counted in kept:
        if isinstance(counted.value, clip.ImageText | instruments.Instruments):
            counted.value.to(models.device)
            _KEPT.put(key, counted)


def image_text(card: ModelCard) -> clip.ImageText:
    """The image-text model of a card. Raises ModelUnavailable."""
    return _image_text(card)


def probe(card: BaseCard) -> instruments.Instruments | None:
    """The instruments that read a model's pictures, if it has any. Raises ModelUnavailable."""
    return _probe(PRESETS / card.instruments) if card.instruments else None


def distance(card: BaseCard) -> metrics.Distance:
    """The perceptual distance of a card. Raises ModelUnavailable."""
    instrument = probe(card)
    return instrument.distance if instrument else _lpips(card)


def distance_or_none(card: BaseCard) -> metrics.Distance | None:
    """The perceptual distance of a card, or None where it cannot be had."""
    try:
        return distance(card)
    except ModelUnavailable:
        return None


def parts(card: ModelCard) -> face_parts.Parts | None:
    """What knows the parts of a model's pictures, if it has any. Raises ModelUnavailable."""
    return _parts(PRESETS / card.parts) if card.parts else None


def parts_of_faces() -> face_parsing.FaceParsing:
    """What knows the parts of photographed faces. Raises ModelUnavailable."""
    snapshots.folder_of(
        face_parsing.WEIGHTS
    )  # here, because whoever loads makes all others wait who want to load something
    found: face_parsing.FaceParsing = _of_photographs("faces")
    return found


def anything() -> segment_anything.SegmentAnything:
    """What finds the outline of anything in a photograph. Raises ModelUnavailable."""
    snapshots.folder_of(segment_anything.WEIGHTS)
    found: segment_anything.SegmentAnything = _of_photographs("anything")
    return found


def captioner(device: str) -> captioning.Captioner:
    """What describes photographs. Raises ModelUnavailable."""
    return _captioner(device)


@_once
def _of_photographs(what: Literal["faces", "anything"]) -> Any:
    return (face_parsing if what == "faces" else segment_anything).load()


@_once
def _captioner(device: str) -> captioning.Captioner:
    return captioning.load(device)


@_once
def _image_text(card: ModelCard) -> clip.ImageText:
    if isinstance(card.clip, EmbeddedClip):
        return clip.load_embedded(card.clip.folder, models.device)
    return clip.load_open_clip(card.clip.model, card.clip.pretrained, models.device)


@_once
def _probe(folder: Path) -> instruments.Instruments:
    return instruments.load(folder, models.device)


@_once
def _parts(folder: Path) -> face_parts.Parts:
    return face_parts.load(folder)


@_once
def _lpips(card: BaseCard) -> metrics.Distance:
    return metrics.perceptual(card, models.device)


@torch.no_grad()
def measure(card: BaseCard, before: Tensor, after: Tensor, source: str = "", target: str = "") -> list[Measures]:
    """Measures of each edited picture against the one it came from.

    before: pixels (1, 3, R, R). after: (B, 3, R, R). S_dir needs both texts, and a card with an image-text model. What
    cannot be had is left out, and `missing` says so.
    """
    rows = [Measures() for _ in after]
    if source and target and isinstance(card, ModelCard):
        try:
            values = s_dir(image_text(card), before, after, source, target, templates(card))
            rows = [replace(row, s_dir=float(v)) for row, v in zip(rows, values, strict=True)]
        except ModelUnavailable:
            rows = [row.lacking(NO_IMAGE_TEXT) for row in rows]
    try:
        instrument = probe(card)
        if instrument is None:
            values = distance(card)(before.to(after).expand_as(after), after)
            return [replace(row, distance=float(v)) for row, v in zip(rows, values, strict=True)]
    except ModelUnavailable:
        return [row.lacking(NO_DISTANCE) for row in rows]
    compared = instrument.compare(before, after)
    kept_parts = _kept_parts(card, before, after)
    for i, row in enumerate(rows):
        attributes = []
        for name, known in instrument.known.items():
            was, now = float(compared.before[name]), float(compared.after[name][i])
            change = (now - was) / known.spread
            attributes.append(AttributeReading(name, was, now, known.low, known.high, change))
        attributes.sort(key=lambda reading: -abs(reading.change))
        distance_, identity = float(compared.distance[i]), float(compared.identity[i])
        rows[i] = replace(
            row, distance=distance_, identity=identity, attributes=tuple(attributes), segmentation=kept_parts[i]
        )
    return rows


def _kept_parts(card: BaseCard, before: Tensor, after: Tensor) -> list[float] | list[None]:
    """Segmentation consistency of each edit; nothing where no network knows the parts."""
    known = parts(card) if isinstance(card, ModelCard) else None
    if known is None:
        return [None] * len(after)
    was = known.label_map(before)
    return [segmentation_consistency(was, known.label_map(one)).pixels for one in after]

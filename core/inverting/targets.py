"""An inverted picture turned into what target prompts say, at several strengths."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core import studio
from core.errors import RequestError, ResourceError
from core.inversion.alignment import words_of
from core.inversion.editing import MOST_TARGETS, EditSettings, Target, edit
from core.inversion.inversion import Inversion, read_prompt
from core.inversion.model import TextToImage
from core.inverting.trying import SHORT_OF_MEMORY
from core.models.t2i_cards import TextToImageCard
from core.progress import Job, Progress
from core.visit import DEVICE, Frame, exclusively, within

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # 0 is the source, 1 the target
LOW, HIGH = 0.0, 1.5
MOST_PROMPTS = 6
MOST_WEIGHTS = 20
WANTED = "Write a target prompt: what the picture should show instead."


def read_prompts(text: str) -> list[str]:
    """Target prompts, one per line, each once.

    Raises:
        RequestError: there are none, or too many, or one is endless.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise RequestError(WANTED)
    if len(lines) > MOST_PROMPTS:
        raise RequestError(f"There are {len(lines)} target prompts; up to {MOST_PROMPTS} can be used. Remove some.")
    return list(dict.fromkeys(read_prompt(line, WANTED) for line in lines))


def read_weights(text: str) -> dict[str, float]:
    """Weights of words: "smiling 2, glasses 0.5".

    Raises:
        RequestError: it is not in this form.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = re.fullmatch(r"(\S+?)\s*[\s:=]\s*([+-]?\d*\.?\d+)", part)
        if match is None:
            raise RequestError(
                f"“{part[:60]}” is not a word with its weight. Write for example: smiling 2, glasses 0.5"
            )
        weights[match[1].lower()] = float(match[2])
    if len(weights) > MOST_WEIGHTS:
        raise RequestError(f"There are {len(weights)} weights of words; up to {MOST_WEIGHTS} can be used.")
    return weights


def targets_of(pairs: Sequence[tuple[str, float]], weights: dict[str, float]) -> list[Target]:
    """Targets of (prompt, strength); each has the weights of the words that are in it.

    Raises:
        RequestError: a word is in none of them, a weight or a strength is out of range.
    """
    found = set()
    targets = []
    for prompt, strength in pairs:
        within("strength", strength, LOW, HIGH)
        known = [[part] for part in words_of(prompt)]
        own = {word: weight for word, weight in weights.items() if words_of(word) in known}
        found |= own.keys()
        targets.append(Target(prompt, strength, own))
    for word in weights.keys() - found:
        raise RequestError(f"“{word}” is not a word of a target prompt. Re-weight one of its words.")
    return targets


def edit_frames(
    card: TextToImageCard, model: TextToImage, inversion: Inversion, targets: Sequence[Target], settings: EditSettings
) -> Job:
    """Targets from one inverted picture, in one batch, or in smaller ones if memory is short; the last event's note
    then says so. Result: a list of `Frame`, in the order of the targets.

    Raises:
        RequestError, ResourceError: as `core.inversion.editing.edit`.
    """
    pixels, note = yield from _in_memory(model, inversion, list(targets), settings)
    with DEVICE:
        measured = studio.measure(card, inversion.pixels, pixels)
    rows = zip(targets, pixels, measured, strict=True)
    frames = [Frame(target.strength, image, about) for target, image, about in rows]
    yield Progress(1, 1, note or "Done", result=frames)


def _in_memory(
    model: TextToImage, inversion: Inversion, targets: list[Target], settings: EditSettings
) -> Generator[Progress, None, tuple[Tensor, str]]:
    try:
        done, first = [], 0
        for first in range(0, len(targets), MOST_TARGETS):
            for event in exclusively(edit(model, inversion, targets[first : first + MOST_TARGETS], settings)):
                if event.result is None:
                    yield event
            done.append(event.result.cpu())
        return torch.cat(done), ""
    except ResourceError:
        if len(targets) == 1:
            raise
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    yield Progress(0, 1, "memory is short, trying fewer at once")
    half = len(targets) // 2
    smaller = replace(model, rows=max(1, model.rows // 2))
    parts = []
    for part in (targets[:half], targets[half:]):
        pixels, _ = yield from _in_memory(smaller, inversion, part, settings)
        parts.append(pixels)
    return torch.cat(parts), SHORT_OF_MEMORY


def source_frame(card: TextToImageCard, inversion: Inversion) -> Frame:
    """Strength 0: the reconstruction."""
    with DEVICE:
        [measured] = studio.measure(card, inversion.pixels, inversion.reconstruction)
    return Frame(0.0, inversion.reconstruction[0], measured)

"""An inverted picture turned into what target prompts say, at several strengths."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import RequestError, ResourceError, quoted
from ...inversion.alignment import words_of
from ...inversion.editing import MAX_TARGETS, PromptEditSettings, Target, edit
from ...inversion.inversion import Inversion
from ...models.t2i_cards import TextToImageCard
from ...progress import Job, Progress, finish
from ...text_to_image import TextToImage, read_prompt
from ..device import exclusively
from ..domain import domain_in, measure_known
from ..frames import Frame, require_range
from ..jobs import Work, device_job
from .run_methods import SHORT_OF_MEMORY, in_smaller_batches

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)  # 0 is the source, 1 the target
MIN_STRENGTH, MAX_STRENGTH = 0.0, 1.5
MAX_PROMPTS = 6
MAX_WEIGHTS = 20
REQUEST = "Write a target prompt: what the picture should show instead."


@dataclass(eq=False)
class PromptEdits:
    """Target prompts for one inversion.

    frames: by prompt, in the order of their strengths; they fill up while `run` runs, and `version` counts how often
    they have. shown: the prompt on the stage. seconds: until every target was there. note: what had to be done
    otherwise. worded: what the model is told in place of a prompt.
    """

    card: TextToImageCard
    inversion: Inversion
    settings: PromptEditSettings
    weights: dict[str, float]
    prompts: list[str]
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    shown: str = ""
    seconds: float = 0.0
    note: str = ""
    version: int = 0
    worded: dict[str, str] = field(default_factory=dict)

    def made(self, prompt: str) -> dict[str, Any]:
        """Everything that a target's pictures depend on beside their strength, for their file of numbers."""
        inversion, settings = self.inversion, self.settings
        return {
            "model": self.card.id,
            "method": inversion.method,
            "source prompt": inversion.prompt,
            "target prompt": prompt,
            "steps": inversion.solution.steps,
            "guidance": settings.guidance,
            "attention": settings.attention,
            "cross-attention": settings.cross_steps,
            "self-attention": settings.self_steps,
            "weights": self.weights,
            "only in a region": settings.region is not None,
        }

    def receive(self, filled_in: PromptEdits) -> None:
        """What a job has done so far in another process; what the visitor looks at is chosen here."""
        self.frames, self.seconds = filled_in.frames, filled_in.seconds
        self.note, self.version = filled_in.note, filled_in.version


def read_prompts(text: str) -> list[str]:
    """Target prompts, one per line, each once.

    Raises:
        RequestError: there are none, or too many, or one is endless.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise RequestError(REQUEST)
    if len(lines) > MAX_PROMPTS:
        raise RequestError(f"There are {len(lines)} target prompts; up to {MAX_PROMPTS} can be used. Remove some.")
    return list(dict.fromkeys(read_prompt(line, REQUEST) for line in lines))


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
                f"{quoted(part)} is not a word with its weight. Write for example: smiling 2, glasses 0.5"
            )
        weights[match[1].lower()] = float(match[2])
    if len(weights) > MAX_WEIGHTS:
        raise RequestError(f"There are {len(weights)} weights of words; up to {MAX_WEIGHTS} can be used.")
    return weights


def begin_edits(
    card: TextToImageCard,
    inversion: Inversion,
    prompts: Sequence[str],
    settings: PromptEditSettings,
    weights: Mapping[str, float],
) -> PromptEdits:
    """What `run` will do.

    Raises:
        RequestError: a weight is out of range or of a word that is in no prompt, or there is no attention to weigh.
    """
    words = {word for prompt in prompts for word in words_of(prompt)}
    for word, weight in weights.items():
        require_range(f"weight of {quoted(word)}", weight, -5, 5)
        if not set(words_of(word)) <= words:
            raise RequestError(f"{quoted(word)} is not a word of a target prompt. Re-weight one of its words.")
    if weights and settings.attention == "none":
        raise RequestError("Words can be re-weighted with attention control only: choose swap or refine.")
    return PromptEdits(card, inversion, settings, dict(weights), list(prompts), shown=prompts[0])


def targets_work(edits: PromptEdits, count: int) -> Work:
    """Of so many targets."""
    steps = edits.inversion.solution.steps
    return Work(steps * (1 + count // 4), 3 * steps * (count + 1))


def run_work(edits: PromptEdits, model: TextToImage) -> Work:
    """Of `run`."""
    return len(edits.prompts) * targets_work(edits, len(STRENGTHS))


@device_job(run_work)
def run(edits: PromptEdits, model: TextToImage) -> Job[PromptEdits]:
    """Every prompt at strength 1 in one batch, then its other strengths. `edits.frames` fills up along the way.

    Raises:
        RequestError, ResourceError: as `core.inversion.editing.edit`.
    """
    started, prompts = time.monotonic(), edits.prompts
    source = source_frame(edits)
    targets = yield from _frames(edits, model, [(prompt, 1.0) for prompt in prompts])
    edits.frames = {prompt: [source, frame] for prompt, frame in zip(prompts, targets, strict=True)}
    edits.seconds = time.monotonic() - started
    edits.version += 1
    others = [strength for strength in STRENGTHS if strength not in (0.0, 1.0)]
    for prompt in prompts:
        yield Progress(0, 1, "Now the other strengths", kept=True)
        _add(edits, prompt, (yield from _frames(edits, model, [(prompt, strength) for strength in others])))
    return edits


def one_work(edits: PromptEdits, model: TextToImage, prompt: str, strength: float) -> Work:
    """Of `add_strength`."""
    return targets_work(edits, 1)


@device_job(one_work)
def add_strength(edits: PromptEdits, model: TextToImage, prompt: str, strength: float) -> Job[PromptEdits]:
    """One more strength of a prompt, added to its frames. Raises as `run`."""
    require_range("strength", strength, MIN_STRENGTH, MAX_STRENGTH)
    _add(edits, prompt, (yield from _frames(edits, model, [(prompt, strength)])))
    return edits


def all_work(edits: PromptEdits, model: TextToImage, strength: float) -> Work:
    """Of `at_strength`."""
    return targets_work(edits, len(edits.prompts))


@device_job(all_work)
def at_strength(edits: PromptEdits, model: TextToImage, strength: float) -> Job[list[Frame]]:
    """Every prompt at one strength, in one batch. Raises as `run`."""
    require_range("strength", strength, MIN_STRENGTH, MAX_STRENGTH)
    return (yield from _frames(edits, model, [(prompt, strength) for prompt in edits.prompts]))


def _add(edits: PromptEdits, prompt: str, frames: Sequence[Frame]) -> None:
    new = {frame.strength for frame in frames}
    kept = [frame for frame in edits.frames[prompt] if frame.strength not in new]
    edits.frames[prompt] = sorted([*kept, *frames], key=lambda frame: frame.strength)
    edits.version += 1


def source_frame(edits: PromptEdits) -> Frame:
    """Strength 0: the reconstruction."""
    return measured_frames(edits.card, edits.inversion, edits.inversion.reconstruction, [0.0])[0]


def measured_frames(
    card: TextToImageCard, inversion: Inversion, pixels: Tensor, strengths: Sequence[float]
) -> list[Frame]:
    """Edited pictures (n, 3, R, R) with their measures against the inverted one, as far as they apply."""
    domain = finish(domain_in(card, inversion.pixels))
    rows = measure_known(card, domain, inversion.pixels, pixels)
    return [Frame(s, image, measures) for s, image, measures in zip(strengths, pixels, rows, strict=True)]


def _frames(edits: PromptEdits, model: TextToImage, pairs: Sequence[tuple[str, float]]) -> Job[list[Frame]]:
    """Frames of (prompt, strength), all in one batch, or in smaller ones if memory is short."""
    targets = []
    for prompt, strength in pairs:
        words = set(words_of(prompt))
        own = {word: weight for word, weight in edits.weights.items() if set(words_of(word)) <= words}
        targets.append(Target(edits.worded.get(prompt, prompt), strength, own))
    pixels, note = yield from edit_in_memory(model, edits.inversion, targets, edits.settings)
    edits.note = f"{edits.note} {note}".strip() if note not in edits.note else edits.note
    return measured_frames(edits.card, edits.inversion, pixels, [strength for _, strength in pairs])


def edit_in_memory(
    model: TextToImage, inversion: Inversion, targets: list[Target], settings: PromptEditSettings
) -> Job[tuple[Tensor, str]]:
    """Pictures (n, 3, R, R), and what had to be done otherwise."""
    try:
        done = []
        for first in range(0, len(targets), MAX_TARGETS):
            job = exclusively(edit(model, inversion, targets[first : first + MAX_TARGETS], settings))
            done.append((yield from job).cpu())
        return torch.cat(done), ""
    except ResourceError:
        if len(targets) == 1:
            raise
    yield Progress(0, 1, "memory is short, trying fewer at once")
    half, smaller = len(targets) // 2, in_smaller_batches(model, 2)
    parts = []
    for part in (targets[:half], targets[half:]):
        pixels, _ = yield from edit_in_memory(smaller, inversion, part, settings)
        parts.append(pixels)
    return torch.cat(parts), SHORT_OF_MEMORY

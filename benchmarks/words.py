"""Which settings suit a change of words in Invert: words taken out, added, or replaced by others.

    python -m benchmarks.words --steps 25 --write   # half an hour on a quiet core
    python -m benchmarks.words --portraits 2 --more # what else was tried for removals

Held-out portraits in the embedded text-to-image model, inverted by the anchored method with the visitor's defaults; for
each kind of change as many portraits, and the same portraits for every setting. An edit succeeds where the probe finds
that the change of words has come true and takes both pictures for the same person; "own" is the change of the attribute
that is meant, in standard deviations of the population, in the direction that is meant.

"said" is a removal that is put into words, as `alignment.absence` does it: "without glasses" in place of nothing.
"negative" takes what guidance pushes away from, for targets, from the words that were taken out. The last row of
removals is another way to the same end: the direction of Text edit at minus one. Rows are kept as those of
`benchmarks.inversion`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from benchmarks.inversion import MEASURED, SAME, Row, Rows, heading, rows_name
from benchmarks.portrait_edits import cases as replacements
from benchmarks.portrait_edits import holds
from benchmarks.report import HELP, reported
from core.inversion.alignment import absence
from core.inversion.editing import PromptEditSettings, Target, edit
from core.inversion.inversion import Inversion
from core.inversion.methods import invert
from core.inversion.solution import DEFAULTS, InversionSettings
from core.models.loader import models
from core.models.t2i_cards import TextToImageCard
from core.progress import finish
from core.studio import library, measuring
from core.studio.edit import edit_frames
from core.studio.frames import Picture
from core.studio.words import captions_of
from core.text_to_image import TextToImage, load_text_to_image, text_to_image_card
from training.dataset import held_out, to_pixels
from training.evaluate_t2i import read_portraits
from training.portraits import from_vector

# What is taken out or added: the words, the attribute, and the direction of Text edit.
THINGS = (("glasses", "glasses", "glasses"), ("a beard", "beard", "beard"), ("red lips", "lip_red", "red-lips"))
BESIDES = ("short hair", "long hair", "curly hair", "gray hair")  # also said, so that something stays


@dataclass(frozen=True)
class Change:
    """A portrait (1, 3, R, R), what it shows, what it should, and whether that has come true."""

    kind: str
    number: int
    pixels: Tensor
    source: str
    target: str
    attribute: str
    sign: int
    true: Callable[[Any], bool]
    removed: str = ""
    direction: str = ""


def changes(kind: str, count: int) -> list[Change]:
    """The first `count` portraits of which a change of a kind can be wanted."""
    if kind == "replaced":
        return [
            Change(kind, c.number, c.pixels, c.prompt, c.target, c.swap.attribute, c.swap.sign, holds()[c.swap.target])
            for c in replacements(count)
        ]
    true, found = holds(), []
    images, parameters = held_out(max(300, 8 * count))
    for number, (image, row) in enumerate(zip(images, parameters, strict=True)):
        portrait = from_vector(row)
        thing, attribute, direction = THINGS[len(found) % len(THINGS)]
        if true[thing](portrait) is not (kind == "removed"):
            continue
        beside = next((words for words in BESIDES if true[words](portrait)), "")
        rest = f" with {beside}" if beside else ""
        whole = f"the face with {thing}" + (f" and {beside}" if beside else "")
        pixels = to_pixels(image[None])
        if kind == "removed":
            gone = partial(_lacks, true[thing])
            about = (f"the face{rest}", attribute, -1, gone, thing, direction)
            found.append(Change(kind, number, pixels, whole, *about))
        else:
            found.append(Change(kind, number, pixels, f"the face{rest}", whole, attribute, 1, true[thing]))
        if len(found) == count:
            return found
    raise ValueError(f"there are only {len(found)} such portraits")


def _lacks(rule: Callable[[Any], bool], portrait: Any) -> bool:
    return not rule(portrait)


DIRECTION = "Text edit, the direction at -1"
NONE: dict[str, Any] = {"attention": "none"}
# Of every kind: attention control off, and as the card has it.
ALWAYS: dict[str, dict[str, Any]] = {
    "no attention control": NONE,
    "swap, cross 0, self 0.4 (the card's)": {"attention": "swap"},
}
KINDS: dict[str, dict[str, dict[str, Any]]] = {
    "removed": {
        "no attention control": NONE,
        "none, skip 0.1": {**NONE, "skip": 0.1},
        "none, said, skip 0.1": {**NONE, "said": True, "skip": 0.1},
    },
    "added": ALWAYS,
    "replaced": ALWAYS,
}
# With --more: what was tried on a few portraits, and did not help.
MORE: dict[str, dict[str, Any]] = {
    "swap, cross 0, self 0.4 (the card's)": {"attention": "swap"},
    "swap, cross 0.8, self 0.4": {"attention": "swap", "cross_steps": 0.8},
    "none, said": {**NONE, "said": True},
    "none, skip 0.1, carry 0.5": {**NONE, "skip": 0.1, "carry": 0.5},
    "none, negative": {**NONE, "negative": True},
    "none, guidance 10": {**NONE, "guidance": 10.0},
}


@dataclass(frozen=True)
class Bench:
    """The model, and what is measured already."""

    card: TextToImageCard
    model: TextToImage
    rows: Rows
    settings: InversionSettings
    captions: str

    def inverted(self, change: Change) -> Inversion:
        return finish(invert(self.model, change.pixels, change.source, "anchored", self.settings))

    def edited(self, change: Change, inversion: Inversion, **how: Any) -> Row:
        """One edit of an inverted portrait. how: of `PromptEditSettings`, and `said`, `negative`."""
        said, negative = how.pop("said", False), how.pop("negative", False)
        settings = replace(PromptEditSettings(cross_steps=self.card.cross_steps), **how)
        if negative:
            away = self.model.embed([f"the face with {change.removed}"])
            inversion = replace(inversion, solution=replace(inversion.solution, unconditional=away))
        told = absence(change.source, change.target, self.captions) if said else ""
        target = Target(told or change.target)
        return self.judged(change, finish(edit(self.model, inversion, [target], settings)).cpu())

    def directed(self, change: Change) -> Row:
        """The same by a direction of Text edit."""
        picture, preset = Picture(change.pixels, "avatars"), library.shipped("avatars")[change.direction]
        [frame] = finish(edit_frames(models.get("avatars"), picture, preset, [-preset.strength]))
        return self.judged(change, frame.pixels[None])

    def judged(self, change: Change, edited: Tensor) -> Row:
        [about] = measuring.measure(self.card, change.pixels, edited)
        [own] = [reading.change for reading in about.attributes if reading.name == change.attribute]
        with torch.no_grad():
            [seen] = read_portraits(measuring.probe(self.card), edited)
        come_true = change.true(seen)
        return {
            "success": come_true and about.identity >= SAME,
            "come true": come_true,
            "own": change.sign * own,
            "identity": about.identity,
        }


def measured(bench: Bench, chosen: list[Change], name: str, how: dict[str, Any] | None) -> list[Row]:
    """Rows of a setting; None: of the direction."""
    found = []
    for change in chosen:
        key = (change.kind, change.number, change.source, name)
        made = partial(bench.directed, change) if how is None else partial(_made, bench, change, how)
        found.append(bench.rows.get(key, made))
    return found


_inverted: dict[tuple[str, int], Inversion] = {}


def _made(bench: Bench, change: Change, how: dict[str, Any]) -> Row:
    key = (change.kind, change.number)
    if key not in _inverted:
        _inverted.clear()
        _inverted[key] = bench.inverted(change)
    return bench.edited(change, _inverted[key], **how)


def table(bench: Bench, kind: str, count: int, more: bool = False) -> None:
    """Means over portraits, a row for each setting."""
    chosen = changes(kind, count)
    settings: dict[str, dict[str, Any] | None] = dict(KINDS[kind]) | (MORE if more and kind == "removed" else {})
    if kind == "removed":
        settings[DIRECTION] = None
    rows: dict[str, list[Row]] = {name: [] for name in settings}
    for change in chosen:  # all settings of a portrait together: it is inverted once
        for name, how in settings.items():
            rows[name] += measured(bench, [change], name, how)
    heading(f"words {kind}", ("success", "come true", "own", "identity"))
    for name, own in rows.items():
        success, come_true, moved, identity = (
            mean(r[k] for r in own) for k in ("success", "come true", "own", "identity")
        )
        print(f"| {name} | {success:.0%} | {come_true:.0%} | {moved:+.2f} | {identity:.3f} |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=int, default=20, help="of each kind")
    parser.add_argument("--steps", type=int, default=DEFAULTS.steps, help="of inversion")
    parser.add_argument("--more", action="store_true", help="further settings for removals")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--run", type=Path, default=MEASURED, help="where rows are kept")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    card = text_to_image_card("avatars-t2i")
    model = load_text_to_image(card)
    settings = replace(DEFAULTS, steps=arguments.steps, guidance=card.working_guidance)
    rows = Rows(arguments.run / f"words-{rows_name(model, settings, PromptEditSettings())}.jsonl")
    captions = captions_of(card)
    assert captions is not None
    bench = Bench(card, model, rows, settings, captions.read_text(encoding="utf-8"))
    with reported("benchmarks.words", arguments.write):
        print(f"{arguments.portraits} portraits of each kind, {settings.steps} steps, guidance {settings.guidance:g}\n")
        for kind in arguments.kinds:
            table(bench, kind, arguments.portraits, arguments.more)


if __name__ == "__main__":
    main()

"""What the benchmarks of inversion edit: held-out portraits, each with a prompt and a word of it that changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from training.dataset import held_out, to_pixels
from training.phrases import RULES
from training.portraits import Portrait, from_vector, part_mask


@dataclass(frozen=True)
class Swap:
    """A word for another: what stands before the noun or, with `after`, follows "with"; the attribute that is meant,
    the way it should go, and the face part concerned."""

    source: str
    target: str
    attribute: str
    sign: int
    part: str
    after: bool = False


SWAPS = (
    Swap("smiling", "sad", "smile", -1, "mouth"),
    Swap("sad", "smiling", "smile", 1, "mouth"),
    Swap("angry", "worried", "brow_angle", -1, "brows"),
    Swap("worried", "angry", "brow_angle", 1, "brows"),
    Swap("old", "young", "age", -1, "face"),
    Swap("young", "old", "age", 1, "face"),
    Swap("pale", "tanned", "skin", 1, "skin"),
    Swap("tanned", "pale", "skin", -1, "skin"),
    Swap("closed eyes", "open eyes", "eye_open", 1, "eyes", after=True),
    Swap("open eyes", "closed eyes", "eye_open", -1, "eyes", after=True),
    Swap("mouth open", "mouth closed", "mouth_open", -1, "mouth", after=True),
    Swap("mouth closed", "mouth open", "mouth_open", 1, "mouth", after=True),
    Swap("black hair", "gray hair", "gray", 1, "hair", after=True),
    Swap("brown hair", "gray hair", "gray", 1, "hair", after=True),
    Swap("gray hair", "black hair", "gray", -1, "hair", after=True),
)
BESIDES = ("glasses", "curly hair", "long hair", "short hair")  # also said of a portrait, the first that holds


@dataclass(frozen=True)
class Case:
    """A held-out portrait (1, 3, R, R), its prompt, and the prompt with one word changed. mask: (R, R), True in the
    face part concerned."""

    number: int
    pixels: Tensor
    prompt: str
    target: str
    swap: Swap
    mask: np.ndarray


def holds() -> dict[str, Callable[[Portrait], bool]]:
    """Of every phrase, when it is true."""
    return {phrase: rule.holds for rule in RULES for phrase in (*rule.before, *rule.after)}


def cases(count: int) -> list[Case]:
    """The first `count` held-out portraits of which a word is true that has a counterpart, each with one of them."""
    true, found = holds(), []
    images, parameters = held_out(max(300, 2 * count))
    for number, (image, row) in enumerate(zip(images, parameters, strict=True)):
        portrait = from_vector(row)
        possible = [swap for swap in SWAPS if true[swap.source](portrait)]
        if not possible:
            continue
        swap = possible[number % len(possible)]
        besides = [phrase for phrase in BESIDES if true[phrase](portrait)][:1]
        prompts = [worded(swap, word, besides) for word in (swap.source, swap.target)]
        found.append(Case(number, to_pixels(image[None]), *prompts, swap, part_mask(portrait, swap.part, len(image))))
        if len(found) == count:
            return found
    raise ValueError(f"there are only {len(found)} such portraits")


def worded(swap: Swap, word: str, besides: Sequence[str]) -> str:
    """ "the old face with glasses": an article that does not change with the word."""
    before, after = ([], [word, *besides]) if swap.after else ([word], [*besides])
    return " ".join(["the", *before, "face"]) + (f" with {' and '.join(after)}" if after else "")

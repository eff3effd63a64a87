"""The settings that suit a change of words, chosen for the visitor, and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import quoted
from ...inversion.alignment import Attention, absence, suited
from ...inversion.editing import PromptEditSettings
from ...inversion.inversion import Inversion
from ...models.t2i_cards import TextToImageCard
from ...text_to_image import TextToImage
from ..words import captions_of

EARLY = 0.1  # share of the first steps left out where things are taken out; what is there from the first step stays
NAMES: dict[Attention, str] = {"swap": "swap", "refine": "refine", "none": "none, the whole picture may change"}


@dataclass(frozen=True)
class Choice:
    """What was chosen for target prompts. attention, skip: of `PromptEditSettings`. worded: what is given to the model
    in place of a prompt. note: all of it in words."""

    attention: Attention
    skip: float | None
    worded: Mapping[str, str]
    note: str

    def settings(self, **others: object) -> PromptEditSettings:
        """With settings that are not chosen here."""
        return PromptEditSettings(attention=self.attention, skip=self.skip, **others)  # type: ignore[arg-type]


def choose(
    model: TextToImage, card: TextToImageCard, inversion: Inversion, targets: Sequence[str], weighed: bool = False
) -> Choice:
    """What suits the change from an inversion's prompt to targets, by `python -m benchmarks.words`. weighed: words have
    weights, which need attention control.

    Absence is put into words only for a model whose captions say it: others draw what they are told to leave out; and
    only where the model reads that far.
    """
    attention, reason = suited(inversion.prompt, targets)
    if weighed and attention == "none":
        attention, reason = "swap", "words are weighed"
    note = f"Chosen for this change of words: attention “{NAMES[attention]}”, because {reason}."
    captions = captions_of(card)
    if attention != "none" or captions is None:
        return Choice(attention, None, {}, note)
    known = captions.read_text(encoding="utf-8")
    told = {line: absence(inversion.prompt, line, known) for line in targets}
    worded = {line: text for line, text in told.items() if text and not model.words_cut(text)}
    skip = min(EARLY, inversion.solution.decoder.skip)
    note += f" The edit begins early, at {1 - skip:.0%} of the steps, because what should go is drawn there."
    added = {text.removeprefix(line.strip()).strip().removeprefix("and ") for line, text in worded.items()}
    for words in sorted(added):
        note += f" The model is also told {quoted(words)}: a thing that it is only not told of it draws again."
    return Choice(attention, skip, worded, note)

"""A suggested name for a direction, from the model's own image-text model, and the attributes that the probe reads.

The change of the picture's embedding from one side of the direction to the other is compared with the change of the
text's embedding from the domain's word to each attribute phrase (Asyrp, Eq. 4, both ways): the best cosine names it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..clip import ImageText, text_embedding
from ..errors import RequestError
from ..instruments import Instruments

VOCABULARY: dict[str, tuple[str, ...]] = {
    "face": (
        "smiling face",
        "sad face",
        "angry face",
        "surprised face",
        "face with an open mouth",
        "face with a closed mouth",
        "face with red lips",
        "face with pale lips",
        "face with closed eyes",
        "face with wide open eyes",
        "face looking left",
        "face looking right",
        "face with thick eyebrows",
        "face with thin eyebrows",
        "face with raised eyebrows",
        "face with glasses",
        "face with a beard",
        "face without a beard",
        "face with blushing cheeks",
        "face with long hair",
        "face with short hair",
        "face with curly hair",
        "bald face",
        "face with gray hair",
        "face with black hair",
        "face with brown hair",
        "face with blond hair",
        "face with red hair",
        "tanned face",
        "pale face",
        "dark skinned face",
        "old face",
        "young face",
        "face on a blue background",
        "face on a green background",
        "face on a yellow background",
    ),
    "church": (
        "gothic church",
        "wooden church",
        "red brick church",
        "white church",
        "church with a tall tower",
        "church with a dome",
        "church with a large window",
        "church with a closed door",
        "church at night",
        "church at sunset",
        "church under a blue sky",
        "church under a cloudy sky",
        "church in the snow",
        "church with green trees",
        "church with a lawn",
        "old church",
        "modern church",
        "ruined church",
    ),
    "bedroom": (
        "bright bedroom",
        "dark bedroom",
        "princess bedroom",
        "hotel bedroom",
        "modern bedroom",
        "wooden bedroom",
        "bedroom with a large window",
        "bedroom with curtains",
        "bedroom with a lamp",
        "bedroom with a picture on the wall",
        "bedroom with a red bed",
        "bedroom with a blue bed",
        "bedroom with white walls",
        "bedroom with a carpet",
        "messy bedroom",
        "tidy bedroom",
    ),
    "cat": (
        "white cat",
        "black cat",
        "ginger cat",
        "tabby cat",
        "fluffy cat",
        "kitten",
        "sleepy cat",
        "angry cat",
        "cat with an open mouth",
        "cat with closed eyes",
        "cat with wide open eyes",
        "cat with blue eyes",
        "cat looking left",
        "cat looking right",
        "cat on grass",
        "cat on a bed",
        "cat in a dark room",
        "cat in the sun",
    ),
    "dog": (
        "happy dog",
        "sleepy dog",
        "angry dog",
        "puppy",
        "old dog",
        "white dog",
        "black dog",
        "brown dog",
        "fluffy dog",
        "short haired dog",
        "dog with an open mouth",
        "dog with its tongue out",
        "dog with closed eyes",
        "dog with floppy ears",
        "dog with pointed ears",
        "dog looking left",
        "dog looking right",
        "dog on grass",
    ),
}
TEMPERATURE = 0.07  # of the confidence
MIN_CHANGE = 0.02  # of the unit embedding: less is noise
MIN_CONFIDENCE = 0.2  # below, the phrase is left out of the name


# What a phrase of the vocabulary says of an attribute that the probe reads: up or down. Those that say nothing of any
# (backgrounds) are left out.
SAYS: dict[str, tuple[str, int]] = {
    "smiling face": ("smile", 1),
    "sad face": ("smile", -1),
    "angry face": ("brow_angle", 1),
    "surprised face": ("brow_raise", 1),
    "face with an open mouth": ("mouth_open", 1),
    "face with a closed mouth": ("mouth_open", -1),
    "face with red lips": ("lip_red", 1),
    "face with pale lips": ("lip_red", -1),
    "face with closed eyes": ("eye_open", -1),
    "face with wide open eyes": ("eye_open", 1),
    "face looking left": ("gaze", -1),
    "face looking right": ("gaze", 1),
    "face with thick eyebrows": ("brow_thick", 1),
    "face with thin eyebrows": ("brow_thick", -1),
    "face with raised eyebrows": ("brow_raise", 1),
    "face with glasses": ("glasses", 1),
    "face with a beard": ("beard", 1),
    "face without a beard": ("beard", -1),
    "face with blushing cheeks": ("blush", 1),
    "face with long hair": ("long_hair", 1),
    "face with short hair": ("short_hair", 1),
    "face with curly hair": ("curly_hair", 1),
    "bald face": ("bald", 1),
    "face with gray hair": ("gray", 1),
    "face with black hair": ("hair_colour", -1),
    "face with brown hair": ("hair_colour", -1),
    "face with blond hair": ("hair_colour", 1),
    "face with red hair": ("hair_colour", 1),
    "tanned face": ("skin", 1),
    "pale face": ("skin", -1),
    "dark skinned face": ("skin", 1),
    "old face": ("age", 1),
    "young face": ("age", -1),
}
# What the probe's attributes are called when they go up.
WORDS = {
    "eye_open": "open eyes",
    "mouth_open": "open mouth",
    "lip_red": "red lips",
    "gaze": "looking right",
    "gaze_y": "looking down",
    "brow_angle": "angry brows",
    "brow_raise": "raised brows",
    "brow_thick": "thick brows",
    "gray": "gray hair",
    "hair_colour": "fair hair",
    "skin": "dark skin",
    "age": "wrinkles",
}
MIN_READ = 0.5  # standard deviations: a smaller change of an attribute does not support a name


@dataclass(frozen=True)
class AttributeChange:
    """An attribute that the probe read on both sides. change: in standard deviations of the model's pictures."""

    attribute: str
    change: float


@dataclass(frozen=True)
class Suggestion:
    """A name for a visitor to edit.

    text: what the positive end shows ("face with closed eyes"), or "" if no phrase is likely enough. opposite: the
    phrase of the negative end. confidence: from 0 to 1, of `text`. likely: the best phrases with their cosines.
    changes: what the probe measured, the largest first; empty without a probe.
    """

    text: str
    opposite: str
    confidence: float
    likely: tuple[tuple[str, float], ...] = ()
    changes: tuple[AttributeChange, ...] = ()


class Namer:
    """Text directions of a domain's vocabulary, embedded once.

    templates: format strings with one place, as `core.asyrp.prompts.templates` gives them.

    Raises:
        RequestError: the vocabulary is empty.
    """

    def __init__(
        self,
        image_text: ImageText,
        domain: str,
        templates: Sequence[str],
        vocabulary: Sequence[str] | None = None,
    ) -> None:
        self.phrases = tuple(VOCABULARY.get(domain, ()) if vocabulary is None else vocabulary)
        if not self.phrases:
            raise RequestError(f"There is no vocabulary for pictures of a {domain}.")
        self.image_text = image_text
        source = text_embedding(image_text, domain, templates)
        E = torch.stack([text_embedding(image_text, phrase, templates) for phrase in self.phrases])
        # All phrases share a mean direction, which says nothing about any one of them: only differences name something.
        E = E - source
        self._directions = F.normalize(E - E.mean(0), dim=1)

    @torch.no_grad()
    def suggest(self, minus: Tensor, plus: Tensor, probe: Instruments | None = None) -> Suggestion:
        """A name from pictures on both sides of the direction.

        minus, plus: pixels (B, 3, H, W), row by row the same picture at a negative (or zero) and at the positive
        strength; several pictures make the name more certain.
        """
        dI = (self.image_text.embed_images(plus) - self.image_text.embed_images(minus)).mean(0)
        changes = () if probe is None else read_changes(minus, plus, probe)
        if dI.norm() < MIN_CHANGE:
            return Suggestion("", "", 0.0, changes=changes)
        cosines = self._directions @ F.normalize(dI, dim=0)
        # Phrases of both ends compete: a direction that raises one and lowers another is named by the larger.
        share = torch.softmax(torch.cat((cosines, -cosines)) / TEMPERATURE, dim=0)[: len(cosines)]
        best, worst = int(cosines.argmax()), int(cosines.argmin())
        confidence = float(share[best])
        order = cosines.argsort(descending=True)[:3].tolist()
        likely = tuple((self.phrases[i], round(float(cosines[i]), 3)) for i in order)
        named = confidence >= MIN_CONFIDENCE
        return Suggestion(
            self.phrases[best] if named else "", self.phrases[worst], round(confidence, 3), likely, changes
        )


def agree(suggestion: Suggestion) -> bool:
    """Whether what the image-text model suggests is what the probe reads: the attribute that the phrase speaks of
    changes its way, and more than any other. A phrase that speaks of none stands if no attribute changes much;
    without a probe it stands by itself."""
    if not suggestion.text or not suggestion.changes:
        return bool(suggestion.text)
    changes = {change.attribute: change.change for change in suggestion.changes}
    largest = max(abs(change) for change in changes.values())
    attribute, sign = SAYS.get(suggestion.text, ("", 0))
    if attribute not in changes:
        return largest < MIN_READ
    return sign * changes[attribute] >= max(MIN_READ, largest)


def describe_changes(changes: Sequence[AttributeChange], least: float = 0.3, most: int = 2) -> str:
    """The largest changes in words and standard deviations: "blush −1.7, red lips +0.8"."""
    named = [change for change in changes if abs(change.change) >= least][:most]
    return ", ".join(f"{in_words(c.attribute)} {c.change:+.1f}".replace("-", "−") for c in named)


def in_words(attribute: str) -> str:
    """What an attribute of the probe is called when it goes up."""
    return WORDS.get(attribute, attribute.replace("_", " "))


@torch.no_grad()
def read_changes(minus: Tensor, plus: Tensor, probe: Instruments) -> tuple[AttributeChange, ...]:
    """Mean change of every attribute from `minus` to `plus` (B, 3, H, W), the largest first."""
    before, after = probe.attributes(minus), probe.attributes(plus)
    changes = [
        AttributeChange(name, round(float((after[name] - before[name]).mean()) / attribute.spread, 3))
        for name, attribute in probe.known.items()
    ]
    return tuple(sorted(changes, key=lambda change: -abs(change.change)))

"""What a portrait can be called: a wide vocabulary of phrases, each with the rule that says when it is true.

`captions.py` holds the phrases of the presets; this adds the synonyms and the things beside them (negations,
backgrounds, clothes, face shapes) that a visitor may type and that the image-text model must tell apart. Because every
phrase has its rule, the truth of any caption about any portrait is known, not only of the portrait it was written for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from open_clip import OPENAI_IMAGENET_TEMPLATES

from training.captions import ADJECTIVES, FEATURES
from training.portraits import Portrait, from_vector


@dataclass(frozen=True)
class Rule:
    """A statement about a portrait and the ways to say it: before the noun ("smiling face"), after "with" ("face with
    glasses"), or behind the noun without it ("face wearing glasses")."""

    holds: Callable[[Portrait], bool]
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()


def _haired(p: Portrait) -> bool:
    return p.hair_style != 3


def _dyed(p: Portrait, low: float, high: float) -> bool:
    return low < p.hair_colour < high and p.gray == 0 and _haired(p)


def _angry(p: Portrait) -> bool:
    return p.brow_angle > 0.45 and p.smile < 0.2


def _sad(p: Portrait) -> bool:
    return p.smile < -0.4 and p.brow_angle < 0.3


def _surprised(p: Portrait) -> bool:
    return p.mouth_open > 0.35 and p.brow_raise > 0.35 and p.eye_open > 0.5


def _neutral(p: Portrait) -> bool:
    return abs(p.smile) < 0.3 and abs(p.brow_angle) < 0.4 and p.mouth_open < 0.1


_CLOTHES = ("blue", "red", "green", "gray", "yellow", "purple")
_BACKGROUNDS = {
    "blue": (0, 5),
    "beige": (1,),
    "green": (2,),
    "purple": (3,),
    "yellow": (4,),
    "gray": (6,),
    "pink": (7,),
}

RULES: list[Rule] = [
    *(Rule(holds, before=phrases) for phrases, holds in ADJECTIVES),
    *(Rule(holds, after=phrases) for phrases, holds in FEATURES),
    Rule(lambda p: p.smile > 0.4, ("joyful", "laughing", "glad"), ("a smile", "a happy expression"), ("who smiles",)),
    Rule(lambda p: p.smile > 0.7, after=("a big smile", "a wide smile", "a grin"), before=("very happy",)),
    Rule(_sad, ("gloomy", "sorrowful", "melancholic", "depressed"), ("a sad expression", "a sad mouth")),
    Rule(lambda p: p.smile < -0.4, after=("a frown", "mouth corners down")),
    Rule(_angry, ("annoyed", "enraged", "grumpy"), ("an angry expression", "an angry look")),
    Rule(lambda p: p.brow_angle > 0.45, after=("angry eyebrows", "slanted eyebrows")),
    Rule(lambda p: p.brow_angle < -0.45, ("worried",), ("worried eyebrows", "sad eyebrows")),
    Rule(_surprised, ("amazed", "startled"), ("a surprised expression", "a look of surprise")),
    Rule(_neutral, ("neutral", "calm"), ("a neutral expression",)),
    Rule(lambda p: p.eye_open < 0.12, ("sleeping", "asleep"), ("eyes closed", "eyes shut")),
    Rule(lambda p: p.eye_open > 0.8, (), ("eyes wide open", "wide open eyes")),
    Rule(lambda p: 0.12 < p.eye_open < 0.4, ("sleepy", "tired"), ("half closed eyes", "narrow eyes")),
    Rule(
        lambda p: p.gaze < -0.45 and p.eye_open > 0.3,
        after=("eyes looking to the left", "eyes to the left"),
        behind=("looking left", "looking to the left", "glancing left"),
    ),
    Rule(
        lambda p: p.gaze > 0.45 and p.eye_open > 0.3,
        after=("eyes looking to the right", "eyes to the right"),
        behind=("looking right", "looking to the right", "glancing right"),
    ),
    Rule(lambda p: abs(p.gaze) > 0.5 and p.eye_open > 0.3, behind=("looking sideways", "looking aside")),
    Rule(lambda p: abs(p.gaze) < 0.25 and p.eye_open > 0.3, behind=("looking straight ahead", "looking at you")),
    Rule(lambda p: p.gaze_y < -0.25 and p.eye_open > 0.4, after=("eyes looking up",), behind=("looking up",)),
    Rule(lambda p: p.gaze_y > 0.25 and p.eye_open > 0.4, after=("eyes looking down",), behind=("looking down",)),
    Rule(
        lambda p: p.lip_red > 0.6,
        after=("painted lips", "crimson lips", "red lipstick", "a red mouth", "lip makeup"),
        behind=("wearing lipstick", "wearing red lipstick"),
    ),
    Rule(lambda p: p.lip_red < 0.12, after=("pale lips", "natural lips", "no lipstick"), behind=("without lipstick",)),
    Rule(lambda p: p.mouth_open > 0.4, ("open mouthed",), ("an open mouth", "parted lips", "visible teeth")),
    Rule(lambda p: p.brow_thick > 0.75, after=("heavy eyebrows", "thick brows", "bold brows")),
    Rule(lambda p: p.brow_thick < 0.2, after=("thin brows", "fine eyebrows")),
    Rule(
        lambda p: p.beard > 0.5, after=("a thick beard", "a moustache", "a bearded chin"), behind=("wearing a beard",)
    ),
    Rule(lambda p: p.beard == 0, ("clean shaven", "beardless", "shaven"), behind=("without a beard",)),
    Rule(lambda p: p.glasses > 0.5, ("spectacled",), ("round glasses",), ("wearing glasses", "wearing eyeglasses")),
    Rule(lambda p: p.glasses < 0.5, (), ("no glasses",), ("without glasses", "without eyeglasses")),
    Rule(lambda p: p.blush > 0.4, ("flushed", "rosy cheeked"), ("flushed cheeks", "pink cheeks", "blush")),
    Rule(lambda p: p.age > 0.5, ("senior", "aging"), ("wrinkled skin", "an old face", "lines in the face")),
    Rule(lambda p: p.age < 0.05, ("youthful",), ("smooth skin", "no wrinkles", "a young face")),
    Rule(lambda p: p.hair_style == 2, ("curly haired", "frizzy haired"), ("curls", "frizzy hair", "wavy hair")),
    Rule(lambda p: p.hair_style == 1, ("long haired",), ("long straight hair",)),
    Rule(lambda p: p.hair_style == 0, ("short haired",), ("a short haircut",)),
    Rule(lambda p: p.hair_style in (0, 1), ("straight haired",), ("straight hair",)),
    Rule(lambda p: p.hair_style == 3, after=("a bald head", "no hair", "a shaved head"), behind=("without hair",)),
    Rule(lambda p: p.gray > 0.8 and _haired(p), ("white haired", "silver haired"), ("white hair",)),
    Rule(lambda p: _dyed(p, 3.5, 4.4), ("blond", "blonde", "fair haired"), ("golden hair", "yellow hair")),
    Rule(lambda p: _dyed(p, -1, 0.6), ("black haired",), ("very dark hair",)),
    Rule(lambda p: _dyed(p, -1, 1.5), ("dark haired",), ("dark hair",)),
    Rule(lambda p: _dyed(p, 0.7, 3.0), ("brown haired", "brunette"), ()),
    Rule(lambda p: _dyed(p, 4.6, 6), ("red haired", "ginger"), ("orange hair",)),
    Rule(lambda p: 0.42 < p.skin < 0.72, ("suntanned", "bronzed"), ("a tan", "brown skin")),
    Rule(lambda p: p.skin > 0.78, after=("very dark skin", "deep brown skin")),
    Rule(lambda p: p.skin < 0.2, ("fair skinned",), ("fair skin", "a pale face")),
    Rule(lambda p: p.face_width > 0.75, ("broad faced",), ("a wide face", "a broad face")),
    Rule(lambda p: p.face_width < 0.25, ("thin faced",), ("a narrow face", "a slim face")),
    Rule(lambda p: p.nose > 0.75, (), ("a big nose", "a wide nose", "a large nose")),
    Rule(lambda p: p.nose < 0.25, (), ("a small nose", "a narrow nose")),
    Rule(lambda p: p.collar == 1, (), ("a white collar", "a v neck")),
    *(
        Rule(lambda p, i=i: p.clothes == i, (), (f"a {c} shirt", f"{c} clothes"), (f"wearing a {c} shirt",))
        for i, c in enumerate(_CLOTHES)
    ),
    *(
        Rule(lambda p, w=w: p.background in w, (), (f"a {c} background",), (f"on a {c} background",))
        for c, w in _BACKGROUNDS.items()
    ),
]

NOUNS = ("face", "face", "person", "person", "portrait", "human", "man", "woman", "head", "character", "avatar")
OPENINGS = ("", "", "a ", "a ", "the ", "a photo of a ", "a drawing of a ", "a portrait of a ", "a cartoon of a ")
# Words that say nothing about a portrait: the model learns to pass over what it does not know.
FILLERS = [
    "very",
    "nice",
    "and",
    "with",
    "in",
    "at",
    "some",
    "this",
    "that",
    "one",
    "today",
    "really",
    "quite",
    "here",
    "there",
    "beautiful",
    "lovely",
    "high",
    "quality",
    "detailed",
    "style",
    "art",
    "sharp",
    "studio",
    "light",
    "camera",
    "famous",
    "modern",
    "simple",
    "good",
    "best",
    "new",
    "zombie",
    "pixar",
    "disney",
    "painting",
    "friend",
    "people",
    "city",
    "house",
    "dog",
    "cat",
    "car",
    "tree",
    "water",
    "music",
    "summer",
    "winter",
    "king",
    "queen",
    "doctor",
    "actor",
]


def compose(rules: Sequence[int], rng: np.random.Generator, opening: str | None = None, noun: str | None = None) -> str:
    """A text that states the rules (indices into `RULES`) in words chosen at random."""
    before: list[str] = []
    after: list[str] = []
    behind: list[str] = []
    for i in rules:
        places = [(before, w) for w in RULES[i].before] + [(after, w) for w in RULES[i].after]
        place, words = (places + [(behind, w) for w in RULES[i].behind])[
            rng.integers(len(places) + len(RULES[i].behind))
        ]
        place.append(words)
    noun = noun if noun is not None else str(rng.choice(NOUNS))
    text = " ".join([*before, noun, *behind[:1]])
    extras = after
    if extras:
        text += " with " + (" and ".join(extras) if len(extras) < 3 else ", ".join(extras[:-1]) + " and " + extras[-1])
    text = " ".join([text, *(f"and {w}" if extras or i else w for i, w in enumerate(behind[1:]))])
    return (opening if opening is not None else str(rng.choice(OPENINGS))) + text


def dressed(text: str, rng: np.random.Generator, template_share: float = 0.2, filler_share: float = 0.2) -> str:
    """The same statement as a visitor might put it: in a prompt template, or with words that add nothing."""
    if rng.random() < template_share:
        text = OPENAI_IMAGENET_TEMPLATES[rng.integers(len(OPENAI_IMAGENET_TEMPLATES))](text.removeprefix("a "))
    if rng.random() < filler_share:
        words = text.split()
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(FILLERS)))
        text = " ".join(words)
    return text


def truth_table(parameters: np.ndarray) -> np.ndarray:
    """Parameters (N, len(NAMES)) -> boolean (N, len(RULES)): which statements are true of which portraits."""
    portraits = [from_vector(row) for row in parameters]
    return np.array([[rule.holds(p) for rule in RULES] for p in portraits], bool)


def caption_rules(true: np.ndarray, rng: np.random.Generator, most: int = 4) -> list[int]:
    """Up to `most` of the rules that are true of a portrait (its row of `truth_table`), rarely none."""
    holding = np.flatnonzero(true)
    count = int(rng.choice(most + 1, p=[0.08, *([0.92 / most] * most)]))
    return [int(i) for i in rng.permutation(holding)[:count]]


def agreement(true: np.ndarray, captions: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of `truth_table` (B, R) and the rules of M captions -> boolean (B, M): which caption is true of whom."""
    stated = np.zeros((len(captions), true.shape[1]), bool)
    for row, rules in zip(stated, captions, strict=True):
        row[list(rules)] = True
    return (~true).astype(np.float32) @ stated.T.astype(np.float32) == 0


def vocabulary() -> list[str]:
    """Every text fragment that captions are made of (for choosing the tokenizer's merges)."""
    words = [w for rule in RULES for w in (*rule.before, *rule.after, *rule.behind)]
    templates = [template("") for template in OPENAI_IMAGENET_TEMPLATES]
    return [*words, *NOUNS, *OPENINGS, *FILLERS, *templates]

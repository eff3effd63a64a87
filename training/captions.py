"""True captions of procedural portraits, for training image-text and text-to-image models."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.portraits import Portrait

# Captions: phrases an attribute earns when it is plain to see. The first word list goes before the noun ("smiling
# face"), the second after it ("face with red lips").
ADJECTIVES: list[tuple[tuple[str, ...], Callable[[Portrait], bool]]] = [
    (("smiling", "happy", "grinning", "cheerful"), lambda p: p.smile > 0.4),
    (("sad", "frowning", "unhappy"), lambda p: p.smile < -0.4 and p.brow_angle < 0.3),
    (("angry", "mad", "furious"), lambda p: p.brow_angle > 0.45 and p.smile < 0.2),
    (
        ("surprised", "shocked", "astonished"),
        lambda p: p.mouth_open > 0.35 and p.brow_raise > 0.35 and p.eye_open > 0.5,
    ),
    (("pale", "light skinned"), lambda p: p.skin < 0.2),
    (("tanned", "sun tanned"), lambda p: 0.42 < p.skin < 0.72),
    (("dark skinned",), lambda p: p.skin > 0.78),
    (("old", "elderly", "wrinkled", "aged"), lambda p: p.age > 0.5),
    (("young", "smooth skinned"), lambda p: p.age < 0.05),
    (("bald", "hairless"), lambda p: p.hair_style == 3),
    (("gray haired", "grey haired"), lambda p: p.gray > 0.55 and p.hair_style != 3),
    (("bearded",), lambda p: p.beard > 0.5),
    (("blushing", "rosy"), lambda p: p.blush > 0.4),
]
FEATURES: list[tuple[tuple[str, ...], Callable[[Portrait], bool]]] = [
    (("closed eyes", "shut eyes", "sleeping eyes"), lambda p: p.eye_open < 0.12),
    (("open eyes", "wide eyes", "big eyes"), lambda p: p.eye_open > 0.8),
    (("eyes looking left", "a gaze to the left"), lambda p: p.gaze < -0.45 and p.eye_open > 0.3),
    (("eyes looking right", "a gaze to the right"), lambda p: p.gaze > 0.45 and p.eye_open > 0.3),
    (("red lips", "lipstick", "bright red lipstick"), lambda p: p.lip_red > 0.6),
    (("an open mouth", "mouth open"), lambda p: p.mouth_open > 0.4),
    (("a closed mouth", "mouth closed"), lambda p: p.mouth_open == 0),
    (("thick eyebrows", "bushy eyebrows"), lambda p: p.brow_thick > 0.75),
    (("thin eyebrows",), lambda p: p.brow_thick < 0.2),
    (("raised eyebrows",), lambda p: p.brow_raise > 0.5),
    (("a beard", "a full beard", "facial hair"), lambda p: p.beard > 0.5),
    (("no beard",), lambda p: p.beard == 0),
    (("glasses", "eyeglasses", "spectacles"), lambda p: p.glasses > 0.5),
    (("blushing cheeks", "rosy cheeks", "red cheeks"), lambda p: p.blush > 0.4),
    (("wrinkles",), lambda p: p.age > 0.5),
    (("curly hair", "an afro"), lambda p: p.hair_style == 2),
    (("long hair",), lambda p: p.hair_style == 1),
    (("short hair",), lambda p: p.hair_style == 0),
    (("gray hair", "grey hair", "silver hair"), lambda p: p.gray > 0.55 and p.hair_style != 3),
    (("black hair",), lambda p: p.hair_colour < 0.6 and p.gray == 0 and p.hair_style != 3),
    (("brown hair",), lambda p: 0.7 < p.hair_colour < 3.0 and p.gray == 0 and p.hair_style != 3),
    (("blond hair", "blonde hair"), lambda p: 3.5 < p.hair_colour < 4.4 and p.gray == 0 and p.hair_style != 3),
    (("red hair", "ginger hair"), lambda p: p.hair_colour > 4.6 and p.gray == 0 and p.hair_style != 3),
    (("tanned skin",), lambda p: 0.42 < p.skin < 0.72),
    (("dark skin",), lambda p: p.skin > 0.78),
    (("pale skin", "light skin"), lambda p: p.skin < 0.2),
    (("brown eyes",), lambda p: p.iris < 0.5 and p.eye_open > 0.4),
    (("green eyes",), lambda p: 1.5 < p.iris < 2.4 and p.eye_open > 0.4),
    (("blue eyes",), lambda p: p.iris > 2.6 and p.eye_open > 0.4),
]
NOUNS = ("face", "person", "portrait", "human")
OPENINGS = ("", "a ", "a photo of a ", "a drawing of a ", "a portrait of a ", "the ")


def caption(portrait: Portrait, rng: np.random.Generator, most: int = 4) -> str:
    """A random true caption of a portrait that mentions at most `most` of its attributes."""
    before = [names for names, holds in ADJECTIVES if holds(portrait)]
    after = [names for names, holds in FEATURES if holds(portrait)]
    chosen = rng.permutation(len(before) + len(after))[: int(rng.integers(0, most + 1))]
    adjectives = [str(rng.choice(before[i])) for i in chosen if i < len(before)]
    extras = [str(rng.choice(after[i - len(before)])) for i in chosen if i >= len(before)]
    text = str(rng.choice(OPENINGS)) + " ".join([*adjectives, str(rng.choice(NOUNS))])
    if extras:
        text += " with " + (" and ".join(extras) if len(extras) < 3 else ", ".join(extras[:-1]) + " and " + extras[-1])
    return text

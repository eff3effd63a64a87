"""Portraits in pairs: the same person before and after one edit, and the same person in two different states.

The first kind teaches the image-text model what a change of one attribute looks like (and what it does not change); the
second teaches the identity embedding what stays. Rendered once, kept in the cache of `dataset.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from training import portraits
from training.dataset import cache_folder, kept
from training.portraits import NAMES, Portrait, render, sample, to_vector

IDENTITY = ("face_width", "face_height", "jaw", "nose", "eye_gap", "iris", "fringe")

Draw = Callable[[float, float], float]


@dataclass(frozen=True)
class Edit:
    """One attribute's change: the texts that ask for it ("{}" stands for the noun) and the change of parameters.

    `lacks` says whose portraits can be edited so: those that plainly do not have the attribute yet.
    """

    texts: tuple[str, ...]
    lacks: Callable[[Portrait], bool]
    change: Callable[[Portrait, Draw], dict[str, float]]


def _haired(p: Portrait) -> bool:
    return p.hair_style != 3


EDITS: dict[str, Edit] = {
    "smiling": Edit(
        ("smiling {}", "happy {}", "grinning {}", "{} with a smile"),
        lambda p: p.smile < 0.1,
        lambda p, u: {"smile": u(0.5, 1)},
    ),
    "sad": Edit(
        ("sad {}", "unhappy {}", "frowning {}", "{} with a sad expression"),
        lambda p: p.smile > -0.1,
        lambda p, u: {"smile": u(-1, -0.5), "brow_angle": min(p.brow_angle, u(-0.7, 0.2))},
    ),
    "angry": Edit(
        ("angry {}", "mad {}", "furious {}", "{} with an angry expression"),
        lambda p: p.brow_angle < 0.1,
        lambda p, u: {"brow_angle": u(0.55, 1), "smile": min(p.smile, u(-0.7, 0.1))},
    ),
    "surprised": Edit(
        ("surprised {}", "shocked {}", "astonished {}", "{} with a surprised expression"),
        lambda p: p.mouth_open < 0.2 and p.brow_raise < 0.2,
        lambda p, u: {"mouth_open": u(0.45, 1), "brow_raise": u(0.5, 1), "eye_open": max(p.eye_open, u(0.75, 1))},
    ),
    "closed eyes": Edit(
        ("{} with closed eyes", "{} with shut eyes", "sleeping {}", "{} with eyes closed"),
        lambda p: p.eye_open > 0.4,
        lambda p, u: {"eye_open": max(0.0, u(-0.1, 0.1))},
    ),
    "wide eyes": Edit(
        ("{} with wide eyes", "{} with wide open eyes", "{} with big eyes"),
        lambda p: p.eye_open < 0.6,
        lambda p, u: {"eye_open": u(0.85, 1)},
    ),
    "looking left": Edit(
        ("{} with eyes looking left", "{} looking left", "{} looking to the left"),
        lambda p: p.gaze > -0.1 and p.eye_open > 0.35,
        lambda p, u: {"gaze": u(-1, -0.55)},
    ),
    "looking right": Edit(
        ("{} with eyes looking right", "{} looking right", "{} looking to the right"),
        lambda p: p.gaze < 0.1 and p.eye_open > 0.35,
        lambda p, u: {"gaze": u(0.55, 1)},
    ),
    "red lips": Edit(
        ("{} with red lips", "{} with lipstick", "{} wearing lipstick", "{} with red lipstick"),
        lambda p: p.lip_red < 0.35,
        lambda p, u: {"lip_red": u(0.7, 1)},
    ),
    "open mouth": Edit(
        ("{} with an open mouth", "{} with mouth open", "open mouthed {}"),
        lambda p: p.mouth_open < 0.15,
        lambda p, u: {"mouth_open": u(0.5, 1)},
    ),
    "thick eyebrows": Edit(
        ("{} with thick eyebrows", "{} with bushy eyebrows"),
        lambda p: p.brow_thick < 0.5,
        lambda p, u: {"brow_thick": u(0.8, 1)},
    ),
    "thin eyebrows": Edit(
        ("{} with thin eyebrows", "{} with thin brows"),
        lambda p: p.brow_thick > 0.45,
        lambda p, u: {"brow_thick": u(0, 0.15)},
    ),
    "raised eyebrows": Edit(
        ("{} with raised eyebrows",), lambda p: p.brow_raise < 0.2, lambda p, u: {"brow_raise": u(0.6, 1)}
    ),
    "glasses": Edit(
        ("{} with glasses", "{} with eyeglasses", "{} wearing glasses", "{} with spectacles"),
        lambda p: p.glasses == 0,
        lambda p, u: {"glasses": 1.0},
    ),
    "beard": Edit(
        ("{} with a beard", "bearded {}", "{} with a full beard", "{} with facial hair"),
        lambda p: p.beard == 0,
        lambda p, u: {"beard": u(0.6, 1)},
    ),
    "curly hair": Edit(
        ("{} with curly hair", "{} with an afro", "curly haired {}"),
        lambda p: p.hair_style != 2,
        lambda p, u: {"hair_style": 2},
    ),
    "long hair": Edit(
        ("{} with long hair", "long haired {}"), lambda p: p.hair_style != 1, lambda p, u: {"hair_style": 1}
    ),
    "short hair": Edit(
        ("{} with short hair", "short haired {}"), lambda p: p.hair_style != 0, lambda p, u: {"hair_style": 0}
    ),
    "bald": Edit(("bald {}", "hairless {}", "{} with no hair"), _haired, lambda p, u: {"hair_style": 3}),
    "gray hair": Edit(
        ("{} with gray hair", "{} with grey hair", "gray haired {}", "{} with silver hair"),
        lambda p: p.gray < 0.2 and _haired(p),
        lambda p, u: {"gray": u(0.65, 1)},
    ),
    "blond hair": Edit(
        ("{} with blond hair", "{} with blonde hair", "blond {}"),
        lambda p: _haired(p) and (p.hair_colour < 3 or p.hair_colour > 4.8 or p.gray > 0.4),
        lambda p, u: {"hair_colour": u(3.7, 4.3), "gray": 0.0},
    ),
    "black hair": Edit(
        ("{} with black hair", "black haired {}"),
        lambda p: _haired(p) and (p.hair_colour > 1.3 or p.gray > 0.4),
        lambda p, u: {"hair_colour": u(0, 0.4), "gray": 0.0},
    ),
    "brown hair": Edit(
        ("{} with brown hair", "brown haired {}"),
        lambda p: _haired(p) and (p.hair_colour < 0.4 or p.hair_colour > 3.5 or p.gray > 0.4),
        lambda p, u: {"hair_colour": u(1, 2.7), "gray": 0.0},
    ),
    "red hair": Edit(
        ("{} with red hair", "{} with ginger hair", "red haired {}"),
        lambda p: _haired(p) and (p.hair_colour < 4.2 or p.gray > 0.4),
        lambda p, u: {"hair_colour": u(4.7, 5), "gray": 0.0},
    ),
    "tanned": Edit(
        ("tanned {}", "sun tanned {}", "{} with tanned skin"),
        lambda p: p.skin < 0.3,
        lambda p, u: {"skin": u(0.48, 0.68)},
    ),
    "pale": Edit(
        ("pale {}", "{} with pale skin", "light skinned {}"), lambda p: p.skin > 0.35, lambda p, u: {"skin": u(0, 0.15)}
    ),
    "dark skin": Edit(
        ("dark skinned {}", "{} with dark skin"), lambda p: p.skin < 0.6, lambda p, u: {"skin": u(0.83, 1)}
    ),
    "old": Edit(
        ("old {}", "elderly {}", "{} with wrinkles", "wrinkled {}"),
        lambda p: p.age < 0.15,
        lambda p, u: {"age": u(0.6, 1)},
    ),
    "young": Edit(("young {}", "youthful {}"), lambda p: p.age > 0.4, lambda p, u: {"age": 0.0}),
    "blushing": Edit(
        ("blushing {}", "{} with blushing cheeks", "{} with rosy cheeks"),
        lambda p: p.blush < 0.1,
        lambda p, u: {"blush": u(0.55, 1)},
    ),
}
EDIT_NAMES = tuple(EDITS)


def edited(seed: int) -> tuple[Portrait, int]:
    """The portrait of a seed after one edit that it plainly lacks, and which (index into `EDIT_NAMES`)."""
    rng = np.random.default_rng([seed, 1])
    portrait = sample(seed)
    possible = [i for i, name in enumerate(EDIT_NAMES) if EDITS[name].lacks(portrait)]
    index = int(rng.choice(possible))
    return replace(portrait, **EDITS[EDIT_NAMES[index]].change(portrait, rng.uniform)), index


def same_person(seed: int) -> Portrait:
    """The person of a seed with everything else (expression, hair, skin, pose, background, ...) drawn anew."""
    person, other = sample(seed), sample(seed + 500_000)
    return replace(other, **{name: getattr(person, name) for name in IDENTITY})


def _one(seed: int, kind: str, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    portrait, index = edited(seed) if kind == "edited" else (same_person(seed), -1)
    return np.asarray(render(portrait, size)), to_vector(portrait), index


def load(kind: str, count: int, first_seed: int = 0, size: int = 128) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The partners of the portraits of seeds first_seed .. first_seed + count - 1.

    `kind` is "edited" or "same_person". Returns images uint8 (count, size, size, 3), parameters float32
    (count, len(NAMES)) and the edits int64 (count,), indices into `EDIT_NAMES` (-1 for "same_person").
    """
    if kind not in ("edited", "same_person"):
        raise ValueError(f"kind must be 'edited' or 'same_person', not {kind!r}")
    sources = Path(portraits.__file__).read_bytes() + Path(__file__).read_bytes()
    version = hashlib.sha256(sources).hexdigest()[:10]
    path = cache_folder() / f"{kind}-{version}-{size}-{first_seed}-{count}.npz"

    def make(unfinished: Path) -> None:
        with ProcessPoolExecutor() as pool:
            seeds = range(first_seed, first_seed + count)
            made = list(pool.map(partial(_one, kind=kind, size=size), seeds, chunksize=50))
        images, parameters, edits = (np.stack(column) for column in zip(*made, strict=True))
        np.savez(unfinished, images=images, parameters=parameters, edits=edits.astype(np.int64))

    with np.load(kept(path, make)) as archive:
        return archive["images"], archive["parameters"], archive["edits"]


def column(parameters: np.ndarray, name: str) -> np.ndarray:
    """One named parameter (N,) of an array (N, len(NAMES))."""
    return parameters[:, NAMES.index(name)]

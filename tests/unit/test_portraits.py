"""The portrait renderer: deterministic, independent attributes, and masks that hold what an attribute changes."""

import numpy as np
import pytest

from training.captions import ADJECTIVES, FEATURES, caption
from training.portraits import NAMES, PARTS, from_vector, part_mask, render, sample, to_vector, varied


def picture(portrait) -> np.ndarray:
    return np.asarray(render(portrait)).astype(int)


def test_a_seed_always_gives_the_same_picture_and_another_seed_another() -> None:
    assert np.array_equal(picture(sample(7)), picture(sample(7)))
    assert not np.array_equal(picture(sample(7)), picture(sample(8)))


def test_parameters_survive_their_vector() -> None:
    for seed in range(20):
        portrait = sample(seed)
        assert to_vector(from_vector(to_vector(portrait))) == pytest.approx(to_vector(portrait))


def test_the_attributes_are_drawn_independently() -> None:
    vectors = np.stack([to_vector(sample(seed)) for seed in range(4000)])
    correlation = np.corrcoef(vectors, rowvar=False)
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 0.08  # five standard errors


@pytest.mark.parametrize("size", [128, 64, 256])
def test_every_size_shows_the_same_portrait(size: int) -> None:
    small = np.asarray(render(sample(3), size).resize((64, 64))).astype(int)
    reference = np.asarray(render(sample(3)).resize((64, 64))).astype(int)
    assert np.abs(small - reference).mean() < 4


# What each attribute may touch: its part, and nothing else.
CHANGES = [
    ("mouth", {"smile": 1.0}),
    ("mouth", {"mouth_open": 1.0}),
    ("mouth", {"lip_red": 1.0}),
    ("eyes", {"eye_open": 0.0}),
    ("eyes", {"gaze": -1.0}),
    ("brows", {"brow_angle": 1.0}),
    ("brows", {"brow_thick": 1.0}),
    ("cheeks", {"blush": 1.0}),
    ("beard", {"beard": 1.0}),
    ("hair", {"gray": 1.0}),
    ("hair", {"hair_style": 2}),
    ("skin", {"skin": 1.0}),
    ("face", {"age": 1.0}),
]


@pytest.mark.parametrize(("part", "change"), CHANGES)
def test_an_attribute_changes_the_picture_inside_its_part(part: str, change: dict[str, float]) -> None:
    rest = {"smile": -0.5, "eye_open": 0.8, "gaze": 0.6, "brow_angle": -0.5, "brow_thick": 0.2, "hair_style": 1}
    plain = {"mouth_open": 0.0, "lip_red": 0.0, "beard": 0.0, "gray": 0.0, "skin": 0.1, "age": 0.0, "blush": 0.0}
    for seed in range(12):
        before = varied(sample(seed), **rest, **plain, hair_colour=1.0, glasses=0.0)
        difference = np.abs(picture(varied(before, **change)) - picture(before)).sum(2)
        assert difference.max() > 60, "the change cannot be seen"
        inside = difference[part_mask(before, part)].sum() / difference.sum()
        assert inside > 0.9, f"{inside:.2f} of the change lies in the {part}"


def test_an_unknown_part_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="eyes"):
        part_mask(sample(0), "elbow")
    assert all(part_mask(sample(0), part).any() for part in PARTS)


def test_captions_say_only_what_is_true() -> None:
    rules = [(names, holds) for names, holds in (*ADJECTIVES, *FEATURES)]
    rng = np.random.default_rng(0)
    mentioned = 0
    for seed in range(200):
        portrait = sample(seed)
        text = " " + caption(portrait, rng).replace(",", " ") + " "
        true = {name for names, holds in rules if holds(portrait) for name in names}
        for names, holds in rules:
            for name in names:
                if f" {name} " in text and not any(name in other for other in true):
                    pytest.fail(f"{text!r} says {name!r} of a portrait that is not")
                mentioned += f" {name} " in text and holds(portrait)
    assert mentioned > 100


def test_names_are_the_fields_in_order() -> None:
    assert NAMES[0] == "smile"
    assert len(NAMES) == len(to_vector(sample(0)))

"""Parts by their names and by a place in the picture."""

import numpy as np
import pytest

from core.errors import RequestError
from core.named_parts import (
    MIN_SHARE,
    for_reading,
    masks_of,
    part_at,
    part_called,
    read_place,
    smallest_first,
    with_sides,
)
from core.regions import parse_regions

SIDE = 40
NAMES = ("Background", "Skin", "Eyes", "Mouth", "Mouth")


def face() -> np.ndarray:
    """Labels of a drawn square: skin with two eyes (the left one in two pieces) and a mouth with two lips."""
    labels = np.zeros((SIDE, SIDE), int)
    labels[5:35, 5:35] = 1
    labels[10:14, 8:12] = labels[10:14, 13:15] = labels[10:14, 25:31] = 2
    labels[26:28, 14:26], labels[28:30, 14:26] = 3, 4
    labels[20, 20] = 3  # a speck
    return labels


def test_a_name_that_stands_twice_is_one_part_and_specks_are_none() -> None:
    masks = masks_of(face(), NAMES, SIDE)
    assert list(masks) == ["Background", "Skin", "Eyes", "Mouth"]
    assert masks["Mouth"].sum() == 4 * 12
    assert not masks["Mouth"][20, 20]
    twice = masks_of(face(), NAMES, 2 * SIDE)
    np.testing.assert_array_equal(twice["Eyes"], masks["Eyes"].repeat(2, 0).repeat(2, 1))
    tiny = np.zeros((SIDE, SIDE), int)
    tiny[0, : int(MIN_SHARE * SIDE**2)] = 1
    assert list(masks_of(tiny, NAMES, SIDE)) == ["Background"]


def test_each_one_of_a_pair_is_a_part_by_where_it_is() -> None:
    masks = with_sides(masks_of(face(), NAMES, SIDE))
    assert np.nonzero(masks["Left eye"])[1].max() < SIDE / 2 < np.nonzero(masks["Right eye"])[1].min()
    np.testing.assert_array_equal(masks["Left eye"] | masks["Right eye"], masks["Eyes"])
    assert masks["Left eye"][11, 9], "both of its pieces"
    assert masks["Left eye"][11, 14]
    one = face()
    one[:, 20:][one[:, 20:] == 2] = 1
    one[one == 2] = 1
    one[10:14, 8:12] = 2
    assert "Left eye" not in with_sides(masks_of(one, NAMES, SIDE)), "one alone is both"


def test_a_point_means_the_smallest_part_and_a_box_what_lies_in_it() -> None:
    masks = smallest_first(with_sides(masks_of(face(), NAMES, SIDE)))
    areas = [mask.sum() for mask in masks.values()]
    assert areas == sorted(areas)

    def named(place: tuple[float, ...]) -> str | None:
        found = part_at(masks, place)  # type: ignore[arg-type]
        return None if found is None else found[0]

    assert named((28 / SIDE, 12 / SIDE)) == "Right eye"
    assert named((20.5 / SIDE, 27 / SIDE)) == "Mouth"
    assert named((0.5, 0.4)) == "Skin"
    assert named((1.0, 1.0)) == "Background"
    assert named((0.15, 0.2, 0.8, 0.4)) == "Eyes", "both, because it is larger"
    assert named((0.6, 0.2, 0.8, 0.4)) == "Right eye"
    assert named((0.3, 0.6, 0.7, 0.8)) == "Mouth"
    assert named((0.45, 0.45, 0.5, 0.5)) is None


def test_names_in_the_order_of_a_list() -> None:
    masks = with_sides(masks_of(face(), NAMES, SIDE))
    assert for_reading(masks) == ["Skin", "Eyes", "Left eye", "Right eye", "Mouth", "Background"]


def test_parts_by_name_in_regions() -> None:
    masks = with_sides(masks_of(face(), NAMES, SIDE))
    asked = []

    def named(name: str) -> np.ndarray:
        asked.append(name)
        return part_called(masks, name)

    one, two = parse_regions(
        [{"part": "mouth"}, {"label": "both", "part": " left  EYE ", "box": [0, 0, 0.1, 0.1]}], SIDE, named
    )
    assert (one.label, two.label, asked) == ("mouth", "both", ["mouth", " left  EYE "])
    np.testing.assert_array_equal(one.mask, masks["Mouth"])
    corner = np.zeros_like(one.mask)
    corner[:4, :4] = True
    np.testing.assert_array_equal(two.mask, masks["Left eye"] | corner)
    [again] = parse_regions([one.as_json()], SIDE)
    np.testing.assert_array_equal(again.mask, one.mask)
    with pytest.raises(
        RequestError, match="no part “wing”. It has: background, skin, eyes, mouth, left eye, right eye"
    ):
        parse_regions([{"part": "wing"}], SIDE, named)
    with pytest.raises(RequestError, match="not known by name here"):
        parse_regions([{"part": "mouth"}], SIDE)
    with pytest.raises(RequestError, match="must be a text"):
        parse_regions([{"part": 3}], SIDE, named)


@pytest.mark.parametrize(
    "wrong", [None, 3, "0.5, 0.5", [0.5], [0.5, 2], [0.5, True], [0, 0, 0, 1], [0.1, "0.2"], [float("nan"), 0]]
)
def test_what_is_no_place(wrong: object) -> None:
    with pytest.raises(RequestError, match=r"a point \[x, y\] or a box"):
        read_place(wrong)


def test_a_box_may_be_given_from_any_corner() -> None:
    assert read_place([0.5, 1]) == (0.5, 1.0)
    assert read_place([0.8, 0.6, 0.2, 0.1]) == (0.2, 0.1, 0.8, 0.6)

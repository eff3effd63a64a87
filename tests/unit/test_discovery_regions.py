"""Rasterised regions against Pillow, and region JSON from clients that cannot be trusted."""

import json
import math
import random
import string

import numpy as np
import pytest
from PIL import Image, ImageDraw

from core import regions
from core.errors import RequestError
from core.regions import (
    Region,
    Stroke,
    box_mask,
    parse_regions,
    ready_made_region,
    region_from_mask,
    rest,
    stroke_mask,
)


@pytest.mark.parametrize("seed", range(20))
def test_boxes_are_those_of_pillow(seed: int) -> None:
    rng = random.Random(seed)
    x0, y0 = rng.randrange(0, 120), rng.randrange(0, 120)
    x1, y1 = rng.randrange(x0 + 4, 129), rng.randrange(y0 + 4, 129)
    picture = Image.new("1", (128, 128))
    ImageDraw.Draw(picture).rectangle((x0, y0, x1 - 1, y1 - 1), fill=1)  # Pillow's right and bottom are inclusive
    made = parse_regions([{"label": "a", "boxes": [[x0 / 128, y0 / 128, x1 / 128, y1 / 128]]}], 128)
    np.testing.assert_array_equal(made[0].mask, np.asarray(picture))


@pytest.mark.parametrize("seed", range(10))
def test_strokes_are_those_of_pillow(seed: int) -> None:
    """Pillow draws the same stroke 8 times as large: a pixel is in where its centre is, save at the very edge."""
    rng, size, fine = random.Random(seed), 64, 8
    points = tuple((rng.random(), rng.random()) for _ in range(rng.randrange(1, 6)))
    stroke = Stroke(points, rng.uniform(0.05, 0.3))
    side, radius = size * fine, stroke.width * size * fine / 2
    picture = Image.new("1", (side, side))
    draw = ImageDraw.Draw(picture)
    placed = [(x * side, y * side) for x, y in points]
    if len(placed) > 1:
        draw.line(placed, fill=1, width=round(2 * radius))
    for x, y in placed:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    theirs = np.asarray(picture)[fine // 2 :: fine, fine // 2 :: fine]
    mine = stroke_mask(stroke, size)
    assert (mine & theirs).sum() / (mine | theirs).sum() > 0.97


def test_a_region_means_the_same_at_every_resolution() -> None:
    shapes = [{"label": "a", "boxes": [[0.1, 0.2, 0.5, 0.6]], "strokes": [{"points": [[0.7, 0.7]], "width": 0.2}]}]
    small, large = parse_regions(shapes, 64)[0].mask, parse_regions(shapes, 256)[0].mask
    assert abs(small.mean() - large.mean()) < 0.01
    assert (large[2::4, 2::4] == small).mean() > 0.99


def test_regions_come_back_as_they_were_sent() -> None:
    text = json.dumps(
        {
            "regions": [
                {"label": " the \n eyes ", "box": [0.9, 0.6, 0.1, 0.3]},
                {"label": "mouth", "strokes": [{"points": [[0.3, 0.8], [0.6, 0.8]], "width": 0.1}]},
                {"label": "mouth", "boxes": [{"left": -3, "top": 0.9, "right": 1e9, "bottom": 1}]},
            ]
        }
    )
    eyes, mouth = parse_regions(text, 64)
    assert eyes.label == "the eyes"
    assert eyes.boxes == ((0.1, 0.3, 0.9, 0.6),)
    assert mouth.boxes == ((0.0, 0.9, 1.0, 1.0),)
    again = parse_regions(json.dumps([eyes.as_json(), mouth.as_json()]), 64)
    for one, other in zip((eyes, mouth), again, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_the_rest_is_everything_else() -> None:
    drawn = parse_regions([{"label": "a", "box": [0, 0, 0.5, 1]}, {"label": "b", "box": [0.25, 0, 0.75, 1]}], 32)
    left = rest(drawn)
    assert left.label == "rest"
    np.testing.assert_array_equal(left.mask, box_mask((0.75, 0, 1, 1), 32))
    assert rest([Region("all", np.ones((8, 8), bool))]) is None


def test_painted_masks() -> None:
    painted = np.zeros((300, 200), np.uint8)
    painted[100:200, 50:150] = 255
    region = region_from_mask(painted, "brush", 40)
    np.testing.assert_array_equal(region.mask, box_mask((0.25, 1 / 3, 0.75, 2 / 3), 40))
    np.testing.assert_array_equal(region_from_mask(painted > 0, "brush", 40).mask, region.mask)
    np.testing.assert_array_equal(region_from_mask(painted / 255, "brush", 40).mask, region.mask)
    for wrong in (painted[:0], np.zeros((4, 4, 3)), np.full((4, 4), "x"), np.zeros((4, 4)), np.ones((4, 4))):
        with pytest.raises(RequestError):
            region_from_mask(wrong, "brush", 40)


@pytest.mark.parametrize("domain", regions.READY_MADE)
@pytest.mark.parametrize("resolution", [64, 128, 256])
def test_ready_made_regions(domain: str, resolution: int) -> None:
    for label in regions.ready_made_labels(domain):
        region = ready_made_region(domain, label, resolution)
        assert region.label == label
        assert 0.02 < region.area < 0.5
        np.testing.assert_array_equal(parse_regions([region.as_json()], resolution)[0].mask, region.mask)


def test_no_such_ready_made_region() -> None:
    assert regions.ready_made_labels("sea") == []
    for domain in ("face", "sea"):
        with pytest.raises(RequestError):
            ready_made_region(domain, "Anchor", 64)


GOOD = {"label": "a", "boxes": [[0.1, 0.1, 0.9, 0.5]]}
STROKE = {"points": [[0.1, 0.1], [0.5, 0.5]], "width": 0.1}


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '"boxes"',
        "[" * 100_000,
        "[1]",
        "[[]]",
        '[{"label": "a"}]',
        '[{"label": "a", "boxes": []}]',
        '[{"label": 7, "box": [0, 0, 1, 0.5]}]',
        '[{"label": "a", "box": [0, 0, NaN, 0.5]}]',
        '[{"label": "a", "box": [0, 0, Infinity, 0.5]}]',
        '[{"label": "a", "box": [0, 0, 1e999, 0.5]}]',
        f'[{{"label": "a", "box": [0, 0, 1{"0" * 400}, 0.5]}}]',
        '[{"label": "a", "box": [0, 0, true, 0.5]}]',
        '[{"label": "a", "box": [0, 0, "1", 0.5]}]',
        '[{"label": "a", "box": [0, 0, 1]}]',
        '[{"label": "a", "box": "0123"}]',
        '[{"label": "a", "boxes": "0123"}]',
        '[{"label": "a", "boxes": {"0": 1}}]',
        '[{"label": "a", "box": {"left": 0}}]',
        '[{"label": "a", "box": [0.2, 0.2, 0.2, 0.8]}]',
        '[{"label": "a", "box": [0.2, 0.2, 0.2001, 0.2001]}]',
        '[{"label": "a", "box": [2, 2, 3, 3]}]',
        '[{"label": "a", "box": [0, 0, 1, 1]}]',
        [GOOD] * (regions.MAX_REGIONS + 1),
        [{"label": "a", "boxes": [[0, 0, 0.5, 0.5]] * (regions.MAX_SHAPES + 1)}],
        [{"label": "a", "strokes": [STROKE | {"points": [[0.1, 0.1]] * (regions.MAX_POINTS + 1)}]}],
        [{"label": "a", "strokes": [STROKE | {"points": [[0.1, 0.1]] * (regions.MAX_POINTS // 2 + 1)}] * 2}],
        [{"label": "a", "strokes": [STROKE | {"points": []}]}],
        [{"label": "a", "strokes": [STROKE | {"points": [[0.1]]}]}],
        [{"label": "a", "strokes": [STROKE | {"width": None}]}],
        [{"label": "a", "strokes": [STROKE | {"width": -1, "points": [[0.123, 0.456]]}]}],
        [{"label": "a", "strokes": [[0.1, 0.1]]}],
        [{"label": "a", "strokes": "abc"}],
        " " * (regions.MAX_TEXT + 1),
    ],
)
def test_malformed_regions_are_refused_in_words(wrong: object) -> None:
    with pytest.raises(RequestError) as caught:
        parse_regions(wrong, 64)
    assert caught.value.message[0].isupper() or caught.value.message[0] == "“"
    assert len(caught.value.message) < 200


def test_fuzzed_regions_are_read_or_refused() -> None:
    for seed in range(300):
        made = fuzzed_regions(random.Random(seed))
        for region in made:
            assert region.mask.shape == (32, 32), seed
            assert region.mask.dtype == bool, seed
            assert region.mask.any(), seed
            assert 0 < len(region.label) <= regions.MAX_LABEL, seed
            assert region.label.isprintable(), seed
            assert all(0 <= x <= 1 for box in region.boxes for x in box), seed


def fuzzed_regions(rng: random.Random) -> list[Region]:
    """What is read of random JSON that looks a little like regions; none where it is refused."""

    def value(depth: int) -> object:
        kinds = [
            lambda: rng.uniform(-1, 2),
            lambda: rng.choice([math.nan, math.inf, -math.inf, 1e308, -0.0, 10**400, 2**63]),
            lambda: rng.choice([None, True, False]),
            lambda: "".join(rng.choices(string.printable + "\u202e\u0000é🙂", k=rng.randrange(60))),
        ]
        if depth:
            kinds += [lambda: [value(depth - 1) for _ in range(rng.randrange(6))]] * 2
            keys = ("label", "box", "boxes", "strokes", "points", "width", "regions", "left")
            kinds += [lambda: {rng.choice(keys): value(depth - 1) for _ in range(rng.randrange(5))}] * 3
        return rng.choice(kinds)()

    base = {"label": value(0), "boxes": [[rng.random() for _ in range(4)]], "strokes": [dict(STROKE)]}
    if rng.random() < 0.5:
        base[rng.choice(list(base))] = value(3)
    else:
        base["strokes"][0][rng.choice(["points", "width"])] = value(2)
    payload = value(4) if rng.random() < 0.3 else [base]
    try:
        return parse_regions(json.dumps(payload) if rng.random() < 0.5 else payload, 32)
    except RequestError:
        return []

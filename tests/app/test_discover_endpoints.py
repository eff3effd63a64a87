"""`/analyse` and `/discover`, called the way a program calls them."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from core import presets
from core.masks import from_url
from core.regions import parse_regions
from core.studio import library

EXAMPLE = library.examples("avatars")[0]
MOUTH = {"label": "mouth", "boxes": [[0.33, 0.57, 0.67, 0.82]]}
SMALL = 24  # basis vectors that are enough to see that it works


@pytest.fixture(scope="module")
def client(served: str) -> Client:
    return Client(served, verbose=False)


def discover(client: Client, regions: Any = (MOUTH,), **values: Any) -> tuple[list[str], list[Any], dict[str, Any]]:
    given = {"image": handle_file(EXAMPLE), "regions": list(regions) if isinstance(regions, tuple) else regions}
    given |= {"count": 2, "size": SMALL, "refine": False, **values}
    return client.predict(api_name="/discover", **given)


def test_analyse_then_discover(client: Client) -> None:
    seen, about = client.predict(handle_file(EXAMPLE), size=SMALL, api_name="/analyse")
    assert Image.open(seen).size == (128, 128)
    assert about["basis"] == SMALL == len(about["values"])
    assert about["values"] == sorted(about["values"], reverse=True)
    assert about["products"] == 2 * SMALL

    files, pictures, measures = discover(client)
    assert measures["timestep"] == about["timestep"]
    assert len(files) == len(pictures) == len(measures["directions"]) == 2
    for path, picture, row in zip(files, pictures, measures["directions"], strict=True):
        preset = presets.load(path)
        assert (preset.name, preset.method, preset.timestep) == (row["name"], "contrast", measures["timestep"])
        assert parse_regions(preset.region, 128)[0].boxes == ((0.33, 0.57, 0.67, 0.82),)
        assert preset.measured["roir"] == pytest.approx(row["roir"], abs=1e-3)
        assert picture["caption"] == row["name"]
        minus, zero, plus = np.split(np.asarray(Image.open(picture["image"]).convert("RGB"), dtype=float), 3, axis=1)
        assert min(np.abs(minus - zero).max(), np.abs(plus - zero).max()) > 10
    assert measures["directions"][0]["value"] >= measures["directions"][1]["value"]

    path, _ = client.predict(
        image=handle_file(EXAMPLE),
        direction=measures["directions"][0]["name"],
        strength=measures["directions"][0]["strength"],
        steps=12,
        api_name="/edit_text",
    )
    assert Image.open(path).size == (128, 128)


def test_a_method_without_a_region_and_another_timestep(client: Client) -> None:
    _, _, measures = discover(client, None, method="global", timestep=400)
    assert abs(measures["timestep"] - 400) < 26
    assert [row["region"] for row in measures["directions"]] == ["whole picture"] * 2
    assert all(row["roir"] is None for row in measures["directions"])


def test_parts_by_name_and_by_place(client: Client) -> None:
    """What `/find_parts` tells of a picture is what a region by name covers, also where it is asked for by a place."""
    parts = client.predict(handle_file(EXAMPLE), api_name="/find_parts")["parts"]
    masks = {part["label"]: from_url(part["mask"]) for part in parts}
    assert {"Mouth", "Left eye", "Eyes", "Hair"} <= masks.keys()
    assert [part["area"] for part in parts] == sorted(part["area"] for part in parts)
    y, x = np.argwhere(masks["Mouth"]).mean(0) / 128
    [there] = client.predict(handle_file(EXAMPLE), place=[x, y], api_name="/find_parts")["parts"]
    assert (there["label"], there["mask"]) == ("Mouth", next(p["mask"] for p in parts if p["label"] == "Mouth"))
    files, _, measures = discover(client, [{"part": "mouth"}, {"label": "one", "part": "Left eye"}], count=1)
    assert [row["region"] for row in measures["directions"]] == ["mouth", "one"]
    for path in files:  # each says all regions of the search
        regions = parse_regions(presets.load(path).region, 128)
        for region, name in zip(regions, ("Mouth", "Left eye"), strict=True):
            np.testing.assert_array_equal(region.mask, masks[name])
    with pytest.raises(AppError, match="no part “wing”. It has: .*mouth"):
        discover(client, [{"part": "wing"}])
    with pytest.raises(AppError, match="a point"):
        client.predict(handle_file(EXAMPLE), place=[2, 3], api_name="/find_parts")


def test_a_region_from_a_mask_file(client: Client, tmp_path: Path) -> None:
    """A mask of another size, beside no drawn region; it travels in the preset."""
    mask = np.zeros((300, 300), np.uint8)
    mask[171:246, 99:201] = 255
    Image.fromarray(mask).save(tmp_path / "mouth.png")
    files, _, measures = discover(client, None, mask=handle_file(tmp_path / "mouth.png"))
    assert {row["region"] for row in measures["directions"]} == {"mask"}
    (region,) = parse_regions(presets.load(files[0]).region, 128)
    assert region.mask.mean() == pytest.approx((mask > 0).mean(), rel=0.05)
    (tmp_path / "none.png").write_bytes(b"")
    with pytest.raises(AppError, match="empty"):
        discover(client, None, mask=handle_file(tmp_path / "none.png"))


BAD = [
    ({"regions": []}, "Draw a region first"),
    ({"regions": None}, "Draw a region first"),
    ({"regions": [{"label": "dot", "boxes": [[0.5, 0.5, 0.5, 0.5]]}]}, "too small"),
    ({"regions": [{"label": "all", "boxes": [[0, 0, 1, 1]]}]}, "covers the whole picture"),
    ({"regions": [MOUTH] * 9}, "up to 8 can be used"),
    ({"method": "magic"}, "magic"),
    ({"count": 0}, "count must"),
    ({"count": 10**6}, "count must"),
    ({"joint_rank": -3}, "joint rank must be"),
    ({"timestep": 5000}, "timestep must lie between"),
    ({"size": 10**7}, "basis size must lie between"),
    ({"image": None}, "There is no picture"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[str(values)[:40] for values, _ in BAD])
def test_bad_requests_are_answered_with_words(client: Client, values: dict[str, Any], words: str) -> None:
    with pytest.raises(AppError, match=words):
        discover(client, **values)


LEAVES: list[Any] = [None, True, -1, 0.5, 1e308, 10**400, "", "x", "∞", [], {}, [[]], "\u202e<b>", float("1e-300")]


def rubbish(source: random.Random, depth: int = 0) -> Any:
    """Something that looks a little like regions."""
    if depth > 4 or source.random() < 0.25:
        return source.choice(LEAVES)
    if source.random() < 0.5:
        return [rubbish(source, depth + 1) for _ in range(source.randrange(5))]
    keys = ("label", "box", "boxes", "strokes", "points", "width", "regions")
    return {key: rubbish(source, depth + 1) for key in source.sample(keys, source.randrange(1, 5))}


def test_rubbish_for_regions_is_refused_with_words(client: Client) -> None:
    source, refused = random.Random(0), 0
    for _ in range(40):
        regions = rubbish(source)
        try:
            json.dumps(parse_regions(regions, 128)[0].as_json())
        except Exception:
            with pytest.raises(AppError) as error:
                discover(client, regions)
            assert "not your fault" not in str(error.value)
            assert len(str(error.value)) > 15
            refused += 1
    assert refused > 30


def test_a_name_from_outside_stays_a_file_of_the_visit(client: Client) -> None:
    regions = ({"label": "../../etc/passwd", "boxes": MOUTH["boxes"]},)
    files, _, measures = discover(client, regions, count=1)
    assert measures["directions"][0]["region"] == "../../etc/passwd"
    assert ".." not in Path(files[0]).name
    assert presets.load(files[0]).name == measures["directions"][0]["name"]

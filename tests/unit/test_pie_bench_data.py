"""What a benchmark is run on: mapping files, CSV files, pictures and masks, and what is wrong with them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.errors import RequestError
from core.pie_bench import data

SIDE = 32


def picture(path: Path, size: tuple[int, int] = (SIDE, SIDE), seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(values).save(path)
    return values


def item(path: str, **changes: Any) -> dict[str, Any]:
    return {
        "image_path": path,
        "original_prompt": "a [red] cat",
        "editing_prompt": "a [smiling] cat",
        "editing_instruction": "Make it smile",
        "editing_type_id": "4",
        "blended_word": "cat cat",
        "mask": [SIDE * 10 + 8, 6, SIDE * 11 + 8, 6],
    } | changes


def mapped(folder: Path, items: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / data.MAPPING).write_text(json.dumps(items))
    return folder


def test_pie_bench_as_it_is_distributed(tmp_path: Path) -> None:
    values = picture(tmp_path / data.PICTURES / "4_change/1_artificial/000.png")
    mapped(tmp_path, {"411000000000": item("4_change/1_artificial/000.png")})
    benchmark = data.read(tmp_path)
    assert not benchmark.left_out
    [entry] = benchmark.entries
    assert (entry.id, entry.source, entry.target, entry.kind) == ("411000000000", "a red cat", "a smiling cat", "4")
    assert entry.blended == ("cat", "cat")
    sample = entry.load()
    assert np.array_equal(sample.picture, values)
    assert sample.mask is not None
    inner = sample.mask[1:-1, 1:-1]
    assert inner.sum() == 12
    assert inner[9:11, 7:13].all()
    assert sample.mask[0].all()
    assert sample.mask[-1].all()
    assert sample.mask[:, 0].all()
    assert sample.mask[:, -1].all()
    larger = entry.load(64)
    assert larger.picture.shape == (64, 64, 3)
    assert larger.mask is not None
    assert larger.mask[20:22, 16:28].all()
    assert larger.mask.sum() == 4 * 12 + 4 * 63


def test_only_some_kinds(tmp_path: Path) -> None:
    picture(tmp_path / data.PICTURES / "a.png")
    mapped(tmp_path, {"a": item("a.png"), "b": item("a.png", editing_type_id="9"), "c": item("a.png")})
    assert [entry.id for entry in data.read(tmp_path, ["4"]).entries] == ["a", "c"]
    with pytest.raises(RequestError, match="no edit"):
        data.read(tmp_path, ["7"])


def test_what_is_broken_is_left_out_with_its_reason(tmp_path: Path) -> None:
    pictures = tmp_path / data.PICTURES
    picture(pictures / "good.png")
    picture(tmp_path / "outside.png")
    (pictures / "text.png").write_text("not a picture")
    whole = (pictures / "good.png").read_bytes()
    (pictures / "half.png").write_bytes(whole[: len(whole) // 2])
    broken = {
        "gone": (item("gone.png"), "no file"),
        "text": (item("text.png"), "cannot be read as a picture"),
        "half": (item("half.png"), "cannot be read as a picture"),
        "outside": (item("../outside.png"), "outside"),
        "absolute": (item(str(tmp_path / "outside.png")), "outside"),
        "unnamed": (item(""), "names no picture"),
        "silent": (item("good.png", editing_prompt="[]"), "editing_prompt is empty"),
        "odd": (item("good.png", mask=[1, 2, 3]), "starts and lengths"),
        "negative": (item("good.png", mask=[-1, 2]), "starts and lengths"),
        "words": (item("good.png", mask="1 2"), "starts and lengths"),
        "short": ({"image_path": "good.png"}, "no original_prompt"),
        "list": ([], "names and values"),
    }
    mapped(tmp_path, {"good": item("good.png")} | {name: made for name, (made, _) in broken.items()})
    benchmark = data.read(tmp_path)
    assert [entry.id for entry in benchmark.entries] == ["good"]
    assert benchmark.left_out.keys() == broken.keys()
    for name, (_, why) in broken.items():
        assert why in benchmark.left_out[name], name


def test_a_folder_with_a_csv_file(tmp_path: Path) -> None:
    values = picture(tmp_path / "pictures" / "wide.jpg", (48, 32))
    mask = np.zeros((32, 48), np.uint8)
    mask[10:20, 20:30] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "edits.csv").write_text(
        "picture,source,target,mask,blended\n"
        "pictures/wide.jpg,a cat,a red cat,mask.png,cat cat\n"
        "pictures/wide.jpg,a cat,a dog,,\n"
        "pictures/gone.jpg,a cat,a dog,,\n",
        encoding="utf-8-sig",
    )
    for given in (tmp_path, tmp_path / "edits.csv"):
        benchmark = data.read(given)
        assert [entry.id for entry in benchmark.entries] == ["0001", "0002"]
        assert list(benchmark.left_out) == ["0003"]
    masked, unmasked = (entry.load() for entry in benchmark.entries)
    with Image.open(tmp_path / "pictures" / "wide.jpg") as opened:
        assert np.array_equal(masked.picture, np.array(opened)[:, 8:40])  # the square in the middle
    assert values.shape == (32, 48, 3)
    assert masked.mask is not None
    assert masked.mask[1:-1, 1:-1].sum() == 100
    assert masked.mask[10:20, 12:22].all()
    assert unmasked.mask is None
    assert [entry.blended for entry in benchmark.entries] == [("cat", "cat"), None]


def test_masks_may_be_all_or_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    for name, level in (("black", 0), ("white", 255)):
        Image.fromarray(np.full((SIDE, SIDE), level, np.uint8)).save(tmp_path / f"{name}.png")
    with (tmp_path / "edits.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerows([data.COLUMNS, *(("a.png", "a cat", "a dog", f"{name}.png") for name in ("black", "white"))])
    black, white = (entry.load().mask for entry in data.read(tmp_path).entries)
    assert black is not None
    assert white is not None
    assert black.sum() == 4 * (SIDE - 1)
    assert white.all()


def test_another_picture_or_mask_is_another_edit(tmp_path: Path) -> None:
    picture(tmp_path / data.PICTURES / "a.png")
    mapped(tmp_path, {"a": item("a.png")})
    [before] = data.read(tmp_path).entries
    assert data.read(tmp_path).entries == (before,)
    picture(tmp_path / data.PICTURES / "a.png", seed=1)
    [after] = data.read(tmp_path).entries
    assert after.content != before.content


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (None, "", "has 0 CSV files"),
        (data.MAPPING, "{", "cannot be read as JSON"),
        (data.MAPPING, "[]", "should map ids"),
        ("edits.csv", "picture,source\n", "no column target and no column mask"),
        ("edits.csv", "picture,source,target,mask\n", "no edit"),
    ],
)
def test_folders_that_hold_nothing_of_the_kind(tmp_path: Path, name: str | None, text: str, words: str) -> None:
    if name:
        (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=words):
        data.read(tmp_path)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="There is no folder"):
        data.read(tmp_path / "gone")


def test_runs_come_back() -> None:
    drawn = np.random.default_rng(0)
    for mask in (drawn.random((7, 9)) < 0.4, np.ones((3, 4), bool), np.zeros((3, 4), bool)):
        assert np.array_equal(data.mask_from_runs(data.runs_of(mask), mask.shape), mask)


def test_results_side_by_side_are_cropped_to_the_last_square() -> None:
    side_by_side = np.arange(4 * 16 * 3).reshape(4, 16, 3).astype(np.uint8)
    assert np.array_equal(data.last_square(side_by_side, 4), side_by_side[:, 12:])
    tall = side_by_side.transpose(1, 0, 2)
    assert np.array_equal(data.last_square(tall, 4), tall[12:])
    square = side_by_side[:, :4]
    assert np.array_equal(data.last_square(square, 2), square)  # square ones are left as they are
    with pytest.raises(RequestError, match="no square"):
        data.last_square(side_by_side, 8)

"""Pictures of a data set on the Hub, by the real client and a stand-in for the Hub."""

import io
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from hub_stand_in import StandIn, stand_in
from PIL import Image

from core import cli
from core.errors import HubError, RequestError
from core.progress import finish
from core.recipes.pictures import Readable, load_pictures, readable_pictures
from core.recipes.recipe import PictureSource

NAME = "somebody/faces"


def picture(value: int) -> bytes:
    written = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), value, np.uint8)).save(written, "PNG")
    return written.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.file_download.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with stand_in(monkeypatch) as running:
        files = {f"train/{n:02d}.png": picture(20 * n) for n in range(5)}
        files |= {"train/02a.png": b"broken", "test/00.png": picture(200), "README.md": b"# Faces"}
        running.dataset(NAME, files)
        yield running


def read(**source: object) -> Readable:
    return finish(readable_pictures(PictureSource(dataset=NAME, **source), 32))


def values(found: Readable) -> list[int]:
    pixels = load_pictures(found.files, 32)
    return ((pixels.mean((1, 2, 3)) + 1) * 127.5).round().int().tolist()


def test_all_pictures_by_name(hub: StandIn) -> None:
    found = read()
    assert values(found) == [200, 0, 20, 40, 60, 80], "the folder test comes before train"
    assert [name for name, _ in found.left_out] == ["train/02a.png"]


def test_some_of_them(hub: StandIn) -> None:
    assert values(read(files="train/*", count=3)) == [0, 20, 40]


def test_at_a_commit(hub: StandIn) -> None:
    first = hub.datasets[NAME].head
    hub.datasets[NAME].commit({"train/00.png": picture(255)})
    assert values(read(files="train/00.png")) == [255]
    assert values(read(files="train/00.png", revision=first)) == [0]


def test_what_cannot_be_had_is_said(hub: StandIn) -> None:
    with pytest.raises(RequestError, match="no picture files of the form valid"):
        read(files="valid/*")
    hub.dataset("somebody/tables", {"data.parquet": b"x"})
    with pytest.raises(RequestError, match="Parquet"):
        finish(readable_pictures(PictureSource(dataset="somebody/tables"), 32))
    with pytest.raises(HubError, match="somebody/nothing"):
        finish(readable_pictures(PictureSource(dataset="somebody/nothing"), 32))


@pytest.mark.slow
def test_the_command_takes_a_data_set(hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["smiling", "--steps", "4", "--strengths", "1", "--pictures", NAME, "--count", "2", "--out", str(out)]
    assert cli.main(["evaluate", *arguments]) == 0
    assert f"2 from {NAME}@main" in (out / "evaluation.html").read_text()
    hub.status = 503
    assert cli.main(["evaluate", *arguments[:-1], str(tmp_path / "other")]) == 1
    assert "fault of its own" in capsys.readouterr().err

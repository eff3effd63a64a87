"""Pictures that a recipe names: of a folder, or of a data set on the Hub."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from core.errors import HubError, RequestError
from core.progress import finish
from core.recipes import pictures
from core.recipes.pictures import load_pictures, readable_pictures
from core.recipes.recipe import PictureSource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures, two of which are broken, and other files."""
    place = tmp_path / "pictures"
    for n, name in enumerate(("train/a.png", "train/c.jpg", "train/e.webp", "test/z.png")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 56), (40 * n, 10, 200)).save(place / name)
    (place / "train" / "b.png").write_bytes((place / "train" / "a.png").read_bytes()[:60])
    (place / "train" / "d.png").write_bytes(b"")
    (place / "README.md").write_text("About.")
    (place / ".hidden.png").write_bytes(b"")
    return place


def named(found: pictures.Readable, folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in found.files]


def test_what_cannot_be_read_is_left_out_counted_and_said(folder: Path) -> None:
    found = finish(readable_pictures(PictureSource(folder), 32))
    assert named(found, folder) == ["test/z.png", "train/a.png", "train/c.jpg", "train/e.webp"]
    assert [name for name, _ in found.left_out] == ["train/b.png", "train/d.png"]
    assert found.words.startswith("2 of 6 pictures cannot be read and are left out. train/b.png: ")
    assert "train/d.png: This file is empty." in found.words
    assert len(set(found.digests)) == 4
    assert load_pictures(found.files, 32).shape == (4, 3, 32, 32)


def test_the_first_so_many_that_can_be_read(folder: Path) -> None:
    found = finish(readable_pictures(PictureSource(folder, files="train/*", count=2), 32))
    assert named(found, folder) == ["train/a.png", "train/c.jpg"]
    assert [name for name, _ in found.left_out] == ["train/b.png"], "no more are read than needed"


def test_another_content_is_another_picture(folder: Path) -> None:
    before = finish(readable_pictures(PictureSource(folder, count=1), 32)).digests
    Image.new("RGB", (64, 56), (1, 2, 3)).save(folder / "test" / "z.png")
    assert finish(readable_pictures(PictureSource(folder, count=1), 32)).digests != before


def test_not_one_that_can_be_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no pictures that can be read in .*1 of 1 pictures cannot be read"):
        finish(readable_pictures(PictureSource(folder, files="train/d*"), 32))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="There are no pictures in"):
        finish(readable_pictures(PictureSource(tmp_path / "empty"), 32))


@pytest.fixture
def dataset(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """A data set on the Hub with the folder's files; what is asked of it."""
    asked: list[tuple[str, Any]] = []
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]

    def about(self: Any, repository: str, revision: str, **_: Any) -> SimpleNamespace:
        asked.append((repository, revision))
        return SimpleNamespace(sha="1" * 40, siblings=[SimpleNamespace(rfilename=name) for name in names])

    def download(repository: str, file: str, *, repo_type: str, revision: str, **_: Any) -> str:
        asked.append((repo_type, (file, revision)))
        return str(folder / file)

    monkeypatch.setattr(pictures, "require_hub", lambda: None)
    monkeypatch.setattr(pictures.HfApi, "dataset_info", about)
    monkeypatch.setattr(pictures, "hf_hub_download", download)
    return asked


def test_a_data_set_on_the_hub(dataset: list[tuple[str, Any]], folder: Path) -> None:
    source = PictureSource(dataset="someone/faces", revision="v2", files="train/*")
    found = finish(readable_pictures(source, 32))
    assert named(found, folder) == ["train/a.png", "train/c.jpg", "train/e.webp"]
    assert dataset[0] == ("someone/faces", "v2")
    fetched = [what for kind, what in dataset if kind == "dataset"]
    assert fetched == [(f"train/{name}", "1" * 40) for name in ("a.png", "b.png", "c.jpg", "d.png", "e.webp")]


def test_no_more_is_downloaded_than_is_needed(dataset: list[tuple[str, Any]], folder: Path) -> None:
    found = finish(readable_pictures(PictureSource(dataset="someone/faces", files="train/*", count=2), 32))
    assert named(found, folder) == ["train/a.png", "train/c.jpg"]
    assert [what[0] for kind, what in dataset if kind == "dataset"] == [
        f"train/{name}" for name in ("a.png", "b.png", "c.jpg")
    ]


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable() -> Callable[[], None]:
        raise HubError("The Hub cannot be reached.")

    monkeypatch.setattr(pictures, "require_hub", unreachable)
    with pytest.raises(HubError, match="cannot be reached"):
        finish(readable_pictures(PictureSource(dataset="someone/faces"), 32))

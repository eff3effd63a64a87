"""What the README says can be called from Python, called as it stands there."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from core.studio import library

README = (Path(__file__).parents[2] / "README.md").read_text()
CALLS = dict(re.findall(r"^\| ([a-z ]+) \| `(client\..+)` \|$", README, re.MULTILINE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files that the calls read."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copy(library.examples("avatars")[0], folder / "portrait.png")
    return folder


@pytest.fixture
def call(client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.chdir(folder)
    known = {"client": client, "handle_file": handle_file, "picture": handle_file("portrait.png")}
    return lambda name: eval(CALLS[name], known)


def test_the_table_is_there() -> None:
    assert len(CALLS) == 9


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("train", "invert", "edit that")])
def test_calls(call: Callable[[str], Any], name: str) -> None:
    assert call(name)


def test_training_is_begun(call: Callable[[str], Any]) -> None:
    job = call("train")
    while not job.outputs():
        assert not job.done(), job.exception()
        time.sleep(0.1)
    job.cancel()


def test_a_picture_is_inverted_and_edited(call: Callable[[str], Any], folder: Path) -> None:
    [file] = [value for value in call("invert") if str(value).endswith(".safetensors")]
    shutil.copy(file, folder / "inverted.safetensors")
    assert call("edit that")

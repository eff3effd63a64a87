"""What the README and docs/api.md say can be called from Python, called as it stands there."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from PIL import Image, ImageChops

from core.discovery.basis import BASIS_SIZE
from core.photo import yunet
from core.studio import library
from core.studio.reference import COUNT
from tests.photographs import stand_in

ROOT = Path(__file__).parents[2]
README, API = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/api.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OWN_TESTS = ("train", "invert", "reconstruct", "edit that", "another model")  # the last: test_opening_endpoint.py
LITTLE = (("steps", 40, 10), ("size", BASIS_SIZE, 24), ("count", COUNT, 2))  # where a call leaves it open: usual, here
CALLS = dict(re.findall(r"^\| ([a-z ]+) \| `(client\..+)` \|$", API, re.MULTILINE))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the files that the calls read."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("portrait.png", "square.png"):
        shutil.copy(library.examples("avatars")[0], folder / name)
    return folder


@pytest.fixture
def call(client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Calls by their name, with little work where a call leaves open how much."""
    monkeypatch.chdir(folder)
    for endpoint in client.endpoints.values():
        for parameter in endpoint.parameters_info or []:
            for name, usual, little in LITTLE:
                if (parameter["parameter_name"], parameter["parameter_default"]) == (name, usual):
                    parameter["parameter_default"] = little
    monkeypatch.setattr(yunet, "load", lambda: stand_in)  # the Hub is not asked
    placement = {"x": 64, "y": 64, "side": 100, "angle": 10}
    known = {"client": client, "handle_file": handle_file, "picture": handle_file("portrait.png")}
    known["placement"] = placement
    return lambda name: eval(CALLS[name], known)


def test_the_table_is_there() -> None:
    assert len(CALLS) == 27


def test_it_has_every_endpoint(client: Client) -> None:
    named = {re.search(r'api_name="(/\w+)"', call)[1] for call in CALLS.values()}
    assert named == set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])


@pytest.mark.parametrize("name", [name for name in CALLS if name not in OWN_TESTS])
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
    assert call("reconstruct")
    assert call("edit that")


def test_the_library_in_five_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    [lines] = [block for block in BLOCK.findall(README) if "import hspace" in block]
    assert lines in API
    exec(lines, {})
    before, after = (Image.open(name).convert("RGB") for name in ("portrait.png", "out.png"))
    assert after.size == (128, 128)
    difference = ImageChops.difference(before.resize(after.size), after)
    assert max(high for _, high in difference.getextrema()) > 50


def test_the_app_from_a_program(served: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the README has it, at the address of this app."""
    monkeypatch.chdir(folder)
    [lines] = [block for block in BLOCK.findall(README) if "gradio_client" in block]
    assert "http://127.0.0.1:7860" in lines
    known: dict[str, Any] = {}
    exec(lines.replace("http://127.0.0.1:7860", served), known)
    assert known["client"].src.rstrip("/") == served.rstrip("/")

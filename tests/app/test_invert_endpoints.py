"""`/invert`, `/reconstruct`, `/edit_inverted` and `/robustness`, called the way a program calls them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from core.inversion import saved
from core.inversion.methods import METHODS
from core.studio import library
from tabs.invert.endpoints import named_methods

EXAMPLE = library.examples("avatars")[0]
PROMPT = "a pale face with short hair"
QUICK = {"steps": 5, "iterations": 1, "starts": 2}


@pytest.fixture(scope="module")
def client(served: str) -> Client:
    return Client(served, verbose=False)


def test_every_method_can_be_named_in_a_list() -> None:
    """Also the one whose name has a comma."""
    assert named_methods(", ".join(METHODS)) == list(METHODS)
    assert named_methods(" DDIM ,,DDIM, guided, nonsense") == ["DDIM", "DDIM, guided", "nonsense"]


def invert(client: Client, **values: Any) -> tuple[str, str, dict[str, Any]]:
    given = {"image": handle_file(EXAMPLE), "prompt": PROMPT, **QUICK, **values}
    return client.predict(api_name="/invert", **given)


@pytest.fixture(scope="module")
def inverted(client: Client) -> tuple[str, str, dict[str, Any]]:
    return invert(client)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def test_invert_then_make_it_again(client: Client, inverted: tuple[str, str, dict[str, Any]]) -> None:
    file, picture, about = inverted
    kept = saved.load(file)
    assert (kept.method, kept.prompt) == ("anchored", PROMPT) == (about["method"], about["prompt"])
    assert kept.measures["psnr"] == pytest.approx(about["psnr"], abs=1e-3)
    assert about["evaluations"] >= 5
    assert about["words_cut"] == ""
    assert {"ssim", "distance", "seconds", "peak_memory", "psnr_bound", "psnr_to_bound"} <= about.keys()
    # What the method cannot help: the autoencoder.
    assert about["psnr"] == pytest.approx(about["psnr_bound"], abs=0.1)
    again, measures = client.predict(inversion=handle_file(file), api_name="/reconstruct")
    assert np.abs(pixels(again) - pixels(picture)).max() <= 3
    assert measures["psnr"] == pytest.approx(about["psnr"], abs=0.2)
    assert (measures["method"], measures["prompt"]) == ("anchored", PROMPT)


def test_methods_differ_and_a_prompt_is_suggested(client: Client, inverted: tuple[str, str, dict[str, Any]]) -> None:
    _, picture, about = invert(client, prompt="", method="DDIB")
    assert "face" in about["prompt"]
    assert about["psnr"] < inverted[2]["psnr"] - 1
    assert np.abs(pixels(picture) - pixels(inverted[1])).mean() > 1


def test_words_that_are_not_read_are_told(client: Client) -> None:
    _, _, about = invert(client, prompt="a face " + "with glasses " * 20)
    assert "glasses" in about["words_cut"]


def test_edit_several_targets_at_once(client: Client, inverted: tuple[str, str, dict[str, Any]]) -> None:
    file = inverted[0]

    def edit(**values: Any) -> tuple[list[np.ndarray], dict[str, Any]]:
        pictures, about = client.predict(inversion=handle_file(file), api_name="/edit_inverted", **values)
        return [pixels(picture["image"]) for picture in pictures], about

    prompts = "a smiling face with short hair\na pale face with glasses"
    (one, other), about = edit(prompts=prompts)
    assert [row["prompt"] for row in about["edits"]] == prompts.splitlines()
    assert about["source"] == PROMPT
    assert np.abs(one - other).mean() > 1
    assert all(row["attributes"] and row["distance"] > 0 for row in about["edits"])
    same, _ = edit(prompts=prompts, strength=0)
    source = pixels(inverted[1])
    assert max(np.abs(picture - source).max() for picture in same) <= 4

    left = [{"label": "left", "boxes": [[0, 0, 0.5, 1]]}]
    [part], _ = edit(prompts="a smiling face with short hair", regions=left)
    assert np.abs(part - source)[:, 68:].mean() < 0.5 < 2 < np.abs(part - source)[:, :60].mean()

    [part], _ = edit(prompts="a smiling face with short hair", regions=[{"part": "mouth"}])
    changed_there = np.abs(part - source).max(-1) > 3
    assert 20 < changed_there.sum() < 2000
    rows, columns = np.nonzero(changed_there)
    assert rows.min() > 60, "the mouth and its soft edge alone"

    prompt = prompts.splitlines()[0]
    for changed in ({"weights": "smiling 3"}, {"attention": "none"}, {"guidance": 2}):
        [picture], _ = edit(prompts=prompt, **changed)
        assert np.abs(picture - one).mean() > 0.2


def test_robustness(client: Client) -> None:
    pictures, about = client.predict(
        image=handle_file(EXAMPLE),
        prompt=PROMPT,
        other_prompts="a photo of a dog",
        sigmas="20",
        methods="anchored, DDIM",
        api_name="/robustness",
        **QUICK,
    )
    cells = about["cells"]
    assert len(pictures) == len(cells) == 6
    seen = {(cell["method"], cell["sigma"], cell["prompt"]) for cell in cells}
    assert seen == {
        (method, sigma, prompt)
        for method in ("anchored", "DDIM")
        for sigma, prompt in ((0.0, PROMPT), (20.0, PROMPT), (0.0, "a photo of a dog"))
    }
    found = {(cell["method"], cell["sigma"]): cell["psnr"] for cell in cells if cell["prompt"] == PROMPT}
    assert found["anchored", 20.0] < found["anchored", 0.0]
    assert found["DDIM", 0.0] < found["anchored", 0.0]
    assert Image.open(pictures[0]["image"]).size == (3 * 128, 128)


BAD = [
    ({"image": None}, "There is no picture"),
    ({"prompt": "x" * 3000}, "up to 2000 characters"),
    ({"steps": 10**6}, "steps must lie between 4 and 200"),
    ({"guidance": 0}, "guidance must lie between 1 and 30"),
    ({"method": "magic"}, "magic"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[str(values)[:40] for values, _ in BAD])
def test_bad_requests_are_answered_with_words(client: Client, values: dict[str, Any], words: str) -> None:
    with pytest.raises(AppError, match=words):
        invert(client, **values)


def test_a_model_that_cannot_be_had(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.models.folders.hub_answers", lambda: False)
    with pytest.raises(AppError, match="has to be downloaded once.*Or choose the built-in model"):
        invert(client, model="stable-diffusion-1-5")


BAD_EDITS = [
    ({"prompts": ""}, "Write a target prompt"),
    ({"weights": "dog 2"}, "is not a word"),
    ({"strength": 9}, "strength must lie"),
    ({"regions": [{"label": "all", "boxes": [[0, 0, 1, 1]]}]}, "covers the whole picture"),
    ({"regions": {"a": 1}}, "must be a list"),
    ({"inversion": None}, "There is no inverted picture"),
]


@pytest.mark.parametrize(("values", "words"), BAD_EDITS, ids=[str(values)[:40] for values, _ in BAD_EDITS])
def test_bad_edits_are_answered_with_words(
    client: Client, inverted: tuple[str, str, dict[str, Any]], values: dict[str, Any], words: str
) -> None:
    given = {"inversion": handle_file(inverted[0]), "prompts": "a smiling face", **values}
    with pytest.raises(AppError, match=words):
        client.predict(api_name="/edit_inverted", **given)


def test_a_file_that_is_something_else(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "wrong.safetensors"
    path.write_bytes(b"\x08" + b"\0" * 7 + b"{}      ")
    with pytest.raises(AppError, match="not a usable file of an inverted picture"):
        client.predict(inversion=handle_file(path), api_name="/reconstruct")


def test_a_bad_study_is_answered_with_words(client: Client) -> None:
    given = {"image": handle_file(EXAMPLE), "prompt": PROMPT, "sigmas": "loud", **QUICK}
    with pytest.raises(AppError, match="not a list of numbers"):
        client.predict(api_name="/robustness", **given)

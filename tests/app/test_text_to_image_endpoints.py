"""Directions of a text-to-image model, found, used and combined with words the way a program does it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from core import presets
from core.studio import library

EXAMPLES = library.examples("avatars")
MOUTH = [{"label": "mouth", "boxes": [[0.33, 0.57, 0.67, 0.82]]}]
MODEL = "stand-in"


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


@pytest.fixture(scope="module")
def client(served: str) -> Client:
    return Client(served, verbose=False)


@pytest.fixture(scope="module")
def found(client: Client) -> tuple[presets.Preset, dict[str, Any]]:
    """A direction of the mouth, and what was said of it; the session has it by its name."""
    files, pictures, about = client.predict(
        handle_file(EXAMPLES[0]),
        MOUTH,
        count=1,
        size=16,
        refine=False,
        model=MODEL,
        prompt="a  sad face",
        api_name="/discover",
    )
    minus, zero, plus = np.split(pixels(pictures[0]["image"]), 3, axis=1)
    assert max(np.abs(minus - zero).max(), np.abs(plus - zero).max()) > 5
    return presets.load(files[0]), about


def test_a_direction_says_what_it_was_found_with(found: tuple[presets.Preset, dict[str, Any]]) -> None:
    preset, about = found
    assert (preset.family, preset.model, preset.prompt, preset.guidance) == ("text-to-image", MODEL, "a sad face", 1)
    assert about["prompt"] == "a sad face"


def test_the_prompt_is_suggested(client: Client) -> None:
    _, about = client.predict(handle_file(EXAMPLES[3]), size=16, model=MODEL, api_name="/analyse")
    assert about["prompt"] == library.open_picture(EXAMPLES[3], MODEL).prompt
    assert "glasses" in about["prompt"]


def test_used_on_another_picture_with_its_prompt(client: Client, found: tuple[presets.Preset, Any]) -> None:
    preset, _ = found
    asked = {"image": handle_file(EXAMPLES[1]), "direction": preset.name, "model": MODEL, "steps": 5}
    made, about = client.predict(**asked, strength=preset.strength, api_name="/edit_text")
    assert about["prompt"] == library.open_picture(EXAMPLES[1], MODEL).prompt
    other, about = client.predict(
        **asked, strength=preset.strength, prompt="a bald face with a beard", api_name="/edit_text"
    )
    assert about["prompt"] == "a bald face with a beard"
    assert np.abs(pixels(made) - pixels(other)).max() > 0
    composed, about = client.predict(
        handle_file(EXAMPLES[1]), json.dumps({preset.name: preset.strength}), 5, model=MODEL, api_name="/compose"
    )
    assert np.abs(pixels(composed) - pixels(made)).max() <= 1
    listed = client.predict(MODEL, api_name="/presets")
    assert preset.name in [one["name"] for one in listed]
    assert preset.name not in [one["name"] for one in client.predict("avatars", api_name="/presets")]


def test_several_pictures_with_a_prompt_each(client: Client, found: tuple[presets.Preset, Any]) -> None:
    preset, _ = found
    files = [handle_file(path) for path in EXAMPLES[:2]]
    _, about = client.predict(files, json.dumps({preset.name: preset.strength}), 5, model=MODEL, api_name="/batch")
    assert about["done"] == 2


def test_what_two_prompts_differ_in(client: Client, tmp_path: Path) -> None:
    file, about = client.predict(
        "a face", "a smiling face", form="prompts", samples=2, steps=8, model=MODEL, api_name="/train_direction"
    )
    preset = presets.load(file)
    assert (preset.method, preset.name, preset.source_text) == ("prompt shift", "Smiling", "a face")
    assert about["name"] == "Smiling"
    file, _ = client.predict(
        "a face", "a sad face", form="fitted", samples=2, steps=8, model=MODEL, api_name="/train_direction"
    )
    fitted = presets.load(file)
    assert (fitted.method, fitted.strength, fitted.injection) == ("fitted prompt shift", 1, "symmetric")
    assert fitted.measured["explained"] < 1
    asked = {"form": "picture", "steps": 8, "model": MODEL, "api_name": "/train_direction"}
    file, about = client.predict("a face", "an old face", files=[handle_file(EXAMPLES[0])], **asked)
    of_picture = presets.load(file)
    assert (of_picture.name, of_picture.method) == ("Old", "prompt shift fitted to a picture")
    with pytest.raises(AppError, match="Give the one that the direction is for"):
        client.predict("a face", "an old face", **asked)
    _, about = client.predict(
        handle_file(EXAMPLES[0]),
        source_text="a face",
        target_text="a smiling face",
        steps=5,
        model=MODEL,
        api_name="/edit_text",
    )
    assert about["direction"] == "Smiling", "a pair of texts that there is a direction for is not made again"
    for values, words in (
        ({"source_text": "a face", "target_text": "A face"}, "say the same"),
        ({"source_text": "", "target_text": "a face"}, "Write both texts"),
        ({"source_text": "face", "target_text": "old face", "model": "avatars"}, "no text-to-image model"),
    ):
        with pytest.raises(AppError, match=words):
            client.predict(**{"form": "prompts", "model": MODEL, **values}, api_name="/train_direction")


def test_words_and_directions_in_one_pass(client: Client, found: tuple[presets.Preset, Any]) -> None:
    preset, _ = found
    asked = {"image": handle_file(EXAMPLES[0]), "prompt": "a sad face", "model": MODEL}
    mix = json.dumps({preset.name: 2 * preset.strength})
    both, about = client.predict(**asked, composition=mix, target="a sad face with glasses", api_name="/compose_words")
    assert (about["prompt"], preset.name in about["composition"]) == ("a sad face", True)
    assert "glasses" in about["words"]
    words, _ = client.predict(**asked, target="a sad face with glasses", api_name="/compose_words")
    plain, _ = client.predict(**asked, composition=mix, api_name="/compose_words")
    weighed, _ = client.predict(
        **asked, target="a sad face with glasses", weights="glasses -2", regions=MOUTH, api_name="/compose_words"
    )
    for one, other in ((both, words), (both, plain), (words, weighed)):
        assert np.abs(pixels(one) - pixels(other)).max() > 2


BAD = [
    ({"target": "a sad face"}, "Change, add or take out a word"),
    ({}, "nothing to apply"),
    ({"target": "an old face", "weights": "glasses 2"}, "not a word of the target"),
    ({"target": "an old face", "guidance": 99}, "guidance must lie"),
    ({"target": "an old face", "model": "avatars"}, "takes no prompt"),
    ({"target": "an old face", "composition": '{"nothing": 1}'}, "no direction"),
    ({"target": "an old face", "regions": [{"label": "all", "boxes": [[0, 0, 1, 1]]}]}, "covers the whole picture"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[str(values)[:40] for values, _ in BAD])
def test_bad_requests_are_answered_with_words(client: Client, values: dict[str, Any], words: str) -> None:
    given = {"image": handle_file(EXAMPLES[0]), "prompt": "a sad face", "model": MODEL, **values}
    with pytest.raises(AppError, match=words):
        client.predict(**given, api_name="/compose_words")


def test_a_prompt_for_a_model_that_takes_none(client: Client) -> None:
    with pytest.raises(AppError, match="takes no prompt"):
        client.predict(handle_file(EXAMPLES[0]), "smiling", steps=5, prompt="a face", api_name="/edit_text")

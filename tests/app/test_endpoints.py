"""The named endpoints, called the way a program calls them."""

import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio.utils import get_function_description
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from core import presets
from core.imaging import to_pil
from core.studio import library
from core.studio.train import SUGGESTED
from tests.conftest import running_app

EXAMPLES = library.examples("avatars")
FAST = 12  # steps that are enough to see that it works


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def edit(client: Client, **values: Any) -> tuple[np.ndarray, dict[str, Any]]:
    given = {"image": handle_file(EXAMPLES[0]), "direction": "closed eyes", "steps": FAST, **values}
    path, measures = client.predict(api_name="/edit_text", **given)
    return pixels(path), measures


def test_documented_endpoints_and_no_others(client: Client) -> None:
    api = client.view_api(return_format="dict", print_info=False)
    text = {"/edit_text", "/train_direction", "/sample", "/intervals", "/perturb", "/consistency", "/sample_with"}
    discovery = {"/analyse", "/discover", "/find_parts"}
    inversion = {"/invert", "/compare_methods", "/reconstruct", "/edit_inverted", "/robustness"}
    photographs = {"/find_faces", "/ask_instruments", "/return_to_photo", "/open_model"}
    composing = {"/compose", "/sweep", "/presets", "/similarity", "/batch", "/filmstrip", "/history", "/compose_words"}
    assert set(api["named_endpoints"]) == text | discovery | composing | inversion | photographs
    assert not api["unnamed_endpoints"]
    for name, endpoint in api["named_endpoints"].items():
        assert len(endpoint["description"]) > 40
        for parameter in endpoint["parameters"]:
            assert parameter["label"] == parameter["parameter_name"]
            assert not parameter["label"].startswith("param")
            assert len(parameter["python_type"]["description"] or "") > 8, (name, parameter["parameter_name"])
    printed = client.view_api(return_format="str", print_info=False)
    for words in (
        "Strength, -100 to 100, in the direction's own unit",
        "handle_file(PATH or URL)",
        "for the largest face",
    ):
        assert words in printed


def test_every_parameter_is_described_where_tools_are_listed() -> None:
    """As over MCP, where a tool is its description, and each parameter has one of its own."""
    page = app.build()
    described = [fn for fn in page.fns.values() if isinstance(fn.api_name, str) and fn.api_visibility == "public"]
    assert len(described) > 10
    for fn in described:
        about, parameters, _ = get_function_description(fn.fn)
        assert len(about) > 40, fn.api_name
        for filled_in in ("session", "request"):  # by the app
            parameters.pop(filled_in, None)
        assert len(parameters) == len(fn.inputs) - 1
        for name, words in parameters.items():
            assert len(words) > 8, (fn.api_name, name)


def test_as_tools_over_mcp(text_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_MCP_SERVER", "True")
    with running_app() as address:
        tools = httpx.get(f"{address.rstrip('/')}/gradio_api/mcp/schema").json()
    names = {tool["name"] for tool in tools}
    assert any(name.endswith("edit_text") for name in names)
    assert len(names) == 27
    for tool in tools:
        for name, parameter in tool["inputSchema"]["properties"].items():
            assert parameter.get("description"), (tool["name"], name)


def test_sample_depends_on_the_seed_alone(client: Client) -> None:
    first, again, other = (client.predict(seed=seed, steps=FAST, api_name="/sample") for seed in (3, 3, 4))
    assert np.array_equal(pixels(first[0]), pixels(again[0]))
    assert np.abs(pixels(first[0]) - pixels(other[0])).mean() > 5
    assert first[1]["seed"] == 3
    assert first[1]["seconds"] > 0
    assert first[1]["words"]


def test_sample_shows_what_words_say(client: Client) -> None:
    asked = {"seed": 3, "steps": FAST, "api_name": "/sample"}
    bald, other = (client.predict(words=words, **asked) for words in ("a bald face", "a face with long black hair"))
    assert bald[1]["words"] == "a bald face"
    top = [pixels(path)[10:40, 40:88].mean() for path, _ in (bald, other)]
    assert top[0] > top[1] + 20


def test_edit_changes_the_picture_with_the_strength(client: Client) -> None:
    same, _ = edit(client, strength=0)
    some, _ = edit(client, strength=0.5)
    more, measures = edit(client, strength=1.5)
    assert 0 < np.abs(some - same).mean() < np.abs(more - same).mean()
    for key in (
        "direction",
        "model",
        "strength",
        "steps",
        "t_edit",
        "t_boost",
        "seconds",
        "s_dir",
        "distance",
        "identity",
    ):
        assert measures[key] is not None, key
    assert {"name", "before", "after", "change"} <= measures["attributes"][0].keys()
    assert measures["direction"] == "Closed eyes"


def test_edit_takes_defaults(client: Client) -> None:
    _, measures = client.predict(image=handle_file(EXAMPLES[1]), direction="Sad", api_name="/edit_text")
    assert (measures["strength"], measures["process"], measures["steps"]) == (1.0, "anchored", 7)
    assert measures["model"] == "avatars"


def test_edit_as_in_the_paper(client: Client) -> None:
    """Strength 0 is the picture as the model gives it back; anchored it is the picture itself."""
    asked = {"image": handle_file(EXAMPLES[1]), "direction": "Sad", "strength": 0, "api_name": "/edit_text"}
    original = np.asarray(to_pil(library.open_picture(EXAMPLES[1], "avatars").pixels)[0], float)
    differences = {}
    for process, steps in (("paper", 10), ("anchored", 0)):
        path, measures = client.predict(**asked, process=process, steps=steps)
        assert (measures["process"], measures["steps"]) == (process, steps or 7)
        differences[process] = np.abs(np.asarray(Image.open(path).convert("RGB"), float) - original).max()
    assert differences["anchored"] <= 1 < differences["paper"]
    with pytest.raises(AppError, match="choices|no process"):
        client.predict(**asked, process="magic")


BAD = [
    ({"direction": "nonsense"}, "no direction “nonsense”.*Known ones: .*Closed eyes"),
    ({"direction": ""}, "Give the name of a direction, or both texts"),
    ({"direction": "", "source_text": "face", "target_text": "x" * 500}, "500 characters, and up to 200"),
    ({"direction": "", "source_text": "face", "target_text": "face"}, "mean the same"),
    ({"steps": 2}, "steps must lie between 4 and 1000"),
    ({"steps": 10**7}, "steps must lie between 4 and 1000"),
    ({"strength": 1e9}, "strength must lie between -100 and 100"),
    ({"seed": -1}, "seed must lie between"),
]


@pytest.mark.parametrize(("values", "words"), BAD, ids=[str(list(values)) for values, _ in BAD])
def test_bad_requests_are_answered_with_words(client: Client, values: dict[str, Any], words: str) -> None:
    with pytest.raises(AppError, match=words):
        edit(client, **values)


def test_a_file_that_is_no_picture(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_text("I am a text")
    with pytest.raises(AppError, match="not a picture that can be read. Use JPEG"):
        edit(client, image=handle_file(path))


def test_a_model_out_of_reach_leaves_the_app_usable(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.models.folders.hub_answers", lambda patience=0.0: False)
    started = time.monotonic()
    with pytest.raises(AppError, match="has to be downloaded once.*choose the built-in model"):
        client.predict(seed=1, steps=FAST, model="ddpm-ema-church-256", api_name="/sample")
    assert time.monotonic() - started < 5
    client.predict(seed=1, steps=FAST, api_name="/sample")


def test_train_a_direction_and_use_it(client: Client, served: str) -> None:
    texts = {"source_text": "face", "target_text": "face with blue hair"}
    path, about = client.predict(**texts, samples=4, steps=10, api_name="/train_direction")
    preset = presets.load(path)
    assert (preset.name, preset.model, preset.direction.kind) == ("Blue hair", "avatars", "global")
    assert preset.thumbnail
    assert len(about["losses"]) == preset.parameters["optimiser_steps"] > 0
    by_name, _ = edit(client, direction="blue hair")
    by_texts, _ = edit(client, direction="", **texts)
    assert np.array_equal(by_name, by_texts)
    with pytest.raises(AppError, match="no direction"):
        edit(Client(served, verbose=False), direction="blue hair")


def test_train_from_pictures_with_the_papers_coefficients(client: Client, tmp_path: Path) -> None:
    """In-domain attributes are trained from inverted pictures (Table 3); λ is the table's unless one is given."""
    pictures = []
    for i in range(4):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (140, 128), (60 * i, 90, 120)).save(path)
        pictures.append(handle_file(path))
    texts = {"source_text": "dog", "target_text": "wolf", "samples": 4, "steps": 8}
    _, about = client.predict(**texts, latents="inverted", files=pictures, api_name="/train_direction")
    assert (about["l_clip"], about["l_recon"], about["latents"]) == (1.7, pytest.approx(2.55), "inverted")
    _, about = client.predict(**texts, coefficient=0.5, api_name="/train_direction")
    assert (about["l_clip"], about["l_recon"], about["latents"]) == (0.5, pytest.approx(2.55), "random")
    with pytest.raises(AppError, match="between 4 and 200"):
        client.predict(**texts, latents="inverted", files=pictures[:2], api_name="/train_direction")


def test_a_new_pair_of_texts_is_trained_on_the_way(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SUGGESTED, "global", (4, 10))
    _, measures = edit(client, direction="", source_text="face", target_text="face with a green hat")
    assert measures["direction"] == "Green hat"


def test_cancelling_a_training_frees_the_machine(client: Client) -> None:
    job = client.submit(source_text="face", target_text="old face", samples=400, steps=40, api_name="/train_direction")
    deadline = time.monotonic() + 60
    while not job.outputs() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert job.outputs(), "progress is told while it runs"
    job.cancel()
    started = time.monotonic()
    client.predict(seed=1, steps=FAST, api_name="/sample")
    assert time.monotonic() - started < 15


def test_two_programs_at_once(served: str) -> None:
    jobs = [
        Client(served, verbose=False).submit(
            image=handle_file(EXAMPLES[i]), direction=name, steps=FAST, api_name="/edit_text"
        )
        for i, name in enumerate(("closed eyes", "sad"))
    ]
    names = [job.result(timeout=120)[1]["direction"] for job in jobs]
    assert names == ["Closed eyes", "Sad"]


def test_analyses_of_a_direction(client: Client) -> None:
    """Random changes of equal size, delta h against t, and new pictures with it (Asyrp, figure 9, L.1 and M)."""
    given = {"image": handle_file(EXAMPLES[0]), "direction": "smiling", "strength": 1.0}
    distances = {}
    for space in ("h", "eps"):
        path, about = client.predict(**given, space=space, api_name="/perturb")
        assert pixels(path).shape == (128, 128, 3)
        distances[space] = about["distance"]
    assert distances["eps"] > distances["h"] > 0, "the paper's claim of robustness, on one portrait"

    about = client.predict(direction="smiling", count=2, api_name="/consistency")
    assert about["csv"].splitlines()[0] == "t,size,share,across,along,distance"
    assert len(about["csv"].splitlines()) == 1 + len(about["rows"])
    assert all(0 < row["across"] <= 1 and row["size"] > 0 for row in about["rows"])
    assert about["chart_svg"].startswith("<svg")

    gallery, _ = client.predict(direction="smiling", strength=1.0, seed=3, count=2, api_name="/sample_with")
    made = [pixels(entry["image"]) for entry in gallery]
    assert len(made) == 4
    assert np.abs(made[0] - made[2]).mean() > 0.5
    assert np.abs(made[0] - made[1]).mean() > 5

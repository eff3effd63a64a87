"""The page's field for another model: who may read folders, what it shows, and what goes wrong in words."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import huggingface_hub
import pytest
from hub_stand_in import stand_in
from layouts import files_below, make
from model_folders import opened_models_closed

import app
from core import kept_on_disk
from core.errors import ModelUnavailable
from core.models import known_outputs
from core.models.cards import MODELS, Hub
from core.models.known_outputs import Verdict
from core.models.loader import models
from core.studio import first_use, measuring
from tabs import opening


def request(host: str = "127.0.0.1", **headers: str) -> Any:
    return SimpleNamespace(client=SimpleNamespace(host=host), headers=headers)


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for variable in ("SPACE_ID", "GRADIO_SHARE", "GRADIO_SERVER_NAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "kept"))
    with opened_models_closed():
        yield


def test_folders_are_for_whoever_sits_at_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opening.may_read_folders(request())
    assert opening.may_read_folders(request("::1"))
    assert not opening.may_read_folders(request("192.168.0.7"))
    assert not opening.may_read_folders(request(**{"X-Forwarded-For": "203.0.113.9"}))
    assert not opening.may_read_folders(None)
    for variable, value in (("SPACE_ID", "jo/app"), ("GRADIO_SERVER_NAME", "0.0.0.0"), ("GRADIO_SHARE", "True")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, value)
            assert not opening.may_read_folders(request()), variable
    monkeypatch.setenv("GRADIO_SERVER_NAME", "localhost")
    assert opening.may_read_folders(request())


def test_a_folder_becomes_a_choice(tmp_path: Path) -> None:
    folder = make("subfolders", tmp_path / "cats")
    *waiting, (told, listed, model_id) = opening.open_another(str(folder), "cat", request())
    assert any("Loading cats" in line for line, *_ in waiting)
    assert "cats is open: 32x32, shows: cat" in told
    assert listed["value"] == model_id
    assert ("cats", model_id) in listed["choices"]


def test_from_elsewhere_a_folder_is_no_model(tmp_path: Path) -> None:
    folder = make("subfolders", tmp_path / "cats")
    *_, (told, *kept) = opening.open_another(str(folder), "cat", request("203.0.113.9"))
    assert 'role="alert"' in told
    assert "no repository of the Hub" in told
    assert str(folder) in told  # as it was written, and nothing of what is there
    assert kept == [gr.skip(), gr.skip()]


def test_what_is_written_cannot_be_code() -> None:
    *_, (told, *_) = opening.open_another("<img src=x onerror=alert(1)>/b", "", request())
    assert "<img" not in told


def test_curves_are_measured_with_progress_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "ON_CPU", (1, 4))
    monkeypatch.setattr(first_use, "SAMPLING_STEPS", 4)
    assert list(opening.measure("avatars")) == [gr.skip()]
    folder = make("subfolders", tmp_path / "cats")
    *_, (_, _, model_id) = opening.open_another(str(folder), "cat", request())

    def missing(_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "_lpips", missing)
    assert "LPIPS is not here" in list(opening.measure(model_id))[-1]
    monkeypatch.setattr(measuring, "_lpips", lambda _: lambda a, b: (a - b).abs().mean((1, 2, 3)))
    *lines, last = opening.measure(model_id)
    assert lines
    assert first_use.NOTE in lines[0]
    assert "Measured" in last
    assert kept_on_disk.place("curves", models.get(model_id).fingerprint) is not None


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Notices that appear on the page."""
    seen: list[tuple[str, str]] = []
    for kind in ("Info", "Warning"):
        monkeypatch.setattr(gr, kind, lambda words, kind=kind, **_: seen.append((kind, words)))
    return seen


@pytest.mark.parametrize(
    ("verdict", "kind", "words"),
    [
        (Verdict("pass", "someone/cats", 1e-5), "Info", "gives the published outputs of someone/cats"),
        (Verdict("fail", "someone/cats", 0.5), "Warning", "does not give the published outputs"),
        (None, "Info", "not compared with published outputs"),
    ],
)
def test_whether_a_model_gives_its_published_outputs_is_said_where_it_is_opened(
    verdict: Verdict | None,
    kind: str,
    words: str,
    told: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its name and from the list. There only when it is loaded, but a failure whenever it is chosen."""
    if verdict is not None:
        monkeypatch.setattr(known_outputs, "compare", lambda *_: verdict)
        content = known_outputs.published()
        content["outputs"]["someone/cats"] = []
        monkeypatch.setattr(known_outputs, "published", lambda: content)
    with stand_in(monkeypatch) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        hub.repository("someone/cats", files_below(make("subfolders", tmp_path / "made")))
        *_, (_, _, model_id) = opening.open_another("someone/cats", "cat", request())
        assert model_id == "someone/cats"
        [(told_as, said)] = told
        assert told_as == kind
        assert words in said
        MODELS["cats"] = replace(MODELS["someone/cats"], id="cats", source=Hub("someone/cats"))
        for _ in range(2):
            assert app.choose_model("cats", "avatars") == ("cats", "cats")
        assert told[1:] == [(kind, said)] * (2 if kind == "Warning" else 1)
        told.clear()
        app.choose_model("avatars", "cats")
        assert told == []

"""A link, or a picture's record, of a model of the Hub: whoever has neither the model nor the direction gets both."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from hub_stand_in import StandIn, stand_in
from layouts import files_below, make
from model_folders import opened_models_closed

from core import presets
from core.api import load_model
from core.directions import GlobalDirection
from core.errors import RequestError, VisitorError
from core.models.cards import MODELS
from core.models.loader import models
from core.models.opening import open_model
from core.photo.record import to_file, token_in
from core.presets import Preset
from core.progress import finish
from core.studio.compose import link
from core.studio.compose.composition import Composition
from core.studio.frames import EditOptions, Picture
from core.studio.visit.compose import active_presets
from core.studio.visit.session import Session
from tabs.compose.tab import shown_composition
from tabs.opened_link import restore
from tests.photographs import backdrop

DIRECTIONS = "someone/directions"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    with stand_in(monkeypatch) as running, opened_models_closed():
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield running


@pytest.mark.parametrize("pinned", [False, True], ids=["main", "revision"])
def test_a_picture_made_with_a_model_of_the_hub_restores_it(pinned: bool, hub: StandIn, tmp_path: Path) -> None:
    """Into another process, in which neither the model was opened nor the direction downloaded."""
    folder = make("subfolders", tmp_path / "made")
    hub.repository("someone/Dogs", files_below(folder))
    fingerprint = load_model(folder, device="cpu").fingerprint
    model_id = f"someone/Dogs@{hub.repositories['someone/Dogs'].head}" if pinned else "someone/Dogs"
    delta = torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    happy = Preset(GlobalDirection(delta, 40), name="Happy", model=model_id, fingerprint=fingerprint)
    hub.repository(DIRECTIONS, {"happy.safetensors": presets.to_bytes(happy)})
    key = link.hub_key(DIRECTIONS, hub.repositories[DIRECTIONS].head, "happy.safetensors")

    token = link.one_direction(key, 1.5, Picture(None, model_id), EditOptions(8, seed=4))  # type: ignore[arg-type]
    assert token
    data = to_file(backdrop(90, 60), "PNG", token)
    assert model_id not in MODELS
    visit = Session("avatars")
    assert restore(visit, token_in(data)) == visit.model_id == model_id
    assert models.get(model_id).fingerprint == fingerprint
    [(preset, strength)] = active_presets(visit)
    assert (preset.name, strength) == ("Happy", 1.5)
    assert visit.compose.restored == ("anchored", 8, 4)


def test_a_link_opens_no_folder_and_says_what_is_missing(
    hub: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("subfolders", tmp_path / "someone" / "dog")
    monkeypatch.chdir(tmp_path)
    visit = Session("avatars")
    with pytest.raises(VisitorError, match="someone/dog"):
        restore(visit, "2~someone/dog~~8~0~smiling:1")
    assert visit.model_id == "avatars"


def test_what_only_this_machine_has_makes_no_link(tmp_path: Path) -> None:
    """A folder, also one whose name could be that of a listed model, and a model with a word of the visitor's own."""
    with opened_models_closed():
        ids = [finish(open_model(str(make("subfolders", tmp_path / name)), "dog")).id for name in ("Dog", "dog")]
        ids += [finish(open_model("avatars", "elf")).id]
        for model_id in ids:
            picture = Picture(None, model_id)  # type: ignore[arg-type]
            assert link.one_direction("smiling", 1.0, picture, EditOptions()) == ""
            with pytest.raises(RequestError, match="cannot name this model"):
                link.encode(Composition().add("smiling"), model_id, "", 40, 0)


def test_a_composition_with_such_a_model_is_saved_without_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with a model that everybody has, with one."""
    pixels = torch.zeros(1, 3, 128, 128)
    composition = Composition().add("smiling")
    frame = SimpleNamespace(pixels=pixels[0])
    with opened_models_closed():
        for model_id, said in (("avatars", True), (finish(open_model("avatars", "elf")).id, False)):
            visit = Session(model_id)
            visit.picture = Picture(pixels, model_id)
            visit.compose.change(composition)
            result = SimpleNamespace(key=visit.picture.key, frame=frame, words="Smiling")
            monkeypatch.setattr(visit.compose.history, "latest", lambda *_, result=result: result)
            shown = shown_composition(visit, 0.0, "anchored", 7, 0)
            assert shown is not None
            assert bool(shown.token) is said


@pytest.mark.parametrize(("picture", "told"), [("portrait-99", True), ("portrait-2", False), ("", False)])
def test_a_picture_that_is_not_here_is_said(picture: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("gradio.Warning", lambda words, **about: said.append(words))
    visit = Session()
    restore(visit, link.encode(Composition().add("smiling", 1.0), "avatars", picture, 7, 0))
    assert said == ([f"Its picture “{picture}” is not here: choose one."] if told else [])
    assert (visit.picture is not None) == (picture == "portrait-2")

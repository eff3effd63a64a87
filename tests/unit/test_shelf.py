"""The shelf of a model that no directions come with: what the Hub has, two lines, words and Discover; words offline."""

import html
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from hub_stand_in import StandIn, stand_in
from small_models import small_card, small_model

from core import presets
from core.cli import parser
from core.directions import GlobalDirection
from core.hub import files as hub_files
from core.models.cards import MODELS
from core.presets import Preset
from core.studio import library
from core.studio.visit.session import Session
from tabs import opened_link
from tabs.text_edit import shelf

LISTED = [model_id for model_id in MODELS if model_id != "avatars"]
REPO = "someone/directions"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    hub_files.DESCRIBED.clear()
    monkeypatch.setenv("PRESETS_REPOSITORY", REPO)
    with stand_in(monkeypatch) as running:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield running


def preset(model: str) -> bytes:
    delta = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(3))
    return presets.to_bytes(Preset(GlobalDirection(delta, 40), name="Smiling", model=model, fingerprint="0" * 16))


@pytest.mark.parametrize("model_id", LISTED)
def test_every_listed_model_says_how(model_id: str) -> None:
    """None of them has directions; each says the ways that there are, and the command understands the lines."""
    assert shelf.is_empty(model_id)
    text = html.unescape(shelf.about(MODELS[model_id]))
    assert "From words" in text
    assert f"({MODELS[model_id].domain_word})" in text
    assert "Discover" in text
    lines = re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.DOTALL)
    assert bool(lines) == (model_id in ("ddpm-ema-celebahq-256", "ddpm-ema-church-256", "ddpm-ema-bedroom-256"))
    for block in lines:
        clone, command = block.splitlines()
        assert clone.startswith("git clone")
        options = parser().parse_args(shlex.split(command)[1:])
        assert (options.model, options.measure) == (model_id, True)
        assert options.source_text
        assert options.target_text


def test_a_model_with_directions_has_none() -> None:
    assert library.shipped("avatars")
    [(panel, *_)] = shelf.arrive("avatars")
    assert panel["visible"] is False


def test_what_is_published_is_shown_and_taken(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "small", small_card())
    model = small_model()
    monkeypatch.setattr(opened_link, "models", SimpleNamespace(get=lambda _: model))
    served.repository(REPO, {"a.safetensors": preset("small"), "b.safetensors": preset("zebras")})
    looking, shown = shelf.arrive("small")
    assert "Looking" in looking[2]
    assert shown[0]["visible"] is True
    assert "choose one" in shown[2]
    [item] = shown[3].choices
    assert item["name"] == "Smiling"
    session = Session("small")
    *_, (words, picker) = shelf.take(session, item["id"])
    assert words == ""
    assert [choice["name"] for choice in picker.choices] == ["Smiling"]
    assert session.text_edit.made == picker.value == item["id"]
    assert session.own[item["id"]].model == "small"
    other = replace(small_card(), id="other")
    monkeypatch.setitem(MODELS, "other", other)
    *_, (_, _, words, cards) = shelf.arrive("other")
    assert "no directions for this model yet" in words
    assert cards.choices == []


def test_offline_it_says_so_and_the_rest_is_there(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.hub_access.hub_answers", lambda *_: False)
    *_, (panel, about, words, cards) = shelf.arrive("ddpm-ema-church-256")
    assert panel["visible"] is True
    assert "import-asyrp" in about
    assert "cannot be reached" in words
    assert cards.choices == []

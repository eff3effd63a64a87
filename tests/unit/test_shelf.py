"""The shelf of a model that no directions come with: what the Hub has, two lines, words and Discover; words offline."""

import argparse
import html
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from hub_stand_in import StandIn, stand_in
from layouts import make
from model_folders import opened_models_closed
from small_models import small_card, small_model
from test_released import state

from core import presets
from core.cli import parser
from core.directions import GlobalDirection
from core.hub import files as hub_files
from core.intervals import PUBLISHED, PublishedTable
from core.models.cards import MODELS, ModelCard
from core.models.loader import models
from core.models.opening import open_model
from core.presets import Preset
from core.progress import finish
from core.studio import known_models, library
from core.studio.visit.session import Session
from tabs.compose import hub_browser
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


@pytest.mark.parametrize("listed", ["ddpm-ema-church-256", "someone/dog@v1.0"])
def test_a_model_with_a_word_of_ones_own_is_named_without_it(listed: str) -> None:
    """And the word, which may be anybody's, is nothing but a word to the shell."""
    card = MODELS["ddpm-ema-church-256"]
    card = replace(card, id=f"{listed} (barn)", domain_word='$(touch x) "barn" `touch x`', curves=PUBLISHED["AFHQ"])
    unknown = replace(card, curves=PublishedTable(((0.5, 300), (0.9, 400)), 0))
    for one, source in ((card, "dog"), (unknown, card.domain_word)):
        options = asked(one)
        assert (options.model, options.source_text) == (listed, source)


def asked(card: ModelCard) -> argparse.Namespace:
    """What the command gets when the shell has read the line of the shelf."""
    [block] = re.findall(r"<pre[^>]*>(.*?)</pre>", shelf.about(card), re.DOTALL)
    _, command = html.unescape(block).splitlines()
    program = "import sys, json; print(json.dumps(sys.argv[1:]))"
    line = f'hspace() {{ {shlex.quote(sys.executable)} -c {shlex.quote(program)} "$@"; }}; {command}'
    read = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    return parser().parse_args(json.loads(read.stdout))


def test_the_lines_of_a_converted_folder_work_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pasted where the model was never opened, with a file of the authors' form in the place of theirs; what they make
    fits the model under the id and the word that it has here."""
    monkeypatch.setattr(shelf, "RELEASED_H", (64, 8, 8))
    folder = make("converted ADM", tmp_path / "the dog's")
    with opened_models_closed():
        card = finish(open_model(str(folder), "puppy"))
        assert card.id.startswith("folder-the-dog-s-")
        options = asked(card)
        model, width = models.get(card.id), models.get(card.id).unet.unet.time_embedding.linear_2.out_features
        assert model.card.h_shape == shelf.RELEASED_H
    options.measure, options.out = False, tmp_path / options.out
    options.source = tmp_path / "theirs.pth"
    torch.save({"0": state("adm", channels=64, width=width)}, options.source)
    with opened_models_closed():
        options.run(options)
    assert capsys.readouterr().out.strip() == str(options.out)
    made = presets.for_model(presets.load(options.out), model)
    assert (made.model, made.fingerprint) == (card.id, model.fingerprint)


def test_a_model_with_directions_has_none() -> None:
    assert library.shipped("avatars")
    [(panel, *_)] = shelf.arrive("avatars")
    assert panel["visible"] is False


def test_what_is_published_is_shown_and_taken(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "small", small_card())
    model = small_model()
    monkeypatch.setattr(known_models, "models", SimpleNamespace(get=lambda _: model, loaded=lambda: []))
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


def test_what_is_published_for_the_same_weights_is_shown(served: StandIn, tmp_path: Path) -> None:
    """Under whatever name, word or revision it was made; of other weights nothing."""
    folder = make("subfolders", tmp_path / "dogs")
    with opened_models_closed():
        card = finish(open_model(str(folder), "dog"))
        model = models.get(card.id)
        about = {"name": "Happy", "model": "someone/dogs@v1", "fingerprint": model.fingerprint}
        happy = Preset(GlobalDirection(torch.ones(1, *card.h_shape), 40), **about)
        other = replace(happy, name="Other", fingerprint="1" * 16)
        served.repository(REPO, {f"{one.name}.safetensors": presets.to_bytes(one) for one in (happy, other)})
        *_, shown = shelf.arrive(card.id)
        assert [item["name"] for item in shown[3].choices] == ["Happy"]
        session = Session(card.id)
        *_, (words, picker) = shelf.take(session, shown[3].choices[0]["id"])
        assert [choice["name"] for choice in picker.choices] == ["Happy"]
        *_, (words, cards) = hub_browser.browse(session, REPO)
        assert [item["name"] for item in cards.choices] == ["Happy"]
        assert "1 more for other models: someone/dogs@v1." in words


def test_offline_it_says_so_and_the_rest_is_there(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.hub_access.hub_answers", lambda *_: False)
    *_, (panel, about, words, cards) = shelf.arrive("ddpm-ema-church-256")
    assert panel["visible"] is True
    assert "import-asyrp" in about
    assert "cannot be reached" in words
    assert cards.choices == []

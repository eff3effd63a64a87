"""Suggested names against pictures whose change is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from core import clip, instruments
from core.asyrp.prompts import templates
from core.discovery.naming import (
    SAYS,
    VOCABULARY,
    AttributeChange,
    Namer,
    Suggestion,
    agree,
    describe_changes,
    read_changes,
)
from core.errors import RequestError
from core.instruments import Attribute
from core.models.cards import MODELS, PRESETS
from training.dataset import to_pixels
from training.portraits import render, sample

CARD = MODELS["avatars"]


def pixels(portraits: list) -> Tensor:
    return to_pixels(np.stack([np.asarray(render(portrait, 128)) for portrait in portraits]))


def pair(attribute: str, low: float, high: float) -> tuple[Tensor, Tensor]:
    neutral = {"smile": 0.0, "mouth_open": 0.0, "glasses": 0.0, "eye_open": 0.7, "gaze": 0.0, "hair_style": 0}
    people = [replace(sample(1_000_000 + i), **neutral) for i in range(3)]
    return tuple(pixels([replace(person, **{attribute: value}) for person in people]) for value in (low, high))


@pytest.fixture(scope="module")
def namer() -> Namer:
    return Namer(clip.load_embedded(CARD.clip.folder), CARD.domain_word, templates(CARD))


@pytest.mark.parametrize(
    ("attribute", "low", "high", "word"),
    [
        ("eye_open", 0.7, 0.0, "closed eyes"),
        ("lip_red", 0.0, 1.0, "red lips"),
        ("glasses", 0.0, 1.0, "glasses"),
        ("gaze", 0.8, -0.8, "looking left"),
        ("beard", 0.0, 0.9, "beard"),
        ("smile", -0.2, 1.0, "smil"),
    ],
)
def test_plain_changes_get_their_names(namer: Namer, attribute: str, low: float, high: float, word: str) -> None:
    minus, plus = pair(attribute, low, high)
    suggestion = namer.suggest(minus, plus)
    assert word in suggestion.text
    assert suggestion.confidence > 0.2
    assert suggestion.likely[0][0] == suggestion.text
    assert len(suggestion.likely) == 3


@pytest.mark.parametrize(
    ("text", "changes", "agreed"),
    [
        ("smiling face", {"smile": 1.2, "lip_red": 0.4}, True),
        ("smiling face", {"smile": -0.7, "lip_red": 0.1}, False),  # the sign is wrong
        ("face with a closed mouth", {"blush": -1.7, "lip_red": 0.8, "mouth_open": -0.2}, False),
        ("face with a closed mouth", {"mouth_open": -0.9, "blush": 0.5}, True),
        ("smiling face", {"blush": 2.0, "smile": 0.6}, False),  # it is about something else
        ("face on a blue background", {"blush": 0.2}, True),
        ("face on a blue background", {"blush": 0.9}, False),
        ("gothic church", {}, True),  # nothing reads churches
        ("sad face", {"blush": 1.8, "smile": -0.9}, False),  # it is about the blush
        ("sad face", {"blush": 0.8, "smile": -0.9}, True),
        ("", {"smile": 3.0}, False),
    ],
)
def test_a_name_needs_the_instruments(text: str, changes: dict[str, float], agreed: bool) -> None:
    read = tuple(AttributeChange(*change) for change in changes.items())
    assert agree(Suggestion(text, "", 0.9, (), read)) is agreed


def test_changes_in_words() -> None:
    read = tuple(AttributeChange(*c) for c in (("blush", -1.74), ("lip_red", 0.81), ("smile", 0.7), ("age", 0.1)))
    assert describe_changes(read) == "blush −1.7, red lips +0.8"
    assert describe_changes(read[3:]) == ""


def test_every_phrase_of_faces_speaks_of_what_the_probe_reads() -> None:
    known = instruments.load(PRESETS / CARD.instruments).known
    assert {attribute for attribute, _ in SAYS.values()} <= known.keys()
    assert {phrase for phrase in VOCABULARY["face"] if phrase not in SAYS} == {
        f"face on a {colour} background" for colour in ("blue", "green", "yellow")
    }
    assert SAYS.keys() <= set(VOCABULARY["face"])


def test_no_change_gets_no_name(namer: Namer) -> None:
    picture = pair("smile", 0, 0)[0]
    suggestion = namer.suggest(picture, picture)
    assert (suggestion.text, suggestion.confidence) == ("", 0.0)


def test_noise_is_not_named_with_confidence(namer: Namer) -> None:
    picture = pair("smile", 0, 0)[0]
    noise = 0.05 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    assert namer.suggest(picture, (picture + noise).clamp(-1, 1)).confidence < 0.5


def test_the_other_side_has_the_other_name(namer: Namer) -> None:
    minus, plus = pair("eye_open", 0.0, 1.0)
    there, back = namer.suggest(minus, plus), namer.suggest(plus, minus)
    assert there.opposite == back.likely[0][0]
    assert "closed eyes" in back.text


class Probe:
    """Reads brightness, in units of its own."""

    known = {
        "bright": Attribute("bright", "continuous", -1, 1, 0, 0.5),
        "steady": Attribute("steady", "binary", 0, 1, 0, 1.0),
    }

    def attributes(self, pictures: Tensor) -> dict[str, Tensor]:
        return {"steady": torch.ones(len(pictures)), "bright": pictures.mean((1, 2, 3))}


def test_the_probe_is_read_on_both_sides(namer: Namer) -> None:
    minus, plus = torch.zeros(2, 3, 64, 64), torch.full((2, 3, 64, 64), 0.25)
    changes = read_changes(minus, plus, Probe())
    assert [change.attribute for change in changes] == ["bright", "steady"]
    assert changes[0].change == pytest.approx(0.5)
    assert changes[1].change == 0
    assert namer.suggest(minus, plus, Probe()).changes == changes


def test_every_domain_of_the_registry_has_words() -> None:
    for card in MODELS.values():
        assert len(VOCABULARY[card.domain_word]) >= 12


def test_an_unknown_domain_is_refused(namer: Namer) -> None:
    with pytest.raises(RequestError, match="vocabulary"):
        Namer(namer.image_text, "submarine", ("{}",))
    assert Namer(namer.image_text, "submarine", ("{}",), ("red submarine", "blue submarine")).phrases

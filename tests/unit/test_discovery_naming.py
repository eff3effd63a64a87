"""Suggested names against pictures whose change is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from core import clip
from core.asyrp.prompts import templates
from core.discovery.naming import VOCABULARY, Namer, read_changes
from core.errors import RequestError
from core.instruments import Attribute
from core.models.cards import MODELS
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

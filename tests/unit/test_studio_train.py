"""Directions that visitors train: what they ask for is checked, and names are suggested."""

import numpy as np
import pytest
import torch
from small_models import small_model
from test_asyrp import LinearImageText

from core.asyrp.prompts import TABLE_2, TABLE_3, suggested_name
from core.asyrp.train import Training
from core.errors import RequestError
from core.intervals import PUBLISHED
from core.models.cards import MODELS
from core.progress import finish
from core.studio import measuring
from core.studio.sample import sample_picture
from core.studio.train import (
    TextEditState,
    coefficients_in_words,
    pictures_to_learn_from,
    start_training,
    training_settings,
)


@pytest.mark.parametrize(
    ("form", "samples", "steps", "l_clip"),
    [("odd", 32, 20, 1.0), ("global", 3, 20, 1.0), ("global", 32, 500, 1.0), ("global", 32, 20, 50.0)],
)
def test_training_settings_are_checked(form: str, samples: int, steps: int, l_clip: float) -> None:
    with pytest.raises(RequestError):
        training_settings(form, samples, steps, l_clip)


def test_a_text_that_is_too_long() -> None:
    with pytest.raises(RequestError, match="201 characters, and up to 200"):
        start_training(small_model(), "face", "x" * 201, training_settings("global", 4, 8))


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [
        ("face", "smiling face", "Smiling"),
        ("face", "face with a red beard", "Red beard"),
        ("church", "a Gothic church", "Gothic"),
        ("person", "Nicolas Cage", "Nicolas Cage"),
        ("face", "face", "face".capitalize()),
        ("face", "x" * 200, "X" + "x" * 59),
    ],
)
def test_suggested_names(source: str, target: str, name: str) -> None:
    assert suggested_name(source, target) == name


def test_the_papers_words_belong_to_its_intervals() -> None:
    """Table 2 has 33 rows; its texts stand beside its numbers in the same order."""
    assert {data: len(pairs) for data, pairs in TABLE_2.items()} == {
        data: len(table.knots) for data, table in PUBLISHED.items()
    }
    assert sum(map(len, TABLE_2.values())) == 33
    assert set(TABLE_3) <= {pair for pairs in TABLE_2.values() for pair in pairs}


def test_table_3_follows_its_rule() -> None:
    """l_recon is three times the similarity that Table 2 prints, in every row, Frida Kahlo's among them."""
    for data, pairs in TABLE_2.items():
        for pair, (similarity, _) in zip(pairs, PUBLISHED[data].knots, strict=True):
            if pair in TABLE_3:
                assert TABLE_3[pair].l_recon == pytest.approx(3 * similarity, abs=1e-9), pair


def test_coefficients_are_table_3s_unless_the_visitor_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "image_text", lambda card: LinearImageText())

    def made(l_clip: float | None, target: str = "neanderthal") -> Training:
        return start_training(small_model(), "Human", target, training_settings("global", 4, 8, l_clip))

    assert (made(None).l_clip, made(None).l_recon) == (1.2, pytest.approx(2.406))
    assert coefficients_in_words(made(None)).endswith("from Table 3 of the paper")
    assert made(0.5).l_clip == 0.5
    assert coefficients_in_words(made(0.5)).endswith("as you have set it")
    assert made(None, "robot").l_clip == 0.8
    assert coefficients_in_words(made(None, "robot")).endswith("by the rule of the paper")


def test_pictures_to_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The visitor's own; else the examples and what the model imagines, the same for all, which make what was prepared
    from other latents of no use."""
    monkeypatch.setattr(measuring, "image_text", lambda card: LinearImageText())
    model = small_model()
    monkeypatch.setitem(MODELS, model.card.id, model.card)
    own = [np.full((50, 60, 3), 40 * i, np.uint8) for i in range(4)]
    pixels = finish(pictures_to_learn_from(model, 99, own))
    assert pixels.shape == (4, 3, 32, 32)
    assert pixels[2].mean().item() == pytest.approx(80 / 127.5 - 1, abs=1e-5)
    for wrong in (own[:3], own * 100):
        with pytest.raises(RequestError, match="between 4 and 200"):
            finish(pictures_to_learn_from(model, 99, wrong))

    few, more = (finish(pictures_to_learn_from(model, count)) for count in (4, 6))
    assert torch.equal(more[:4], few)
    assert torch.equal(few[:1], finish(sample_picture(model, 0)).pixels)

    state, settings = TextEditState(), training_settings("global", 4, 8)
    first = start_training(model, "face", "odd face", settings, state, pixels)
    finish(first.prepare())
    state.keep_sources(first)
    assert start_training(model, "face", "mad face", settings, state, pixels).sources is first.sources
    assert start_training(model, "face", "mad face", settings, state).sources is None
    assert start_training(model, "face", "mad face", settings, state, few).sources is None

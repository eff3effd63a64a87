"""Directions of h-space in the embedded text-to-image model, and how the benchmark compares them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.t2i_beside import beside_words
from benchmarks.t2i_study import between, crossing
from core import instruments
from core.discovery.basis import krylov_basis
from core.discovery.interface import DiscoverySettings
from core.discovery.jacobian_operator import Jacobian, nearest_timestep, place
from core.discovery.locality import VISIBLE_CHANGE, mean_squares, roir, strength_for
from core.discovery.methods import discover
from core.editing import EditSettings
from core.models.cards import PRESETS
from core.models.pipelines import load
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.process import edit_pictures
from core.progress import finish
from core.prompted import with_prompt
from core.regions import ready_made_region
from core.studio import library
from core.studio.compose.word_change import NO_CHANGE, read_change
from core.studio.frames import EditOptions
from core.studio.visit.compose import available_presets
from core.studio.visit.session import Session
from core.studio.visit.words import composed
from core.text_to_image import TextToImage
from training.dataset import to_pixels
from training.portraits import HELD_OUT, render, sample

CARD = TEXT_TO_IMAGE["avatars-t2i"]


def test_where_a_sequence_reaches_a_goal() -> None:
    assert crossing([1.0, 3.0], 0.5) == (0, 0.5)
    assert crossing([1.0, 3.0], 2.0) == (1, 0.5)
    assert crossing([1.0, 3.0], 4.0) is None
    assert crossing([2.0, 1.0, 3.0], 1.5) == (0, 0.75), "the first place"
    assert between(np.array([10.0, 20.0]), 4.0, (0, 0.5)) == 7.0
    assert between(np.array([10.0, 20.0]), 4.0, (1, 0.5)) == 15.0


def test_a_direction_and_a_word_are_compared_where_both_change_the_attribute_as_much() -> None:
    words = {"own 1": 1.0, "own 2": 3.0, "identity 1": 0.9, "identity 2": 0.7, "psnr 1": 40.0, "psnr 2": 30.0}
    words |= {"given back 1": 42.0, "given back 2": 34.0, "monotone": 1.0}
    stronger = {"own 1": 2.0, "own 2": 4.0, "identity 1": 0.96, "identity 2": 0.92, "psnr 1": 38.0, "psnr 2": 36.0}
    both = beside_words(stronger | {"monotone": 0.9}, words, 1.0)
    assert both is not None
    assert (both["words identity"], both["words psnr"], both["given back"]) == (0.7, 30, 34)
    assert (both["identity"], both["psnr"]) == (pytest.approx(0.94), pytest.approx(37))

    weaker = {"own 1": 2.0, "own 2": 1.5, "identity 1": 0.96, "identity 2": 0.9, "psnr 1": 38.0, "psnr 2": 36.0}
    weaker["monotone"] = 1.0
    both = beside_words(weaker, words, 2 / 3)
    assert both is not None
    assert (both["identity"], both["psnr"]) == (0.96, 38), "at the first strength that reaches it"
    assert (both["words identity"], both["words psnr"], both["given back"]) == (pytest.approx(0.8), 35, 38)
    assert beside_words(weaker, words, 0.7) is None


@pytest.mark.slow
def test_what_is_found_on_one_mouth_is_a_smile_on_others() -> None:
    """Nobody tells it what a smile is: the direction that changes the mouth most per change of the rest."""
    loaded = load(CARD, dtype=torch.float32)
    text_model = TextToImage.from_pipeline(loaded.pipeline, CARD.id, loaded.fingerprint)
    model, probe = with_prompt(text_model, "a face"), instruments.load(PRESETS / str(CARD.instruments))
    source, *others = (to_pixels(np.asarray(render(sample(HELD_OUT + k)))[None]) for k in (6, 2, 20, 21, 22))
    t, mouth = nearest_timestep(model, 40), ready_made_region("face", "Mouth", 128)
    basis = finish(krylov_basis(Jacobian(model, finish(place(model, source, t)), t), 48))
    [found] = discover(basis, [mouth], "contrast", DiscoverySettings(count=1))
    settings, pixels = EditSettings(7, injection="symmetric"), torch.cat(others)
    a = strength_for(found, mouth, accumulation=model.card.accumulation)
    made = finish(edit_pictures(model, source, 2, [(found.direction, [-a, a])], settings))
    visible = mean_squares(source, made, mouth.mask)[0].mean().sqrt()
    assert 0.6 < visible / VISIBLE_CHANGE < 1.7, "what it is expected to change"
    a, n = 2 * strength_for(found, mouth), len(others)
    made = finish(edit_pictures(model, pixels, 2, [(found.direction, [-a, a] * n)], settings)).unflatten(0, (n, 2))
    smile = probe.attributes(made[:, 1])["smile"] - probe.attributes(made[:, 0])["smile"]
    change = smile / probe.known["smile"].spread
    assert (change.sign() == change.sign()[0]).all(), change
    assert change.abs().mean() > 0.5, change
    assert min(roir(pixels, made[:, side], mouth.mask).median() for side in (0, 1)) < 0.7


@pytest.mark.slow
def test_directions_and_a_word_together_do_what_each_does() -> None:
    """On a portrait that they broke (identity 0.39) while guidance multiplied what directions do."""
    session = Session(CARD.id)
    session.picture = picture = library.open_picture(library.examples(CARD.id)[1], CARD.id)
    by_name = {preset.name: preset for preset in available_presets(session).values()}
    chosen = [(by_name[name], by_name[name].unit) for name in ("Smiling", "Old")]
    change = read_change(picture, picture.conditioning.replace(" face", " surprised face"), 1.0, None, "")
    alone, without, words, both = (
        finish(composed(session, picture, directions, asked, EditOptions())).pixels
        for directions, asked in (
            (chosen, NO_CHANGE),
            (chosen, replace(change, strength=0.0)),
            ([], change),
            (chosen, change),
        )
    )
    probe = instruments.load(PRESETS / CARD.instruments)
    made = torch.stack((alone, without, words, both))
    read, before = probe.attributes(made), probe.attributes(picture.pixels)

    def change_of(name: str) -> list[float]:
        return ((read[name] - before[name]) / probe.known[name].spread).tolist()

    identity = (probe.identity(picture.pixels) * probe.identity(made)).sum(1)
    assert identity.min() > 0.9
    assert 10 * torch.log10(4 / (alone - without).square().mean()) > 30, "words at 0 leave what the directions do alone"
    assert change_of("age")[3] > 0.8 * change_of("age")[0] > 0.8
    assert change_of("mouth_open")[3] > 0.8 * change_of("mouth_open")[2] > 1.2

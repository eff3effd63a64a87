"""Compositions: their bookkeeping, how they are applied, and the pictures made of them."""

import io
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core import presets
from core.directions import GlobalDirection, ImplicitDirection
from core.editing import EditSettings
from core.errors import PresetError, RequestError
from core.intervals import Intervals
from core.models.cards import MODELS
from core.models.loader import DiffusionModel
from core.process import Process, edit_pictures
from core.progress import Running, finish
from core.studio import library
from core.studio.compose import animation, applying, pictures
from core.studio.compose.composition import DIGITS, MAX_COMPONENTS, Component, Composition
from core.studio.compose.state import MAX_RESULTS, MAX_STEPS_BACK, History, compare
from core.studio.compose.word_change import WordChange
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions, Frame, Measures, Picture
from core.studio.strips import begin_strip
from core.studio.visit.compose import active_presets, add_preset, available_presets, exchange_presets
from core.studio.visit.session import Session
from tests.unit.composing import FAST, isolated_model, preset, small_picture, vector
from tests.unit.small_models import trained_block


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DiffusionModel:
    return isolated_model(monkeypatch, tmp_path)


@pytest.fixture
def picture(model: DiffusionModel) -> Picture:
    return small_picture()


# ---------------------------------------------------------------------------------------------------------- bookkeeping


def three() -> Composition:
    return Composition().add("a", 1.0).add("b", -0.5).add("c", 40.0)


def test_adding_moving_removing() -> None:
    composition = three()
    assert [c.key for c in composition.components] == ["a", "b", "c"]
    assert composition["c"].unit == 40
    assert composition.add("a", 9.0) is composition
    assert [c.key for c in composition.move("a", 1).components] == ["b", "a", "c"]
    assert [c.key for c in composition.move("a", 99).components] == ["b", "c", "a"]
    assert [c.key for c in composition.move("c", -1).components] == ["c", "a", "b"]
    assert [c.key for c in composition.remove("b").components] == ["a", "c"]
    assert composition.exchange("b", "d")["d"].strength == -0.5
    for fault in (lambda: composition.remove("x"), lambda: composition.exchange("a", "b"), lambda: composition["x"]):
        with pytest.raises(RequestError):
            fault()
    full = Composition()
    for i in range(MAX_COMPONENTS):
        full = full.add(str(i))
    with pytest.raises(RequestError, match="Remove one"):
        full.add("one more")
    for strength in (float("nan"), float("inf"), "1", None, True):
        with pytest.raises(RequestError):
            composition.set("a", strength)


def test_mute_and_solo() -> None:
    composition = three()
    assert [c.key for c in composition.mute("a", True).active] == ["b", "c"]
    assert [c.key for c in composition.solo("a", True).active] == ["a"]
    assert [c.key for c in composition.solo("a", True).solo("b", True).mute("a", True).active] == ["b"]
    assert composition.solo("a", True).solo("a", False) == composition


def test_a_locked_total_stays() -> None:
    """Whatever strengths are set: the total of relative strengths stays, the others keep proportions and signs."""
    numbers = random.Random(0)
    composition = three().add("d", 0.25).mute("d", True).lock(True)
    for _ in range(200):
        key = numbers.choice("abc")
        before = composition
        composition = composition.set(key, numbers.uniform(-3, 3) * composition[key].unit)
        assert composition.total == pytest.approx(before.total, abs=3 * 10**-DIGITS), "but for the last digit"
        assert composition["d"] == before["d"]
        x, y = (k for k in "abc" if k != key)
        if before[x].relative_strength > 0.2 and composition[y].relative_strength > 0.2:
            ratio = (before[x].relative_strength * composition[y].relative_strength) / (
                composition[x].relative_strength * before[y].relative_strength
            )
            assert ratio == pytest.approx(1, abs=0.02)
    assert three().lock(True).set("a", 100).total == pytest.approx(three().total)
    assert Composition().add("a").lock(True).set("a", 0.3)["a"].strength == 0.3
    zeros = Composition((Component("a", 1.0), Component("b", 0.0), Component("c", 0.0)), locked=True).set("a", 0.0)
    assert [c.strength for c in zeros.components] == [0, 0.5, 0.5]


def test_a_visit_adds_changes_and_takes_back(model: DiffusionModel) -> None:
    session = Session("small")
    key = session.keep(preset("Wider", 0, strength=2.0))
    foreign = session.keep(preset("Elsewhere", 0, model="other"))
    add_preset(session, key)
    assert session.compose.composition[key].strength == 2
    assert active_presets(session) == [(session.own[key], 2.0)]
    for wrong in (foreign, "nothing"):
        with pytest.raises(RequestError, match="not here"):
            add_preset(session, wrong)
    session.compose.change(session.compose.composition.set(key, 0.5))
    session.compose.change(session.compose.composition)
    assert session.compose.undo()
    assert session.compose.composition[key].strength == 2
    assert session.compose.undo()
    assert not session.compose.composition.components
    assert not session.compose.undo()
    for k in range(MAX_STEPS_BACK + 5):
        session.compose.change(Composition((Component("x", k / 10),)))
    assert sum(session.compose.undo() for _ in range(2 * MAX_STEPS_BACK)) == MAX_STEPS_BACK


def test_history_is_bounded() -> None:
    history = History()
    for k in range(MAX_RESULTS + 3):
        kept = history.keep(("key", k), Composition(), f"number {k}", torch.zeros(3, 2, 2), Frame(1.0, None, None), 0.0)
        assert kept.number == k + 1
    assert len(history.results) == MAX_RESULTS
    assert history.result(1) is history.find(("key", 0)) is None
    assert history.result(MAX_RESULTS + 3) is history.find(("key", MAX_RESULTS + 2)) is kept


def test_a_picture_is_that_of_every_composition_with_the_same_effect() -> None:
    """What is muted, and in which order the rest is, changes no picture."""
    history, one, words = History(), Composition().add("a").add("b", -0.5), WordChange("a face")
    frame = Frame(1.0, None, None)
    made = history.keep(1, one, "", torch.zeros(3, 2, 2), frame, 0.0)
    same = Composition().add("b", -0.5).add("c").mute("c", True).add("a")
    assert same != one
    assert history.latest(same) is made
    assert history.latest(same.mute("c", False)) is None
    assert history.latest(same.set("b", 0.5)) is None
    assert history.latest(one, words) is None
    with_words = history.keep(2, one, "", torch.zeros(3, 2, 2), frame, 0.0, change=words)
    assert history.latest(same, words) is with_words
    assert history.latest(same) is made


def test_two_results_are_compared_with_each_other() -> None:
    """Equal pictures differ by nothing, however far both are from what they were made of."""
    history, card = History(), MODELS["avatars"]
    edited = library.open_picture(library.examples("avatars")[1], "avatars").pixels[0]
    far = Frame(1.0, edited, Measures(distance=9.0, identity=0.1))
    near = Frame(1.0, library.open_picture(library.examples("avatars")[2], "avatars").pixels[0], Measures())
    first, same, other = (
        history.keep(k, Composition(), "", torch.zeros(3, 2, 2), frame, 0.0, card=card)
        for k, frame in enumerate((far, far, near))
    )
    assert compare(first, same).measures.distance == pytest.approx(0, abs=1e-4)
    assert compare(first, same).measures.identity == pytest.approx(1, abs=1e-3)
    assert compare(first, other).measures.distance > 0.05
    assert torch.equal(compare(first, other).pixels, near.pixels)


def test_a_strip_is_one_result_at_the_strength_that_is_looked_at(model: DiffusionModel) -> None:
    history = History()
    made = preset("A", 1, strength=50.0, strength_range=(-75.0, 75.0))
    strip = begin_strip(Picture(torch.zeros(1, 3, 2, 2), "small"), "a", made, EditOptions())
    assert history.keep_strip(strip, "Text edit", model.card) is None
    strip.add([Frame(c, torch.full((3, 2, 2), c), Measures()) for c in (25.0, 50.0)])
    assert history.keep_strip(strip, "Text edit", model.card).words == "A +1"
    strip.strength = 25.0
    assert history.keep_strip(strip, "Text edit", model.card).words == "A +0.5"
    assert [result.frame.strength for result in history.results] == [25.0]


def test_exchanging_several_is_one_change(model: DiffusionModel) -> None:
    session = Session("small")
    for key in ("own-1", "own-2", "own-3"):
        session.keep(preset(key, 1))
        add_preset(session, key)
    before = session.compose.composition
    exchange_presets(session, {"own-1": preset("X", 1), "own-3": preset("Z", 2)})
    assert [available_presets(session)[key].name for key in session.compose.composition.keys] == ["X", "own-2", "Z"]
    assert session.compose.undo()
    assert session.compose.composition == before


# ------------------------------------------------------------------------------------------------------------- applying


@pytest.mark.parametrize("process", ["anchored", "paper"])
def test_a_composition_of_global_directions_is_their_sum(
    model: DiffusionModel, picture: Picture, process: Process
) -> None:
    """One pass with the vector sum_i c_i delta_i S_i / S~, made by hand."""
    a, b = preset("A", 1), preset("B", 2, steps=16)
    [frame] = finish(applying.apply(model, picture, [(a, [0.7]), (b, [-0.2])], replace(FAST, process=process)))
    total = GlobalDirection(0.7 * vector(1) - 0.2 * 2 * vector(2), steps=8)
    settings = EditSettings(8, Intervals(300, 0))
    expected = finish(edit_pictures(model, picture.pixels, 1, [(total, 1.0)], settings, process))
    assert torch.allclose(frame.pixels, expected[0], atol=1e-4)
    assert frame.strength == 0.7
    plain = finish(edit_pictures(model, picture.pixels, 1, (), settings, process))
    assert (expected - plain).abs().max() > 0.005, "far above the tolerance"


def test_intervals_and_injection_of_the_parts_are_kept(model: DiffusionModel, picture: Picture) -> None:
    """Boosting below the smallest t_boost; with a part of no effect, each acts as it would alone."""
    early = preset("Early", 1, t_edit=600, t_boost=200)
    late = preset("Late", 2, t_edit=100, t_boost=150, injection="symmetric")
    assert applying.intervals_of(model.card, [early, late]) == Intervals(100, 150)
    for one, strengths in ((early, (1.0, 0.0)), (late, (0.0, 1.0))):
        both = list(zip((early, late), [[c] for c in strengths], strict=True))
        alone = EditOptions(steps=8, t_boost=150)
        [together] = finish(applying.apply(model, picture, both, FAST))
        [single] = finish(edit_frames(model, picture, one, [1.0], alone))
        assert torch.allclose(together.pixels, single.pixels, atol=1e-4), one.name


def test_a_saved_composition_does_the_same(model: DiffusionModel, picture: Picture, tmp_path: Path) -> None:
    """Every kind of part, its file, and a composition of compositions."""
    session = Session("small")
    implicit = ImplicitDirection(trained_block(emb_channels=64), steps=16)
    chosen = [(preset("A", 1), 0.5), (preset("F", 0, direction=implicit, injection="symmetric", t_edit=500), -0.8)]
    [frame] = finish(applying.apply(model, picture, [(p, [c]) for p, c in chosen], FAST))
    saved = applying.combine(model.card, chosen, "Both", FAST)
    assert saved.description == "A +0.5, F −0.8"
    again = presets.load(session.write(saved))
    [same] = finish(edit_frames(model, picture, again, [1.0], FAST))
    assert torch.allclose(same.pixels, frame.pixels, atol=1e-4)
    twice = applying.combine(model.card, [(again, 1.0), (preset("B", 2), 0.3)], "All", FAST)
    assert len(twice.direction.parts) == 3
    [nested] = finish(edit_frames(model, picture, presets.from_bytes(presets.to_bytes(twice)), [1.0], FAST))
    [flat] = finish(applying.apply(model, picture, [*((p, [c]) for p, c in chosen), (preset("B", 2), [0.3])], FAST))
    assert torch.allclose(nested.pixels, flat.pixels, atol=1e-4)
    session.end()


def test_requests_that_cannot_be_composed(model: DiffusionModel, picture: Picture) -> None:
    a = preset("A", 1)
    for chosen in ([], [(a, [])], [(a, [1.0]), (preset("B", 2), [1.0, 2.0])], [(a, [1.0] * 122)], [(a, [101.0])]):
        with pytest.raises(RequestError):
            finish(applying.apply(model, picture, chosen, FAST))
    with pytest.raises(PresetError, match="other"):
        finish(applying.apply(model, picture, [(preset("B", 2, model="other", fingerprint="f" * 16), [1.0])], FAST))
    with pytest.raises(RequestError, match="nothing to save"):
        applying.combine(model.card, [], "x")
    with pytest.raises(RequestError, match="up to 32"):
        applying.combine(model.card, [(a, 1.0)] * 33, "x")
    with pytest.raises(RequestError, match="not here any more"):
        applying.resolve(three(), {"a": a})


# ------------------------------------------------------------------------------------------------------------- pictures


def test_every_cell_of_a_sweep_is_the_edit_it_stands_for(model: DiffusionModel, picture: Picture) -> None:
    chosen = [(preset("A", 1), 0.4), (preset("B", 2, t_edit=600), 1.0), (preset("C", 3), -0.5)]
    made = finish(pictures.sweep(model, picture, chosen, 2, 0, [-1.0, 0.0, 1.0], [0.0, 0.5], FAST))
    assert (made.across, made.down, len(made.frames)) == ("C", "A", 6)
    for k, frame in enumerate(made.frames):
        cell = [(chosen[0][0], [made.downs[k // 3]]), (chosen[1][0], [1.0]), (chosen[2][0], [made.acrosses[k % 3]])]
        [alone] = finish(applying.apply(model, picture, cell, FAST))
        assert torch.allclose(frame.pixels, alone.pixels, atol=1e-4), k
    shown = animation.sheet(made)
    assert shown.width > 3 * 128
    assert shown.height > 2 * 128
    for across, down in ((0, 0), (0, 3), (-1, 0)):
        with pytest.raises(RequestError, match="two different"):
            finish(pictures.sweep(model, picture, chosen, across, down, [0.0, 1.0], [0.0, 1.0], FAST))
    assert pictures.evenly_spaced(-1, 1, 5) == [-1, -0.5, 0, 0.5, 1]
    for wrong in ((1, 0, 5), (0, 1, 1), (0, 1, 12), (0, float("nan"), 5)):
        with pytest.raises(RequestError):
            pictures.evenly_spaced(*wrong)


def test_an_interpolation_goes_from_one_composition_to_another(model: DiffusionModel, picture: Picture) -> None:
    a, b = preset("A", 1), preset("B", 2)
    frames = finish(pictures.interpolate(model, picture, [(a, 1.0)], [(a, 0.5), (b, 1.0)], 3, FAST))
    for frame, (c, d) in zip(frames, ((1.0, 0.0), (0.75, 0.5), (0.5, 1.0)), strict=True):
        [alone] = finish(applying.apply(model, picture, [(a, [c]), (b, [d])], FAST))
        assert torch.allclose(frame.pixels, alone.pixels, atol=1e-4)
    with pytest.raises(RequestError):
        finish(pictures.interpolate(model, picture, [], [(a, 1.0)], 1, FAST))


def test_a_batch_comes_as_a_zip(model: DiffusionModel, tmp_path: Path) -> None:
    """Names cannot leave the folder they are unpacked in; a broken picture does not spoil the others."""
    colours = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    for k, colour in enumerate(colours):
        Image.fromarray(colour).save(tmp_path / f"{k}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [
        ("../../etc/pass wd.png", tmp_path / "0.png"),
        ("x", tmp_path / "broken.png"),
        ("Ünïcode.jpg", tmp_path / "1.png"),
    ]
    chosen = [(preset("A", 1), 0.5)]
    running = Running(pictures.batch(model, files, chosen, FAST))
    steps = [event.step for event in running]
    with zipfile.ZipFile(io.BytesIO(running.result.data)) as archive:
        assert archive.namelist() == ["01-pass-wd.png", "03-unicode.png", "contents.json"]
        contents = json.loads(archive.read("contents.json"))
        [(name, reason)] = running.result.problems
        assert (running.result.done, name) == (2, "x")
        assert "not a picture" in reason
        assert "not a picture" in contents["pictures"][1]["problem"]
        shown = np.asarray(Image.open(io.BytesIO(archive.read("03-unicode.png"))), dtype=float)
    [alone] = finish(
        applying.apply(model, library.open_picture(tmp_path / "1.png", "small"), [(chosen[0][0], [0.5])], FAST)
    )
    assert np.abs(shown - (alone.pixels.permute(1, 2, 0).numpy() + 1) * 127.5).max() <= 1
    assert steps == sorted(steps)
    for wrong in ([], files * 9):
        with pytest.raises(RequestError, match="Between 1"):
            finish(pictures.batch(model, wrong, chosen, FAST))
    with pytest.raises(RequestError, match="None of these"):
        finish(pictures.batch(model, files[1:2], chosen, FAST))

"""A composition with a change of words: what it is made of, sweeps, and what is refused."""

import json
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
import torch
from small_text_models import list_small_model, small_text_model
from torch import Tensor

from core.directions import CompositeDirection, GlobalDirection
from core.errors import PresetError, RequestError
from core.inversion.editing import PromptEditSettings, Target, edit
from core.inversion.inversion import Inversion
from core.presets import Preset, of_prompt
from core.progress import finish
from core.prompted import with_prompt
from core.regions import parse_regions
from core.studio.compose.composition import Composition
from core.studio.compose.with_words import Cell, apply_with_words, begin_inversion, inversion_in, sweep_with_words
from core.studio.compose.word_change import NO_CHANGE, WordChange, new_words, read_change
from core.studio.frames import EditOptions, Picture
from core.studio.invert.run_methods import run_methods
from core.studio.visit.session import Session
from core.studio.visit.words import composed, inverted, swept, what_made_it, words_in_force
from core.text_to_image import TextToImage
from tabs.compose.mixer import change_composition
from tabs.compose.tab import render
from tabs.compose.words import follow_undo, offer, without_place

PROMPT, TARGET = "a photo of a cat", "a photo of a dog"
TOP = json.dumps([{"label": "top", "boxes": [[0, 0, 1, 0.5]]}])


@pytest.fixture(scope="module")
def model() -> TextToImage:
    return small_text_model()


@pytest.fixture(autouse=True)
def listed(model: TextToImage, monkeypatch: pytest.MonkeyPatch) -> None:
    list_small_model(monkeypatch, model)


@pytest.fixture(scope="module")
def picture() -> Picture:
    pixels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    return Picture(pixels, "small", prompt=PROMPT)


@pytest.fixture
def inversion(picture: Picture) -> Inversion:
    trial, model = begin_inversion(picture)
    return inversion_in(finish(run_methods(trial, model, ["anchored"])))


def preset(model: TextToImage, seed: int = 1, **values: object) -> Preset:
    bound = with_prompt(model, PROMPT)
    delta = 3 * torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(seed))
    about = {"name": f"P{seed}", "model": "small", "fingerprint": bound.fingerprint, "t_edit": 0, "t_boost": 0}
    about |= {"injection": "symmetric", "strength": 2.0} | of_prompt(bound) | values
    return Preset(GlobalDirection(delta, 40), **about)


def lost(model: TextToImage, picture: Picture, inversion: Inversion) -> Tensor:
    """What the autoencoder loses of the picture."""
    return picture.pixels - model.decode(inversion.solution.trajectory[:1])


def test_words_alone_are_those_of_invert(model: TextToImage, picture: Picture, inversion: Inversion) -> None:
    [frame] = finish(apply_with_words(model, picture, inversion, [], [Cell((), WordChange(TARGET))]))
    settings = PromptEditSettings(3.0, "swap", cross_steps=0.8)
    [expected] = finish(edit(model, inversion, [Target(TARGET)], settings)) + lost(model, picture, inversion)
    torch.testing.assert_close(frame.pixels, expected.clamp(-1, 1), rtol=0, atol=1e-5)


def test_directions_and_words_in_one_pass(model: TextToImage, picture: Picture, inversion: Inversion) -> None:
    one, other = preset(model, 1), preset(model, 2)
    change = WordChange(TARGET, 0.8, 2.0, (("dog", 1.5),))
    [frame] = finish(apply_with_words(model, picture, inversion, [one, other], [Cell((2.0, -1.0), change)]))
    settings = PromptEditSettings(2.0, "swap", cross_steps=0.8)
    target = Target(TARGET, 0.8, {"dog": 1.5}, directions=[(one.direction, 2.0), (other.direction, -1.0)])
    [expected] = finish(edit(model, inversion, [target], settings)) + lost(model, picture, inversion)
    torch.testing.assert_close(frame.pixels, expected.clamp(-1, 1), rtol=0, atol=1e-4)
    [words] = finish(apply_with_words(model, picture, inversion, [], [Cell((), change)]))
    assert (frame.pixels - words.pixels).abs().max() > 1e-2


def test_nothing_at_all_is_the_picture(model: TextToImage, picture: Picture, inversion: Inversion) -> None:
    [frame] = finish(
        apply_with_words(model, picture, inversion, [preset(model)], [Cell((0.0,), WordChange(TARGET, 0.0))])
    )
    torch.testing.assert_close(frame.pixels, picture.pixels[0], rtol=0, atol=1e-4)


def test_a_sweep_is_its_cells(model: TextToImage, picture: Picture, inversion: Inversion) -> None:
    one, other, change = preset(model, 1), preset(model, 2), WordChange(TARGET)
    acrosses = (-2.0, 0.0, 2.0)
    for axis, word, downs in (
        ("guidance", "", (1.0, 4.0)),
        ("strength", "", (0.0, 1.0)),
        ("weight", "dog", (0.5, 2.0)),
    ):
        asked = (model, picture, inversion, [(one, 9.0), (other, 1.0)], acrosses, change, axis, downs, word)
        grid = finish(sweep_with_words(*asked))
        assert (grid.across, len(grid.frames)) == ("P1", 6)
        for k, (d, a) in enumerate((d, a) for d in downs for a in acrosses):
            cell = Cell((a, 1.0), change.along(axis, d, word))
            [alone] = finish(apply_with_words(model, picture, inversion, [one, other], [cell]))
            torch.testing.assert_close(grid.frames[k].pixels, alone.pixels, rtol=0, atol=1e-4)
        first, last = grid.frames[0].pixels, grid.frames[3].pixels
        assert (first - last).abs().max() > 1e-3, f"{axis} does nothing"
    pair = finish(
        sweep_with_words(model, picture, inversion, [(one, 0.0), (other, 0.0)], (0.0, 2.0), change, None, (-1.0, 1.0))
    )
    assert (pair.across, pair.down, len(pair.frames)) == ("P1", "P2", 4)
    for chosen, words in (([], change), ([(one, 1.0)], NO_CHANGE)):
        with pytest.raises(RequestError):
            finish(sweep_with_words(model, picture, inversion, chosen, (0.0, 1.0), words, None, (0.0, 1.0)))


def test_a_region_holds_both(model: TextToImage, picture: Picture, inversion: Inversion) -> None:
    change = read_change(picture, TARGET, 1.0, None, "", TOP)
    [frame], [free] = (
        finish(apply_with_words(model, picture, inversion, [preset(model)], [Cell((2.0,), one)]))
        for one in (change, replace(change, where=""))
    )
    settings = PromptEditSettings(3.0, "swap", cross_steps=0.8, region=parse_regions(TOP, 16)[0])
    target = Target(TARGET, directions=[(preset(model).direction, 2.0)])
    [expected] = finish(edit(model, inversion, [target], settings)) + lost(model, picture, inversion)
    torch.testing.assert_close(frame.pixels, expected.clamp(-1, 1), rtol=0, atol=1e-4)
    below = np.s_[:, 12:]
    inside, everywhere = ((one.pixels - picture.pixels[0])[below].abs().mean() for one in (frame, free))
    assert inside < everywhere


def test_what_is_refused(model: TextToImage, picture: Picture, inversion: Inversion) -> None:
    change = WordChange(TARGET)
    for bad, error, words in (
        (preset(model, fingerprint="1" * 16), PresetError, "other weights"),
        (replace(preset(model, fingerprint="1" * 16), model="avatars"), PresetError, "made for the model Avatars"),
    ):
        with pytest.raises(error, match=words):
            finish(apply_with_words(model, picture, inversion, [bad], [Cell((1.0,), change)]))
    with pytest.raises(RequestError, match="strength"):
        finish(apply_with_words(model, picture, inversion, [preset(model)], [Cell((101.0,), change)]))
    trained = preset(model, injection="asymmetric")
    with pytest.raises(RequestError, match="without words"):
        finish(apply_with_words(model, picture, inversion, [trained], [Cell((1.0,), change)]))
    composite = CompositeDirection((trained.direction,), (1.0,), (0,), ("symmetric",))
    given = {name: value for name, value in vars(trained).items() if name != "direction"}
    finish(apply_with_words(model, picture, inversion, [Preset(composite, **given)], [Cell((1.0,), change)]))
    for given, words in (
        ((TARGET, 1.6, None, ""), "strength of the words"),
        ((TARGET, 1.0, 16.0, ""), "guidance"),
        ((TARGET, 1.0, None, "cat 2"), "not a word of the target"),
        ((TARGET, 1.0, None, "dog 9"), "weight"),
        ((TARGET, 1.0, None, "dog"), "not a word with its weight"),
        ((TARGET, 1.0, None, "", "[]"), "Draw a region"),
        ((f" {PROMPT} ", 1.0, 2.0, ""), "Change, add or take out a word"),
    ):
        with pytest.raises(RequestError, match=words):
            read_change(picture, *given)
    with pytest.raises(RequestError, match="no text-to-image model"):
        read_change(replace(picture, model_id="avatars"), TARGET, 1.0, None, "")


def test_what_is_read(picture: Picture) -> None:
    assert read_change(picture, "  ", 1.0, None, "") == NO_CHANGE
    assert not NO_CHANGE
    change = read_change(picture, "a photo of a red dog", 0.5, 2.0, "photo 2")
    assert new_words(picture, change) == ["red", "dog", "photo"]
    for part in ("red dog", "0.5", "guidance 2", "photo 2"):
        assert part in change.words


def test_a_visit_inverts_once(model: TextToImage, picture: Picture) -> None:
    session = Session("small")
    session.picture = picture
    session.compose.change_of_words = WordChange(TARGET)
    chosen = [(preset(model), 2.0)]
    first = finish(composed(session, picture, chosen, WordChange(TARGET), EditOptions()))
    [trial] = session.invert.kept
    assert finish(inverted(session, picture))[1] is trial.results["anchored"].inversion
    again = finish(composed(session, picture, chosen, WordChange(TARGET), EditOptions()))
    assert torch.equal(first.pixels, again.pixels)
    assert session.invert.kept == [trial]
    grid = finish(swept(session, picture, chosen, (0.0, 2.0), "strength", (0.0, 1.0), "", EditOptions()))
    torch.testing.assert_close(grid.frames[3].pixels, first.pixels, rtol=0, atol=1e-4)
    made = what_made_it(picture, chosen, EditOptions(), session.compose.change_of_words)
    assert (made["prompt"], made["words"]["target"]) == (PROMPT, TARGET)
    session.compose.change_of_words = NO_CHANGE
    plain = finish(composed(session, picture, chosen, NO_CHANGE, EditOptions(steps=6)))
    assert (plain.pixels - first.pixels).abs().max() > 1e-3
    assert "words" not in what_made_it(picture, chosen, EditOptions(), NO_CHANGE)


def test_another_model_has_other_words(picture: Picture) -> None:
    session = Session("small")
    session.picture, session.compose.change_of_words = picture, WordChange(TARGET)
    session.compose.change(Composition().add("x"))
    session.discover.drawn = drawn = json.loads(TOP)
    session.change_model("avatars")
    assert session.compose.change_of_words == NO_CHANGE
    assert session.discover.drawn == []
    session.change_model("small")
    assert session.compose.change_of_words == WordChange(TARGET)
    assert session.discover.drawn == drawn
    assert session.picture is picture


def test_clearing_is_of_words_too(picture: Picture) -> None:
    session = Session("small")
    session.picture, session.compose.change_of_words = picture, WordChange(TARGET)
    session.compose.change(Composition().add("x"))
    change_composition(session, "remove", "x", None)
    assert session.compose.change_of_words == WordChange(TARGET)
    change_composition(session, "clear", None, None)
    assert session.compose.change_of_words == NO_CHANGE
    change_composition(session, "clear", None, None)
    change_composition(session, "undo", None, None)
    assert session.compose.change_of_words == WordChange(TARGET), "there was one thing to clear"
    assert session.compose.composition == Composition()


def test_undo_is_of_words_too(picture: Picture) -> None:
    session = Session("small")
    session.picture, state = picture, session.compose
    state.change(words=WordChange(TARGET))
    state.change(Composition().add("x"))
    state.change(words=WordChange("another"))
    state.change(words=WordChange("another"))
    state.change(words=NO_CHANGE)
    steps = []
    while state.history.past:
        change_composition(session, "undo", None, None)
        steps.append((state.composition.keys, state.change_of_words.target))
    assert steps == [(["x"], "another"), (["x"], TARGET), ([], TARGET), ([], "")]


def test_what_is_written_of_words_follows_an_undo_of_them(picture: Picture) -> None:
    session = Session("small")
    session.picture, state = picture, session.compose
    state.change(words=WordChange(TARGET, 0.5))
    state.change(words=WordChange("a photo of a red dog"))
    state.change(Composition().add("x"))
    assert follow_undo(session, "")[:5] == (gr.skip(),) * 5, "nothing was undone"
    change_composition(session, "undo", None, None)
    assert follow_undo(session, "")[:5] == (gr.skip(),) * 5, "only a direction was"
    change_composition(session, "undo", None, None)
    assert follow_undo(session, "")[:2] == (TARGET, 0.5)
    assert follow_undo(session, "")[:5] == (gr.skip(),) * 5


def test_words_go_along_to_another_picture(picture: Picture) -> None:
    session = Session("small")
    session.picture, asked = picture, read_change(picture, "a photo of a red dog", 0.5, None, "red 2, photo 0.5")
    session.compose.change_of_words = asked
    session.compose.target_offered = asked.target
    assert words_in_force(session) == asked

    session.picture = replace(picture, prompt="a drawing of a cat on a roof")
    carried = words_in_force(session)
    assert carried.target == "a drawing of a red dog on a roof"
    assert (carried.strength, carried.weights) == (0.5, (("red", 2.0),)), "photo is no word of it"
    assert offer(session, "a photo of a red dog")[0] == carried.target
    assert offer(session, "a photo of a green dog")[0] == gr.skip(), "what the visitor writes stays"

    session.picture = replace(picture, prompt="a house")
    assert words_in_force(session) == NO_CHANGE
    target, told = offer(session, carried.target)
    assert target == "a house"
    assert "cat → red dog" in told
    assert "not applied" in without_place(session)

    session.picture = picture
    assert words_in_force(session) == asked, "they are back where they were written"
    assert without_place(session) == ""


def test_words_that_only_weigh_go_along_too(picture: Picture) -> None:
    change = read_change(picture, PROMPT, 1.0, None, "cat 2")
    assert change.on("the cat").target == "the cat"
    assert change.on("the dog") == NO_CHANGE


def test_until_the_new_picture_is_there_the_last_one_is_shown_as_stale(picture: Picture) -> None:
    session = Session("small")
    session.picture = picture
    session.compose.change(words=WordChange(TARGET))
    *_, first = render(session, session.edits.begin(), "anchored", 4, 0)
    session.compose.change(words=WordChange(TARGET, 0.5))
    *meanwhile, second = render(session, session.edits.begin(), "anchored", 4, 0)
    assert meanwhile
    assert all(value["stale"] and value["frames"] == first["frames"] for value in meanwhile)
    assert "stale" not in first
    assert "stale" not in second
    assert second["frames"] != first["frames"]

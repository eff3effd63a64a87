"""What a visit has made with one picture or model is there again when it comes back to it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core import presets
from core.errors import RequestError, ResourceError
from core.models.cards import MODELS
from core.studio import library
from core.studio.compose.composition import Component, Composition
from core.studio.discover.exploration import MAX_KEPT, DiscoverState
from core.studio.frames import EditOptions, Frame, Measures, Picture
from core.studio.strips import MAX_STRIPS, begin_strip
from core.studio.visit.compose import add_preset
from core.studio.visit.session import Session
from tabs.compose import share
from tabs.compose.history import history_cards, pick
from tests.unit.composing import preset


def picture(seed: int, model_id: str = "avatars") -> Picture:
    return Picture(torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)), model_id)


class Found:
    """What a `DiscoverState` asks of an exploration."""

    def __init__(self, picture: Picture, rows: int) -> None:
        self.picture, self.rows = picture, [None] * rows


def test_another_model_and_back() -> None:
    session = Session("avatars")
    other = next(model_id for model_id in MODELS if model_id != "avatars")
    session.picture = picture(0)
    session.compose.change(Composition((Component("smiling", 1.0),)))
    strip = session.text_edit.show(begin_strip(session.picture, "a", preset("A", 1), EditOptions()))
    strip.add([Frame(1.0, torch.zeros(3, 8, 8), Measures())])
    frame = strip.frames[0]
    session.compose.history.keep(1, session.compose.composition, "A +1", session.picture.pixels[0], frame, 1.0)
    found = session.discover.exploration = Found(session.picture, 2)
    here = session.picture, session.compose.composition

    session.change_model(other)
    assert (session.picture, session.discover.exploration, session.text_edit.strip) == (None, None, None)
    assert not session.compose.composition.components
    assert len(session.compose.history.results) == 1
    session.picture = picture(1, other)
    session.change_model("avatars")
    assert (session.picture, session.compose.composition) == here
    assert session.discover.exploration is found
    assert session.text_edit.strip is strip
    assert session.text_edit.frames is strip.frames


def test_searches_stay_with_their_pictures() -> None:
    state, pictures = DiscoverState(), [picture(k) for k in range(MAX_KEPT + 2)]
    made = []
    for one in pictures:
        state.show(one)
        assert state.exploration is None
        made.append(Found(one, 1))
        state.exploration = made[-1]
    state.show(replace(pictures[2], example="the same one, chosen again"))
    assert state.exploration is made[2]
    state.show(pictures[0])
    assert state.exploration is None, "only the last few"
    state.exploration = Found(pictures[0], 0)
    state.show(pictures[3])
    state.show(pictures[0])
    assert state.exploration is None, "a search that found nothing yet is not kept"


def test_a_file_that_is_opened_again_is_the_same_preset() -> None:
    session = Session("avatars")
    key = session.keep(preset("A", 1))
    path = session.write(session.own[key])
    for _ in range(6):
        assert session.keep_file(presets.load(path)) == key
    assert session.keep_file(replace(presets.load(path), strength=2.0)) != key


def test_no_two_directions_have_one_name() -> None:
    """A second one gets a number; a name that another direction has cannot be given."""
    session = Session()
    assert "Smiling" in {shipped.name for shipped in library.shipped("avatars").values()}
    keys = [session.keep(preset(name, 1, model="avatars")) for name in ("Grin", "grin", "Smiling", "Grin")]
    assert [session.own[key].name for key in keys] == ["Grin", "grin 2", "Smiling 2", "Grin 3"]
    with pytest.raises(RequestError, match="another direction called “smiling”"):
        session.rename(keys[0], "smiling")
    assert session.rename(keys[0], "GRIN").name == "GRIN"  # its own name, written otherwise
    file = preset("Grin", 1, model="avatars", created="2026-01-02T00:00:00+00:00")
    assert session.keep_file(file) == session.keep_file(file) == "own-5"
    assert session.own["own-5"].name == "Grin 4"
    assert session.keep_file(replace(file, name="Other")) == "own-6"


def test_settings_are_said_where_they_are_not_the_usual_ones() -> None:
    assert EditOptions().in_words() == []
    assert EditOptions(process="paper").in_words() == ["as in the paper"]
    assert EditOptions(steps=12, seed=3).in_words() == ["12 steps", "seed 3"]
    assert EditOptions(form="global", t_edit=500, source="curves").in_words() == [
        "averaged over all timesteps",
        "intervals from the curves",
        "down to t = 500",
    ]


def test_the_history_compares_the_last_two_and_keeps_its_marks() -> None:
    session = Session()
    picture = Picture(torch.zeros(1, 3, 128, 128), "avatars")
    history = session.compose.history
    for number in range(3):
        frame = Frame(1.0, torch.zeros(3, 128, 128), Measures())
        history.keep((number,), Composition(), f"result {number}", picture.pixels[0], frame, 1.0)
    for clicked, picked in (("1", ["1"]), ("3", ["1", "3"]), ("2", ["3", "2"]), ("3", ["2"]), ("2", ["2"])):
        pick(session, clicked)
        assert session.compose.picked == picked
        assert history_cards(session).value == picked


def test_a_page_opened_again_may_not_know_yet_what_was_chosen() -> None:
    """Its tab is opened before it was told: the strip of this picture stays; another picture has none."""
    from tabs.text_edit.tab import TAB, rendering

    session = Session("avatars")
    session.picture = replace(picture(0), pixels=torch.zeros(1, 3, 128, 128))
    strip = session.text_edit.show(begin_strip(session.picture, "a", preset("A", 1), EditOptions()))
    strip.add([Frame(1.0, torch.zeros(3, 128, 128), Measures())])
    [(stage, *_)] = rendering(session, None)
    assert (stage["name"], len(stage["frames"])) == ("A", 1)
    assert session.seen[TAB] is session.picture
    session.picture = replace(session.picture, pixels=torch.ones(1, 3, 128, 128))
    [(stage, *_)] = rendering(session, None)
    assert "frames" not in stage


def test_strips_are_found_again_at_their_strength() -> None:
    state, one = Session().text_edit, picture(0)
    made, options = preset("A", 1, strength=2.0, strength_range=(-2.0, 4.0)), EditOptions()
    strip = state.show(begin_strip(one, "a", made, options, strength=-1.5))
    assert (strip.strength, strip.missing) == (-1.5, [-1.5])
    strip.add([Frame(-1.5, torch.zeros(3, 8, 8), Measures())])
    assert strip.missing == [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    again = replace(one, pixels=one.pixels.clone(), example="chosen again")
    assert state.show(begin_strip(again, "a", made, options)) is strip
    for changed in (replace(made, created="later"), replace(made, strength=1.0)):
        assert state.show(begin_strip(one, "a", changed, options)) is not strip
    assert state.show(begin_strip(one, "a", made, EditOptions(steps=9))) is not strip
    for k in range(MAX_STRIPS):
        state.show(begin_strip(picture(1 + k), "a", made, options))
    assert len(state.strips) == MAX_STRIPS
    assert strip not in state.strips


def test_a_composition_that_is_saved_before_its_picture_is_there_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session("avatars")
    add_preset(session, "smiling")
    saving = share.save(session, "Cheerful", "anchored", 7, 0)
    shown, note, _ = next(saving)
    assert session.own["own-1"].thumbnail is None, "it is kept at once"
    assert "“Cheerful” is among your directions now." in note
    early = Path(shown["value"]).read_bytes()
    later, *_ = next(saving)
    drawn = session.own["own-1"].picture()
    assert drawn is not None
    assert np.ptp(np.asarray(drawn)) > 100
    assert Path(later["value"]).read_bytes() != early
    assert presets.load(Path(later["value"])).thumbnail == session.own["own-1"].thumbnail
    assert list(saving) == []

    def full(*_: object) -> Iterator[None]:
        yield
        raise ResourceError("No room.")

    monkeypatch.setattr(share, "edit_frames", full)
    first, *others = share.save(session, "Again", "anchored", 7, 0)
    assert "“Again” is among your directions now." in first[1]
    assert others == [], "it is saved without a picture"

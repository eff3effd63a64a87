"""Visits take a bounded amount of memory together; what moved to disk is as it was, and what is over is collected."""

import gc
import random
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image

from core.directions import GlobalDirection
from core.errors import RequestError, ResourceError
from core.memory import bytes_of
from core.presets import Preset
from core.studio.compose.composition import Component, Composition
from core.studio.frames import Frame, Measures, Picture
from core.studio.visit import session as session_module
from core.studio.visit.session import Session
from core.studio.visit.visits import Visits

KB = 1024


class Clock:
    """Seconds, one more at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def picture(seed: int = 0) -> Picture:
    return Picture(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed)), "avatars")  # 12 KB


def own_preset(seed: int = 0) -> Preset:
    delta = torch.randn(1, 64, 8, 8, generator=torch.Generator().manual_seed(seed))
    return Preset(GlobalDirection(delta, 10), name=f"No. {seed}", model="avatars", fingerprint="0" * 16)


def busy_session(seed: int = 0, frames: int = 4) -> Session:
    """A visit in which something of everything was done."""
    session = Session()
    session.picture = session.seen["a"] = picture(seed)
    session.upload = Image.effect_noise((64, 48), 50).convert("RGB")
    key = session.keep(own_preset(seed))
    batch = torch.randn(frames, 3, 32, 32)
    session.text_edit.frames = [Frame(float(i), pixels, Measures()) for i, pixels in enumerate(batch)]
    composition = Composition((Component(key, 1.0),))
    session.compose.change(composition)
    result = Frame(1.0, torch.randn(3, 32, 32), Measures(identity=0.5))
    session.compose.history.keep(("key", 1), composition, "No. 0 +1", session.picture.pixels[0], result, 1.0)
    return session


# ----------------------------------------------------------------------------------------------------------- one visit


def test_a_visit_counts_what_it_keeps_and_not_what_is_there_for_all() -> None:
    session = Session()
    empty = session.nbytes
    session.picture = picture()
    session.seen["tab"] = session.picture
    assert session.nbytes - empty == 12 * KB
    session.upload = Image.new("RGB", (64, 64))
    assert session.nbytes - empty == 24 * KB


def test_nothing_is_lost_when_a_visit_rests() -> None:
    session = busy_session()
    upload, shown = session.upload.tobytes(), session.picture.pixels.clone()
    strip = [frame.pixels.clone() for frame in session.text_edit.frames]
    [key] = session.own
    direction = session.own[key].direction.delta.clone()
    result = session.compose.history.results[0]
    composition, past = session.compose.composition, list(session.compose.history.past)

    assert session.nbytes > 90 * KB
    assert session.rest()
    assert session.nbytes < 2 * KB
    assert session.upload.tobytes() == upload
    assert torch.equal(session.picture.pixels, shown)
    assert session.seen["a"] is session.picture
    assert all(torch.equal(a.pixels, b) for a, b in zip(session.text_edit.frames, strip, strict=True))
    assert torch.equal(session.own[key].direction.delta, direction)
    again = session.compose.history.find(("key", 1))
    assert again is not None
    assert torch.equal(again.frame.pixels, result.frame.pixels)
    assert (again.words, again.frame.measures) == (result.words, result.frame.measures)
    assert (session.compose.composition, list(session.compose.history.past)) == (composition, past)
    assert session.write(session.own[key]).exists()


def test_a_row_of_a_batch_does_not_keep_the_batch() -> None:
    session = Session()
    session.text_edit.frames = [Frame(0.0, torch.randn(200, 3, 32, 32)[3], Measures())]
    assert session.nbytes >= 200 * 12 * KB
    session.rest()
    gc.collect()
    assert session.nbytes == 0


def test_a_visit_has_so_many_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "MAX_OWN", 2)
    session = Session()
    session.keep(own_preset(0))
    session.keep(own_preset(1))
    with pytest.raises(RequestError, match="2 directions"):
        session.keep(own_preset(2))
    assert len(session.own) == 2


# ----------------------------------------------------------------------------------------------------------- all visits


def test_the_visit_that_was_not_used_for_longest_rests_first() -> None:
    size = busy_session().nbytes
    visits = Visits(capacity=3 * size + size // 2, each=10 * size, clock=Clock())
    sessions = [busy_session(seed) for seed in range(5)]
    for session in sessions[:3]:
        with visits.using(session):
            pass
    with visits.using(sessions[0]):
        pass
    for session in sessions[3:]:
        with visits.using(session):
            pass
    assert [session.nbytes < size / 2 for session in sessions] == [False, True, True, False, False]
    assert visits.nbytes <= visits.capacity


def test_a_visit_with_too_much_rests_at_once() -> None:
    session = busy_session()
    visits = Visits(each=session.nbytes - 1)
    with visits.using(session):
        assert session.nbytes > visits.each
    assert session.nbytes < 2 * KB


def test_a_visit_in_use_does_not_move() -> None:
    visits, session = Visits(each=1, capacity=1), busy_session()
    with visits.using(session):
        with visits.using(session):
            pass
        assert not visits.rest(session)
        assert session.nbytes > 90 * KB
    assert session.nbytes < 2 * KB


def test_who_comes_while_a_visit_moves_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    visits, session, moving, go_on, order = Visits(), busy_session(), threading.Event(), threading.Event(), []

    def rest(self: Session) -> bool:
        moving.set()
        assert go_on.wait(10)
        order.append("moved")
        return True

    def use() -> None:
        with visits.using(session):
            order.append("used")

    monkeypatch.setattr(Session, "rest", rest)
    first = threading.Thread(target=visits.rest, args=(session,))
    first.start()
    assert moving.wait(10)
    second = threading.Thread(target=use)
    second.start()
    second.join(0.1)
    assert order == []
    go_on.set()
    for thread in (first, second):
        thread.join(10)
    assert order == ["moved", "used"]


def test_with_a_full_disk_everything_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise ResourceError("The disk is full.")

    monkeypatch.setattr(session_module, "to_disk", full)
    visits, session = Visits(each=1, capacity=1), busy_session()
    size = session.nbytes
    with visits.using(session):
        pass
    assert session.nbytes == visits.nbytes == size


def test_what_a_visit_had_is_collected_when_it_is_over() -> None:
    visits, session = Visits(), busy_session()
    with visits.using(session):
        path = session.write(session.own["own-1"])
    kept = [session.picture.pixels, session.own["own-1"].direction.delta, session.text_edit.frames[0].pixels]
    alive = [weakref.ref(tensor) for tensor in kept]
    del kept
    assert visits.nbytes > 0
    visits.end(session)
    assert not path.exists()
    assert visits.nbytes == len(visits) == 0
    over = weakref.ref(session)
    del session
    gc.collect()
    assert over() is None
    assert [ref() for ref in alive] == [None, None, None]


@pytest.mark.parametrize("seed", range(10))
def test_all_visits_together_never_have_too_much(seed: int) -> None:
    """Random visits that grow, are closed and come back: in memory is what was stated, and nothing has changed."""
    chosen = random.Random(seed)
    visits = Visits(capacity=600 * KB, each=300 * KB, clock=Clock())
    sessions: list[Session] = []
    drawn: dict[Session, list[float]] = {}

    def begins() -> None:
        sessions.append(Session())
        drawn[sessions[-1]] = []

    def grows() -> None:
        session = chosen.choice(sessions)
        with visits.using(session):
            pixels = torch.randn(chosen.randint(1, 8), 3, 32, 32)
            drawn[session] += pixels.sum((1, 2, 3)).tolist()
            session.text_edit.frames += [Frame(0.0, row, Measures()) for row in pixels]

    def is_closed() -> None:
        visits.rest(chosen.choice(sessions))

    def is_over() -> None:
        session = sessions.pop(chosen.randrange(len(sessions)))
        visits.end(session)
        drawn.pop(session)

    steps: list[Callable[[], None]] = [begins, grows, grows, grows, is_closed, is_over]
    for _ in range(100):
        (chosen.choice(steps) if len(sessions) > 1 else begins)()
        assert bytes_of(*sessions) <= visits.nbytes <= visits.capacity
    for session in sessions:
        shown = [float(frame.pixels.sum()) for frame in session.text_edit.frames]
        assert shown == pytest.approx(drawn[session], abs=1e-2)


def test_own_presets_stay_the_same_when_they_are_replaced_by_what_is_on_disk() -> None:
    session = Session()
    key = session.keep(replace(own_preset(), thumbnail=b"x" * 500))
    before = session.own[key]
    session.rest()
    after = session.own[key]
    assert after is not before
    assert replace(after, direction=before.direction) == before

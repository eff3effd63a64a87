"""A visit as the app keeps it: without a configuration of its own, at rest when its tab is closed, and over in time."""

import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from gradio.state_holder import SessionState

import app as app_module
from benchmarks.soak import KINDS, Visitors
from core import memory
from core.memory import bytes_of, held_by_name
from core.studio.frames import Picture
from core.studio.visit.session import Session
from core.studio.visit.visits import VISITS, Visits
from tabs import visits as tabs_visits
from tabs.visits import KEEP_CLOSED, KEEP_IDLE, VisitedPage, VisitHolder, VisitState
from tests.conftest import running_app

KB = 1024


class Page:
    """A page with a session and one output, its visits by a clock that is turned by hand."""

    def __init__(self, **limits: Any) -> None:
        self.now = 1000.0
        with VisitedPage() as self.blocks:
            self.session, self.shown = gr.State(Session()), gr.HTML("x" * 1000)
        self.visits = Visits(clock=lambda: self.now, **limits)
        self.holder = VisitHolder(self.blocks, self.visits, lambda: self.now, lambda work: work())

    def visit(self, name: str) -> Session:
        """A request that leaves a picture of 12 KB."""
        session: Session = self.holder[name][self.session._id]
        with self.visits.using(session):
            session.picture = Picture(torch.randn(1, 3, 32, 32), "avatars")
        self.holder.update(name)
        return session

    def close(self, name: str) -> None:
        """As Gradio does when the heartbeat ends."""
        self.holder.session_data[name].is_closed = True

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.holder.delete_all_expired_state()


def test_a_visit_has_no_configuration_of_its_own() -> None:
    page = Page()
    state = page.holder["a"]
    assert isinstance(state, VisitState)
    page.visit("a")
    state[page.shown._id] = gr.HTML("y", render=False)
    state._update_config(page.shown._id)
    state._update_value_in_config(page.shown._id, "z" * 1000)
    assert state.config_values == {}
    assert SessionState(page.blocks).config_values, "there is one otherwise"
    assert state[page.shown._id].value == "y"
    assert page.holder["b"][page.shown._id] is page.shown
    state[10**6] = gr.HTML("of an updated one", render=False)
    state.forget_html()
    assert 10**6 not in state
    assert state[page.shown._id] is page.shown


def test_a_closed_visit_rests_and_can_be_taken_up_again() -> None:
    page = Page()
    session = page.visit("a")
    shown = session.picture.pixels.clone()
    page.wait(1)
    assert session.nbytes == 12 * KB
    page.close("a")
    page.wait(1)
    assert session.nbytes == 0
    with page.visits.using(session):
        page.wait(1)
    assert not page.visits.is_resting(session), "a request goes on after its tab was closed"
    page.wait(1)
    assert page.visits.is_resting(session)
    page.wait(KEEP_CLOSED - 10)
    again = page.holder["a"][page.session._id]
    assert again is session
    assert torch.equal(again.picture.pixels, shown)
    page.wait(KEEP_CLOSED + 10)
    assert "a" in page.holder, "it is open again"


@pytest.mark.parametrize(("closed", "seconds"), [(True, KEEP_CLOSED), (False, KEEP_IDLE)])
def test_a_visit_is_over_in_time_and_everything_of_it_is_collected(closed: bool, seconds: float) -> None:
    page = Page()
    session, other = page.visit("a"), page.visit("b")
    folder = session.file("name", b"").parent
    alive = [weakref.ref(session), weakref.ref(session.picture.pixels), weakref.ref(page.holder["a"])]
    del session
    if closed:
        page.close("a")
    page.wait(1)
    page.wait(seconds - 2)
    page.visit("b")
    assert folder.exists()
    page.wait(5)
    gc.collect()
    assert not folder.exists()
    assert [ref() for ref in alive] == [None] * 3
    assert list(page.holder.session_data) == list(page.holder.time_last_used) == ["b"]
    assert page.visits.nbytes == other.nbytes


def test_there_are_so_many_visits() -> None:
    page = Page()
    page.holder.capacity = 3
    for name in "abc":
        page.visit(name)
    page.visit("a")
    page.visit("d")
    assert list(page.holder.session_data) == ["c", "a", "d"]
    assert len(page.visits) == 3


def test_the_longest_closed_visit_is_over_while_even_resting_ones_take_too_much() -> None:
    page = Page(capacity=5 * KB)
    for name in "abc":
        page.visit(name).upload = None
        page.holder[name][page.session._id].invert.suggested = "x" * 3 * KB  # which no disk takes
        page.visit(name)
    page.close("b")
    page.wait(1)
    page.close("a")
    page.wait(1)
    page.wait(1)
    assert "c" in page.holder, "its tab is open"
    assert "b" not in page.holder
    assert len(page.visits) == 1


def test_messages_that_nobody_reads_are_forgotten() -> None:
    page = Page()
    queue = page.blocks._queue
    for name in "ab":
        page.visit(name)
        queue.pending_messages_per_session[name] = SimpleNamespace()
        queue.pending_event_ids_session[name] = {f"event of {name}"}
    queue.event_ids_to_events["event of a"] = SimpleNamespace()
    page.close("a")
    page.wait(1)
    assert list(queue.pending_messages_per_session) == ["a", "b"], "it is not over"
    del queue.event_ids_to_events["event of a"]
    page.wait(1)
    assert list(queue.pending_messages_per_session) == list(queue.pending_event_ids_session) == ["b"]


# ------------------------------------------------------------------------------------------------------------ the app


@pytest.fixture
def app(text_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, VisitedPage]]:
    """Address and page of the app, whose closed visits are over at once."""
    monkeypatch.setattr(tabs_visits, "KEEP_CLOSED", 0)
    pages: list[VisitedPage] = []
    build = app_module.build

    def remembered() -> VisitedPage:
        pages.append(build())
        return pages[-1]

    monkeypatch.setattr(app_module, "build", remembered)
    with running_app() as address:
        yield address, pages[0]


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_soak_of_every_kind_of_request(app: tuple[str, VisitedPage], tmp_path: Path) -> None:
    """What `python -m benchmarks.soak` does a thousand times: what is counted, and what is alive afterwards."""
    address, page = app
    visitors = Visitors(address, tmp_path, "stand-in")
    sessions: set[weakref.ref[Session]] = set()
    tensors: list[weakref.ref[torch.Tensor]] = []
    kinds = [*dict.fromkeys(KINDS), "edit", "page_edit", "closed_tab"]
    for number, kind in enumerate(kinds):
        getattr(visitors, kind)(number)
        for state in list(page.state_holder.session_data.values()):
            for session in state.sessions:
                sessions.add(weakref.ref(session))
                tensors += [weakref.ref(frame.pixels) for frame in session.text_edit.frames]
                del session
            del state
        assert_within_limits()
    assert len(sessions) >= len(kinds) - 2, "one for each visit, apart from those that were over too soon to be seen"
    assert tensors, "a page's strip is kept while its tab is open"
    visitors.closing.shutdown()
    wait_until(lambda: not page.state_holder.session_data)
    wait_until(lambda: gc.collect() < 0 or not any(ref() for ref in sessions))
    assert not any(ref() is not None for ref in tensors)
    assert not page._queue.pending_messages_per_session
    assert_within_limits()


def assert_within_limits() -> None:
    """Everything that counts itself keeps what is stated, and all of it together too."""
    of_the_app = [holder for holder in memory.holders() if holder.name in STATED]
    for holder in of_the_app:
        assert holder.nbytes <= holder.capacity, holder.name
    assert sum(held_by_name().get(name, 0) for name in STATED) <= sum(STATED.values())


STATED = {
    "latents": memory.MAX_LATENTS,
    "source paths": memory.MAX_PATHS,
    "analyses": memory.MAX_ANALYSES,
    "prepared": memory.MAX_PREPARED,
    "namers": memory.MAX_NAMERS,
    "segmented pictures": memory.MAX_SEGMENTED,
    "reference pictures": memory.MAX_REFERENCE,
    "domains": memory.MAX_DOMAINS,
    "visits": memory.MAX_VISITS,
}


def test_a_visit_that_is_open_is_counted(app: tuple[str, VisitedPage], tmp_path: Path) -> None:
    address, page = app
    visitors = Visitors(address, tmp_path, "stand-in")
    with visitors.tab() as tab:
        for _ in tab.messages("choose_example", *visitors._strip(0, "anchored", 7)):
            pass
        [session] = page.state_holder.session_data[tab.session_hash].sessions
        assert len(session.text_edit.frames) == 7
        assert VISITS._sizes[session] == session.nbytes > bytes_of(session.text_edit.frames) >= 7 * 128 * 128 * 3 * 4
    visitors.closing.shutdown()

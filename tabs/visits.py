"""A visit from its first request until it is over, and the memory that it takes meanwhile.

Gradio keeps for every visit a copy of the page's configuration, 0.8 MB that take a quarter of a second to make and that
only links with a state of the page need, which this page has not; the last value of every output; and the state, for
ever where no event returns it. Here a visit has its state alone. It rests when its tab is closed, as one that is idle
while others need the memory; it can still be taken up again, and is over some time later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from types import SimpleNamespace
from typing import Any

import gradio as gr
from anyio import to_thread
from gradio.state_holder import SessionState, StateHolder

from core.memory import give_back
from core.studio.visit.session import Session
from core.studio.visit.visits import VISITS, Visits
from tabs.described import DescribedPage

log = logging.getLogger(__name__)

KEEP_IDLE = 6 * 3600  # seconds after the last request, while the tab is open
KEEP_CLOSED = 3600  # seconds after the tab was closed; a lost connection looks the same
MAX_VISITS = 2000  # at once; beyond, the one that was not used for longest is over
GIVE_BACK_EVERY = 5.0  # seconds


class VisitState(SessionState):
    """What Gradio keeps of a visit, without a configuration of its own.

    closed_at: when the tab was found closed, None while it is open. used_at: when the last request came.
    """

    def __init__(self, page: gr.Blocks, now: float) -> None:
        nothing: Any = SimpleNamespace(default_config=SimpleNamespace(blocks={}), blocks={})
        super().__init__(nothing)
        self.blocks_config = self._of_the_page = page.default_config
        self._html: set[int] = set()
        self.used_at = now
        self.closed_at: float | None = None

    def __setitem__(self, key: int, value: Any) -> None:
        if isinstance(self.blocks_config.blocks.get(key), gr.State):
            self.state_data[key] = value
            return
        if self.blocks_config is self._of_the_page:
            self.blocks_config = copy(self._of_the_page)
        self.blocks_config.blocks[key] = value
        if isinstance(value, gr.HTML):
            self._html.add(key)

    def forget_html(self) -> None:
        """An event is over. HTML components that it has updated have many pictures, and nothing is read of them; other
        components say which choices there are."""
        for key in self._html:
            if key in self._of_the_page.blocks:
                self.blocks_config.blocks[key] = self._of_the_page.blocks[key]
            else:  # one that took an updated one's place is filed under its own number as well
                del self.blocks_config.blocks[key]
        self._html.clear()

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass

    @property
    def sessions(self) -> list[Session]:
        """The visitor's session, if there has been a request that needs it."""
        return [value for value in list(self.state_data.values()) if isinstance(value, Session)]


class VisitHolder(StateHolder):
    """All visits of a page by their session hashes.

    clock: seconds. in_background: runs what takes longer than a moment.
    """

    def __init__(
        self,
        page: gr.Blocks,
        visits: Visits = VISITS,
        clock: Callable[[], float] = time.monotonic,
        in_background: Callable[..., object] | None = None,
    ) -> None:
        super().__init__()
        self.set_blocks(page)
        self.capacity = MAX_VISITS
        self._visits, self._clock = visits, clock
        self._in_background = in_background or ThreadPoolExecutor(1, "visits").submit
        self._freed, self._gave_back = False, clock()

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self.session_data[session_id] = VisitState(self.blocks, self._clock())
        state = super().__getitem__(session_id)
        assert isinstance(state, VisitState)
        state.is_closed, state.closed_at, state.used_at = False, None, self._clock()
        return state

    def update(self, session_id: str) -> None:
        if session_id in self.session_data:
            self.session_data.move_to_end(session_id)
        while len(self.session_data) > self.capacity:
            self._end(next(iter(self.session_data)))

    def delete_all_expired_state(self) -> None:
        """Gradio asks for it every second. Closed visits rest; those whose time is over end, and the longest closed
        ones too while all visits take too much."""
        now = self._clock()
        for session_id, state in self._states():
            if state.is_closed and state.closed_at is None:
                state.closed_at = now
            closed_for = None if state.closed_at is None else now - state.closed_at
            if now - state.used_at > KEEP_IDLE or (closed_for or 0.0) > KEEP_CLOSED:
                self._end(session_id)
            elif closed_for is not None:
                self._forget_messages(session_id)
                for session in state.sessions:
                    if self._held(session, state):
                        continue
                    if not self._visits.is_resting(session):  # its last request may go on for a moment
                        self._later(self._visits.rest, session)
        if self._visits.nbytes > self._visits.capacity:
            closed = [(state.closed_at, name) for name, state in self._states() if state.closed_at is not None]
            if closed:
                self._end(min(closed)[1])
        if self._freed and now - self._gave_back > GIVE_BACK_EVERY:
            self._freed, self._gave_back = False, now
            self._in_background(give_back)

    def freed(self) -> None:
        """A request is over, and what it needed is free."""
        self._freed = True

    def _states(self) -> Iterator[tuple[str, VisitState]]:
        return ((name, state) for name, state in list(self.session_data.items()) if isinstance(state, VisitState))

    def _end(self, session_id: str) -> None:
        state = self.session_data.pop(session_id)
        self.time_last_used.pop(session_id, None)
        self._forget_messages(session_id)
        for session in state.sessions if isinstance(state, VisitState) else ():
            if not self._held(session):
                self._later(self._visits.end, session)

    def _held(self, session: Session, but: VisitState | None = None) -> bool:
        """Whether a page that is open, or was closed a moment ago, has the visit: a reloaded one has that of the page
        before."""
        states = [state for _, state in self._states() if state is not but and not (but and state.closed_at)]
        return any(session is one for state in states for one in state.sessions)

    def _forget_messages(self, session_id: str) -> None:
        """Nobody will read them, once the last request has ended."""
        queue = self.blocks._queue
        if not queue.event_ids_to_events.keys() & queue.pending_event_ids_session.get(session_id, set()):
            queue.pending_event_ids_session.pop(session_id, None)
            queue.pending_messages_per_session.pop(session_id, None)

    def _later(self, work: Callable[[Session], object], session: Session) -> None:
        def run() -> None:
            try:
                work(session)
            except Exception:
                log.exception("a visit could not be put away")

        self._freed = True
        self._in_background(run)


class VisitedPage(DescribedPage):
    """A page whose visits are bounded. `hold_visits` once it is served."""

    def hold_visits(self) -> None:
        """From here on. Visits that began before are forgotten."""
        self.app.state_holder = VisitHolder(self)

    async def process_api(
        self, block_fn: Any, inputs: list[Any], state: SessionState | None = None, *arguments: Any, **more: Any
    ) -> dict[str, Any]:
        if not isinstance(state, VisitState):
            result: dict[str, Any] = await super().process_api(block_fn, inputs, state, *arguments, **more)
            return result
        for block in (self.fns[block_fn] if isinstance(block_fn, int) else block_fn).inputs:
            if isinstance(block, gr.State):
                state[block._id]  # from here on it is there
        sessions = state.sessions
        for session in sessions:
            await to_thread.run_sync(VISITS.begin, session)
        over = True
        try:
            result = await super().process_api(block_fn, inputs, state, *arguments, **more)
            over = not result["is_generating"]
            return result
        finally:
            for session in sessions:
                await to_thread.run_sync(VISITS.leave, session, over)
            if over:
                state.forget_html()
            if isinstance(self.state_holder, VisitHolder):
                self.state_holder.freed()

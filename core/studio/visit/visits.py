"""All visits together: which are in use, how much memory they take, and which of them moves to disk.

A visit loses nothing there (`Session.rest`): what it keeps is read again where it is used.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ... import memory
from ...memory import MAX_VISIT, MAX_VISITS
from .session import Session


class Visits:
    """Visits that take at most `capacity` bytes of memory together when none of them is in use, and `each` at most one
    of them; beyond, they rest, first the one that was not used for longest. Thread-safe.

    clock: seconds, for which visit was used last.
    """

    name = "visits"

    def __init__(
        self, capacity: int = MAX_VISITS, each: int = MAX_VISIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.capacity, self.each, self._clock = capacity, each, clock
        self._sizes: weakref.WeakKeyDictionary[Session, int] = weakref.WeakKeyDictionary()  # bytes, when last counted
        self._used: weakref.WeakKeyDictionary[Session, float] = weakref.WeakKeyDictionary()  # when last
        self._users: weakref.WeakKeyDictionary[Session, int] = weakref.WeakKeyDictionary()  # of those in use
        self._resting: weakref.WeakSet[Session] = weakref.WeakSet()
        self._changed = threading.Condition()
        self._moving: Session | None = None
        memory.count(self)

    def begin(self, session: Session) -> None:
        """From here until `leave`, the visit is in use and does not move; if it is moving, wait."""
        with self._changed:
            while self._moving is session:
                self._changed.wait()
            self._users[session] = self._users.get(session, 0) + 1
            self._resting.discard(session)

    def leave(self, session: Session, settle: bool = True) -> None:
        """The counterpart of `begin`. settle: now is the time to see whether there is too much."""
        with self._changed:
            self._users[session] -= 1
            if not self._users[session]:
                del self._users[session]
            self._used[session] = self._clock()
        if settle:
            self.settle(session)

    @contextmanager
    def using(self, session: Session) -> Iterator[None]:
        """Within the block, the visit is in use."""
        self.begin(session)
        try:
            yield
        finally:
            self.leave(session)

    def settle(self, session: Session) -> None:
        """Count a visit; then, if it has too much, or all have, let visits rest."""
        size = session.nbytes
        with self._changed:
            self._sizes[session] = size
        if size > self.each:
            self.rest(session)
        while self.nbytes > self.capacity:
            with self._changed:
                idle = [one for one in self._sizes if one not in self._users and one not in self._resting]
                oldest = min(idle, key=lambda one: self._used.get(one, 0.0), default=None)
            if oldest is None or not self.rest(oldest):
                return

    def rest(self, session: Session) -> bool:
        """Move what a visit keeps to disk. Returns whether it rests: not if it is in use, or the disk is full."""
        with self._changed:
            while self._moving is not None:
                self._changed.wait()
            if session in self._users:
                return False
            if session in self._resting:
                return True
            self._moving = session
        try:
            moved = session.rest()
            size = session.nbytes
        finally:
            with self._changed:
                self._moving = None
                self._changed.notify_all()
        with self._changed:
            self._sizes[session] = size
            if moved:
                self._resting.add(session)
        return moved

    def is_resting(self, session: Session) -> bool:
        """Whether it is on disk, and nobody has used it since."""
        with self._changed:
            return session in self._resting

    def end(self, session: Session) -> None:
        """A visit is over."""
        session.end()
        with self._changed:
            self._sizes.pop(session, None)
            self._used.pop(session, None)
            self._resting.discard(session)

    @property
    def nbytes(self) -> int:
        """Of all visits, as last counted."""
        with self._changed:
            return sum(self._sizes.values())

    def __len__(self) -> int:
        """How many there are, of those that were used once and are not over."""
        with self._changed:
            return len(self._sizes)


VISITS = Visits()

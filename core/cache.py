"""What is kept in memory for the next request, the least recently used dropped when there is too much of it."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from . import memory
from .forking import renew_after_fork


class Sized(Protocol):
    """Anything that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int: ...


T = TypeVar("T")
Value = TypeVar("Value", bound=Sized)


@dataclass(frozen=True)
class Counted(Generic[T]):
    """Something that does not know how many bytes it holds, with their number."""

    value: T
    nbytes: int


class Cache(Generic[Value]):
    """Values by key, never more than `capacity` bytes of them: the least recently used are dropped. Thread-safe.

    name: what it holds, for `memory.held_by_name`. always: so many of the newest are kept however large they are.
    Without, a value that is larger than the whole cache is not kept, and nothing is lost for it.
    """

    def __init__(self, capacity: int, name: str = "cache", always: int = 0) -> None:
        self.capacity, self.name, self.always = capacity, name, always
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self.renew_locks()
        renew_after_fork(self)
        memory.count(self)

    def renew_locks(self) -> None:
        """See `core.forking`."""
        self._lock = threading.RLock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        with self._lock:
            if not self.always and value.nbytes > self.capacity:
                self._kept.pop(key, None)
                return
            self._kept[key] = value
            self._kept.move_to_end(key)
            held = self.nbytes
            while held > self.capacity and len(self._kept) > self.always:
                held -= self._kept.popitem(last=False)[1].nbytes

    def items(self) -> list[tuple[Hashable, Value]]:
        """All that is kept, with its keys."""
        with self._lock:
            return list(self._kept.items())

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()

    @property
    def nbytes(self) -> int:
        with self._lock:
            return sum(value.nbytes for value in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

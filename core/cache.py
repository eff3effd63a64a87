"""What is kept in memory for the next request, the least recently used dropped when there is too much of it."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Anything that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int: ...


Value = TypeVar("Value", bound=Sized)


class Cache(Generic[Value]):
    """Values by key. Beyond `capacity` bytes the least recently used are dropped, the newest never. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable) -> Value | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self.nbytes > self.capacity:
                self._kept.popitem(last=False)

    @property
    def nbytes(self) -> int:
        with self._lock:
            return sum(value.nbytes for value in self._kept.values())

    def __len__(self) -> int:
        return len(self._kept)

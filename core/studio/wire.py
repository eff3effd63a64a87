"""Values on their way to another process of this program and back.

Tensors travel as numpy arrays, models and instruments by their names. A tensor or a frozen dataclass that was on the
line once is the same object when it comes back, and does not travel again: identities hold, and what a job was given
and has not changed costs nothing on its way home. (A tensor that was changed in place travels anew.)

Both ends are processes of this program, one forked from the other: bytes from anywhere else are never unpacked here.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable, Hashable
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

Key = tuple[str, int]  # the side that a value comes from, and its number there
PLAIN = (str, int, float, bytes, tuple, list, dict, type(None))
BFLOAT16 = "bfloat16"  # which numpy does not know


class Names(Protocol):
    """What travels by name. name_of: None for what does not."""

    def name_of(self, value: object) -> Hashable | None: ...

    def named(self, name: Any) -> Any: ...


class Line:
    """One end of the line, for one job. side: tells the two ends apart. Not thread-safe."""

    def __init__(self, side: str, names: Names) -> None:
        self.names = names
        self._side = side
        self._count = 0
        self._objects: dict[Key, object] = {}
        self._keys: dict[int, tuple[Key, int | None]] = {}  # by id; the version of a tensor
        self._outgoing: dict[Key, bytes] = {}
        self._incoming: dict[Key, bytes] = {}

    def pack(self, value: Any, remember: bool = True) -> bytes:
        """A value as bytes. remember: what is in it, as it may come back; not for what is looked at once.

        Raises:
            PicklingError, TypeError, AttributeError: there is something in it that cannot travel.
        """
        body = self._dumped(value, remember, None)
        outgoing, self._outgoing = self._outgoing, {}
        return joined((body, outgoing))

    def unpack(self, data: bytes) -> Any:
        """The value that the other end has packed."""
        body, incoming = parted(data)
        self._incoming.update(incoming)
        return _Unpickler(io.BytesIO(body), self).load()

    # ------------------------------------------------------------------------------------------- for the two picklers

    def key_of(self, value: object, remember: bool) -> Key | None:
        """Of a value that is or will be known at the other end."""
        known = self._keys.get(id(value))
        if known is not None and known[1] == _version(value):
            return known[0]
        if not remember or not _is_lasting(value):
            return None
        self._count += 1
        key = (self._side, self._count)
        self._know(key, value)
        self._outgoing[key] = self._dumped(value, remember, value)
        return key

    def object_of(self, key: Key) -> object:
        """The value of a key, unpacked now if it is new."""
        if key not in self._objects:
            self._know(key, _Unpickler(io.BytesIO(self._incoming.pop(key)), self).load())
        return self._objects[key]

    def _know(self, key: Key, value: object) -> None:
        self._objects[key] = value
        self._keys[id(value)] = key, _version(value)

    def _dumped(self, value: Any, remember: bool, itself: object) -> bytes:
        buffer = io.BytesIO()
        _Pickler(buffer, self, remember, itself).dump(value)
        return buffer.getvalue()


def joined(parts: tuple[Any, ...]) -> bytes:
    """Texts, bytes and dictionaries of them, as bytes."""
    return pickle.dumps(parts, protocol=pickle.HIGHEST_PROTOCOL)


def parted(data: bytes) -> tuple[Any, ...]:
    """What was `joined`."""
    parts: tuple[Any, ...] = pickle.loads(data)
    return parts


class _Pickler(pickle.Pickler):
    """itself: what is packed under a key just now."""

    def __init__(self, buffer: io.BytesIO, line: Line, remember: bool, itself: object) -> None:
        super().__init__(buffer, protocol=pickle.HIGHEST_PROTOCOL)
        self._line, self._remember, self._itself = line, remember, itself

    def persistent_id(self, value: object) -> Any:
        if isinstance(value, PLAIN) or value is self._itself:
            return None
        name = self._line.names.name_of(value)
        if name is not None:
            return "name", name
        key = self._line.key_of(value, self._remember)
        return None if key is None else ("known", key)

    def reducer_override(self, value: object) -> Any:
        if isinstance(value, Tensor):
            return _tensor, _parts(value)
        if type(value).__name__ == "device" and type(value).__module__ == "torch":  # ZeroGPU replaces `torch.device`
            return _device, (str(value),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, line: Line) -> None:
        super().__init__(buffer)
        self._line = line

    def persistent_load(self, reference: Any) -> Any:
        kind, of = reference
        return self._line.names.named(of) if kind == "name" else self._line.object_of(of)


def _is_lasting(value: object) -> bool:
    """Whether it stays what it is: then it may be known at both ends."""
    if isinstance(value, Tensor):
        return not value.requires_grad
    return (
        dataclasses.is_dataclass(value)
        and not isinstance(value, type)
        and bool(cast(Any, value).__dataclass_params__.frozen)
    )


def _version(value: object) -> int | None:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else None


def _parts(tensor: Tensor) -> tuple[np.ndarray, str, bool, bool]:
    data = tensor.detach().to("cpu")
    kind = str(data.dtype).removeprefix("torch.")
    data = data.contiguous()
    array = (data.view(torch.int16) if kind == BFLOAT16 else data).numpy()
    return array, kind, tensor.requires_grad, isinstance(tensor, nn.Parameter)


def _tensor(array: np.ndarray, kind: str, requires_grad: bool, parameter: bool) -> Tensor:
    data = torch.from_numpy(array if array.flags.writeable else array.copy())
    data = data.view(torch.bfloat16) if kind == BFLOAT16 else data
    if parameter:
        return nn.Parameter(data, requires_grad)
    return data.requires_grad_(requires_grad)


def _device(name: str) -> torch.device:
    make = cast(Callable[[str], torch.device], torch.device)
    return make(name)

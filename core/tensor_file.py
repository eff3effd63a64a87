"""Safetensors files from strangers: the header checked before a tensor is made, and files written whole or not at all.

What is checked here does not depend on what a file is for. Faults are raised as `Damaged` and turned into words by
those who know what the file should have been.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from .errors import ResourceError

WIDTHS = {"U8": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I64": 8}


class Damaged(ValueError):
    """What is wrong with a file, as the end of a sentence."""


@dataclass(frozen=True)
class Limits:
    """bytes: of the file; header: of its header; tensors: how many; side: of one axis; kinds: of numbers; other_kind:
    the fault of a tensor that has others."""

    bytes: int
    header: int = 2**20
    tensors: int = 1024
    side: int = 2**16
    kinds: tuple[str, ...] = ("F32", "F16", "BF16", "F64", "I64")
    other_kind: str = "it holds numbers of another kind than it should"


def expect(condition: bool, fault: str) -> None:
    """Raises Damaged(fault) unless the condition holds."""
    if not condition:
        raise Damaged(fault)


def header_size(start: bytes, size: int, limits: Limits) -> int:
    """How many bytes the header takes. start: the first 8 bytes of the file or more, size: of the file."""
    expect(min(len(start), size) > 8, "it is too short")
    expect(size <= limits.bytes, f"it is larger than {limits.bytes // 2**20} MB")
    length = int.from_bytes(start[:8], "little")
    expect(length <= min(limits.header, size - 8), "it is not in the safetensors format")
    return 8 + length


def header(start: bytes, size: int, limits: Limits) -> dict[str, Any]:
    """A file's header, checked: sizes, kinds, shapes and places of all tensors, before any is made."""
    end = header_size(start, size, limits)
    found = parse_json(start[8:end], "it is not in the safetensors format")
    expect(isinstance(found, dict), "it is not in the safetensors format")
    tensors = {name: entry for name, entry in found.items() if name != "__metadata__"}
    expect(0 < len(tensors) <= limits.tensors, f"it holds {len(tensors)} tensors")
    for name, entry in tensors.items():
        expect(len(name) <= 120 and isinstance(entry, dict), "the description of a tensor is damaged")
        shape, offsets = entry.get("shape"), entry.get("data_offsets")
        expect(entry.get("dtype") in limits.kinds, limits.other_kind)
        expect(integers(shape, 1, limits.side) and len(shape) <= 4, "a tensor has an impossible shape")
        expect(integers(offsets, 0, size) and len(offsets) == 2, "a tensor lies outside the file")
        needed = math.prod(shape) * WIDTHS[entry["dtype"]]
        expect(offsets[1] - offsets[0] == needed and offsets[1] <= size - end, "a tensor is cut short")
    return found


def tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a file whose header is checked, in memory of their own: where they lie in the file's differs from
    one process to the next, and with it how a library sums them up, in the last bits."""
    try:
        return {name: value.clone() for name, value in tensors_from_bytes(data).items()}
    except (SafetensorError, ValueError, RuntimeError, KeyError, OverflowError, MemoryError) as error:
        raise Damaged("its tensors cannot be read") from error


def to_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A file's content: the same bytes for the same content. The library alone writes the metadata in any order."""
    data = tensors_to_bytes(tensors, metadata)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = metadata
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def parse_json(text: bytes | str | None, fault: str) -> Any:
    """JSON without repeated keys and without NaN or infinity."""

    def unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        expect(len({key for key, _ in pairs}) == len(pairs), fault)
        return dict(pairs)

    def refuse(_: str) -> None:
        raise Damaged(fault)

    def finite(digits: str) -> float:
        expect(math.isfinite(float(digits)), fault)  # 1e999 is a number in JSON and infinite in Python
        return float(digits)

    try:
        return json.loads(text or "", object_pairs_hook=unique, parse_constant=refuse, parse_float=finite)
    except (TypeError, ValueError, RecursionError) as error:
        raise Damaged(fault) from error


def integers(values: Any, low: int, high: int) -> bool:
    return isinstance(values, list) and all(type(value) is int and low <= value <= high for value in values)


def numbers(values: Any, limit: float) -> bool:
    return isinstance(values, list) and all(type(value) in (int, float) and abs(value) <= limit for value in values)


def write(path: Path, data: bytes, what: str = "file") -> None:
    """So that a crash or a full disk leaves what was there; several may write the same file. Its folder is made.

    what: it is, for the visitor who loses it.

    Raises:
        ResourceError: the file cannot be written.
    """
    unfinished = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".partial", delete=False) as file:
            unfinished = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(0o644)
        unfinished.replace(path)
    except OSError as error:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
        raise ResourceError(
            f"The {what} could not be saved ({error.strerror}). Free some space and try again."
        ) from error


def read(path: Path, most: int) -> bytes:
    """A file's content.

    Raises:
        Damaged: it is not a file, larger than `most` bytes, or cannot be read.
    """
    try:
        expect(path.is_file(), "it is not a file")  # a device or a pipe could be read for ever
        expect(path.stat().st_size <= most, f"it is larger than {most // 2**20} MB")
        return path.read_bytes()
    except OSError as error:
        raise Damaged("it cannot be read") from error

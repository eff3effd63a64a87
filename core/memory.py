"""Memory: the most that each part of the app may keep, what it does keep, and running out of it in words.

Everything that outlives a request is either a cache (`core.cache`), which drops what was not used for longest, or part
of a visit, which moves to disk when it is too much or not in use. Both count themselves here; `held_by_name` tells.
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import os
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FunctionType, MethodType
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .errors import ResourceError
from .forking import ForkedLock

# ----------------------------------------------------------------------------------------------------------- the limits

MB = 2**20
UNKNOWN = 8192 * MB  # of a machine that does not say how much memory it has


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's where that has less."""
    limits = [size for size in (_installed(), _of_container()) if size is not None]
    return min(limits, default=UNKNOWN)


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # Linux, macOS
    except (AttributeError, ValueError, OSError):
        pass
    try:
        status = _WindowsMemory(length=ctypes.sizeof(_WindowsMemory))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
        return status.total or None
    except (AttributeError, OSError):
        return None


class _WindowsMemory(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("total", ctypes.c_uint64),
        *((name, ctypes.c_uint64) for name in ("free", "page_total", "page_free", "virtual", "virtual_free", "ext")),
    ]


def _of_container() -> int | None:
    """What a container (cgroup 2) is limited to."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


MACHINE = machine_memory()


def device_memory(device: torch.device) -> int:
    """Bytes of memory of a device; of the machine where it is the CPU or does not say."""
    try:
        if device.type == "cuda":
            return torch.cuda.get_device_properties(device).total_memory
        if device.type == "mps":
            return torch.mps.recommended_max_memory()
    except Exception:  # a GPU that is only lent for the length of a call cannot be asked now
        return MACHINE
    return MACHINE


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a GPU; None: it is not one, or does not say."""
    try:
        if device.type == "cuda":
            return torch.cuda.mem_get_info(device)[0]
        if device.type == "mps":
            return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    except Exception:  # as above
        return None
    return None


# Bytes that may be kept. Of models and instruments the one in use is kept in any case.
MODELS_SHARE = 4  # of a device's memory a quarter is for models of either kind: unconditional, text-to-image
MAX_MODELS = MACHINE // MODELS_SHARE  # on the CPU
MAX_INSTRUMENTS = MACHINE // 8  # image-text models, probes, perceptual distances
MAX_LATENTS = 48 * MB  # inverted pictures
MAX_PATHS = 96 * MB  # their paths through the noise levels
MAX_ANALYSES = 96 * MB  # of Discover
MAX_PREPARED = 32 * MB  # what its methods prepare for a model
MAX_DOMAINS = 8 * MB  # whether pictures are ones that their models know, with the nearest that are
MAX_REFERENCE = 32 * MB  # pictures of models that averages are over
MAX_SEGMENTED = 32 * MB  # pictures as the network knows them that finds the outline of anything
MAX_NAMERS = 32 * MB  # vocabularies that directions are named from
MAX_PRESETS = 64 * MB  # that come with the app
MAX_DESCRIBED = 8 * MB  # what is known of presets on the Hub
MAX_SHOWN = 8 * MB  # examples and presets as the page shows them
MAX_VISIT = 64 * MB  # one visit, in memory; beyond, what it keeps is on disk
MAX_VISITS = 192 * MB  # all visits together
MAX_SOURCES = 32 * MB  # of it: what a visit's last training prepared
MAX_DOWNLOAD = 6000 * MB  # on disk: the files of one model that a visitor opens
MAX_OPENED = 200  # models that visitors opened: what is known of one is a few hundred bytes
MAX_NOTES = 8 * MB  # on disk: what was measured of models

# ----------------------------------------------------------------------------------------------------------- who counts


class Holder(Protocol):
    """Something that keeps things. name: of its kind. capacity: bytes that it may keep."""

    name: str
    capacity: int

    @property
    def nbytes(self) -> int: ...


_holders: weakref.WeakSet[Any] = weakref.WeakSet()
_holders_lock = ForkedLock()


def count(holder: Holder) -> None:
    """From here on, for as long as it lives, `held_by_name` counts it."""
    with _holders_lock:
        _holders.add(holder)


def holders() -> list[Holder]:
    """All that count themselves."""
    with _holders_lock:
        return list(_holders)


def held_by_name() -> dict[str, int]:
    """Bytes that are kept, by the names of what keeps them. What several keep is counted for each."""
    found: dict[str, int] = {}
    for holder in holders():
        found[holder.name] = found.get(holder.name, 0) + holder.nbytes
    return dict(sorted(found.items()))


# ------------------------------------------------------------------------------------------------------------- counting

SMALL = 1024  # bytes; a smaller tensor or text is not counted as large, nor worth a place on disk
OURS = f"{__name__.partition('.')[0]}."
ALIGNMENT = 64  # bytes; as the allocator aligns tensors

KEEPS_OPEN_FILES = os.name == "nt"  # a file that is open can be neither opened again nor removed

_on_disk: set[int] = set()  # addresses of what `to_disk` has mapped


def bytes_of(*values: object, outside: tuple[type, ...] = ()) -> int:
    """Bytes of memory that tensors, arrays, pictures, bytes and long texts take, in values and all that they consist
    of: dataclasses and other objects of this package, modules, collections, and what functions are bound to. A view
    counts as all that it keeps alive; what occurs twice counts once; what is on disk (`to_disk`) counts nothing.

    outside: of these types, which are looked at no further, for they are somebody else's.
    """
    total, waiting = 0, list(values)
    seen: dict[int, object] = {}  # by id; held, so that no id is given away again meanwhile
    stored: dict[tuple[torch.device, int], int] = {}  # bytes by address
    while waiting:
        value = waiting.pop()
        if value is None or isinstance(value, (int, float, type, *outside)) or id(value) in seen:
            continue
        seen[id(value)] = value
        match value:
            case Tensor():
                storage = value.untyped_storage()
                if value.device.type != "meta" and storage.data_ptr() not in _on_disk:
                    stored[value.device, storage.data_ptr()] = storage.nbytes()
            case np.ndarray():
                total += value.nbytes if value.base is None else 0
                waiting.append(value.base)
            case Image.Image():
                total += value.width * value.height * (1 if len(value.getbands()) == 1 else 4)
            case bytes() | bytearray() | str():
                total += len(value) if len(value) > SMALL else 0
            case nn.Module():
                waiting += [*value.parameters(), *value.buffers()]
            case Mapping():
                waiting += [*value.keys(), *value.values()]
            case list() | tuple() | set() | frozenset() | deque():
                waiting += value
            case FunctionType():
                waiting += [cell.cell_contents for cell in value.__closure__ or ()]
            case MethodType():
                waiting.append(value.__self__)
            case _ if dataclasses.is_dataclass(value) or type(value).__module__.startswith(OURS):
                waiting += vars(value).values()
    return total + sum(stored.values())


# -------------------------------------------------------------------------------------------------------------- to disk


def to_disk(value: Any, outside: tuple[type, ...] = ()) -> Any:
    """The same value with its tensors on disk: they are mapped from a file and read again where they are used. Nothing
    else changes, and nothing has to be brought back.

    Containers and dataclasses that can be changed are changed; tuples, frozen dataclasses and modules are replaced, so
    that what others hold of them stays as it is. Tensors on a GPU and small ones stay in memory. The file has no name
    any more and is gone with the last of its tensors.

    outside: see `bytes_of`.

    Raises:
        ResourceError: the disk is full.
    """
    found: dict[int, Tensor] = {}
    _changed(value, lambda tensor: found.setdefault(id(tensor), tensor), outside, {})
    if not found:
        return value
    mapped = dict(zip(found, _mapped(list(found.values())), strict=True))
    return _changed(value, lambda tensor: mapped.get(id(tensor), tensor), outside, {})


def _mapped(tensors: list[Tensor]) -> list[Tensor]:
    """Copies of tensors, on disk, all in one file."""
    places: list[tuple[int, int]] = []
    end = 0
    try:
        with tempfile.NamedTemporaryFile(prefix="on-disk-", delete=not KEEPS_OPEN_FILES) as file:
            for tensor in tensors:
                data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
                file.write(bytes(-end % ALIGNMENT))
                end += -end % ALIGNMENT
                file.write(data.data)
                places.append((end, end + data.nbytes))
                end += data.nbytes
            file.flush()
            if not KEEPS_OPEN_FILES:
                storage = torch.UntypedStorage.from_file(file.name, shared=False, nbytes=end)
        if KEEPS_OPEN_FILES:
            storage = torch.UntypedStorage.from_file(file.name, shared=False, nbytes=end)
            weakref.finalize(storage, _removed, file.name)
    except OSError as error:
        raise ResourceError(f"The disk cannot be written to ({error.strerror}). Free some space.") from error
    _on_disk.add(storage.data_ptr())
    weakref.finalize(storage, _on_disk.discard, storage.data_ptr())
    whole = torch.empty(0, dtype=torch.uint8).set_(cast(torch.UntypedStorage, storage))
    return [
        whole[first:end].view(tensor.dtype).view(tensor.shape)
        for tensor, (first, end) in zip(tensors, places, strict=True)
    ]


def _removed(name: str) -> None:
    with suppress(OSError):
        os.unlink(name)


def _changed(value: Any, change: Callable[[Tensor], Tensor], outside: tuple[type, ...], done: dict[int, Any]) -> Any:
    """The value with its tensors that can go to disk exchanged. done: what was made of values, by their ids."""
    if isinstance(value, (type, *outside)):
        return value
    if id(value) in done:
        return done[id(value)][1]
    result = value
    done[id(value)] = value, value  # for a circle, and so that the id is not given away again

    def inner(part: Any) -> Any:
        return _changed(part, change, outside, done)

    match value:
        case Tensor():
            if _can_go_to_disk(value):
                result = change(value)
        case nn.Module():
            own = [*value.parameters(), *value.buffers()]
            new = {id(old): _as(old, inner(old)) for old in own}
            if any(new[id(old)] is not old for old in own):
                result = copy.deepcopy(value, new)  # which takes these for its copies
        case dict():
            for key, part in list(value.items()):
                value[key] = inner(part)
        case list() | deque():
            for place, part in enumerate(list(value)):
                value[place] = inner(part)
        case tuple():
            parts = [inner(part) for part in value]
            if any(new is not old for new, old in zip(parts, value, strict=True)):
                result = type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value) if field.init]
            changed = {name: inner(getattr(value, name)) for name in names}
            changed = {name: part for name, part in changed.items() if part is not getattr(value, name)}
            if not changed:
                pass
            elif value.__dataclass_params__.frozen:  # type: ignore[attr-defined]
                result = dataclasses.replace(value, **changed)
            else:
                for name, part in changed.items():
                    setattr(value, name, part)
    done[id(value)] = value, result
    return result


def _as(old: Tensor, new: Tensor) -> Tensor:
    """The new tensor as a parameter if the old one was one."""
    return nn.Parameter(new, requires_grad=False) if new is not old and isinstance(old, nn.Parameter) else new


def _can_go_to_disk(tensor: Tensor) -> bool:
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided and tensor.grad_fn is None
    on_disk = plain and tensor.untyped_storage().data_ptr() in _on_disk
    return plain and not on_disk and tensor.untyped_storage().nbytes() >= SMALL


# --------------------------------------------------------------------------------------------------- the system's share


_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1  # of mallopt, as malloc.h has them
LARGEST_KEPT = 32 * MB  # a block


def keep_freed_memory() -> None:
    """For the app: feature maps are made and freed at every step, and the C library's way with large blocks costs more
    than some of the layers: a system call for each, and zeroed pages. Blocks are now kept for the next request, and all
    threads share a few heaps, so that what one has freed serves the others. The largest go back at once: a network at
    256x256 makes few of them, and the gaps that they leave in a heap are what its peak is made of. Does nothing where
    the C library is another one."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc; Windows
        return
    mallopt(_ARENA_MAX, max(2, os.cpu_count() or 2))
    mallopt(_MMAP_THRESHOLD, LARGEST_KEPT)
    mallopt(_TRIM_THRESHOLD, 2**30)


def give_back() -> None:
    """Return memory that was freed to the system. The C library keeps it for the next request otherwise: what a few
    threads have freed in small pieces adds up. Does nothing where the library has no such function."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


@contextmanager
def explain_memory_errors(advice: str = "Choose a smaller model.") -> Iterator[None]:
    """Within the block, running out of memory becomes a visitor's error. advice: what to do about it.

    Raises:
        ResourceError: the machine ran out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ResourceError(f"The machine ran out of memory. {advice}") from error

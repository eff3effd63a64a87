"""The processes that share a run, as `accelerate launch` (or torchrun, or MPI) has started them; otherwise one.

What they tell one another goes through accelerate: who there is, broadcasts, gathering.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock, Timeout

from ..errors import RequestError, ResourceError
from ..models.placing import keep_to

T = TypeVar("T")

LONGEST = timedelta(days=30)  # one process may have that much more to do than the others
HIDDEN = ".work"  # folder in a folder of results: locks, progress, what is not done yet


@dataclass(frozen=True)
class Team:
    """rank: of this process; size: how many there are. share: (k, n) takes the k-th of n hands of all units and waits
    for nobody: the others are runs of their own, such as those of a job array."""

    rank: int = 0
    size: int = 1
    share: tuple[int, int] | None = None

    @property
    def main(self) -> bool:
        """Whether this process is the one that prints, and writes what is joined."""
        return self.rank == 0

    def first(self, value: T) -> T:
        """What the main process has, in all of them. Raises ResourceError: another process has ended."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        box = [value]
        with _explained():
            broadcast_object_list(box)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What each process has, by rank. Raises ResourceError: another process has ended."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        with _explained():
            return list(gather_object([value]))

    def hand(self, items: Sequence[T]) -> list[T]:
        """What is this process's of some items, which are dealt out in turn."""
        if self.share is not None:
            k, n = self.share
            return list(items[k - 1 :: n])
        if self.size == 1:
            return list(items)
        from accelerate import PartialState

        dealt = [item for rank in range(self.size) for item in items[rank :: self.size]]
        with PartialState().split_between_processes(dealt) as mine:
            return list(mine)


ALONE = Team()


def join_team(share: tuple[int, int] | None = None) -> Team:
    """The team of this process; with others, each keeps to the device that accelerate gives it.

    Raises:
        RequestError: a share among processes that were launched together.
    """
    if _launched_size() == 1:
        return Team(share=share)
    if share is not None:
        raise RequestError("--share is for runs that are started one by one; accelerate shares out by itself.")
    from accelerate import PartialState

    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes") or not torch.cuda.is_available()
    state = PartialState(cpu=cpu, timeout=LONGEST)
    # While Python still runs: threads of the group that outlive it now and then abort a process that is done.
    atexit.register(state.destroy_process_group)
    keep_to(state.device)
    return Team(state.process_index, state.num_processes)


def launched_rank() -> int:
    """Which one this process is of those that were launched together, before they have joined."""
    return _launched("RANK", 0)


def _launched_size() -> int:
    return max(1, _launched("SIZE", 1))


def _launched(what: str, otherwise: int) -> int:
    """As torchrun and accelerate, Open MPI, MPICH and MVAPICH tell it."""
    world = "WORLD_SIZE" if what == "SIZE" else what
    for variable in (world, f"OMPI_COMM_WORLD_{what}", f"PMI_{what}", f"MV2_COMM_WORLD_{what}"):
        if os.environ.get(variable, "").isdigit():
            return int(os.environ[variable])
    return otherwise


def read_share(text: str | None) -> tuple[int, int] | None:
    """K/N, as the command line has it; None: there is none. Raises RequestError."""
    if text is None:
        return None
    k, _, n = text.partition("/")
    if not (k.isdigit() and n.isdigit() and 1 <= int(k) <= int(n) <= 100_000):
        raise RequestError(f"“{text[:40]}” is no share: write K/N, such as 1/8 for the first of eight.")
    return int(k), int(n)


@contextmanager
def _explained() -> Iterator[None]:
    """Raises ResourceError: a process that was waited for is no longer there."""
    try:
        yield
    except RuntimeError as error:  # of the library below, which has no type for it
        raise ResourceError(LOST) from error


LOST = "Another process of this run has ended. Give the same command again: it goes on where it was."


@contextmanager
def folder_lock(folder: Path, team: Team) -> Iterator[None]:
    """Within the block, no other run works in this folder; a lock of a process that was killed holds nobody.

    The runs of a job array share a folder, each with a share of its own.

    Raises:
        RequestError: another run works there. ResourceError: the folder cannot be written.
    """
    refused, lock = "", None
    if team.main:
        try:
            lock = _take(folder, team)
        except (RequestError, ResourceError) as error:
            refused, kind = error.message, type(error)
    try:
        said = team.first((refused, "" if not refused else kind.__name__))
        if said[0]:
            raise (RequestError if said[1] == "RequestError" else ResourceError)(said[0])
        yield
    finally:
        if lock is not None:
            lock.release()


def _take(folder: Path, team: Team) -> Any:
    hidden = folder / HIDDEN
    own = "lock" if team.share is None else "lock-{}-of-{}".format(*team.share)
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        lock = FileLock(hidden / own)
        lock.acquire(blocking=False)
        others = hidden.glob("lock-*") if team.share is None else [hidden / "lock"]
        if not any(is_held(other) for other in others):
            if team.share is None:
                _clear(folder)
            return lock
        lock.release()
    except Timeout:
        pass
    except OSError as error:
        raise ResourceError(f"The folder {folder} cannot be written ({error.strerror}).") from error
    raise RequestError(
        f"Another run works in {folder}. Wait until it is done, stop it, or choose another output folder."
    )


def _clear(folder: Path) -> None:
    """Take away files that a killed process had begun to write."""
    for path in folder.rglob(".*.partial"):
        path.unlink(missing_ok=True)


def is_held(path: Path) -> bool:
    """Whether a process that is alive holds the lock of a file."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False

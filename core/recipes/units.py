"""Work in units, each with result files of its own, shared among processes.

What is there is never computed again; a unit that fails, or a process that is killed, costs what it was at and nothing
else. The same call goes on where an earlier one was stopped.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import ResourceError, VisitorError
from ..progress import Job, Progress, Running
from ..tensor_file import write
from .team import ALONE, HIDDEN, LOST, Team, is_held

WHOLE = 1000  # steps of the progress of all units together
EVERY = 1.0  # seconds between two looks at the progress of the other processes
FULL = {errno.ENOSPC, errno.EDQUOT}


@dataclass(frozen=True)
class Unit:
    """A piece of work. key: tells it apart from all others, and from itself with other settings; part of file names.
    files: that it writes, relative to the folder; it is done when all are there. label: in words. cost: next to that of
    other units, such as seconds."""

    key: str
    files: tuple[str, ...]
    label: str = ""
    cost: float = 1.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]{1,150}", self.key, re.ASCII) or not self.files:
            raise ValueError(f"{self.key!r} with {len(self.files)} files is no unit")

    def is_done(self, folder: Path) -> bool:
        return all((folder / name).is_file() for name in self.files)

    @property
    def words(self) -> str:
        return self.label or self.key


# A job that returns the contents of the unit's files, by name.
Work = Callable[[Unit], Job[Mapping[str, bytes]]]


@dataclass(frozen=True)
class Outcome:
    """What came of all units, in all processes. made: keys that were computed now. failed: unit -> why. left: neither
    done nor failed, because a process ended or the disk is full."""

    made: tuple[str, ...] = ()
    failed: dict[Unit, str] = field(default_factory=dict)
    left: tuple[Unit, ...] = ()

    @property
    def complete(self) -> bool:
        return not (self.failed or self.left)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.made + other.made, self.failed | other.failed, self.left + other.left)

    def require_complete(self) -> None:
        """Raises ResourceError, which lists what failed and why."""
        if self.complete:
            return
        lines = [f"{unit.words}: {why}" for unit, why in self.failed.items()]
        if self.left:
            lines.append(f"Not begun or not finished: {', '.join(unit.words for unit in self.left)}.")
        lines.append("Everything else is done and kept. Give the same command again for what is missing.")
        raise ResourceError("\n".join(lines))


def run_units(units: Sequence[Unit], work: Work, folder: Path, team: Team = ALONE, dealt: bool = True) -> Job[Outcome]:
    """Compute the units whose files are not there, each in one of the processes, and return what came of all.

    All processes of the team call it with the same units. The longest units are dealt out first, in turn. Events count
    the work of all processes together. A unit's files are written when it is finished, each whole or not at all. What
    `work` raises is the failure of that unit alone; a full disk ends this process's work.

    dealt: whether the units are to be shared out; False: these are this process's.

    Raises:
        ResourceError: another process has ended. ValueError: two units share a key or a file.
    """
    _require_distinct(units)
    hidden = folder / HIDDEN
    in_order = sorted(units, key=lambda unit: -unit.cost)
    if dealt and team.share is not None:  # a share is of all units, whatever other shares have done meanwhile
        in_order = team.hand(in_order)
    missing = team.first([unit for unit in in_order if not unit.is_done(folder)])
    mine = team.hand(missing) if dealt and team.share is None else missing
    made: list[str] = []
    failed: dict[Unit, str] = {}
    with _Told(hidden, missing, mine, folder, team) as told, _stoppable():
        for unit in mine:
            if unit.is_done(folder):  # by another run of a job array
                continue
            running = Running(_done(unit, work, folder))
            try:
                for event in running:
                    told.at(unit, event)
                    yield told.event(unit, event)
                made.append(unit.key)
            except Exception as error:
                failed[unit] = _recorded(error, unit, hidden)
                if _disk_is_full(error):
                    break
            finally:
                running.close()
            told.at(unit, None)
            yield told.event(unit, None)
        told.finish()
        if team.main:
            yield from told.wait()
        elsewhere = team.gather((made, failed))
    all_failed = {unit: why for _, part in elsewhere for unit, why in part.items()}
    awaited = missing if team.share is None else mine
    left = [unit for unit in awaited if unit not in all_failed and not unit.is_done(folder)]
    return team.first(Outcome(tuple(key for part, _ in elsewhere for key in part), all_failed, tuple(left)))


def _done(unit: Unit, work: Work, folder: Path) -> Job[None]:
    contents = yield from work(unit)
    if contents.keys() != set(unit.files):
        raise ValueError(f"{unit.key} gave {sorted(contents)} and not {sorted(unit.files)}")
    for name in unit.files:  # in this order: the last one says that it is done
        write(folder / name, contents[name], f"file {name}")
    _failure_file(folder / HIDDEN, unit).unlink(missing_ok=True)
    unfinished_file(folder, unit).unlink(missing_ok=True)


def unfinished_file(folder: Path, unit: Unit) -> Path:
    """Where the work of a unit can keep what it has until now; it goes when the unit is done."""
    return folder / HIDDEN / f"{unit.key}.unfinished"


def _require_distinct(units: Sequence[Unit]) -> None:
    files = [name for unit in units for name in unit.files]
    if len({unit.key for unit in units}) < len(units) or len(set(files)) < len(files):
        raise ValueError("two units share a key or a file")


def _recorded(error: Exception, unit: Unit, hidden: Path) -> str:
    """Why a unit failed, in words; where it did is kept in a file."""
    words = error.message if isinstance(error, VisitorError) else f"{type(error).__name__}: {error}"
    with suppress(OSError):
        hidden.mkdir(parents=True, exist_ok=True)
        _failure_file(hidden, unit).write_text("".join(traceback.format_exception(error)))
    return words


def _failure_file(hidden: Path, unit: Unit) -> Path:
    return hidden / f"{unit.key}.failed.txt"


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__
    return False


@contextmanager
def _stoppable() -> Iterator[None]:
    """Within the block, a request to end (SIGTERM: of a launcher whose other process was killed, of a batch system
    whose time is up) ends the work like an interruption, so that it keeps what it has."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _share(event: Progress) -> float:
    """Of a unit's work that is done."""
    return min(1.0, event.step / max(1, event.total))


class _Told:
    """What the processes tell one another of their progress, in a small file for each."""

    def __init__(self, hidden: Path, missing: Sequence[Unit], mine: Sequence[Unit], folder: Path, team: Team) -> None:
        self.hidden, self.folder, self.team = hidden, folder, team
        self.units = list(missing if team.share is None else mine)
        self.total = sum(unit.cost for unit in self.units) or 1.0
        self.name = f"{team.rank}" if team.share is None else "{}-of-{}".format(*team.share)
        self.written = 0.0

    def __enter__(self) -> _Told:
        try:
            self.hidden.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"The folder {self.folder} cannot be written ({error.strerror}).") from error
        self.alive = FileLock(self.hidden / f"process-{self.name}.lock")
        self.alive.acquire(timeout=60)
        self._write({})
        self.team.gather(None)  # everybody's is there from here on
        return self

    def __exit__(self, *_: object) -> None:
        self.alive.release()

    def at(self, unit: Unit, event: Progress | None) -> None:
        """Tell where this process is; None: with a unit that is over."""
        now = time.monotonic()
        if event is None or now - self.written >= EVERY:
            share = 0.0 if event is None else _share(event)
            self._write({} if event is None else {"key": unit.key, "share": share, "note": event.note})
            self.written = now

    def finish(self) -> None:
        self._write({"finished": True})

    def _write(self, state: dict[str, Any]) -> None:
        """Not synchronised to the disk: it is news, and gone with the machine."""
        path = self._path(self.name)
        with suppress(OSError):
            unfinished = path.with_suffix(".tmp")
            unfinished.write_text(json.dumps(state))
            os.replace(unfinished, path)

    def _path(self, name: str) -> Path:
        return self.hidden / f"process-{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            state = json.loads(self._path(name).read_text())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def event(self, unit: Unit | None, event: Progress | None) -> Progress:
        """The progress of all processes."""
        others = [] if self.team.share or not self.team.main else [str(r) for r in range(1, self.team.size)]
        states = [state for name in others if (state := self._read(name)).get("key")]
        if unit is not None and event is not None:
            states.insert(0, {"key": unit.key, "share": _share(event), "note": event.note})
        done = [one for one in self.units if one.is_done(self.folder)]
        by_key = {one.key: one for one in self.units}
        under_way = [(by_key[state["key"]], state) for state in states if state["key"] in by_key]
        cost = sum(one.cost for one in done) + sum(one.cost * float(state["share"]) for one, state in under_way)
        notes = [f"{one.words}: {state['note']} {float(state['share']):.0%}" for one, state in under_way]
        note = "; ".join([f"{len(done)} of {len(self.units)} done", *notes])
        preview, loss = (None, None) if event is None else (event.preview, event.loss)
        return Progress(min(WHOLE, round(WHOLE * cost / self.total)), WHOLE, note, preview, loss)

    def wait(self) -> Job[None]:
        """Until the other processes have finished. Raises ResourceError: one has ended without."""
        for name in [] if self.team.share else [str(rank) for rank in range(1, self.team.size)]:
            while not self._read(name).get("finished"):
                if not is_held(self.hidden / f"process-{name}.lock") and not self._read(name).get("finished"):
                    raise ResourceError(LOST)
                yield self.event(None, None)
                time.sleep(EVERY)

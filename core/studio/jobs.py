"""Jobs that need the device from their beginning to their end, under their own names: they can run in this process, or
in another one that has a GPU for as long as a job lasts (`core.studio.elsewhere`). Whoever starts one cannot tell.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from ..progress import Job

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Work:
    """What a job asks of a network. rows: latents that go through it, a pass there and back counted three times. calls:
    of it, for as many rows as there are at once."""

    calls: float
    rows: float

    def __add__(self, other: Work) -> Work:
        return Work(self.calls + other.calls, self.rows + other.rows)

    def __rmul__(self, times: float) -> Work:
        return Work(times * self.calls, times * self.rows)


@dataclass(frozen=True)
class DeviceJob:
    """A job by its name. start: begins it in this process. work: what it asks of the network, from its arguments.
    resumable: what it fills in takes it on where it was stopped, so that it can be done in slices."""

    name: str
    start: Callable[..., Job[Any]]
    work: Callable[..., Work]
    resumable: bool

    def arguments(self, *values: Any, **named: Any) -> dict[str, Any]:
        """Arguments of a call by their names."""
        return dict(inspect.signature(self.start).bind(*values, **named).arguments)


JOBS: dict[str, DeviceJob] = {}

# Runs jobs elsewhere: (job, its arguments by name) -> the same job. None: they run in this process.
Elsewhere = Callable[[DeviceJob, dict[str, Any]], Job[Any]]
_elsewhere: Elsewhere | None = None


def run_elsewhere(elsewhere: Elsewhere | None) -> None:
    """From here on device jobs are run by this; by None in this process."""
    global _elsewhere
    _elsewhere = elsewhere


def runs_elsewhere() -> bool:
    """Whether device jobs are run in another process."""
    return _elsewhere is not None


def device_job(
    work: Callable[..., Work], resumable: bool = False
) -> Callable[[Callable[P, Job[T]]], Callable[P, Job[T]]]:
    """Declares a job of the studio that needs the device.

    Its arguments and its result are plain values: dataclasses, collections, tensors; models and instruments stand for
    themselves. It may fill in the lists, dictionaries and dataclasses that it is given; events whose `kept` is set say
    when these have something in them that is of use.

    work: of the network, from the job's arguments. resumable: see `DeviceJob`.
    """

    def declare(start: Callable[P, Job[T]]) -> Callable[P, Job[T]]:
        name = f"{start.__module__.partition('.')[2]}.{start.__qualname__}"
        job = JOBS[name] = DeviceJob(name, start, work, resumable)

        @functools.wraps(start)
        def begin(*values: P.args, **named: P.kwargs) -> Job[T]:
            if _elsewhere is None:
                return start(*values, **named)
            return _elsewhere(job, job.arguments(*values, **named))

        return begin

    return declare

"""Long work as a generator of progress events that returns its result.

The page, the command line and the tests consume the same generator, and whoever stops consuming it stops the work.
One job is part of another by `result = yield from job`; `stage` says how its steps are told within the whole.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Generic, TypeAlias, TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """One event of a long job: `step` of `total` steps are done.

    `preview` is pixels (B, 3, H, W) in [-1, 1]; `loss` is there for jobs that optimise something. `kept`: what the job
    fills in along the way is of use from here; one that says it can be resumed goes on from here when it is begun
    again.
    """

    step: int
    total: int
    note: str = ""
    preview: Tensor | None = None
    loss: float | None = None
    kept: bool = False


Job: TypeAlias = Generator[Progress, None, T]


def finish(job: Job[T]) -> T:
    """Run a job to its end and return its result."""
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def stage(
    job: Job[T],
    note: str | Callable[[str], str] | None = None,
    first: int = 0,
    total: int | None = None,
    previews: bool = True,
) -> Job[T]:
    """A job as part of a larger one. Returns its result.

    note: in place of the job's own, or what to make of that. first: steps of the whole that were done before it. total:
    of the whole; None: the job's own. previews: whether they are passed on.
    """
    while True:
        try:
            event = next(job)
        except StopIteration as end:
            return end.value
        told = event.note if note is None else note if isinstance(note, str) else note(event.note)
        yield replace(
            event,
            step=first + event.step,
            total=event.total if total is None else total,
            note=told,
            preview=event.preview if previews else None,
        )


class Running(Generic[T]):
    """A job's events one by one, for a loop that does something of its own with each; then `result` is there.

    Raises:
        AttributeError: `result` is asked for before the job's end.
    """

    result: T

    def __init__(self, job: Job[T]) -> None:
        self._job = job

    def __iter__(self) -> Iterator[Progress]:
        self.result = yield from self._job

    def close(self) -> None:
        """Stop the job."""
        self._job.close()


MAX_SHARE = 0.2  # of the time, for previews


@dataclass
class Previews:
    """When a job shows where it is: about ten times in a phase, but not in the first seconds, not twice within as many,
    and not for more than a fifth of the time, because decoding a preview can take longer than several steps.

    seconds: 0 where it costs next to nothing.
    """

    clock: Callable[[], float] = time.monotonic
    seconds: float = 1.0
    _next: float = field(init=False)  # when there may be another one

    def __post_init__(self) -> None:
        self._next = self.clock() + self.seconds

    def after(self, step: int, total: int, make: Callable[[], Tensor]) -> Tensor | None:
        """What there is to show after `step` of `total` steps, made if it is due."""
        began = self.clock()
        if step % max(1, total // 10) or began < self._next:
            return None
        made, ended = make(), self.clock()
        self._next = max(began + self.seconds, ended + (1 / MAX_SHARE - 1) * (ended - began))
        return made


@dataclass
class TimeLeft:
    """How long a job still takes, from the pace of its steps since the first event: what it has waited for before does
    not count. Begun anew where a job goes on to another phase, with steps of its own."""

    clock: Callable[[], float] = time.monotonic
    seconds: float = 3.0  # of work, before anything is told
    _began: tuple[float, int, int] | None = None  # when, at which step, of how many

    def after(self, event: Progress) -> float | None:
        """Seconds from this event to the last; None where that can't be told yet."""
        now = self.clock()
        if self._began is None or event.total != self._began[2] or event.step < self._began[1]:
            self._began = now, event.step, event.total
        began, first, total = self._began
        done = event.step - first
        return (now - began) / done * (total - event.step) if done and now - began >= self.seconds else None

    def in_words(self, event: Progress) -> str:
        """ "about 40 seconds left", or nothing where that can't be told."""
        left = self.after(event)
        return f"{duration_in_words(left)} left" if left else ""


def duration_in_words(seconds: float) -> str:
    """ "about 40 seconds", "about 12 minutes", "about 3 hours"."""
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"about {round(seconds / size)} {unit}"
    return f"about {max(10, 10 * round(seconds / 10))} seconds"

"""One engine for all visitors: whose turn it is on the device, and which visitors' steps are computed together.

A job either holds the device for a whole step (`exclusively`), or it asks for predictions of the network through a
shared model (`DEVICE.shared`): what is asked for while the device is busy is answered in one call as soon as it is
free, whatever the visitors, timesteps, directions and strengths. There is no thread of its own: whoever waits first
does the work of all.

Order: the more urgent first, and among equals who waited longer; waiting makes everybody more urgent, so that nobody
starves. When a common call fails, each of its parts is tried alone: only whoever caused it gets the error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import TypeVar

from torch import Tensor

from ..forking import renew_after_fork
from ..memory import keep_freed_memory
from ..models.loader import DiffusionModel
from ..progress import Job
from ..queries import Query

T = TypeVar("T")

MAX_ROWS = 48  # of a common call, so that nobody waits long for what others ask
PATIENCE = 2.0  # seconds that make a request as urgent as the next kind
MAX_WINDOW = 0.1  # seconds to wait for those who were served together
FEW = 8  # pictures, as many as a strip has


class Urgency(IntEnum):
    """What goes first: a picture that a visitor waits for, more of the same, work that takes long anyway."""

    FIRST = 0
    MORE = 1
    LONG = 2

    @staticmethod
    def of_pictures(count: int) -> Urgency:
        """Of a job that makes so many."""
        return Urgency.FIRST if count == 1 else Urgency.MORE if count <= FEW else Urgency.LONG


@dataclass(eq=False)
class Request:
    """Somebody waits for the device: for a turn of their own, or for answers.

    client: who asks; since: when. model, queries: what for; None and nothing: a turn.
    """

    client: object
    urgency: int
    since: float
    model: DiffusionModel | None = None
    queries: Sequence[Query] = ()
    answers: list[Tensor] = field(default_factory=list)
    error: BaseException | None = None
    served: bool = False

    @property
    def rows(self) -> int:
        return sum(query.size for query in self.queries)


def in_order(waiting: Sequence[Request], now: float) -> list[Request]:
    """Those who wait, whoever is next first."""
    return sorted(waiting, key=lambda request: (request.urgency - (now - request.since) / PATIENCE, request.since))


def together(waiting: Sequence[Request], now: float) -> list[Request]:
    """What is done next: one turn, or all that one call of a network can answer."""
    first, *others = in_order(waiting, now)
    chosen = [first]
    if first.model is not None:
        room = min(MAX_ROWS, first.model.rows_per_call()) - first.rows
        for request in others:
            if request.model is not None and request.model.unet is first.model.unet and request.rows <= room:
                chosen.append(request)
                room -= request.rows
    return chosen


class Engine:
    """The device, of which there is one. Thread-safe.

    clock: seconds, for the order alone.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.calls, self.rows = 0, 0  # of the network, for whoever wants to know how much was done together
        self._clock = clock
        self.renew_locks()
        renew_after_fork(self)

    def renew_locks(self) -> None:
        """See `core.forking`: in a fork of the process nobody is at work yet."""
        self._changed = threading.Condition()
        self._waiting: list[Request] = []
        self._holder: int | None = None
        self._expected: set[object] = set()  # served together last time, and likely to come back in a moment
        self._window = 0.0  # until when they are waited for

    @property
    def busy(self) -> bool:
        """Whether somebody is at work."""
        return self._holder is not None

    @contextmanager
    def turn(self, urgency: int = Urgency.MORE) -> Iterator[None]:
        """The device for oneself. Within a turn, another one is the same one."""
        if self._holder == threading.get_ident():
            yield
            return
        self._wait(Request(object(), urgency, self._clock()))
        try:
            yield
        finally:
            self._free()

    @contextmanager
    def shared(self, model: DiffusionModel, urgency: int = Urgency.MORE) -> Iterator[DiffusionModel]:
        """The model for a job that computes its predictions together with those of others."""
        parts = {part.name: getattr(model, part.name) for part in fields(DiffusionModel)}
        shared = SharedModel(**parts, own=model, engine=self, urgency=urgency)
        try:
            yield shared
        finally:
            with self._changed:
                self._expected.discard(shared.client)
                self._changed.notify_all()

    def answer(
        self, client: object, model: DiffusionModel, queries: Sequence[Query], urgency: int = Urgency.MORE
    ) -> list[Tensor]:
        """Answers of the network to queries, together with whatever others ask meanwhile.

        Raises: what the network or a query's own shift raises.
        """
        if self._holder == threading.get_ident():
            return model.answer(queries)
        request = Request(client, urgency, self._clock(), model, queries)
        batch = self._wait(request)
        if batch:
            self._serve(batch)
        if request.error is not None:
            raise request.error
        return request.answers

    def _wait(self, request: Request) -> list[Request]:
        """Until the request is served by somebody, or it is its turn: then what is to be done, itself among it."""
        with self._changed:
            self._waiting.append(request)
            self._expected.discard(request.client)
            self._changed.notify_all()
            try:
                while not request.served:
                    now = self._clock()
                    if self._holder is None and in_order(self._waiting, now)[0] is request:
                        left = self._window - time.monotonic() if request.model and self._expected else 0.0
                        if left <= 0:
                            batch = together(self._waiting, now)
                            self._waiting = [other for other in self._waiting if other not in batch]
                            self._expected = set()
                            self._holder = threading.get_ident()
                            return batch
                        self._changed.wait(left)
                    else:
                        self._changed.wait()
            except BaseException:  # interrupted while it waited
                self._waiting = [other for other in self._waiting if other is not request]
                self._changed.notify_all()
                raise
            return []

    def _serve(self, batch: Sequence[Request]) -> None:
        began, model = time.monotonic(), batch[0].model
        assert model is not None
        try:
            self.calls, self.rows = self.calls + 1, self.rows + sum(request.rows for request in batch)
            answers = iter(model.answer([query for request in batch for query in request.queries]))
            for request in batch:
                request.answers, request.served = [next(answers) for _ in request.queries], True
        except BaseException as error:
            if len(batch) == 1:
                batch[0].error, batch[0].served = error, True
            else:
                for request in batch:  # each alone: the others go on
                    try:
                        request.answers = model.answer(request.queries)
                    except BaseException as own:
                        request.error = own
                    request.served = True
        finally:
            spent = time.monotonic() - began
            self._free({request.client for request in batch}, min(spent / 4, MAX_WINDOW))

    def _free(self, expected: set[object] | None = None, window: float = 0.0) -> None:
        with self._changed:
            self._holder = None
            self._expected, self._window = expected or set(), time.monotonic() + window
            self._changed.notify_all()


@dataclass
class SharedModel(DiffusionModel):
    """A model whose predictions are computed together with those of others. One for each job.

    own: the model itself. client: tells the job apart from others.
    """

    own: DiffusionModel
    engine: Engine
    urgency: int
    client: object = field(default_factory=object)

    def answer(self, queries: Sequence[Query]) -> list[Tensor]:
        return self.engine.answer(self.client, self.own, queries, self.urgency)

    def rows_per_call(self, budget: int | None = None) -> int:
        """Not more than others may have to wait for."""
        return min(MAX_ROWS, self.own.rows_per_call(budget))


DEVICE = Engine()
keep_freed_memory()


def exclusively(job: Job[T], urgency: int = Urgency.LONG) -> Job[T]:
    """The same job, each of its steps alone on the device; between steps others get their turn."""
    try:
        while True:
            with DEVICE.turn(urgency):
                try:
                    event = next(job)
                except StopIteration as end:
                    return end.value
            yield event
    finally:
        job.close()

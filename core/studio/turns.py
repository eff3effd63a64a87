"""Which of a visitor's requests are out of date: the one place where a job learns that nobody waits for it any more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from ..progress import Job

T = TypeVar("T")


class Outdated(Exception):
    """The visitor has asked for something else meanwhile, or has left."""


FORGOTTEN = "forgotten"


@dataclass
class Turns:
    """Requests of one visitor that replace one another. number: of the newest; last: that of each kind."""

    number: int = 0
    last: dict[str, int] = field(default_factory=dict)

    def begin(self, kind: str = "") -> Turn:
        """A new request, or none any more: every older one is out of date from here on."""
        self.number += 1
        self.last[kind] = self.number
        return Turn(self, self.number, kind)

    def forget(self) -> None:
        """Every request is out of date, and nothing takes its place."""
        self.begin(FORGOTTEN)

    @property
    def are_forgotten(self) -> bool:
        """Whether nothing was asked for since."""
        return bool(self.number) and self.last.get(FORGOTTEN) == self.number


@dataclass(frozen=True)
class Turn:
    """One request."""

    turns: Turns
    number: int
    kind: str = ""

    @property
    def is_current(self) -> bool:
        """Whether nothing else was asked for since."""
        return self.turns.number == self.number

    @property
    def is_last_of_kind(self) -> bool:
        """Whether nothing of the same kind was asked for since: then this request still has to say how it ended."""
        return self.turns.last[self.kind] == self.number

    def follow(self, job: Job[T]) -> Job[T]:
        """The same job for as long as the request is current; it is closed when it is not.

        Raises:
            Outdated: the visitor has asked for something else.
        """
        try:
            while True:
                try:
                    event = next(job)
                except StopIteration as end:
                    if not self.is_current:  # meanwhile its last step was under way
                        raise Outdated from None
                    return end.value
                if not self.is_current:
                    raise Outdated
                yield event
        finally:
            job.close()

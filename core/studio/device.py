"""Visitors' jobs take turns on the device, one step at a time."""

import threading
from typing import TypeVar

from ..progress import Job

T = TypeVar("T")

DEVICE = threading.Lock()


def exclusively(job: Job[T]) -> Job[T]:
    """The same job, each of its steps alone on the device; between steps others get their turn."""
    try:
        while True:
            with DEVICE:
                try:
                    event = next(job)
                except StopIteration as end:
                    return end.value
            yield event
    finally:
        job.close()

"""What a job costs: seconds of computing and memory of its own, without the time in which it waits for its turn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import torch

from ...memory import give_back
from ...progress import Job

T = TypeVar("T")

_SELF = Path("/proc/self")


class Meter:
    """seconds: so far. peak: bytes, the most that was in use during any step beyond what was in use before the job; on
    a CPU by the whole process, so that what others do at the same time counts as well. None where the machine does not
    tell."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.peak: int | None = None
        self._began: float | None = None
        self._before: int | None = None

    def clock(self) -> float:
        """Seconds of computing so far, also from within a step."""
        return self.seconds + (0.0 if self._began is None else time.monotonic() - self._began)

    def run(self, job: Job[T]) -> Job[T]:
        """The same job, measured."""
        try:
            while True:
                if self._before is None:
                    give_back()  # what was free already must not hide what is taken from here on
                    self._before = _in_use(self.device)
                _forget_peak(self.device)
                self._began = time.monotonic()
                try:
                    event = next(job)
                except StopIteration as end:
                    return end.value
                finally:
                    self._end_step()
                yield event
        finally:
            job.close()

    def _end_step(self) -> None:
        self.seconds, self._began = self.clock(), None
        peak = _peak(self.device)
        if peak is not None:
            self.peak = max(self.peak or 0, peak - (self._before or 0))


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        (_SELF / "clear_refs").write_text("5")  # Linux: the peak begins anew
    except OSError:
        return


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM")


def _in_use(device: torch.device) -> int | None:
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else _status("VmRSS")


def _status(name: str) -> int | None:
    """A line of the process's status, in bytes, where there is one."""
    try:
        lines = (_SELF / "status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)

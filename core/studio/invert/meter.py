"""What a job costs: seconds of computing and peak memory, without the time in which it waits for its turn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import torch

from ...progress import Job

T = TypeVar("T")

_SELF = Path("/proc/self")


class Meter:
    """seconds: so far. peak: bytes, the most that was in use on the device during any step (on a CPU, by the whole
    process); None where the machine does not tell."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.peak: int | None = None
        self._began: float | None = None

    def clock(self) -> float:
        """Seconds of computing so far, also from within a step."""
        return self.seconds + (0.0 if self._began is None else time.monotonic() - self._began)

    def run(self, job: Job[T]) -> Job[T]:
        """The same job, measured."""
        try:
            while True:
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
            self.peak = max(self.peak or 0, peak)


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
    try:
        lines = (_SELF / "status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)

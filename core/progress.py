"""Long work as a generator of progress events.

The page, the command line and the tests consume the same generator, and whoever stops consuming it stops the work.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """One event of a long job: `step` of `total` steps are done.

    `preview` is pixels (B, 3, H, W) in [-1, 1]; `loss` is there for jobs that optimise something. The last event of
    a job, and no other, carries `result`.
    """

    step: int
    total: int
    note: str = ""
    preview: Tensor | None = None
    result: Any = None
    loss: float | None = None


@dataclass
class Previews:
    """When a job shows where it is: about ten times in a phase, but not twice within a second, because decoding a
    preview can take as long as a step."""

    clock: Callable[[], float] = time.monotonic
    shown: float = -float("inf")

    def due(self, step: int, total: int) -> bool:
        """Whether there should be a preview after `step` of `total` steps; then the next second begins."""
        now = self.clock()
        due = step % max(1, total // 10) == 0 and now - self.shown >= 1
        if due:
            self.shown = now
        return due


Job = Generator[Progress, None, None]


def finish(job: Job) -> Any:
    """Run `job` to its end and return the result of its last event.

    Raises:
        RuntimeError: the job ended without a result.
    """
    result = None
    for event in job:
        result = event.result
    if result is None:
        raise RuntimeError("the job ended without a result")
    return result

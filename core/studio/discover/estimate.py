"""How long a search of directions will take in a large network: told before it starts, so that nobody waits blindly."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ...models.loader import DiffusionModel
from ..device import DEVICE
from ..jobs import runs_elsewhere
from .exploration import Exploration
from .search import explore_work

LARGE = 128 * 2**20  # bytes of a network; searches in smaller ones take seconds


def estimated_seconds(
    exploration: Exploration, refining: bool = True, clock: Callable[[], float] = time.monotonic
) -> float | None:
    """Of `explore`, from one pass of the network on this machine; None: it is a small one, or the picture is analysed
    already, or the work is done in another process, whose pace is not this one's (ZeroGPU asks for a grant instead).

    On a CPU rows are computed one after the other, on a GPU those of one call together.

    Raises:
        ResourceError: out of memory.
    """
    model, analysis = exploration.model, exploration.analysis
    if model.unet.nbytes < LARGE or runs_elsewhere() or (analysis is not None and analysis.complete):
        return None
    work = explore_work(exploration, refining)
    passes = work.rows if model.device.type == "cpu" else work.calls
    return passes * seconds_per_pass(model, clock)


@torch.no_grad()
def seconds_per_pass(model: DiffusionModel, clock: Callable[[], float] = time.monotonic) -> float:
    """One row through the network, after one that warms it up on a GPU."""
    x = torch.zeros(1, *model.x_shape, device=model.device)
    seconds = 0.0
    with DEVICE.turn():
        for _ in range(1 if model.device.type == "cpu" else 2):
            began = clock()
            model.eps(model.features(x, model.schedule.T // 2), x, model.schedule.T // 2).sum().item()
            seconds = clock() - began
    return seconds

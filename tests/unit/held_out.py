"""Held-out portraits for the tests, rendered once per test run."""

from functools import lru_cache

import numpy as np
from torch import Tensor

from training.dataset import to_pixels
from training.portraits import HELD_OUT, Portrait, render, sample


@lru_cache
def people(count: int) -> tuple[Portrait, ...]:
    """The parameters of the first held-out seeds."""
    return tuple(sample(HELD_OUT + i) for i in range(count))


def drawn(portraits: tuple[Portrait, ...] | list[Portrait]) -> np.ndarray:
    """Portraits -> uint8 (B, 128, 128, 3)."""
    return np.stack([np.asarray(render(p)) for p in portraits])


@lru_cache
def pictures(count: int) -> np.ndarray:
    """The renders of `people(count)`."""
    return drawn(people(count))


def pixels(portraits: tuple[Portrait, ...] | list[Portrait]) -> Tensor:
    """Portraits -> (B, 3, 128, 128) in [-1, 1]."""
    return to_pixels(drawn(portraits))

"""Running out of memory, in words: one place for every method."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import ResourceError


@contextmanager
def explain_memory_errors(advice: str = "Choose a smaller model.") -> Iterator[None]:
    """Within the block, running out of memory becomes a visitor's error. advice: what to do about it.

    Raises:
        ResourceError: the machine ran out of memory.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ResourceError(f"The machine ran out of memory. {advice}") from error

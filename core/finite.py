"""No picture is made of values that are not numbers: where a network computes them, the work stops, in words."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import NumberError
from .precision import name_of


def finite(*values: Tensor) -> bool:
    """Whether all values are numbers."""
    return all(bool(value.isfinite().all()) for value in values)


def require_finite(*values: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Raises NumberError: some value is not a number. dtype: in which they were computed."""
    if not finite(*values):
        raise NumberError(
            f"The network computed values that are not numbers (in {name_of(dtype)}), so there is no picture. Try a "
            "smaller strength or another picture; if that changes nothing, the model's weights are damaged."
        )

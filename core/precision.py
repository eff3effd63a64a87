"""Double precision wherever the device is: Apple's GPUs (MPS) have none."""

from __future__ import annotations

import torch
from torch import Tensor


def in_float64(x: Tensor) -> Tensor:
    """x in float64 where it is, or on the CPU where its device has no float64."""
    return (x if has_float64(x.device) else x.cpu()).double()


def widest(x: Tensor) -> Tensor:
    """x where it is, in float64, or in float32 where its device has no float64."""
    return x.double() if has_float64(x.device) else x.float()


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in double precision."""
    return device.type != "mps"


def name_of(dtype: torch.dtype) -> str:
    """In words: float16."""
    return str(dtype).removeprefix("torch.")

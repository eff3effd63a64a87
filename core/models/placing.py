"""Where networks run on this machine, and in which precision."""

import torch
from torch import nn

from ..errors import RequestError
from .cards import BaseCard


def usable_device(device: torch.device | str) -> torch.device:
    """The device of a name. Raises RequestError: there is no such device, or not on this machine."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()
    except Exception as error:  # torch raises RuntimeError, AssertionError, TypeError, NotImplementedError
        words = f"The device {str(device)!r} cannot be used on this machine. Use “cpu”, or leave the device out."
        raise RequestError(words) from error
    return found


_kept_to: torch.device | None = None


def keep_to(device: torch.device | str | None) -> None:
    """Use this device in this process from here on, whatever the machine has; None: the best one again. On ZeroGPU the
    main process has no GPU but is told that it has one, and only the processes of jobs do."""
    global _kept_to
    _kept_to = None if device is None else torch.device(device)


def best_device() -> torch.device:
    """The GPU if there is one: NVIDIA's, or Apple's."""
    if _kept_to is not None:
        return _kept_to
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """Half precision where the machine computes in it natively: bfloat16, else float16 on NVIDIA's GPUs. Else float32,
    on Apple's GPUs too, where nothing was measured."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device.type != "cpu":
        return torch.float32
    native = torch.cpu.get_capabilities()
    return torch.bfloat16 if native.get("avx512_bf16") or native.get("amx_bf16") else torch.float32


def chosen(
    card: BaseCard, device: torch.device | str | None, dtype: torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """The device and the precision that were asked for; what is None is chosen for the model and the machine."""
    device = torch.device(device) if device is not None else best_device()
    return device, dtype or (best_dtype(device) if card.half else torch.float32)


def place(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Make a network ready for use, frozen."""
    # nn.Module's own `to`: diffusers' warns about casting, which is the point here.
    layout = torch.contiguous_format if device.type == "mps" else torch.channels_last
    nn.Module.to(network, device=device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)

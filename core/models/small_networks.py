"""Small networks of our own in a folder each: config.json says how to build one, model.safetensors has its weights."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def read_config(folder: Path) -> dict[str, Any]:
    """Raises: OSError, ValueError: it is missing or damaged."""
    return json.loads((folder / CONFIG).read_text())


def read_weights(net: nn.Module, folder: Path) -> None:
    """Into the network, in float32.

    Raises:
        OSError, RuntimeError, SafetensorError: they are missing, damaged or another network's.
    """
    net.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})


def write_config(config: dict[str, Any], folder: Path) -> None:
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def write_weights(net: nn.Module, folder: Path, name: str = WEIGHTS) -> None:
    state = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in net.state_dict().items()}
    save_file(state, folder / name)
    (folder / name).chmod(0o644)

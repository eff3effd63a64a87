"""Directions that the Asyrp authors released: `.pth` files with the state of an f_t, in either of its two forms.

Read with `torch.load(weights_only=True)`, which executes nothing. DDPM++ (CelebA-HQ, LSUN): the names of `DeltaBlock`.
iDDPM and ADM (AFHQ-dog, MetFaces): `in_layers` (group norm, silu, 1x1 convolution), `emb_layers` (silu, linear) and
`out_layers` (group norm, silu, dropout, 1x1 convolution). Both were trained with S = 40 (section 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..directions import ImplicitDirection, from_state
from ..errors import PresetError

STEPS = 40
MAX_BYTES = 64 * 2**20

# Names in the iDDPM and ADM form -> names here.
_NAMES = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "temb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
}


def read_released(path: Path | str, steps: int = STEPS) -> ImplicitDirection:
    """The direction in a file of the authors', the same function to float tolerance.

    Args:
        path: the `.pth` file: the state dictionary itself, or one under the key 0 beside what training left behind.
        steps: S, the number of steps that it was trained with.

    Raises:
        PresetError: not such a file, damaged, too large, or with values that are not finite.
    """
    path = Path(path)
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise PresetError(f"{path.name} is not a file of up to {MAX_BYTES // 2**20} MB.")
        content = torch.load(path, weights_only=True, map_location="cpu")
    except PresetError:
        raise
    except Exception as error:  # the unpickler raises almost anything on a file that is none
        raise PresetError(
            f"{path.name} is not a direction of the Asyrp authors: it holds more than numbers, or is damaged."
        ) from error
    if isinstance(content, Mapping):
        content = content.get("0", content.get(0, content))
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise PresetError(f"{path.name} is not a direction of the Asyrp authors: it holds no state dictionary.")
    tensors = {_name(str(name)): value for name, value in content.items()}
    direction = from_state(tensors, {"kind": ImplicitDirection.kind, "steps": steps})
    assert isinstance(direction, ImplicitDirection)
    return direction


def _name(theirs: str) -> str:
    layer, _, parameter = theirs.rpartition(".")
    return f"{_NAMES.get(layer, layer)}.{parameter}"

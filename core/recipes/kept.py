"""Results on their way: tensors with what is known of them in one file, under a key of what they depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import tensor_file
from ..errors import ResourceError
from ..tensor_file import Damaged, Limits

MAX_FILE = 2**40  # bytes: what is read here was written here
FORMAT = "h-space-work"


def content_key(kind: str, *parts: Any) -> str:
    """kind, and a digest of plain values, dataclasses and paths: the same key for the same content."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no content of its own")


def to_bytes(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """A file's content. about: plain JSON."""
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    if not whole:
        whole = {"none": torch.zeros(1)}  # the format has no files without tensors
    return tensor_file.to_bytes(whole, {"format": FORMAT, "about": json.dumps(about)})


def require(path: Path) -> None:
    """Raises ResourceError: the file is not there, because the unit that makes it failed."""
    if not path.is_file():
        raise ResourceError("What it is made of is not there.")


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `to_bytes` wrote.

    Raises:
        ResourceError: the file is not there; or it is damaged, for example by a disk that was full, and is removed, so
            that the next run makes it anew.
    """
    require(path)
    try:
        data = tensor_file.read(path, MAX_FILE)
        limits = Limits(
            MAX_FILE, header=2**24, tensors=2**16, side=2**30, kinds=("F32", "F16", "BF16", "F64", "I64", "U8")
        )
        metadata = _header(data, limits)["__metadata__"]
        return tensor_file.tensors(data), json.loads(metadata["about"])
    except (Damaged, KeyError, TypeError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise ResourceError(f"The file {path} was damaged and is removed. Give the same command again.") from error


def _header(data: bytes, limits: Limits) -> dict[str, Any]:
    """Checked for its size only: tensors here have more axes than a stranger's may have."""
    end = tensor_file.header_size(data, len(data), limits)
    return dict(tensor_file.parse_json(data[8:end], "its header is damaged"))

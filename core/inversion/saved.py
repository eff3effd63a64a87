"""An inverted picture in a file (safetensors), to be reopened and edited without inverting again.

A file may come from anyone, so it is checked completely before any of it is used: its size before it is read, its
header before a tensor is made, every field before it is believed, and the shapes against the model by
`Inversion.require`.

Tensors: trajectory and unconditional as `Solution` has them, those of its decoder under their own names; pixels and
reconstruction with 8 bits. Everything else is JSON under "inversion" in the metadata, where the solution names its
decoder and has its numbers: {"guidance": 7.5, "decoder": {"kind": "anchored", "carry": 1.0, ...}}. A method that has a
decoder of its own says in its own file what is kept of it. Files of version 2 had the numbers of all decoders side by
side; they are read as before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import tensor_file
from ..errors import PresetError
from ..tensor_file import Damaged, Limits, expect, header, numbers, parse_json, read, tensors, write
from ..text_to_image import MAX_PROMPT
from .anchored import AnchoredStep
from .decoding import Decoder, PlainStep
from .edict import CoupledStep
from .inversion import Inversion
from .methods import METHODS
from .solution import RANGES, Solution

FORMAT = "inverted-picture"
VERSION = "3"
SUFFIX = ".safetensors"
LIMITS = Limits(128 * 2**20, tensors=8, kinds=("U8", "F32", "F64"))
MAX_MEASURES = 64

_TEXT_LIMITS = {"method": 60, "model": 120, "fingerprint": 64, "prompt": MAX_PROMPT}


def save(inversion: Inversion, path: Path) -> Path:
    """Write it, whole or not at all.

    Raises:
        PresetError: a field is out of bounds. ResourceError: the file cannot be written.
    """
    write(path, to_bytes(inversion))
    return path


def load(path: Path | str) -> Inversion:
    """Read and check a file.

    Raises:
        PresetError: not an inverted picture, damaged, hostile, too large, or of a newer version.
    """
    try:
        data = read(Path(path), LIMITS.bytes)
    except Damaged as fault:
        raise _unusable(fault) from fault
    return from_bytes(data)


def to_bytes(inversion: Inversion) -> bytes:
    """The file's content. Raises PresetError where `from_bytes` would."""
    solution = inversion.solution
    values = {
        "trajectory": solution.trajectory,
        "unconditional": solution.unconditional,
        "pixels": _to_8_bits(inversion.pixels),
        "reconstruction": _to_8_bits(inversion.reconstruction),
    }
    decoder = solution.decoder
    values |= {name: getattr(decoder, name) for name in decoder.tensors}
    described = {"kind": decoder.kind, **{name: getattr(decoder, name) for name in decoder.numbers}}
    about = {name: getattr(inversion, name) for name in (*_TEXT_LIMITS, "edit_guidance", "measures")}
    about["solution"] = {"guidance": solution.guidance, "decoder": described}
    try:
        description = json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PresetError(f"This inverted picture cannot be saved: {error}.") from error
    data = tensor_file.to_bytes(
        {name: value.detach().cpu().contiguous() for name, value in values.items()},
        {"format": FORMAT, "format_version": VERSION, "inversion": description},
    )
    from_bytes(data)
    return data


def from_bytes(data: bytes) -> Inversion:
    """The inverted picture in a file's content. Raises PresetError like `load`."""
    try:
        metadata = header(data, len(data), LIMITS).get("__metadata__")
        metadata = metadata if isinstance(metadata, dict) else {}
        expect(metadata.get("format") == FORMAT, "it does not hold an inverted picture")
        version = str(metadata.get("format_version"))
        expect(version in ("2", VERSION), "it was written by another version of the app")
        about = parse_json(metadata.get("inversion"), "its description is damaged")
        return _inversion(about, tensors(data), version)
    except Damaged as fault:
        raise _unusable(fault) from fault


def _unusable(fault: Damaged) -> PresetError:
    return PresetError(f"This is not a usable file of an inverted picture: {fault}.")


# ---------------------------------------------------------------------------------------------------------- checking


def _inversion(about: Any, values: dict[str, Tensor], version: str) -> Inversion:
    """Every field checked for type, length and range, every tensor for its shape."""
    expect(isinstance(about, dict), "its description is damaged")
    expect(about.keys() == {*_TEXT_LIMITS, "edit_guidance", "measures", "solution"}, "its description is incomplete")
    for key, limit in _TEXT_LIMITS.items():
        text = about[key]
        expect(isinstance(text, str) and 0 < len(text) <= limit, f"its {key} is damaged")
        expect(text.isprintable(), f"its {key} is damaged")
    _in_range(about["edit_guidance"], *RANGES["guidance"], "guidance")
    measures = about["measures"]
    expect(isinstance(measures, dict) and len(measures) <= MAX_MEASURES, "its measures are damaged")
    expect(
        all(len(key) <= 80 for key in measures) and numbers(list(measures.values()), 1e12), "its measures are damaged"
    )
    return Inversion(
        **{key: about[key] for key in _TEXT_LIMITS},
        solution=_solution(about["solution"], values, version),
        edit_guidance=float(about["edit_guidance"]),
        pixels=_picture(values, "pixels"),
        reconstruction=_picture(values, "reconstruction"),
        measures={key: float(value) for key, value in measures.items()},
    )


def _solution(about: Any, values: dict[str, Tensor], version: str) -> Solution:
    expect(isinstance(about, dict), "its solution is damaged")
    about = _of_version_2(about, values) if version == "2" else about
    expect(about.keys() == {"guidance", "decoder"}, "its solution is incomplete")
    _in_range(about["guidance"], *RANGES["guidance"], "guidance")
    trajectory, unconditional = (_finite(values, name) for name in ("trajectory", "unconditional"))
    expect(trajectory.ndim == 4 and len(trajectory) >= 3, "its trajectory is damaged")
    expect(unconditional.ndim == 3 and len(unconditional) in (1, len(trajectory) - 1), "its embeddings are damaged")
    decoder = _decoder(about["decoder"], values)
    same = all(getattr(decoder, name).shape == trajectory.shape for name in decoder.tensors)
    expect(same, "its second trajectory is damaged")
    return Solution(trajectory, about["guidance"], unconditional, decoder)


def _decoder(about: Any, values: dict[str, Tensor]) -> Decoder:
    expect(isinstance(about, dict) and isinstance(about.get("kind"), str), "its solution is damaged")
    kinds = {method.decoder.kind: method.decoder for method in METHODS.values()}
    expect(about["kind"] in kinds, "it is of a method that is not known here")
    kind = kinds[about["kind"]]
    expect(about.keys() == {"kind", *kind.numbers}, "its solution is incomplete")
    for name, (low, high) in kind.numbers.items():
        _in_range(about[name], low, high, name)
    fields: dict[str, Any] = {name: about[name] for name in kind.numbers}
    make: Callable[..., Decoder] = kind
    return make(**fields, **{name: _finite(values, name) for name in kind.tensors})


def _of_version_2(about: dict[str, Any], values: dict[str, Tensor]) -> dict[str, Any]:
    """The description of a solution in the words of today, from the numbers of all decoders side by side."""
    ranges = {**AnchoredStep.numbers, **CoupledStep.numbers}
    expect(about.keys() == {"guidance", "anchored", *ranges}, "its solution is incomplete")
    expect(type(about["anchored"]) is bool, "its solution is damaged")
    for name, (low, high) in ranges.items():
        _in_range(about[name], low, high, name)
    kind: type[Decoder] = AnchoredStep if about["anchored"] else PlainStep
    kind = CoupledStep if "partner" in values else kind
    decoder = {"kind": kind.kind, **{name: about[name] for name in kind.numbers}}
    return {"guidance": about["guidance"], "decoder": decoder}


def _in_range(value: Any, low: float, high: float, name: str) -> None:
    expect(numbers([value], 1e9) and low <= value <= high, f"its {name} is out of range")


def _finite(values: dict[str, Tensor], name: str) -> Tensor:
    expect(name in values and values[name].is_floating_point(), f"its {name} is missing")
    expect(bool(values[name].isfinite().all()), f"its {name} is not finite")
    return values[name]


def _picture(values: dict[str, Tensor], name: str) -> Tensor:
    expect(name in values and values[name].dtype == torch.uint8, f"its {name} is missing")
    expect(values[name].ndim == 4 and values[name].shape[:2] == (1, 3), f"its {name} is damaged")
    return values[name].float() / 127.5 - 1


def _to_8_bits(pixels: Tensor) -> Tensor:
    return (pixels.detach().float().clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8)

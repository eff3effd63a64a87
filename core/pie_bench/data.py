"""What a benchmark is run on: PIE-Bench as it is distributed, or any folder with a CSV.

PIE-Bench is a folder with `mapping_file.json` and `annotation_images/`. The mapping file says of each picture, by its
id: `image_path`, `original_prompt` and `editing_prompt` (what changes is in brackets), `editing_type_id` ("0" to "9"),
`blended_word` ("source target", or ""), and `mask`, where the edit belongs, as runs.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import masks
from ..errors import RequestError, VisitorError, quoted
from ..text_to_image import without_brackets

MAPPING = "mapping_file.json"
PICTURES = "annotation_images"
COLUMNS = ("picture", "source", "target", "mask")
LAYOUT = (
    f"Give a folder with {MAPPING} and {PICTURES}, as PIE-Bench is distributed, or a folder with a CSV file whose "
    f"columns are {', '.join(COLUMNS)}."
)


@dataclass(frozen=True)
class Entry:
    """One edit of the benchmark: a picture, what it shows, what it should show, and where it should change.

    path: of the picture within its folder, as in the mapping file. source, target: prompts without brackets. mask: in
    runs, or the path of a picture of it, or None where it is not known. blended: the words whose place is edited, of
    source and target. kind: the type of the edit, "0" to "9". content: tells the files apart from others of their name.
    """

    id: str
    folder: Path
    path: str
    source: str
    target: str
    mask: tuple[int, ...] | str | None = None
    blended: tuple[str, str] | None = None
    kind: str = ""
    content: str = ""

    def load(self, side: int | None = None) -> Sample:
        """Read the picture and its mask. side: to which both are resized; None: their own.

        Raises:
            RequestError, ImageError: one of them cannot be read, or they do not fit together.
        """
        picture = read_picture(self.folder / self.path)
        mask = self._mask(picture.shape[:2])
        picture, mask = middle_square(picture), None if mask is None else middle_square(mask)
        side = side or len(picture)
        if len(picture) != side:
            picture = np.asarray(Image.fromarray(picture).resize((side, side)))
        return Sample(picture, None if mask is None else framed(masks.resized(mask, side, side)))

    def _mask(self, shape: tuple[int, int]) -> np.ndarray | None:
        if self.mask is None:
            return None
        if isinstance(self.mask, str):
            return read_mask(self.folder / self.mask, (shape[1], shape[0]))
        return mask_from_runs(self.mask, shape)


@dataclass(frozen=True)
class Sample:
    """picture: uint8 (R, R, 3). mask: boolean (R, R), True where the edit belongs and on the frame of one pixel; None:
    it is not known where."""

    picture: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class Benchmark:
    """Entries in the order of their file, and those that were left out: id -> why."""

    entries: tuple[Entry, ...]
    left_out: Mapping[str, str]


def read(data: Path, kinds: Sequence[str] = ()) -> Benchmark:
    """Read a benchmark: a folder as PIE-Bench is distributed, or one with a CSV file, or that file.

    Entries whose picture, mask or prompts cannot be read are left out. kinds: of edits; all of them if there are none.

    Raises:
        RequestError: there is no such folder, or its file cannot be understood.
    """
    if not data.exists():
        raise RequestError(f"There is no folder {data}. {LAYOUT}")
    found = _mapping(data) if (data / MAPPING).is_file() else _csv(data)
    entries, left_out, seen = [], {}, set[str]()
    for id_, make in found:
        name = id_ if id_ not in seen else f"{id_} (again)"
        seen.add(id_)
        try:
            entry = make()
            if name != id_:
                raise RequestError("there is another entry with this id")
            if kinds and entry.kind not in kinds:
                continue
            entry.load()
            entries.append(replace(entry, content=content_of(entry)))
        except VisitorError as error:
            left_out[name] = error.message
    if not entries:
        reasons = f" The first was left out: {next(iter(left_out.values()))}" if left_out else ""
        raise RequestError(f"There is no edit in {data} that can be used.{reasons}")
    return Benchmark(tuple(entries), left_out)


Found = Iterator[tuple[str, Callable[[], Entry]]]


def _mapping(data: Path) -> Found:
    try:
        mapping = json.loads((data / MAPPING).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(f"{data / MAPPING} cannot be read as JSON: {error}") from error
    if not isinstance(mapping, dict):
        raise RequestError(f"{data / MAPPING} should map ids to edits.")
    for id_, item in mapping.items():
        yield id_, partial(from_mapping, id_, item, data / PICTURES)


def from_mapping(id_: str, item: Any, folder: Path) -> Entry:
    """An edit of the mapping file. Raises RequestError: it is not complete."""
    if not isinstance(item, dict):
        raise RequestError("it is not a set of names and values")
    missing = [key for key in ("image_path", "original_prompt", "editing_prompt", "mask") if key not in item]
    if missing:
        raise RequestError(f"it has no {' and no '.join(missing)}")
    runs = item["mask"]
    if not isinstance(runs, list) or len(runs) % 2 or not all(isinstance(n, int) and n >= 0 for n in runs):
        raise RequestError("its mask is not a list of starts and lengths")
    words = str(item.get("blended_word") or "").split()
    return Entry(
        id_,
        folder,
        within(folder, item["image_path"]),
        prompt(item["original_prompt"], "original_prompt"),
        prompt(item["editing_prompt"], "editing_prompt"),
        tuple(runs),
        (words[0], words[1]) if len(words) > 1 else None,
        str(item.get("editing_type_id", "")),
    )


def _csv(data: Path) -> Found:
    files = sorted(data.glob("*.csv")) if data.is_dir() else [data]
    if len(files) != 1 or files[0].suffix.lower() != ".csv":
        found = f"{len(files)} CSV files" if data.is_dir() else "no CSV file"
        raise RequestError(f"{data} has no {MAPPING} and is or has {found}. {LAYOUT}")
    [file] = files
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise RequestError(f"{file} cannot be read as CSV: {error}") from error
    if missing := [column for column in COLUMNS if column not in (reader.fieldnames or ())]:
        raise RequestError(f"{file} has no column {' and no column '.join(missing)}. {LAYOUT}")
    for number, row in enumerate(rows, start=1):
        id_ = row.get("id") or f"{number:04d}"
        yield id_, partial(from_row, id_, row, file.parent)


def from_row(id_: str, row: Mapping[str, str | None], folder: Path) -> Entry:
    """An edit of a CSV file; paths are relative to it. Raises RequestError: it is not complete."""
    mask = row.get("mask")
    words = (row.get("blended") or "").split()
    return Entry(
        id_,
        folder,
        within(folder, row["picture"] or ""),
        prompt(row["source"], "source"),
        prompt(row["target"], "target"),
        within(folder, mask) if mask else None,
        (words[0], words[1]) if len(words) == 2 else None,
        row.get("kind") or "",
    )


# --------------------------------------------------------------------------------------------------- parts of an entry


def prompt(text: Any, name: str) -> str:
    """Raises RequestError: there is none."""
    if not isinstance(text, str) or not without_brackets(text).strip():
        raise RequestError(f"its {name} is empty")
    return without_brackets(text)


def within(folder: Path, path: Any) -> str:
    """A path of a file that is in this folder. Raises RequestError: it is not."""
    if not isinstance(path, str) or not path:
        raise RequestError("it names no picture")
    path = os.path.normpath(path)
    if os.path.isabs(path) or path.startswith(".."):
        raise RequestError(f"{quoted(path)} is outside {folder}")
    if not (folder / path).is_file():
        raise RequestError(f"there is no file {quoted(path)} in {folder}")
    return path


def content_of(entry: Entry) -> str:
    """Of the bytes of its files."""
    digest = hashlib.sha256((entry.folder / entry.path).read_bytes())
    if isinstance(entry.mask, str):
        digest.update((entry.folder / entry.mask).read_bytes())
    return digest.hexdigest()[:16]


def read_picture(path: Path) -> np.ndarray:
    """uint8 (H, W, 3), as PnPInversion reads it: neither turned nor colour-managed. Raises RequestError."""
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestError(f"{path.name} cannot be read as a picture ({error})") from error


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """A picture of a mask, white where the edit belongs, also all black or all white. Raises RequestError."""
    levels = read_picture(path).max(axis=2)
    white = levels > (0.5 if levels.max() <= 1 else 127.5)
    return masks.resized(white, *size)


def mask_from_runs(runs: Sequence[int], shape: tuple[int, int] = (512, 512)) -> np.ndarray:
    """Boolean (H, W) from [start, length, start, length, ...], counted from 0 along the rows. What reaches beyond the
    end is cut off."""
    mask = np.zeros(shape[0] * shape[1], bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = True
    return mask.reshape(shape)


def runs_of(mask: np.ndarray) -> list[int]:
    """The runs of a boolean mask (H, W): what `mask_from_runs` reads."""
    edges = np.diff(np.concatenate(([0], mask.ravel().astype(np.int8), [0])))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return np.stack((starts, ends - starts), axis=1).ravel().tolist()


def framed(mask: np.ndarray) -> np.ndarray:
    """A mask (H, W) with its outermost pixels set: PIE-Bench's annotations are not reliable there."""
    mask = mask.copy()
    mask[[0, -1]] = mask[:, [0, -1]] = True
    return mask


def middle_square(values: np.ndarray) -> np.ndarray:
    """The square in the middle of a picture (H, W, ...)."""
    height, width = values.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return values[top : top + side, left : left + side]


def last_square(picture: np.ndarray, side: int = 512) -> np.ndarray:
    """A result (H, W, 3) as PnPInversion's evaluation takes it: of one that is not square, the last `side` columns and
    rows, because its own scripts write prompts, source, reconstruction and result side by side.

    Raises:
        RequestError: it is smaller.
    """
    height, width = picture.shape[:2]
    if height == width:
        return picture
    if min(height, width) < side:
        raise RequestError(f"a result of {width}x{height} pixels has no square of {side}x{side}")
    return picture[height - side :, width - side :]

"""Pictures of a folder or of a data set on the Hub. What cannot be used is left out, counted and said."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath

import torch
from huggingface_hub import HfApi, hf_hub_download
from torch import Tensor

from ..errors import ImageError, RequestError
from ..hub.names import checked_revision, repository_id
from ..hub_access import REQUEST_TIMEOUT, TRANSFER_DEADLINE, ask_hub, require_hub
from ..imaging import to_pixels
from ..progress import Job, Progress
from .recipe import PictureSource

SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".tga",
    ".heic", ".heif",
}  # fmt: skip


@dataclass(frozen=True)
class PictureFiles:
    """folder: that holds them. names: of the files, relative to it, in order. source: what they are, in words."""

    folder: Path
    names: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Batch:
    """names: of the files that could be read. pixels: (N, 3, R, R) in [-1, 1]. left_out: (file, why)."""

    names: tuple[str, ...]
    pixels: Tensor
    left_out: tuple[tuple[str, str], ...]


def files_of(folder: Path, count: int | None = None, source: str = "") -> PictureFiles:
    """The pictures of a folder and its folders, by name, the first `count` of them. Hidden files are none.

    Raises:
        RequestError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise RequestError(f"There is no folder {folder}. Say where the pictures are.")
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    if not found:
        raise RequestError(f"There are no pictures in {folder}.")
    return PictureFiles(folder, tuple(found[:count]), source or str(folder))


def read_batch(files: PictureFiles, names: Sequence[str], resolution: int) -> Batch:
    """The largest square, centred as for the app, of each file."""
    read, pixels, left_out = [], [], []
    for name in names:
        try:
            pixels.append(to_pixels(files.folder / name, resolution))
            read.append(name)
        except ImageError as error:
            left_out.append((name, error.message))
    stacked = torch.cat(pixels) if pixels else torch.zeros(0, 3, resolution, resolution)
    return Batch(tuple(read), stacked, tuple(left_out))


def dataset_files(
    name: str, count: int | None = None, token: str | None = None, pattern: str = "*"
) -> Job[PictureFiles]:
    """The picture files of a data set on the Hub (OWNER/NAME, with @REVISION or without), the first `count` by name of
    those that match the pattern; they are kept by the Hub's client.

    Raises:
        RequestError: the name cannot be one, or the data set has no picture files. HubError: it cannot be reached.
        ResourceError: the disk is full.
    """
    repository, _, asked = name.partition("@")
    repository, revision = repository_id(repository), checked_revision(asked or "main")
    require_hub()
    list_files = partial(HfApi(token=token or False).dataset_info, repository, revision=revision)
    about = ask_hub(partial(list_files, timeout=REQUEST_TIMEOUT), TRANSFER_DEADLINE, repository, revision)
    there = [file.rfilename for file in about.siblings or ()]
    names = sorted(file for file in there if PurePosixPath(file).suffix.lower() in SUFFIXES and fnmatch(file, pattern))
    if not names:
        raise RequestError(
            f"The data set {repository} has no picture files{'' if pattern == '*' else f' of the form {pattern}'}. One "
            "that keeps its pictures inside tables (Parquet) has to be written to a folder first."
        )
    names, folder = names[:count], Path()
    options = {"repo_type": "dataset", "revision": about.sha, "token": token or False, "etag_timeout": REQUEST_TIMEOUT}
    for done, file in enumerate(names):
        yield Progress(done, len(names), f"Downloading {repository}")
        fetch = partial(hf_hub_download, repository, file, **options)
        folder = Path(ask_hub(fetch, TRANSFER_DEADLINE, repository, revision)).parents[file.count("/")]
    return PictureFiles(folder, tuple(names), f"{repository}@{str(about.sha)[:12]}")


SAID = 5  # names of those that are left out


@dataclass(frozen=True)
class Readable:
    """Pictures of a source that can be read. files: by name. digests: of their contents. left_out: (name, why)."""

    files: tuple[Path, ...]
    digests: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def words(self) -> str:
        """Of those that are left out; "" if none is."""
        if not self.left_out:
            return ""
        rows = [f"{name}: {why}" for name, why in self.left_out[:SAID]]
        more = [f"and {len(self.left_out) - SAID} more"] if len(self.left_out) > SAID else []
        count = f"{len(self.left_out)} of {len(self.files) + len(self.left_out)}"
        return f"{count} pictures cannot be read and are left out. {' '.join([*rows, *more])}"


def readable_pictures(source: PictureSource, resolution: int, token: str | None = None) -> Job[Readable]:
    """The pictures that a recipe means: each is read once, and those that cannot be are left out.

    Raises: as `files_of` and `dataset_files`. RequestError: not one can be read.
    """
    if source.folder is not None:
        found = files_of(source.folder)
    else:
        found = yield from dataset_files(f"{source.dataset}@{source.revision}", token=token, pattern=source.files)
    names = [name for name in found.names if fnmatch(name, source.files)]
    files: list[Path] = []
    digests: list[str] = []
    left_out: list[tuple[str, str]] = []
    for n, name in enumerate(names):
        if len(files) == source.count:
            break
        yield Progress(n, len(names), "Reading pictures")
        try:
            to_pixels(found.folder / name, resolution)
        except ImageError as error:
            left_out.append((name, error.message))
            continue
        files.append(found.folder / name)
        digests.append(hashlib.sha256(files[-1].read_bytes()).hexdigest()[:20])
    read = Readable(tuple(files), tuple(digests), tuple(left_out))
    if not files:
        raise RequestError(f"There are no pictures that can be read in {source}. {read.words}".strip())
    return read


def load_pictures(files: Sequence[Path], resolution: int) -> Tensor:
    """Pixels (B, 3, R, R) in [-1, 1] of the largest squares of pictures. Raises ImageError: one cannot be read."""
    return torch.cat([to_pixels(file, resolution) for file in files])

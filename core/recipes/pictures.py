"""Pictures of a folder or of a data set on the Hub. What cannot be used is left out, counted and said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
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
class Listing:
    """What pictures there are. names: of the files, in order. fetch: the file of a name, downloaded if need be."""

    names: tuple[str, ...]
    fetch: Callable[[str], Path]


def folder_listing(folder: Path) -> Listing:
    """The pictures of a folder and its folders, by name. Hidden files are none.

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
    return Listing(tuple(found), folder.joinpath)


def dataset_listing(source: PictureSource, token: str | None = None) -> Listing:
    """The picture files of a data set on the Hub, by name. What is fetched of them the Hub's client keeps.

    Raises, as `fetch` does:
        RequestError: the name cannot be one, or the data set has no picture files. HubError: it cannot be reached.
        ResourceError: the disk is full.
    """
    repository, revision = repository_id(source.dataset), checked_revision(source.revision)
    require_hub()
    list_files = partial(HfApi(token=token or False).dataset_info, repository, revision=revision)
    about = ask_hub(partial(list_files, timeout=REQUEST_TIMEOUT), TRANSFER_DEADLINE, repository, revision)
    there = [file.rfilename for file in about.siblings or ()]
    names = sorted(name for name in there if PurePosixPath(name).suffix.lower() in SUFFIXES)
    if not any(fnmatch(name, source.files) for name in names):
        form = "" if source.files == "*" else f" of the form {source.files}"
        raise RequestError(
            f"The data set {repository} has no picture files{form}. One that keeps its pictures inside tables "
            "(Parquet) has to be written to a folder first."
        )
    options = {"repo_type": "dataset", "revision": about.sha, "token": token or False, "etag_timeout": REQUEST_TIMEOUT}

    def fetch(name: str) -> Path:
        download = partial(hf_hub_download, repository, name, **options)
        return Path(ask_hub(download, TRANSFER_DEADLINE, repository, revision))

    return Listing(tuple(names), fetch)


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
    """The pictures that a recipe means: each is read once, and those that cannot be are left out. No more of a data set
    is downloaded than that takes.

    Raises: as `folder_listing` and `dataset_listing`. RequestError: not one can be read.
    """
    listing = folder_listing(source.folder) if source.folder is not None else dataset_listing(source, token)
    names = [name for name in listing.names if fnmatch(name, source.files)]
    files: list[Path] = []
    digests: list[str] = []
    left_out: list[tuple[str, str]] = []
    for n, name in enumerate(names):
        if len(files) == source.count:
            break
        yield Progress(n, len(names), "Reading pictures")
        file = listing.fetch(name)
        try:
            to_pixels(file, resolution)
        except ImageError as error:
            left_out.append((name, error.message))
            continue
        files.append(file)
        digests.append(hashlib.sha256(file.read_bytes()).hexdigest()[:20])
    read = Readable(tuple(files), tuple(digests), tuple(left_out))
    if not files:
        raise RequestError(f"There are no pictures that can be read in {source}. {read.words}".strip())
    return read


def load_pictures(files: Sequence[Path], resolution: int) -> Tensor:
    """Pixels (B, 3, R, R) in [-1, 1] of the largest squares of pictures. Raises ImageError: one cannot be read."""
    return torch.cat([to_pixels(file, resolution) for file in files])

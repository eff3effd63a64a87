"""The pictures that are measured on: files, read a batch at a time. What cannot be used is left out, and said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def dataset_files(name: str, count: int | None = None, token: str | None = None) -> Job[PictureFiles]:
    """The picture files of a data set on the Hub (OWNER/NAME, with @REVISION or without), the first `count` of them by
    name; they are kept by the Hub's client.

    Raises:
        RequestError: the name cannot be one, or the data set has no picture files. HubError: it cannot be reached.
        ResourceError: the disk is full.
    """
    repository, _, asked = name.partition("@")
    repository, revision = repository_id(repository), checked_revision(asked or "main")
    require_hub()
    api = HfApi(token=token or False)
    about = ask_hub(
        partial(api.dataset_info, repository, revision=revision, timeout=REQUEST_TIMEOUT),
        TRANSFER_DEADLINE,
        repository,
        revision,
    )
    names = sorted(
        file.rfilename for file in about.siblings or () if PurePosixPath(file.rfilename).suffix.lower() in SUFFIXES
    )
    if not names:
        raise RequestError(
            f"The data set {repository} has no picture files. One that keeps its pictures inside tables (Parquet) has "
            "to be written to a folder first."
        )
    names, folder = names[:count], Path()
    for done, file in enumerate(names):
        yield Progress(done, len(names), f"Downloading {repository}")
        fetch = partial(
            hf_hub_download, repository, file, repo_type="dataset", revision=about.sha, token=token or False,
            etag_timeout=REQUEST_TIMEOUT,
        )  # fmt: skip
        path = Path(ask_hub(fetch, TRANSFER_DEADLINE, repository, revision))
        folder = path.parents[file.count("/")]
    return PictureFiles(folder, tuple(names), f"{repository}@{str(about.sha)[:12]}")

"""Networks of the transformers library, as folders of one commit on the Hub: from its cache, else fetched once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import snapshot_download

from ..errors import ModelUnavailable, VisitorError
from ..hub_access import TRANSFER_DEADLINE, ask_hub, hub_answers, unreachable

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at a commit, which pins them. what: it is, for words, with its size; instead: what to do
    without it."""

    what: str
    repository: str
    revision: str
    files: tuple[str, ...]
    instead: str

    def unusable(self, error: Exception) -> ModelUnavailable:
        """Words for files that cannot be read as what they should be."""
        return ModelUnavailable(
            f"{self.what} cannot be read ({type(error).__name__}). Remove {self.repository} from the Hub's cache and "
            f"try again. {self.instead}"
        )


def folder_of(snapshot: Snapshot) -> Path:
    """The folder with all of its files. Raises ModelUnavailable: they are not here and cannot be fetched."""
    fetch = partial(
        snapshot_download, snapshot.repository, revision=snapshot.revision, allow_patterns=list(snapshot.files)
    )
    try:
        folder = Path(fetch(local_files_only=True))
        if all((folder / name).is_file() for name in snapshot.files):  # a download may have been interrupted
            return folder
    except (OSError, ValueError):  # what the client raises where there is nothing at all
        pass
    if not hub_answers():
        raise ModelUnavailable(f"{snapshot.what} has to be downloaded once. {unreachable()} {snapshot.instead}")
    try:
        return Path(ask_hub(fetch, TRANSFER_DEADLINE, snapshot.repository, snapshot.revision))
    except VisitorError as error:
        raise ModelUnavailable(
            f"{snapshot.what} could not be downloaded. {error.message} {snapshot.instead}"
        ) from error


def load_with(read: Callable[[Path], T], snapshot: Snapshot) -> T:
    """What `read` makes of the folder. Raises ModelUnavailable: the files are not here, or not what they should be."""
    folder = folder_of(snapshot)
    try:
        return read(folder)
    except Exception as error:  # json, safetensors, shape and configuration errors share no base class
        raise snapshot.unusable(error) from error

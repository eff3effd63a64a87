"""The small networks of OpenCV that read photographs: fetched from the Hub when first wanted, and checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub

from ..errors import ModelUnavailable, VisitorError
from ..hub_access import TRANSFER_DEADLINE, ask_hub, hub_answers, unreachable


@dataclass(frozen=True)
class Weights:
    """A file on the Hub. repositories: that have it, the first one that can be read is used. sha256: of the file,
    which pins it whatever a repository does. what: it is, for words; instead: what to do without it."""

    what: str
    repositories: tuple[str, ...]
    file: str
    sha256: str
    instead: str


def fetched(weights: Weights) -> Path:
    """The file, from the Hub's cache or downloaded.

    Raises:
        ModelUnavailable: it is not here and cannot be fetched, or is not the file that it should be.
    """
    path = _here(weights) or _downloaded(weights)
    if hashlib.sha256(path.read_bytes()).hexdigest() != weights.sha256:
        raise ModelUnavailable(
            f"{weights.what} that was downloaded is not the file that this app was made for. Remove {path.name} from "
            f"the Hub's cache and try again. {weights.instead}"
        )
    return path


def _here(weights: Weights) -> Path | None:
    for repository in weights.repositories:
        path = huggingface_hub.try_to_load_from_cache(repository, weights.file)
        if isinstance(path, str):
            return Path(path)
    return None


def _downloaded(weights: Weights) -> Path:
    if not hub_answers():
        raise ModelUnavailable(f"{weights.what} has to be downloaded once. {unreachable()} {weights.instead}")
    words = ""
    for repository in weights.repositories:
        try:
            download = partial(huggingface_hub.hf_hub_download, repository, weights.file)
            return Path(ask_hub(download, TRANSFER_DEADLINE, repository))
        except VisitorError as error:
            words = words or error.message
    raise ModelUnavailable(f"{weights.what} could not be downloaded. {words} {weights.instead}")


def opencv(what: str, instead: str) -> Any:
    """The module. Raises ModelUnavailable: it is not installed."""
    try:
        import cv2
    except ImportError as error:  # also where a system library that it needs is missing
        raise ModelUnavailable(
            f"{what} needs OpenCV, which is not installed here (pip install opencv-python-headless). {instead}"
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it warns of what its own engine lacks
    return cv2

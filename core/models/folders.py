"""The files of models: read where they are, fetched from the Hub where they are not, with words for what goes wrong."""

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from torch import nn

from ..errors import ModelUnavailable
from ..hub_access import explain, hub_answers, unreachable
from .cards import BaseCard, Embedded, Folder, Hub, InMemory

Content = TypeVar("Content")

# What reading an incomplete or damaged folder raises.
DAMAGED = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, pickle.UnpicklingError)


def obtain(card: BaseCard, read: Callable[[Path], Content], fetch: Callable[..., str], kind: str) -> Content:
    """What `read` finds in the model's folder: the repository's, that of the Hub's cache, or one that is downloaded.

    read: raises one of `DAMAGED` if a folder is not what it should be. fetch: takes a repository and, as keywords, its
    `revision` and `local_files_only`; gives the folder. kind: what a repository should hold, as the end of a sentence.

    Raises:
        ModelUnavailable: the files are not here and cannot be fetched, or are damaged.
    """
    match card.source:
        case Embedded(path):
            try:
                return read(card.source.folder)
            except DAMAGED as error:
                raise ModelUnavailable(
                    f"The built-in model in {path} is missing or damaged. Get a complete copy of the repository, "
                    "or choose another model."
                ) from error
        case Hub(repo, revision):
            return _from_hub(card.title, repo, revision, read, fetch, kind)
        case Folder(path):
            try:
                return read(Path(path))
            except DAMAGED as error:
                raise ModelUnavailable(f"The folder {path} does not hold {kind}, or its files are damaged.") from error
        case InMemory():
            raise ModelUnavailable(f"“{card.title}” was given as a network: there are no files to load it from.")


def _from_hub(
    title: str, repo: str, revision: str, read: Callable[[Path], Content], fetch: Callable[..., str], kind: str
) -> Content:
    """From the local cache if it is there, else from the Hub if that answers."""
    try:
        return read(Path(fetch(repo, revision=revision, local_files_only=True)))
    except DAMAGED as error:
        if not hub_answers():
            raise ModelUnavailable(
                f"“{title}” ({repo}) has to be downloaded once. {unreachable()} Or choose the built-in model."
            ) from error
    try:
        folder = Path(fetch(repo, revision=revision, local_files_only=False))
    except Exception as error:  # the Hub's errors come from three libraries and share no base
        raise ModelUnavailable(
            f"“{title}” could not be downloaded. {explain(error, repo, revision)} Or choose the built-in model."
        ) from error
    try:
        return read(folder)
    except DAMAGED as error:
        raise ModelUnavailable(
            f"“{title}” was downloaded, but {repo} does not hold {kind}. Choose the built-in model."
        ) from error


def current_name(name: str) -> str:
    """Attention weights of 2022 under the names of today."""
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        name = name.replace(f".{old}.", f".{new}.")
    return name


def fingerprint_of(unet: nn.Module) -> str:
    """Of a network's weights in float32, so that it does not depend on the precision in which they are used."""
    digest = hashlib.sha256()
    for name, value in sorted(unet.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]

"""What a caller names, checked before anything is sent: repository, revision, path of a file, token."""

from __future__ import annotations

import os
import re

from .. import presets
from ..errors import PresetError, RequestError

REPOSITORY = "h-space-studio/directions"  # where the page looks first; the variable below says otherwise
REPOSITORY_VARIABLE = "PRESETS_REPOSITORY"


def default_repository() -> str:
    """The repository that is shown first: the environment variable PRESETS_REPOSITORY, else the project's own."""
    return os.environ.get(REPOSITORY_VARIABLE, "").strip() or REPOSITORY


def repository_id(typed: str) -> str:
    """owner/name of what somebody typed or pasted, which may be the address of a page on the Hub.

    Raises:
        RequestError: it cannot be the name of a repository.
    """
    name = re.sub(r"^(https?://)?(www\.)?(huggingface\.co|hf\.co)/", "", typed.strip())
    name = re.sub(r"/(tree|blob|resolve)/.*$", "", name).strip("/")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", name, re.ASCII) or ".." in name:
        raise RequestError(f"“{name[:60]}” is not the name of a repository. Write it as owner/name.")
    return name


def checked_revision(revision: str) -> str:
    """A branch, a tag or a commit; "main" if empty. Raises RequestError."""
    revision = revision.strip() or "main"
    if not re.fullmatch(r"[\w./-]{1,120}", revision, re.ASCII) or ".." in revision:
        raise RequestError(f"“{revision[:60]}” is not a revision: give a branch, a tag or a commit.")
    return revision


def checked_path(path: str) -> str:
    """The path of a preset that stays inside its repository and inside the cache. Raises PresetError."""
    parts = path.split("/")
    plain = path.isprintable() and "\\" not in path and ":" not in path and len(path) <= 240
    if not plain or not path.endswith(presets.SUFFIX) or any(part.strip(". ") == "" for part in parts):
        raise PresetError(f"“{path[:60]}” is not the path of a preset: give that of a {presets.SUFFIX} file.")
    return path


def checked_token(token: str | None) -> str | None:
    """A token that can be sent, None for an empty one. The client's own error would repeat one that cannot be sent.

    Raises:
        RequestError: it has characters that no token has.
    """
    token = (token or "").strip()
    if not re.fullmatch(r"[!-~]{0,512}", token):
        raise RequestError("This token has characters that no token has. Copy it again from your settings on the Hub.")
    return token or None


def required_token(token: str) -> str:
    """As `checked_token`, for what cannot be done without one. Raises RequestError."""
    if not (checked := checked_token(token)):
        raise RequestError("Publishing needs a token with write access: log in, or give one from your settings there.")
    return checked

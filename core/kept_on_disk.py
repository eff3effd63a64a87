"""Small things that were measured once of a model's weights and are true for ever, kept on disk by fingerprint."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub

from .forking import ForkedLock
from .memory import MAX_NOTES

log = logging.getLogger(__name__)

_WRITING = ForkedLock()


def folder() -> Path:
    """Where they are: in $HSPACE_CACHE, or beside what the Hub's client downloads."""
    chosen = os.environ.get("HSPACE_CACHE")
    return Path(chosen) if chosen else Path(huggingface_hub.constants.HF_HOME) / "hspace"


def recall(kind: str, fingerprint: str) -> dict[str, Any] | None:
    """What is kept, or None."""
    try:
        found = json.loads(_path(kind, fingerprint).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def place(kind: str, fingerprint: str) -> Path | None:
    """The file in which it is kept, with an absolute path; None if it is not."""
    path = _path(kind, fingerprint).absolute()
    return path if path.is_file() else None


def keep(kind: str, fingerprint: str, value: dict[str, Any]) -> None:
    """Keep it, if the disk allows; the oldest goes where there is more than `MAX_NOTES` bytes."""
    path = _path(kind, fingerprint)
    try:
        with _WRITING:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                json.dump(value, file)
            os.replace(file.name, path)
            _make_room(path.parent)
    except OSError as error:
        log.warning("%s of %s is not kept: %s", kind, fingerprint, error.strerror)


def _make_room(place: Path) -> None:
    known = sorted(((p.stat().st_mtime, p.stat().st_size, p) for p in place.glob("*.json")), reverse=True)
    held = 0
    for _, size, path in known:
        held += size
        if held > MAX_NOTES:
            with suppress(OSError):
                path.unlink()


def _path(kind: str, fingerprint: str) -> Path:
    if re.fullmatch(r"[a-z]+", kind) is None or re.fullmatch(r"[0-9a-f]{16}", fingerprint) is None:
        raise ValueError(f"{kind!r} of {fingerprint!r} cannot be kept")
    return folder() / f"{kind}-{fingerprint}.json"

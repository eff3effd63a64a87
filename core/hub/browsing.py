"""The presets of a repository, read from the headers of its files alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from .. import presets
from ..errors import PresetError
from ..hub_access import BROWSE_DEADLINE, ask_hub, require_hub
from ..presets import About
from .files import describe_file, list_files
from .names import checked_path, checked_revision, checked_token, default_repository, repository_id

MAX_ENTRIES = 500


@dataclass(frozen=True)
class Entry:
    """A preset in a repository: where it is, how many bytes it has, the kind of its direction and what it says of it.

    revision: the commit (40 hex digits), so that an entry means the same file for ever.
    """

    repository: str
    revision: str
    path: str
    size: int
    kind: str
    about: About


@dataclass(frozen=True)
class Listing:
    """The presets of a repository at one commit, by name. left_out: files that cannot be used, with the reason."""

    repository: str
    revision: str
    entries: tuple[Entry, ...]
    left_out: tuple[tuple[str, str], ...]


def browse(repository: str = "", revision: str = "main", token: str | None = None) -> Listing:
    """The presets of a repository, read from the headers of its files alone.

    Args:
        repository: owner/name or an address on the Hub; `default_repository()` if empty.
        revision: a branch, a tag or a commit.
        token: for private and gated repositories.

    Raises:
        RequestError: the name, revision or token cannot be one.
        HubError: no network, no such repository or revision, gated, rate limit, interrupted.
    """
    repository = repository_id(repository or default_repository())
    revision, token = checked_revision(revision), checked_token(token)
    require_hub()
    return ask_hub(lambda: list_presets(repository, revision, token)[0], BROWSE_DEADLINE, repository, revision)


def list_presets(repository: str, revision: str, token: str | None) -> tuple[Listing, dict[str, int]]:
    """(the presets, path -> bytes of all files). Raises whatever the Hub's client raises."""
    commit, sizes = list_files(repository, revision, token)
    files = [(path, size) for path, size in sizes.items() if path.endswith(presets.SUFFIX)]
    files, surplus = files[:MAX_ENTRIES], files[MAX_ENTRIES:]

    def read(file: tuple[str, int]) -> Entry | tuple[str, str]:
        path, size = file
        try:
            about, kind = describe_file(repository, commit, checked_path(path), size, token)
        except PresetError as error:
            return path, error.message
        return Entry(repository, commit, path, size, kind, about)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, files))
    entries = sorted((entry for entry in found if isinstance(entry, Entry)), key=lambda entry: entry.about.name.lower())
    left_out = [reason for reason in found if not isinstance(reason, Entry)]
    left_out += [(path, f"Only {MAX_ENTRIES} presets of a repository are shown.") for path, _ in surplus]
    return Listing(repository, commit, tuple(entries), tuple(left_out)), sizes

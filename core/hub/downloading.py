"""Presets of the Hub as files: fetched at a commit, checked completely, and found again without a network."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from .. import presets
from ..errors import PresetError
from ..hub_access import REQUEST_TIMEOUT, TRANSFER_DEADLINE, ask_hub, require_hub
from .browsing import Entry
from .files import COMMIT, describe_file, list_files
from .names import checked_path, checked_revision, checked_token, default_repository, repository_id


def download(
    repository: str, path: str, revision: str = "main", token: str | None = None, cache_dir: Path | None = None
) -> Entry:
    """Fetch one preset, check it completely, and keep it; a commit that is here already needs no network.

    Args:
        repository, revision, token: as `browse`; an `Entry` has the first two, and the path.
        path: of the file in the repository.
        cache_dir: where it is kept; the client's own cache by default.

    Returns:
        The entry, pinned to its commit; `cached` gives the file.

    Raises:
        RequestError, HubError: as `browse`. PresetError: it is not a preset. ResourceError: the disk is full.
    """
    repository, revision = repository_id(repository), checked_revision(revision)
    token, path = checked_token(token), checked_path(path)
    if COMMIT.fullmatch(revision) and (here := cached(repository, revision, path, cache_dir)):
        return _entry(repository, revision, path, here)
    require_hub()

    def fetch() -> tuple[str, str]:
        commit, sizes = list_files(repository, revision, token)
        if path in sizes:
            describe_file(repository, commit, path, sizes[path], token)  # nothing else is worth downloading
        fetched = hf_hub_download(
            repository, path, revision=commit, token=token or False, cache_dir=cache_dir, etag_timeout=REQUEST_TIMEOUT
        )
        return commit, fetched

    commit, file = ask_hub(fetch, TRANSFER_DEADLINE, repository, revision)
    return _entry(repository, commit, path, Path(file))


def cached(repository: str, revision: str, path: str, cache_dir: Path | None = None) -> Path | None:
    """The file of a preset that was downloaded at this commit; None if it is not here. Never asks the Hub.

    Raises:
        RequestError, PresetError: the repository's name or the path cannot be one.
    """
    repository, path = repository_id(repository), checked_path(path)
    if not COMMIT.fullmatch(revision):
        return None
    found = try_to_load_from_cache(repository, path, cache_dir=cache_dir, revision=revision)
    return Path(found) if isinstance(found, str) else None


def downloaded(repository: str = "", cache_dir: Path | None = None) -> list[Entry]:
    """The presets of a repository that are here, each at the commit that was fetched last, by name. No network."""
    repository = repository_id(repository or default_repository())
    folder = Path(cache_dir or huggingface_hub.constants.HF_HUB_CACHE)
    snapshots = folder / repo_folder_name(repo_id=repository, repo_type="model") / "snapshots"
    newest: dict[str, Entry] = {}
    files = [file for file in snapshots.glob(f"*/**/*{presets.SUFFIX}") if file.is_file()]
    for file in sorted(files, key=lambda file: file.lstat().st_mtime_ns):
        commit, *parts = file.relative_to(snapshots).parts
        path = PurePosixPath(*parts).as_posix()
        try:
            newest[path] = _entry(repository, commit, path, file)
        except PresetError:
            continue
    return sorted(newest.values(), key=lambda entry: entry.about.name.lower())


def _entry(repository: str, commit: str, path: str, file: Path) -> Entry:
    """The entry of a downloaded file. Raises PresetError: it is not a preset."""
    preset = presets.load(file)
    return Entry(repository, commit, path, file.stat().st_size, preset.direction.kind, preset)

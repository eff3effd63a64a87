"""Presets on the Hugging Face Hub: browse a repository, download at a fixed commit, publish to one's own.

Browsing reads the headers of the files and nothing else. What was downloaded is kept in the client's own cache under
its commit, and needs no network afterwards. A token is whoever calls's to give; it is sent to the Hub and kept nowhere.
`presets/README.md` says how a repository is laid out.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, count
from pathlib import Path, PurePosixPath

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from . import presets
from .errors import HubError, PresetError, RequestError, ResourceError, VisitorError
from .hub_access import Result, explain, hub_answers, patiently, unreachable
from .hub_card import Row, card
from .presets import About, Preset
from .progress import Job, Progress

REPOSITORY = "h-space-studio/directions"  # where the page looks first; the variable below says otherwise
REPOSITORY_VARIABLE = "PRESETS_REPOSITORY"

FOLDER = "directions"  # in a repository, with a folder for each model

MAX_ENTRIES = 500
MAX_PUBLISHED = 50
MAX_CARD = 2**20  # bytes
READ_FIRST = 2**15  # bytes; holds the header of most presets
TIMEOUT = 10.0  # seconds, of one request
BROWSING = 60.0  # seconds, in all
TRANSFER = 300.0  # seconds, of one file

_COMMIT = re.compile(r"[0-9a-f]{40}")


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


# --------------------------------------------------------------------------------------------------------- browsing


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
    revision, token = _revision(revision), _token(token)
    if not hub_answers():
        raise HubError(unreachable())
    return _in_words(lambda: _browse(repository, revision, token)[0], BROWSING, repository, revision)


def _files(repository: str, revision: str, token: str | None) -> tuple[str, dict[str, int]]:
    """(the commit that a revision means, path -> bytes of every file in it)"""
    api = HfApi(token=token or False)
    info = api.model_info(repository, revision=revision, files_metadata=True, timeout=TIMEOUT)
    if not _COMMIT.fullmatch(info.sha or ""):
        raise HubError("The server's answer does not name a commit: it is not a Hugging Face Hub.")
    return info.sha, {file.rfilename: file.size or 0 for file in info.siblings or ()}


def _browse(repository: str, revision: str, token: str | None) -> tuple[Listing, dict[str, int]]:
    """The presets, and the sizes of all files."""
    commit, sizes = _files(repository, revision, token)
    files = [(path, size) for path, size in sizes.items() if path.endswith(presets.SUFFIX)]
    files, surplus = files[:MAX_ENTRIES], files[MAX_ENTRIES:]

    def read(file: tuple[str, int]) -> Entry | tuple[str, str]:
        path, size = file
        try:
            about, kind = _describe(repository, commit, _safe(path), size, token)
        except PresetError as error:
            return path, error.message
        return Entry(repository, commit, path, size, kind, about)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, files))
    entries = sorted((entry for entry in found if isinstance(entry, Entry)), key=lambda entry: entry.about.name.lower())
    left_out = [reason for reason in found if not isinstance(reason, Entry)]
    left_out += [(path, f"Only {MAX_ENTRIES} presets of a repository are shown.") for path, _ in surplus]
    return Listing(repository, commit, tuple(entries), tuple(left_out)), sizes


def _describe(repository: str, commit: str, path: str, size: int, token: str | None) -> tuple[About, str]:
    """`presets.describe` of a file on the Hub; remembered, unless a token was needed to see it."""
    if token is not None:
        return presets.describe(*_start(repository, commit, path, size, token))
    return _described(huggingface_hub.constants.ENDPOINT, repository, commit, path, size)


@lru_cache(maxsize=256)
def _described(endpoint: str, repository: str, commit: str, path: str, size: int) -> tuple[About, str]:
    return presets.describe(*_start(repository, commit, path, size, None))


def _start(repository: str, commit: str, path: str, size: int, token: str | None) -> tuple[bytes, int]:
    """(the start of a file up to the end of its header, the size of the file). Raises PresetError."""
    url = hf_hub_url(repository, path, revision=commit)
    presets.header_size(b"\0" * min(size, 9), size)  # too short or too large to be asked for
    start = _range(url, 0, min(READ_FIRST, size), token)
    needed = presets.header_size(start, size)
    if needed > len(start):
        start += _range(url, len(start), needed, token)
    return start, size


def _range(url: str, first: int, end: int, token: str | None) -> bytes:
    """Bytes first .. end-1 of a file, and not many more are received even if the server sends them all."""
    headers = build_hf_headers(token=token or False)
    headers |= {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
    with huggingface_hub.get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
        hf_raise_for_status(response)
        skipped = first if response.status_code == 206 else 0
        data = bytearray()
        for piece in response.iter_bytes():
            data += piece
            if len(data) >= end - skipped:
                break
    return bytes(data[first - skipped : end - skipped])


# ------------------------------------------------------------------------------------------------------ downloading


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
    repository, revision, token, path = repository_id(repository), _revision(revision), _token(token), _safe(path)
    if _COMMIT.fullmatch(revision) and (known := cached(repository, revision, path, cache_dir)):
        return _entry(repository, revision, path, known)
    if not hub_answers():
        raise HubError(unreachable())

    def fetch() -> tuple[str, str]:
        commit, sizes = _files(repository, revision, token)
        if path in sizes:
            _describe(repository, commit, path, sizes[path], token)  # nothing else is worth downloading
        fetched = hf_hub_download(
            repository, path, revision=commit, token=token or False, cache_dir=cache_dir, etag_timeout=TIMEOUT
        )
        return commit, fetched

    commit, file = _in_words(fetch, TRANSFER, repository, revision)
    return _entry(repository, commit, path, Path(file))


def cached(repository: str, revision: str, path: str, cache_dir: Path | None = None) -> Path | None:
    """The file of a preset that was downloaded at this commit; None if it is not here. Never asks the Hub.

    Raises:
        RequestError, PresetError: the repository's name or the path cannot be one.
    """
    repository, path = repository_id(repository), _safe(path)
    if not _COMMIT.fullmatch(revision):
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


# ------------------------------------------------------------------------------------------------------- publishing


@dataclass(frozen=True)
class Published:
    """What was published: the commit and its address, and where each preset is, in the order they were given."""

    repository: str
    revision: str
    address: str
    paths: tuple[str, ...]


def account(token: str) -> str:
    """The name of the account that a token belongs to: where its owner can publish.

    Raises:
        RequestError: no token. HubError: it is not accepted, or the Hub cannot be reached.
    """
    token = _needed(token)
    if not hub_answers():
        raise HubError(unreachable())
    return _in_words(lambda: HfApi(token=token).whoami(), BROWSING, "the account")["name"]


def publish(owned: Sequence[Preset], repository: str, token: str, private: bool = False) -> Job:
    """Upload presets with their thumbnails and a card of the repository, in one commit. Result: a `Published`.

    A repository that is not there is made. One of the same name and model is replaced, everything else in it stays.
    Stopping the job before its last step changes nothing that anybody can see.

    Args:
        owned: the presets, up to MAX_PUBLISHED.
        repository: owner/name, of the token's account or one that it may write to.
        token: with write access; the visitor's own, or from OAuth on a Space.
        private: whether a new repository can be seen by its owner only.

    Raises:
        RequestError: nothing to publish, or no token. PresetError: a preset cannot be written.
        HubError: as `browse`, and the token may not write there, or somebody else was faster.
    """
    repository, token = repository_id(repository), _needed(token)
    if not 0 < len(owned) <= MAX_PUBLISHED:
        raise RequestError(f"Choose between 1 and {MAX_PUBLISHED} presets to publish.")
    contents = [presets.to_bytes(preset) for preset in owned]
    total = len(owned) + 2
    yield Progress(0, total, "Connecting")
    if not hub_answers():
        raise HubError(unreachable())
    api = HfApi(token=token)

    def open_repository() -> tuple[Listing, dict[str, int], str | None]:
        api.create_repo(repository, private=private, exist_ok=True)
        listing, sizes = _browse(repository, "main", token)
        if "README.md" not in sizes:
            return listing, sizes, None
        return listing, sizes, _readme(repository, listing.revision, sizes["README.md"], token)

    listing, sizes, there = _in_words(open_repository, BROWSING, repository)
    yield Progress(1, total, "Uploading")
    paths = _places(owned, listing)
    files, rows = {}, {}
    for entry in listing.entries:
        thumbnail = _thumbnail_path(entry.path)
        rows[entry.path] = Row(entry.path, thumbnail if thumbnail in sizes else None, entry.kind, entry.about)
    for preset, path, content in zip(owned, paths, contents, strict=True):
        files[path] = content
        thumbnail = _thumbnail_path(path) if preset.thumbnail else None
        if thumbnail:
            files[thumbnail] = _webp(preset)
        rows[path] = Row(path, thumbnail, preset.direction.kind, preset)
    in_order = sorted(rows.values(), key=lambda row: (row.about.model, row.about.name.lower()))
    files["README.md"] = card(repository, in_order, there).encode()

    additions = [CommitOperationAdd(path, content) for path, content in files.items()]
    for step, path in enumerate(paths, start=2):
        addition = [one for one in additions if one.path_in_repo == path]
        _in_words(partial(api.preupload_lfs_files, repository, addition), TRANSFER, repository)
        yield Progress(step, total, "Uploading")
    title = "Directions: " + ", ".join(preset.name for preset in owned[:5]) + (" ..." if len(owned) > 5 else "")
    commit = partial(api.create_commit, repository, additions, commit_message=title, parent_commit=listing.revision)
    made = _in_words(commit, TRANSFER, repository)
    address = f"{huggingface_hub.constants.ENDPOINT}/{repository}"
    yield Progress(total, total, "Published", result=Published(repository, made.oid, address, tuple(paths)))


def _readme(repository: str, commit: str, size: int, token: str) -> str:
    """The card that is there. Raises HubError: it is nothing that could be given back with our part changed."""
    try:
        if 0 < size <= MAX_CARD:
            return _range(hf_hub_url(repository, "README.md", revision=commit), 0, size, token).decode()
    except UnicodeDecodeError:
        pass
    raise HubError(f"The README.md of {repository} is not a text of up to {MAX_CARD // 2**20} MB. Replace it first.")


def _places(owned: Sequence[Preset], listing: Listing) -> list[str]:
    """A path for each preset: its own of last time if it is there, never that of another one."""
    taken = {entry.path: (entry.about.model, entry.about.name) for entry in listing.entries}
    taken |= {path: ("", "") for path, _ in listing.left_out}
    paths: list[str] = []
    for preset in owned:
        folder, name = (presets.file_name(text).removesuffix(presets.SUFFIX) for text in (preset.model, preset.name))
        endings = chain([""], (f"-{k}" for k in count(2)))
        candidates = (f"{FOLDER}/{folder}/{name}{ending}{presets.SUFFIX}" for ending in endings)
        mine = (preset.model, preset.name)
        paths.append(next(path for path in candidates if taken.get(path, mine) == mine and path not in paths))
    return paths


def _thumbnail_path(path: str) -> str:
    return f"thumbnails/{path.removeprefix(FOLDER + '/').removesuffix(presets.SUFFIX)}.webp"


def _webp(preset: Preset) -> bytes:
    """The thumbnail's pixels, encoded anew: nothing else that its file may hold is published."""
    encoded = io.BytesIO()
    preset.picture().save(encoded, "WEBP", quality=85)
    return encoded.getvalue()


# ------------------------------------------------------------------------------------------------------------ shared


def _in_words(work: Callable[[], Result], seconds: float, repository: str, revision: str = "main") -> Result:
    """`work()`, its failures as errors of a visitor's. Raises HubError, PresetError, ResourceError."""
    try:
        return patiently(work, seconds)
    except VisitorError:
        raise
    except Exception as error:  # the client's errors come from three libraries and share no base
        on_disk = isinstance(error, OSError) and error.errno is not None
        raise (ResourceError if on_disk else HubError)(explain(error, repository, revision)) from error


def _token(token: str | None) -> str | None:
    """A token that can be sent. The client's messages would repeat one that cannot. Raises RequestError."""
    token = (token or "").strip()
    if not re.fullmatch(r"[!-~]{0,512}", token):
        raise RequestError("This token has characters that no token has. Copy it again from your settings on the Hub.")
    return token or None


def _needed(token: str) -> str:
    if not (checked := _token(token)):
        raise RequestError("Publishing needs a token with write access: log in, or give one from your settings there.")
    return checked


def _revision(revision: str) -> str:
    revision = revision.strip() or "main"
    if not re.fullmatch(r"[\w./-]{1,120}", revision, re.ASCII) or ".." in revision:
        raise RequestError(f"“{revision[:60]}” is not a revision: give a branch, a tag or a commit.")
    return revision


def _safe(path: str) -> str:
    """A path that stays inside its repository and inside the cache. Raises PresetError."""
    parts = path.split("/")
    plain = path.isprintable() and "\\" not in path and ":" not in path and len(path) <= 240
    if not plain or not path.endswith(presets.SUFFIX) or any(part.strip(". ") == "" for part in parts):
        raise PresetError(f"“{path[:60]}” is not the path of a preset: give that of a {presets.SUFFIX} file.")
    return path

"""Presets into a repository of one's own: files, thumbnails and card in one commit."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, count

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_url
from PIL import Image

from .. import presets
from ..errors import HubError, RequestError
from ..hub_access import BROWSE_DEADLINE, TRANSFER_DEADLINE, ask_hub, require_hub
from ..presets import Preset
from ..progress import Job, Progress
from .browsing import Listing, list_presets
from .card import BEGIN_FIGURES, END_FIGURES, CardRow, card, replaced
from .files import read_range
from .names import repository_id, required_token

FOLDER = "directions"  # in a repository, with a folder for each model
MAX_PUBLISHED = 200
MAX_CARD = 2**20  # bytes


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
    token = required_token(token)
    require_hub()
    return ask_hub(lambda: HfApi(token=token).whoami(), BROWSE_DEADLINE, "the account")["name"]


def publish(
    owned: Sequence[Preset],
    repository: str,
    token: str,
    private: bool = False,
    others: Mapping[str, bytes] | None = None,
    figures: str = "",
) -> Job[Published]:
    """Upload presets with their thumbnails and a card of the repository, in one commit. Returns what was published.

    A repository that is not there is made. One of the same name and model is replaced, everything else in it stays.
    Stopping the job before its last step changes nothing that anybody can see.

    Args:
        owned: the presets, up to MAX_PUBLISHED.
        repository: owner/name, of the token's account or one that it may write to.
        token: with write access; the visitor's own, or from OAuth on a Space.
        private: whether a new repository can be seen by its owner only.
        others: further files of the same commit, by path.
        figures: a part of the card, in Markdown, that shows some of them.

    Raises:
        RequestError: nothing to publish, or no token. PresetError: a preset cannot be written.
        HubError: as `browse`, and the token may not write there, or somebody else was faster.
    """
    repository, token = repository_id(repository), required_token(token)
    if not 0 < len(owned) <= MAX_PUBLISHED:
        raise RequestError(f"Choose between 1 and {MAX_PUBLISHED} presets to publish.")
    contents = [presets.to_bytes(preset) for preset in owned]
    total = len(owned) + 2
    yield Progress(0, total, "Connecting")
    require_hub()
    api = HfApi(token=token)

    def open_repository() -> tuple[Listing, dict[str, int], str | None]:
        api.create_repo(repository, private=private, exist_ok=True)
        listing, sizes = list_presets(repository, "main", token)
        if "README.md" not in sizes:
            return listing, sizes, None
        return listing, sizes, _read_card(repository, listing.revision, sizes["README.md"], token)

    listing, sizes, old_card = ask_hub(open_repository, BROWSE_DEADLINE, repository)
    yield Progress(1, total, "Uploading")
    paths = _paths(owned, listing)
    files: dict[str, bytes] = dict(others or {})
    rows: dict[str, CardRow] = {}
    for entry in listing.entries:
        thumbnail = thumbnail_path(entry.path)
        rows[entry.path] = CardRow(entry.path, thumbnail if thumbnail in sizes else None, entry.kind, entry.about)
    for preset, path, content in zip(owned, paths, contents, strict=True):
        files[path] = content
        thumbnail, picture = thumbnail_path(path), preset.picture()
        if picture is not None:
            files[thumbnail] = webp(picture)
        rows[path] = CardRow(path, thumbnail if picture is not None else None, preset.direction.kind, preset)
    in_order = sorted(rows.values(), key=lambda row: (row.about.model, row.about.name.lower()))
    text = card(repository, in_order, old_card)
    files["README.md"] = (replaced(text, BEGIN_FIGURES, END_FIGURES, figures) if figures else text).encode()

    additions = {path: CommitOperationAdd(path, content) for path, content in files.items()}
    for step, path in enumerate(paths, start=2):
        upload = partial(api.preupload_lfs_files, repository, [additions[path]])
        ask_hub(upload, TRANSFER_DEADLINE, repository)
        yield Progress(step, total, "Uploading")
    title = "Directions: " + ", ".join(preset.name for preset in owned[:5]) + (" ..." if len(owned) > 5 else "")
    operations, parent = list(additions.values()), listing.revision
    commit = partial(api.create_commit, repository, operations, commit_message=title, parent_commit=parent)
    committed = ask_hub(commit, TRANSFER_DEADLINE, repository)
    yield Progress(total, total, "Published")
    return Published(repository, committed.oid, f"{huggingface_hub.constants.ENDPOINT}/{repository}", tuple(paths))


def _read_card(repository: str, commit: str, size: int, token: str) -> str:
    """The card that a repository has. Raises HubError: it is not a text, so our part of it could not be replaced."""
    try:
        if 0 < size <= MAX_CARD:
            return read_range(hf_hub_url(repository, "README.md", revision=commit), 0, size, token).decode()
    except UnicodeDecodeError:
        pass
    raise HubError(f"The README.md of {repository} is not a text of up to {MAX_CARD // 2**20} MB. Replace it first.")


def _paths(owned: Sequence[Preset], listing: Listing) -> list[str]:
    """A path for each preset: the one that it was published under before, never that of another preset."""
    owners = {entry.path: (entry.about.model, entry.about.name) for entry in listing.entries}
    owners |= {path: ("", "") for path, _ in listing.left_out}
    paths: list[str] = []
    for preset in owned:
        folder, name = (presets.file_name(text).removesuffix(presets.SUFFIX) for text in (preset.model, preset.name))
        endings = chain([""], (f"-{k}" for k in count(2)))
        candidates = (f"{FOLDER}/{folder}/{name}{ending}{presets.SUFFIX}" for ending in endings)
        own = (preset.model, preset.name)
        paths.append(next(path for path in candidates if owners.get(path, own) == own and path not in paths))
    return paths


def webp(picture: Image.Image) -> bytes:
    """A thumbnail encoded anew: nothing else that its file may hold is published."""
    encoded = io.BytesIO()
    picture.save(encoded, "WEBP", quality=85)
    return encoded.getvalue()


def thumbnail_path(path: str) -> str:
    return f"thumbnails/{path.removeprefix(FOLDER + '/').removesuffix(presets.SUFFIX)}.webp"

"""The app of a clone as a Space of the Hugging Face Hub: created or brought up to date in one commit.

A Space gets what the app needs and nothing else, see `UPLOADED`. Files above 10 MB, which git refuses there, go up
through the Hub's storage for large files; what has not changed is not sent again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceHardware, metadata_load
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import SpaceInfo

from .errors import RequestError
from .hub.names import repository_id, required_token
from .hub_access import BROWSE_DEADLINE, REQUEST_TIMEOUT, TRANSFER_DEADLINE, ask_hub, require_hub
from .progress import Job, Progress

# Files and folders of a clone that the app needs; the pictures that README.md shows go with them. A Space looks in the
# last two for system packages and for what pip needs first: they need not be there.
NEEDED = ("app.py", "core", "tabs", "presets", "requirements.txt", "README.md", "LICENSE")
UPLOADED = (*NEEDED, "packages.txt", "pre-requirements.txt")
LEFT_OUT = {".pyc", ".pyo", ".pyi", ".tmp", ".partial"}
WRITTEN_BY_THE_HUB = {".gitattributes"}
LARGE = 2**20  # bytes; files from here on go up one by one, so that their progress is seen

ZEROGPU = SpaceHardware.ZERO_A10G.value
# Of README.md in a Space with ZeroGPU, which has Python 3.10 or 3.12 and no other; elsewhere it is as it is.
ON_ZEROGPU = {"python_version": '"3.12"', "suggested_hardware": ZEROGPU}

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s:]+)\)")


@dataclass(frozen=True)
class SpaceSettings:
    """How a Space is to be.

    private: of a new one. hardware: one of `huggingface_hub.SpaceHardware`, None: as it is. variables, secrets: those
    that are set or replaced, by name; others stay. message: of the commit. force: also over something else.
    """

    private: bool = False
    hardware: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    message: str = ""
    force: bool = False

    def __post_init__(self) -> None:
        for name in (*self.variables, *self.secrets):
            if not _NAME.fullmatch(name):
                raise RequestError(f"“{name[:60]}” is not the name of a variable: use letters, digits and _.")
        if both := self.variables.keys() & self.secrets.keys():
            raise RequestError(f"{', '.join(sorted(both))} cannot be a variable and a secret at once.")
        known = [hardware.value for hardware in SpaceHardware]
        if self.hardware is not None and self.hardware not in known:
            raise RequestError(f"There is no hardware “{self.hardware[:60]}”. Choose one of: {', '.join(known)}.")


PLAIN = SpaceSettings()


@dataclass(frozen=True)
class Deployed:
    """A Space at the commit that holds the app. deleted: files that it had and that the clone does not have."""

    space: str
    revision: str
    address: str
    deleted: tuple[str, ...]


def find_clone(folder: Path) -> Path:
    """The clone of the repository to deploy: this folder or one above it, or that of the running code.

    Raises:
        RequestError: there is none.
    """
    for candidate in (folder, *folder.parents, Path(__file__).resolve().parents[1]):
        if all((candidate / name).exists() for name in NEEDED):
            return candidate
    raise RequestError(
        "A Space is made from a clone of the repository, and this is not one: go to the folder that has app.py, core, "
        "tabs and presets in it, and try again there."
    )


def files_of(clone: Path) -> dict[str, Path]:
    """Path in the Space -> file, for every file that a Space gets."""
    candidates = [clone / name for name in UPLOADED]
    found = [file for top in candidates for file in ([top] if top.is_file() else sorted(top.rglob("*")))]
    found += [clone / shown for shown in _PICTURE.findall((clone / "README.md").read_text(encoding="utf-8"))]
    files = {}
    for file in found:
        path = file.relative_to(clone)
        hidden = any(part.startswith((".", "__pycache__")) for part in path.parts)
        if file.is_file() and not hidden and file.suffix not in LEFT_OUT:
            files[path.as_posix()] = file
    return files


def deploy(clone: Path, space: str, token: str, settings: SpaceSettings = PLAIN) -> Job[Deployed]:
    """Make a Space of a clone, or bring it up to date. Returns what was deployed.

    All files change in one commit, also those that are deleted. Hardware, variables and secrets are set before it, so
    that the app starts with them. The Space's metadata are those of README.md, with what ZeroGPU needs where it has or
    is to have that.

    Args:
        clone: from `find_clone`.
        space: owner/name, of the token's account or one that it may write to.
        token: with write access.

    Raises:
        RequestError: no token, or the Space holds something else and `force` is not set.
        HubError: no network, the token may not do that, or somebody else was faster. ResourceError: the disk is full.
    """
    space, token = repository_id(space), required_token(token)
    files = files_of(clone)
    large = [path for path, file in files.items() if file.stat().st_size >= LARGE]
    total = len(large) + 4
    yield Progress(0, total, "Connecting")
    require_hub()
    api = HfApi(token=token)
    info, created = ask_hub(partial(_open, api, space, clone, settings), BROWSE_DEADLINE, space)
    there = {file.rfilename for file in info.siblings or ()} - WRITTEN_BY_THE_HUB
    if not created:
        if there - {"README.md"} and "core/__init__.py" not in there and not settings.force:
            raise RequestError(f"{space} is a Space with something else in it. Choose another name, or add --force.")
        yield Progress(1, total, "Setting up")
        ask_hub(partial(_set_up, api, space, settings), BROWSE_DEADLINE, space)

    additions = {path: CommitOperationAdd(path, file) for path, file in files.items()}
    if (settings.hardware or _hardware_of(info)) == ZEROGPU:
        readme = with_metadata(files["README.md"].read_text(encoding="utf-8"), ON_ZEROGPU)
        additions["README.md"] = CommitOperationAdd("README.md", readme.encode())
    small = [addition for path, addition in additions.items() if path not in large]
    batches = [small, *([additions[path]] for path in large)]
    for step, batch in enumerate(batches, start=2):
        yield Progress(step, total, "Uploading")
        upload = partial(api.preupload_lfs_files, space, batch, repo_type="space", free_memory=False)
        ask_hub(upload, TRANSFER_DEADLINE, space)
    deleted = tuple(sorted(there - files.keys()))
    commit = partial(
        api.create_commit,
        space,
        [*additions.values(), *map(CommitOperationDelete, deleted)],
        commit_message=settings.message or "Deploy h-space studio",
        repo_type="space",
        parent_commit=info.sha,
    )
    yield Progress(total - 1, total, "Committing")
    committed = ask_hub(commit, TRANSFER_DEADLINE, space)
    yield Progress(total, total, "Deployed")
    return Deployed(space, committed.oid, f"{huggingface_hub.constants.ENDPOINT}/spaces/{space}", deleted)


def with_metadata(readme: str, values: Mapping[str, str]) -> str:
    """A README with other values, in YAML, in the metadata at its beginning.

    Raises:
        RequestError: there are no metadata.
    """
    start, metadata, text = [*readme.split("---\n", 2), "", ""][:3]
    if start or not text:
        raise RequestError("README.md has no metadata of a Space: lines between two of ---, at its beginning.")
    for name, value in values.items():
        metadata, found = re.subn(rf"^{name}:.*$", f"{name}: {value}", metadata, flags=re.MULTILINE)
        metadata += "" if found else f"{name}: {value}\n"
    return f"---\n{metadata}---\n{text}"


def _hardware_of(info: SpaceInfo) -> str | None:
    """What a Space runs on, or will when it is built."""
    return None if info.runtime is None else info.runtime.requested_hardware or info.runtime.hardware


def _open(api: HfApi, space: str, clone: Path, settings: SpaceSettings) -> tuple[SpaceInfo, bool]:
    """The Space, and whether it was made just now, with everything that was asked for."""
    try:
        return api.space_info(space, timeout=REQUEST_TIMEOUT), False
    except RepositoryNotFoundError:
        pass
    api.create_repo(
        space,
        repo_type="space",
        space_sdk=(metadata_load(clone / "README.md") or {}).get("sdk"),
        private=settings.private,
        space_hardware=None if settings.hardware is None else SpaceHardware(settings.hardware),
        space_variables=[{"key": name, "value": value} for name, value in settings.variables.items()] or None,
        space_secrets=[{"key": name, "value": value} for name, value in settings.secrets.items()] or None,
    )
    return api.space_info(space, timeout=REQUEST_TIMEOUT), True


def _set_up(api: HfApi, space: str, settings: SpaceSettings) -> None:
    """Variables, secrets and hardware of a Space that was there."""
    for name, value in settings.variables.items():
        api.add_space_variable(space, name, value)
    for name, value in settings.secrets.items():
        api.add_space_secret(space, name, value)
    if settings.hardware is not None:
        api.request_space_hardware(space, SpaceHardware(settings.hardware))

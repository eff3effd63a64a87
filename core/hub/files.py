"""The files of a repository on the Hub: which there are, and what their first bytes say."""

from __future__ import annotations

import re

import huggingface_hub
from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from .. import presets
from ..cache import Cache, Counted
from ..errors import HubError
from ..hub_access import REQUEST_TIMEOUT
from ..memory import MAX_DESCRIBED, bytes_of
from ..presets import About

COMMIT = re.compile(r"[0-9a-f]{40}")
DESCRIBED: Cache[Counted[tuple[About, str]]] = Cache(MAX_DESCRIBED, "presets on the Hub")
READ_FIRST = 2**15  # bytes; holds the header of most presets


def list_files(repository: str, revision: str, token: str | None) -> tuple[str, dict[str, int]]:
    """(the commit that a revision means, path -> bytes of every file in it). Raises HubError."""
    api = HfApi(token=token or False)
    info = api.model_info(repository, revision=revision, files_metadata=True, timeout=REQUEST_TIMEOUT)
    commit = info.sha or ""
    if not COMMIT.fullmatch(commit):
        raise HubError("The server's answer does not name a commit: it is not a Hugging Face Hub.")
    return commit, {file.rfilename: file.size or 0 for file in info.siblings or ()}


def describe_file(repository: str, commit: str, path: str, size: int, token: str | None) -> tuple[About, str]:
    """`presets.describe` of a file on the Hub; remembered, unless a token was needed to see it. Raises PresetError."""
    if token is not None:
        return presets.describe(*_read_header(repository, commit, path, size, token))
    key = huggingface_hub.constants.ENDPOINT, repository, commit, path, size
    kept = DESCRIBED.get(key)
    if kept is None:
        described = presets.describe(*_read_header(repository, commit, path, size, None))
        kept = Counted(described, bytes_of(described))
        DESCRIBED.put(key, kept)
    return kept.value


def _read_header(repository: str, commit: str, path: str, size: int, token: str | None) -> tuple[bytes, int]:
    """(a file's bytes up to the end of its header, the file's size). Raises PresetError."""
    url = hf_hub_url(repository, path, revision=commit)
    presets.header_size(b"\0" * min(size, 9), size)  # refuses what is too short or too large to be asked for
    start = read_range(url, 0, min(READ_FIRST, size), token)
    needed = presets.header_size(start, size)
    if needed > len(start):
        start += read_range(url, len(start), needed, token)
    return start, size


def read_range(url: str, first: int, end: int, token: str | None) -> bytes:
    """Bytes first .. end-1 of a file, and not many more are received even if the server sends them all."""
    headers = build_hf_headers(token=token or False)
    headers |= {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
    with huggingface_hub.get_session().stream("GET", url, headers=headers, timeout=REQUEST_TIMEOUT) as response:
        hf_raise_for_status(response)
        skipped = first if response.status_code == 206 else 0
        data = bytearray()
        for piece in response.iter_bytes():
            data += piece
            if len(data) >= end - skipped:
                break
    return bytes(data[first - skipped : end - skipped])

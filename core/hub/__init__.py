"""Presets on the Hugging Face Hub: browse a repository, download at a fixed commit, publish to one's own.

Browsing reads the headers of the files and nothing else. What was downloaded is kept in the client's own cache under
its commit, and needs no network afterwards. A token is the caller's to give; it is sent to the Hub and kept nowhere.
`presets/README.md` says how a repository is laid out.
"""

from .browsing import MAX_ENTRIES, Entry, Listing, browse
from .downloading import cached, download, downloaded
from .names import REPOSITORY, REPOSITORY_VARIABLE, default_repository, repository_id
from .publishing import MAX_PUBLISHED, Published, account, publish

__all__ = [
    "MAX_ENTRIES",
    "MAX_PUBLISHED",
    "REPOSITORY",
    "REPOSITORY_VARIABLE",
    "Entry",
    "Listing",
    "Published",
    "account",
    "browse",
    "cached",
    "default_repository",
    "download",
    "downloaded",
    "publish",
    "repository_id",
]

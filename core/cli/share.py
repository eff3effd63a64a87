"""Presets on the Hub: download them, publish one's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from .output import Commands, add_force, command, follow, login, naming, print_note, require_writable


def add_to(commands: Commands) -> None:
    download = command(commands, "download", download_presets, "Download presets from the Hub, pinned to a commit.")
    download.add_argument("repository", metavar="OWNER/NAME")
    download.add_argument("paths", nargs="*", metavar="PATH", help="files of the repository; all presets if left out")
    download.add_argument("--revision", default="main", help="branch, tag or commit")
    download.add_argument("--out", type=Path, default=Path(), help="the folder to put them in (.)")
    add_force(download)

    publish = command(
        commands, "publish", publish_presets, "Publish presets on the Hub, with a card. Log in first: hf auth login."
    )
    publish.add_argument("repository", metavar="OWNER/NAME", help="it is made if it is not there")
    publish.add_argument("presets", nargs="+", type=Path, metavar="FILE")
    publish.add_argument("--private", action="store_true", help="make a new repository private")
    publish.add_argument("--author", help="instead of what the presets say")
    publish.add_argument("--licence", help="instead of what the presets say")


def download_presets(options: argparse.Namespace) -> None:
    from .. import hub, presets

    token, revision, paths = login(), options.revision, options.paths
    if not paths:
        listing = hub.browse(options.repository, revision, token)
        revision, paths = listing.revision, [entry.path for entry in listing.entries]
        for path, reason in listing.left_out:
            print_note(f"left out: {path}: {reason}")
    files = [options.out / Path(path).name for path in paths]
    for n, file in enumerate(files):  # the same name in two folders of the repository
        if file in files[:n]:
            files[n] = options.out / presets.file_name(paths[n].removesuffix(presets.SUFFIX))
        require_writable(files[n], options.force)
    for path, file in zip(paths, files, strict=True):
        entry = hub.download(options.repository, path, revision, token)
        kept = hub.cached(entry.repository, entry.revision, entry.path)
        assert kept is not None  # it has just been downloaded
        print(presets.save(presets.load(kept), file))
        print_note(f"{entry.repository} {entry.path} at {entry.revision}")


def publish_presets(options: argparse.Namespace) -> None:
    from .. import hub, presets

    changes = {key: getattr(options, key) for key in ("author", "licence") if getattr(options, key) is not None}
    owned = []
    for path in options.presets:
        with naming(path):
            owned.append(replace(presets.load(path), **changes))
    published = follow(hub.publish(owned, options.repository, login() or "", options.private))
    for path in published.paths:
        print(path)
    print(f"{published.address} at {published.revision}")

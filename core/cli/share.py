"""Presets on the Hub: download them, publish one's own."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .output import Commands, add_force, command, follow, login, naming, print_note, require_writable

if TYPE_CHECKING:
    from ..hub import Published


def add_to(commands: Commands) -> None:
    download = command(commands, "download", download_presets, "Download presets from the Hub, pinned to a commit.")
    download.add_argument("repository", metavar="OWNER/NAME")
    download.add_argument("paths", nargs="*", metavar="PATH", help="files of the repository; all presets if left out")
    download.add_argument("--revision", default="main", help="branch, tag or commit")
    download.add_argument("--out", type=Path, default=Path(), help="the folder to put them in (.)")
    add_force(download)

    publish = command(
        commands,
        "publish",
        publish_presets,
        "Publish presets, or all that a recipe made, on the Hub in one commit. Log in first: hf auth login.",
    )
    publish.add_argument(
        "place",
        metavar="OWNER/NAME | FOLDER | RECIPE.yaml",
        help="the repository for the files that follow, which is made if it is not there; or what precompute made",
    )
    publish.add_argument("presets", nargs="*", type=Path, metavar="FILE")
    publish.add_argument("--repo", metavar="OWNER/NAME", help="for a folder: where it goes, if its recipe does not say")
    publish.add_argument("--private", action="store_true", help="make a new repository private")
    publish.add_argument("--author", help="of these presets, instead of what they say")
    publish.add_argument("--licence", help="of these presets, instead of what they say")


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

    place = Path(options.place).expanduser()
    if not options.presets:
        published = _publish_folder(place, options)
    else:
        changes = {key: getattr(options, key) for key in ("author", "licence") if getattr(options, key) is not None}
        owned = []
        for path in options.presets:
            with naming(path):
                owned.append(replace(presets.load(path), **changes))
        published = follow(hub.publish(owned, options.repo or options.place, login() or "", options.private))
    for path in published.paths:
        print(path)
    print(f"{published.address} at {published.revision}")


def _publish_folder(place: Path, options: argparse.Namespace) -> Published:
    from ..errors import HubError, RequestError
    from ..recipes.published import folder_and_target, publish_folder

    folder, target = folder_and_target(place)
    repository = options.repo or (target.repository if target is not None else "")
    if not repository:
        raise RequestError("Say where it goes: --repo OWNER/NAME, or “publish: OWNER/NAME” in the recipe.")
    if options.author is not None or options.licence is not None:
        raise RequestError("Author and licence of a recipe's directions stand in the recipe.")
    private = options.private or (target is not None and target.private)
    try:
        return follow(publish_folder(folder, repository, login() or "", private))
    except HubError as error:
        words = f"{error.message} Nothing is lost: give the same command again, and it goes on."
        raise HubError(words) from error

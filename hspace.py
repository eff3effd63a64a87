"""Presets on the command line: `python hspace.py list | show | import-asyrp | download | publish | apply`.

What was asked for goes to the standard output, progress and faults to the standard error. Exit codes: 0 done, 1 could
not be done, and the message says why, 2 the command was not understood, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

if TYPE_CHECKING:  # what takes seconds to import is imported by the commands that need it
    from PIL.Image import Image

    from core.hub import Listing
    from core.presets import About, Preset
    from core.progress import Job

PICTURES = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
DEFAULT_MODEL = "avatars"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parser().parse_args(arguments)
    from core.errors import VisitorError

    try:
        options.run(options)
        sys.stdout.flush()
    except VisitorError as error:
        print(f"hspace {options.command}: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `hspace list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="hspace", description="Directions in h-space, outside the app.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(run=run)
        return made

    known = f"a preset file, or the name of a direction that comes with the app for {DEFAULT_MODEL}"

    listing = command("list", list_presets, "List presets: those that come with the app, in a folder, or on the Hub.")
    listing.add_argument("folder", nargs="?", type=Path, help="a folder with preset files")
    listing.add_argument("--hub", nargs="?", const="", metavar="OWNER/NAME", help="a repository on the Hub")
    listing.add_argument("--revision", default="main", help="branch, tag or commit of the repository")
    listing.add_argument("--offline", action="store_true", help="with --hub: only what was downloaded, no network")
    listing.add_argument("--json", action="store_true", help="for programs")

    show = command("show", show_preset, "Show everything that a preset says of itself.")
    show.add_argument("preset", help=known)
    show.add_argument("--json", action="store_true", help="for programs")
    show.add_argument("--thumbnail", type=Path, metavar="OUT", help="write its thumbnail there as well")

    released = command("import-asyrp", import_asyrp, "Turn a .pth direction of the Asyrp authors into a preset.")
    released.add_argument("source", type=Path, metavar="FILE.pth")
    released.add_argument("out", type=Path, metavar="OUT.safetensors")
    released.add_argument("--model", required=True, help="id of the model whose weights it was trained with")
    released.add_argument("--fingerprint", help="of those weights, if the model is not here to be asked")
    released.add_argument("--name", required=True)
    released.add_argument("--source-text", default="")
    released.add_argument("--target-text", default="")
    released.add_argument("--description", default="")
    released.add_argument("--steps", type=int, default=40, help="S, the steps that it was trained with (40)")
    released.add_argument("--t-edit", type=int, help="end of the editing interval; by the model's curves if left out")
    released.add_argument("--t-boost", type=int, help="start of the boosting interval; likewise")
    released.add_argument("--author", default="Kwon, Jeong and Uh (Asyrp)")
    released.add_argument("--licence", default="mit")

    download = command("download", download_presets, "Download presets from the Hub, pinned to a commit.")
    download.add_argument("repository", metavar="OWNER/NAME")
    download.add_argument("paths", nargs="*", metavar="PATH", help="files of the repository; all presets if left out")
    download.add_argument("--revision", default="main", help="branch, tag or commit")
    download.add_argument("--out", type=Path, default=Path(), help="the folder to put them in (.)")

    publish = command(
        "publish", publish_presets, "Publish presets on the Hub, with a card. Log in first: hf auth login."
    )
    publish.add_argument("repository", metavar="OWNER/NAME", help="it is made if it is not there")
    publish.add_argument("presets", nargs="+", type=Path, metavar="FILE")
    publish.add_argument("--private", action="store_true", help="make a new repository private")
    publish.add_argument("--author", help="instead of what the presets say")
    publish.add_argument("--licence", help="instead of what the presets say")

    apply = command("apply", apply_preset, "Edit a picture with a preset.")
    apply.add_argument("preset", help=known)
    apply.add_argument("image", type=Path)
    apply.add_argument("out", type=Path, help=f"the edited picture: {', '.join(PICTURES)}")
    apply.add_argument("--strength", type=float, help="as the preset suggests if left out")
    apply.add_argument("--steps", type=int, default=40, help="sampling steps (40)")
    apply.add_argument("--form", choices=["trained", "per_timestep", "global"], default="trained")
    apply.add_argument("--injection", choices=["asymmetric", "symmetric"], help="as the preset suggests if left out")
    apply.add_argument("--t-edit", type=int, help="end of the editing interval")
    apply.add_argument("--t-boost", type=int, help="start of the boosting interval")
    apply.add_argument("--seed", type=int, default=0, help="of the boosting noise")
    apply.add_argument("--json", action="store_true", help="print the measures for programs")

    for writing in (show, released, download, apply):
        writing.add_argument("--force", action="store_true", help="replace a file that is there")
    return top


# --------------------------------------------------------------------------------------------------------- commands


def list_presets(options: argparse.Namespace) -> None:
    from core import hub, presets
    from core.errors import RequestError
    from core.models.cards import ROOT

    found: list[tuple[str, str, About]] = []  # where, kind, what it says
    if options.hub is not None:
        if options.folder is not None:
            raise RequestError("Give a folder or --hub, not both.")
        if options.offline:
            here = hub.downloaded(options.hub)
            found = [(f"{entry.path}@{entry.revision[:8]}", entry.kind, entry.about) for entry in here]
        else:
            listing = hub.browse(options.hub, options.revision, _login())
            _note(f"{listing.repository} at {listing.revision}")
            _left_out(listing)
            found = [(entry.path, entry.kind, entry.about) for entry in listing.entries]
    else:
        if options.folder is not None and not options.folder.is_dir():
            raise RequestError(f"{options.folder} is not a folder.")
        folders = [options.folder] if options.folder else sorted((ROOT / "presets" / "directions").glob("*/"))
        shelves = [entry for folder in folders for entry in presets.shelf(folder)]
        found = [(os.path.relpath(path), preset.direction.kind, preset) for path, preset in shelves]
    if options.json:
        print(json.dumps([{"where": where, "kind": kind, **_plain(about)} for where, kind, about in found], indent=2))
        return
    rows = [("NAME", "MODEL", "KIND", "METHOD", "MEASURED", "WHERE")]
    for where, kind, about in found:
        rows.append((about.name, about.model, kind, about.method, _measured(about, 2), where))
    _table(rows)


def show_preset(options: argparse.Namespace) -> None:
    from core.errors import RequestError

    preset = _find(options.preset)
    said = {"kind": preset.direction.kind, "steps": preset.direction.steps, **_plain(preset)}
    if options.thumbnail is not None:
        picture = preset.picture()
        if picture is None:
            raise RequestError(f"“{preset.name}” has no thumbnail.")
        _may_write(options.thumbnail, options.force, tuple(PICTURES))
        _write_picture(picture, options.thumbnail)
    if options.json:
        print(json.dumps(said, indent=2))
        return
    for key, value in said.items():
        if value not in (None, "", [], {}):
            text = value if isinstance(value, str) else json.dumps(value)
            print(f"{key.replace('_', ' '):16}{text.replace(chr(10), chr(10) + ' ' * 16)}")


def import_asyrp(options: argparse.Namespace) -> None:
    from core import presets
    from core.asyrp.released import read_released
    from core.errors import ModelUnavailable
    from core.models.loader import models

    _may_write(options.out, options.force, (presets.SUFFIX,))
    direction = read_released(options.source, options.steps)
    try:
        model = None if options.fingerprint else models.get(options.model)
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{error.message} Or give the fingerprint of its weights (--fingerprint).") from error
    preset = presets.Preset(
        direction,
        name=options.name,
        model=options.model,
        fingerprint=options.fingerprint or model.fingerprint,
        description=options.description or f"Imported from {options.source.name}.",
        parameters={"form": "implicit", "file": options.source.name},
        source_text=options.source_text,
        target_text=options.target_text,
        t_edit=options.t_edit,
        t_boost=options.t_boost,
        licence=options.licence,
        author=options.author,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    if model is not None:
        presets.require_model(preset, model)
    print(presets.save(preset, options.out))


def download_presets(options: argparse.Namespace) -> None:
    from core import hub, presets

    token, revision, paths = _login(), options.revision, options.paths
    if not paths:
        listing = hub.browse(options.repository, revision, token)
        revision, paths = listing.revision, [entry.path for entry in listing.entries]
        _left_out(listing)
    places = [options.out / Path(path).name for path in paths]
    for n, place in enumerate(places):  # the same name in two folders of the repository
        if place in places[:n]:
            places[n] = options.out / presets.file_name(paths[n].removesuffix(presets.SUFFIX))
        _may_write(places[n], options.force)
    for path, place in zip(paths, places, strict=True):
        entry = hub.download(options.repository, path, revision, token)
        file = hub.cached(entry.repository, entry.revision, entry.path)
        print(presets.save(presets.load(file), place))
        _note(f"{entry.repository} {entry.path} at {entry.revision}")


def publish_presets(options: argparse.Namespace) -> None:
    from core import hub, presets

    changes = {key: getattr(options, key) for key in ("author", "licence") if getattr(options, key) is not None}
    owned = [replace(presets.load(path), **changes) for path in options.presets]
    published = _follow(hub.publish(owned, options.repository, _login() or "", options.private))
    for path in published.paths:
        print(path)
    print(f"{published.address} at {published.revision}")


def apply_preset(options: argparse.Namespace) -> None:
    from core.errors import PresetError
    from core.imaging import to_pil
    from core.models.cards import MODELS
    from core.models.loader import models
    from core.studio import library
    from core.studio.edit import edit_frames
    from core.studio.frames import EditOptions

    _may_write(options.out, options.force, tuple(PICTURES))
    preset = _find(options.preset)
    if preset.model not in MODELS:
        raise PresetError(f"“{preset.name}” was made for the model {preset.model}, which this app does not have.")
    model = models.get(preset.model)
    picture = library.open_picture(options.image, preset.model)
    given = ("steps", "form", "injection", "t_edit", "t_boost", "seed")
    settings = EditOptions(**{key: getattr(options, key) for key in given})
    strength = preset.strength if options.strength is None else options.strength
    (frame,) = _follow(edit_frames(model, picture, preset, [strength], settings))
    _write_picture(to_pil(frame.pixels)[0], options.out)
    if options.json:
        print(json.dumps({"out": str(options.out), "strength": strength, **frame.measures.as_json()}, indent=2))
        return
    print(options.out)
    for reading in frame.measures.attributes[:5]:
        _note(
            f"{reading.name}: {reading.before:.2f} -> {reading.after:.2f} ({reading.change:+.1f} standard deviations)"
        )


# ------------------------------------------------------------------------------------------------------------ shared


def _find(wanted: str) -> Preset:
    """A preset by its file or, if there is no such file, by the name of a shipped one."""
    from core import presets
    from core.studio import library

    if Path(wanted).exists() or wanted.endswith(presets.SUFFIX):
        return presets.load(wanted)
    return library.find_preset(DEFAULT_MODEL, wanted, "", "")


def _login() -> str | None:
    """The token of whoever is logged in on this machine (HF_TOKEN, or `hf auth login`)."""
    import huggingface_hub

    return huggingface_hub.get_token()


def _plain(about: About) -> dict[str, Any]:
    """What a preset says of itself, as JSON has it; of the thumbnail only its size."""
    from core.presets import About

    said = {key: value for key, value in vars(about).items() if key in About.__dataclass_fields__}
    picture = about.picture()
    return {**said, "thumbnail": None if picture is None else f"{picture.width}x{picture.height}"}


def _measured(about: About, count: int) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in list(about.measured.items())[:count])


def _table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{text:{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


def _note(text: str) -> None:
    """Something on the side. What a stranger wrote cannot steer the terminal."""
    print("".join(c if c.isprintable() else "?" for c in text), file=sys.stderr)


def _left_out(listing: Listing) -> None:
    for path, reason in listing.left_out:
        _note(f"left out: {path}: {reason}")


def _follow(job: Job) -> Any:
    """Run a job to its end, with its progress on a terminal."""
    result = None
    for event in job:
        if sys.stderr.isatty():
            end = "\n" if event.result is not None else ""
            print(f"\r\033[K{event.note} {event.step}/{event.total}", end=end, file=sys.stderr, flush=True)
        result = event.result
    return result


def _may_write(path: Path, force: bool, endings: tuple[str, ...] = ()) -> None:
    """Refuses before any work is done. Raises RequestError."""
    from core.errors import RequestError

    if endings and path.suffix.lower() not in endings:
        raise RequestError(f"{path} cannot be written: its name has to end in {' or '.join(endings)}.")
    if path.exists() and not force:
        raise RequestError(f"{path} is there already. Choose another name, or add --force to replace it.")


def _write_picture(picture: Image, path: Path) -> None:
    """Whole or not at all. Raises ResourceError."""
    from core.errors import ResourceError

    encoded = io.BytesIO()
    picture.save(encoded, PICTURES[path.suffix.lower()], quality=95)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".hspace-") as folder:
            unfinished = Path(folder) / path.name
            unfinished.write_bytes(encoded.getvalue())
            unfinished.replace(path)
    except OSError as error:
        raise ResourceError(f"{path} could not be written ({error.strerror}).") from error


if __name__ == "__main__":
    sys.exit(main())

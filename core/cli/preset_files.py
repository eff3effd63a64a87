"""Presets as files: list them, show one, and make one of a file of the Asyrp authors."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelUnavailable, PresetError, RequestError
from .output import (
    FORMATS,
    WHICH_PRESET,
    Commands,
    about_as_json,
    add_force,
    command,
    follow,
    login,
    naming,
    print_note,
    print_table,
    require_writable,
    write_picture,
)

if TYPE_CHECKING:
    from ..presets import About, Certainty


def add_to(commands: Commands) -> None:
    listing = command(
        commands, "list", list_presets, "List presets: those that come with the app, in a folder, or on the Hub."
    )
    listing.add_argument("folder", nargs="?", type=Path, help="a folder with preset files")
    listing.add_argument("--hub", nargs="?", const="", metavar="OWNER/NAME", help="a repository on the Hub")
    listing.add_argument("--revision", default="main", help="branch, tag or commit of the repository")
    listing.add_argument("--offline", action="store_true", help="with --hub: only what was downloaded, no network")
    listing.add_argument("--json", action="store_true", help="for programs")

    show = command(commands, "show", show_preset, "Show everything that a preset says of itself.")
    show.add_argument("preset", help=WHICH_PRESET)
    show.add_argument("--json", action="store_true", help="for programs")
    show.add_argument("--thumbnail", type=Path, metavar="OUT", help="write its thumbnail there as well")
    add_force(show)

    released = command(
        commands, "import-asyrp", import_asyrp, "Turn a .pth direction of the Asyrp authors into a preset."
    )
    released.add_argument("source", type=Path, metavar="FILE.pth")
    released.add_argument("out", type=Path, metavar="OUT.safetensors")
    released.add_argument(
        "--model", required=True, help="the model to use it with: its id, a repository on the Hub, or a folder"
    )
    released.add_argument(
        "--weights",
        choices=["claimed", "unknown"],
        help="whether it was trained with exactly that model's weights, as far as you know; asked for if left out",
    )
    released.add_argument("--measure", action="store_true", help="see by CLIP whether it works with these weights")
    released.add_argument("--fingerprint", help="of those weights, 16 hex digits, if the model is not here to be asked")
    released.add_argument("--name", required=True)
    released.add_argument("--source-text", default="")
    released.add_argument("--target-text", default="")
    released.add_argument("--description", default="")
    released.add_argument("--steps", type=int, default=40, help="S, the steps that it was trained with (40)")
    released.add_argument("--t-edit", type=int, help="end of the editing interval; by the model's curves if left out")
    released.add_argument("--t-boost", type=int, help="start of the boosting interval; likewise")
    released.add_argument("--author", default="Kwon, Jeong and Uh (Asyrp)")
    released.add_argument("--licence", default="mit")
    add_force(released, "replace a file that is there, and save a direction also if it was measured and does not work")


def list_presets(options: argparse.Namespace) -> None:
    from .. import hub, presets
    from ..models.cards import PRESETS

    rows: list[tuple[str, str, About]] = []  # where, kind, what it says
    if options.hub is not None:
        if options.folder is not None:
            raise RequestError("Give a folder or --hub, not both.")
        if options.offline:
            downloaded = hub.downloaded(options.hub)
            rows = [(f"{entry.path}@{entry.revision[:8]}", entry.kind, entry.about) for entry in downloaded]
        else:
            listing = hub.browse(options.hub, options.revision, login())
            print_note(f"{listing.repository} at {listing.revision}")
            for path, reason in listing.left_out:
                print_note(f"left out: {path}: {reason}")
            rows = [(entry.path, entry.kind, entry.about) for entry in listing.entries]
    else:
        if options.folder is not None and not options.folder.is_dir():
            raise RequestError(f"{options.folder} is not a folder.")
        folders = [options.folder] if options.folder else sorted((PRESETS / "directions").glob("*/"))
        found = [entry for folder in folders for entry in presets.shelf(folder)]
        rows = [(os.path.relpath(path), preset.direction.kind, preset) for path, preset in found]
    if options.json:
        entries = [{"where": where, "kind": kind, **about_as_json(about)} for where, kind, about in rows]
        print(json.dumps(entries, indent=2))
        return
    if not rows:
        place = options.hub or options.folder
        print_note(f"No presets were found in {place}." if place else "No presets were found.")
        return
    columns = [
        (about.name, about.model, kind, about.method, about.certainty, _measured(about), where)
        for where, kind, about in rows
    ]
    print_table([("NAME", "MODEL", "KIND", "METHOD", "WEIGHTS", "MEASURED", "WHERE"), *columns])


def show_preset(options: argparse.Namespace) -> None:
    from ..api import load_preset

    with naming(options.preset):
        preset = load_preset(options.preset, token=login())
    said = {"kind": preset.direction.kind, "steps": preset.direction.steps, **about_as_json(preset)}
    if options.thumbnail is not None:
        picture = preset.picture()
        if picture is None:
            raise RequestError(f"“{preset.name}” has no thumbnail.")
        require_writable(options.thumbnail, options.force, tuple(FORMATS))
        write_picture(picture, options.thumbnail)
    if options.json:
        print(json.dumps(said, indent=2))
        return
    for key, value in said.items():
        if value not in (None, "", [], {}):
            text = value if isinstance(value, str) else json.dumps(value)
            print(f"{key.replace('_', ' '):16}{text.replace(chr(10), chr(10) + ' ' * 16)}")


def import_asyrp(options: argparse.Namespace) -> None:
    from .. import presets
    from ..asyrp.released import read_released
    from ..models.loader import models
    from ..models.opening import open_model
    from ..studio.effect import measure_effect, with_effect

    require_writable(options.out, options.force, (presets.SUFFIX,))
    fingerprint, model = options.fingerprint, None
    if fingerprint is not None and re.fullmatch("[0-9a-f]{16}", fingerprint := fingerprint.lower()) is None:
        raise RequestError(f"A fingerprint is 16 hex digits (0-9, a-f), not {options.fingerprint!r}.")
    direction = read_released(options.source, options.steps)
    model_id = options.model
    if fingerprint is None:
        try:
            if "/" in model_id or Path(model_id).is_dir():
                model_id = follow(open_model(model_id)).id
            model = models.get(model_id)
        except ModelUnavailable as error:
            message = f"{error.message} Or give the fingerprint of its weights (--fingerprint)."
            raise ModelUnavailable(message) from error
        fingerprint = model.fingerprint
    preset = presets.Preset(
        direction,
        name=options.name,
        model=model_id,
        fingerprint=fingerprint,
        certainty=options.weights or _ask_about_weights(model_id, fingerprint, model is not None),
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
    if model is None:
        if options.measure:
            raise RequestError("The effect is measured with the model itself: leave --fingerprint out.")
    else:
        presets.require_model(preset, model)
        unsure = preset.certainty == "unknown"
        if options.measure or (unsure and _yes("Measure its effect on these weights now?")):
            effect = follow(measure_effect(model, preset))
            preset = with_effect(preset, effect)
            if not (effect.trusted or options.force):
                raise PresetError(f"{effect.words} It is not saved. Add --force to save it all the same.")
            print_note(effect.words)
        elif unsure:
            print_note(f"{presets.CERTAINTIES['unknown']} --measure shows whether it works with them.")
    print(presets.save(preset, options.out))


def _ask_about_weights(model_id: str, fingerprint: str, here: bool) -> Certainty:
    """Whoever sits at a terminal is asked; else it is not known. here: the model is."""
    which = "that are here" if here else f"with the fingerprint {fingerprint}"
    return (
        "claimed" if _yes(f"Was this direction trained with exactly the weights of {model_id} {which}?") else "unknown"
    )


def _yes(question: str) -> bool:
    """The answer at a terminal; no, where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _measured(about: About) -> str:
    """The first two measures."""
    return ", ".join(f"{name} {value:.3g}" for name, value in list(about.measured.items())[:2])

"""What all processes made, put together by one: the folder as it is published, browsed by the app, and read by people.

directions/MODEL/NAME.safetensors    the presets
thumbnails/MODEL/NAME.webp
figures/MODEL/NAME.webp              one picture at rising strengths
README.md                            a card with a table and the figures
measures.csv, measures.json
recipe.yaml                          what it was made from
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from .. import presets
from ..hub.card import BEGIN_FIGURES, END_FIGURES, CardRow, card, plain, replaced
from ..hub.publishing import FOLDER, thumbnail_path, webp
from ..presets import SUFFIX, About, Preset
from ..tensor_file import write
from .made import read_made
from .units import Unit
from .workshop import Workshop

RECIPE = "recipe.yaml"


def join(shop: Workshop, entries: Sequence[Unit]) -> list[str]:
    """Write the folder from what is done, and return the paths of the presets in it. Files whose content is the same
    are left alone.

    Raises: ResourceError: a file cannot be written.
    """
    rows: list[CardRow] = []
    written: list[tuple[str, Preset]] = []
    for unit in entries:
        made = read_made(shop, unit)
        for preset, strip in zip(made.presets, made.strips, strict=True):
            path = preset_path(preset)
            _keep(shop.folder / path, presets.to_bytes(preset))
            _keep(shop.folder / figure_path(path), strip)
            picture = preset.picture()
            if picture is not None:
                _keep(shop.folder / thumbnail_path(path), webp(picture))
            rows.append(CardRow(path, None if picture is None else thumbnail_path(path), preset.direction.kind, preset))
            written.append((path, preset))
    publish = shop.recipe.publish
    repository = "OWNER/NAME" if publish is None else publish.repository
    if rows:
        _keep(shop.folder / "README.md", readme(shop.folder / "README.md", repository, rows).encode())
    _keep(shop.folder / "measures.json", as_json(written).encode())
    _keep(shop.folder / "measures.csv", as_csv(written).encode())
    _keep(shop.folder / RECIPE, shop.recipe.file.read_bytes())
    return [path for path, _ in written]


def preset_path(preset: Preset) -> str:
    folder, name = (presets.file_name(text).removesuffix(SUFFIX) for text in (preset.model, preset.name))
    return f"{FOLDER}/{folder}/{name}{SUFFIX}"


def figure_path(path: str) -> str:
    return f"figures/{path.removeprefix(FOLDER + '/').removesuffix(SUFFIX)}.webp"


def readme(file: Path, repository: str, rows: Sequence[CardRow]) -> str:
    """The card with a table, then the figures; the owner's own words around them stay."""
    old = file.read_text(encoding="utf-8") if file.is_file() else None
    figures = figures_text([(row.path, row.about) for row in rows])
    return replaced(card(repository, rows, old), BEGIN_FIGURES, END_FIGURES, figures)


def figures_text(shown: Sequence[tuple[str, About]]) -> str:
    """The part of the card that shows every direction at rising strengths."""
    lines = ["## Figures", "", "One picture at rising strengths, from left to right.", ""]
    for path, about in shown:
        lines += [f"**{plain(about.name)}**", "", f"![{plain(about.name)}]({figure_path(path)})", ""]
    return "\n".join(lines).strip()


def as_json(written: Sequence[tuple[str, Preset]]) -> str:
    """The measures of every preset, and how it was made."""
    rows = [
        {
            "path": path,
            "name": preset.name,
            "kind": preset.direction.kind,
            "method": preset.method,
            "source_text": preset.source_text,
            "target_text": preset.target_text,
            "t_edit": preset.t_edit,
            "t_boost": preset.t_boost,
            "strength": preset.strength,
            "parameters": preset.parameters,
            "measured": preset.measured,
        }
        for path, preset in written
    ]
    return json.dumps(rows, indent=2) + "\n"


def as_csv(written: Sequence[tuple[str, Preset]]) -> str:
    """The measures of every preset, a row each."""
    names = list(dict.fromkeys(name for _, preset in written for name in preset.measured))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["path", "name", "kind", "method", *names])
    for path, preset in written:
        values = [preset.measured.get(name, "") for name in names]
        writer.writerow([path, preset.name, preset.direction.kind, preset.method, *values])
    return table.getvalue()


def _keep(path: Path, content: bytes) -> None:
    if not (path.is_file() and path.read_bytes() == content):
        write(path, content, f"file {path.name}")

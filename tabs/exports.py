"""What can be taken away of a result beside its picture: tables as CSV, numbers as JSON, drawings as SVG.

They are links that hold the file itself, so that nothing of a visit is in a file that others could ask for.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Sequence
from html import escape
from typing import Any

# What the page's style sheet says of drawings, for a file that stands alone.
STYLE = (
    "svg{background:#fff;font:11.5px sans-serif}text{fill:#6f675c}path{fill:none}.grid{stroke:#e6e1d8}"
    ".faint{stroke:#c4421d;opacity:.22}.plain{stroke:#c4421d;stroke-width:2}.second{stroke:#3b6f7a;stroke-width:2}"
    ".value{stroke-width:2}.threshold{stroke:#6f675c;stroke-dasharray:2 4}.dot{fill:#c4421d;stroke:#fff}"
    ".band.edit{fill:#c4421d;opacity:.1}.band.boost{fill:#3b6f7a;opacity:.12}.band.narrow{opacity:.55}.band.calm{fill:none}"
)
FORMULA = ("=", "+", "-", "@", "\t")
COLOURS = {"--quiet": "#6f675c", "--region-0": "#c4421d", "--region-1": "#3b6f7a", "--region-2": "#7a5ea8"}
COLOURS |= {"--region-3": "#b58a2b", "--region-4": "#4f8a4a", "--region-5": "#a34d74"}


def link(data: bytes, kind: str, name: str, label: str) -> str:
    """A link that downloads a small file. kind: its media type."""
    address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return f'<a class="take" download="{escape(name)}" href="{address}">{escape(label)}</a>'


def csv_text(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV. What a spreadsheet would take for a formula is text."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    for row in rows:
        writer.writerow([f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in row])
    return buffer.getvalue()


def csv_link(rows: Sequence[Sequence[Any]], name: str) -> str:
    """A table as a file."""
    return link(csv_text(rows).encode(), "text/csv", f"{name}.csv", "CSV")


def json_link(value: Any, name: str) -> str:
    """Numbers as a file."""
    data = json.dumps(value, indent=2, ensure_ascii=False, default=str).encode()
    return link(data, "application/json", f"{name}.json", "JSON")


def standalone(svg: str) -> str:
    """A drawing of the page as a file of its own, with its styles and colours."""
    svg = re.sub(r"var\((--[a-z0-9-]+)\)", lambda match: COLOURS.get(match[1], "#6f675c"), svg)
    return svg.replace('<svg class="chart"', '<svg xmlns="http://www.w3.org/2000/svg"', 1).replace(
        "<title>", f"<style>{STYLE}</style><title>", 1
    )


def svg_link(svg: str, name: str) -> str:
    """A drawing as a file."""
    return link(standalone(svg).encode(), "image/svg+xml", f"{name}.svg", "SVG")


def first_svg(html: str) -> str:
    """The first drawing in a piece of the page, as a file of its own; "" if there is none."""
    return next(iter(all_svg(html)), "")


def all_svg(html: str) -> list[str]:
    """The drawings in a piece of the page, each as a file of its own."""
    return [standalone(found) for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]

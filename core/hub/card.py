"""The card of a repository of presets: what its front page on the Hub says. Everything that a preset says is untrusted.

In a card that exists already only the part between two marks is replaced: its owner's own words stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from huggingface_hub import ModelCardData

from ..models.cards import MODELS, Hub
from ..models.t2i_cards import TEXT_TO_IMAGE
from ..presets import About

BEGIN, END = "<!-- directions: this part is written by h-space studio -->", "<!-- end of directions -->"
BEGIN_FIGURES = "<!-- figures: this part is written by h-space studio -->"
END_FIGURES = "<!-- end of figures -->"
TAGS = ["h-space", "semantic-direction", "diffusion"]
SHOWN_MEASURES = 3
# Those of the Hub's licence identifiers that suit a direction; others are given by name.
KNOWN_LICENCES = {
    *("mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("openrail", "openrail++", "creativeml-openrail-m"),
}

USE = """## How to use

With h-space studio, on the command line:

```bash
python hspace.py list --hub {repository}
python hspace.py download {repository} {path} --out .
python hspace.py apply {file} portrait.png edited.png --strength 1
```

or in its Compose tab, where any repository can be named. From Python:

```python
import hspace

preset = hspace.load_preset("{repository}/{path}")  # with @ and a commit after it, the same for ever
```

A direction shifts the bottleneck features of one diffusion model, named in the table, and fits no other weights. The
files are safetensors: nothing in them is executed."""


@dataclass(frozen=True)
class CardRow:
    """One preset in the table: where it and its thumbnail are in the repository, and what it says of itself."""

    path: str
    thumbnail: str | None
    kind: str
    about: About


def card(repository: str, rows: Sequence[CardRow], old: str | None = None) -> str:
    """The README.md of a repository with these presets. old: the one it has, of which all but our part is kept."""
    ours = "\n\n".join((BEGIN, _table(rows), _use(repository, rows), _licences(rows), END))
    if old is None:
        return f"---\n{_metadata(rows)}\n---\n\n# Directions in h-space\n\n{ours}\n"
    return _replaced(old, BEGIN, END, ours)


def replaced(text: str, begin: str, end: str, content: str) -> str:
    """A card with the part between two marks replaced, or added at the end."""
    return _replaced(text, begin, end, "\n\n".join((begin, content, end)))


def _replaced(text: str, begin: str, end: str, ours: str) -> str:
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    return before + ours + after if first and last else f"{text.rstrip()}\n\n{ours}\n"


def _metadata(rows: Sequence[CardRow]) -> str:
    licences = sorted({row.about.licence.strip().lower() for row in rows})
    known = len(licences) == 1 and licences[0] in KNOWN_LICENCES
    licence, name = (licences[0], None) if known else ("other", "see-the-table")
    listed = {**TEXT_TO_IMAGE, **MODELS}
    sources = [listed[model].source for model in {row.about.model for row in rows} if model in listed]
    base = sorted(source.repo for source in sources if isinstance(source, Hub))
    return ModelCardData(license=licence, license_name=name, tags=TAGS, base_model=base or None).to_yaml()


def _table(rows: Sequence[CardRow]) -> str:
    lines = [
        "| | direction | model | kind, method | made from | measured | strength | licence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        about = row.about
        picture = f"![{plain(about.name)}]({quote(row.thumbnail)})" if row.thumbnail else ""
        pair = f"{plain(about.source_text)} → {plain(about.target_text)}" if about.target_text else ""
        measured = list(about.measured.items())[:SHOWN_MEASURES]
        effect = ", ".join(f"{plain(name)} {value:.3g}" for name, value in measured)
        low, high = about.strength_range
        by = f", {plain(about.author)}" if about.author else ""
        cells = (
            picture,
            f"[{plain(about.name)}]({quote(row.path)})",
            plain(about.model),
            f"{plain(row.kind)}, {plain(about.method)}",
            pair,
            effect,
            f"{about.strength:g} ({low:g} to {high:g})",
            plain(about.licence) + by,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _use(repository: str, rows: Sequence[CardRow]) -> str:
    path = next((row.path for row in rows if re.fullmatch(r"[\w./-]+", row.path, re.ASCII)), "PATH")
    return USE.format(repository=repository, path=path, file=path.rpartition("/")[2])


def _licences(rows: Sequence[CardRow]) -> str:
    licences = ", ".join(sorted({plain(row.about.licence) for row in rows if row.about.licence})) or "not stated"
    return f"## Licence\n\nAs the table says for each direction: {licences}."


def plain(text: str) -> str:
    """Text that Markdown and HTML show as it is: whatever could mean something there becomes a character reference."""
    return re.sub(r"[^\w\s.,-]|_", lambda found: f"&#{ord(found[0])};", " ".join(text.split()))

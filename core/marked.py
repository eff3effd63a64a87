"""Parts of a document that commands write, between two marks:

    <!-- begin: NAME -->
    ...
    <!-- end: NAME -->

What stands outside the marks is written by people and is left as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

MARK = "<!-- {which}: {name} -->"


def sections(document: Path) -> dict[str, str]:
    """The text between the marks, by the sections' names.

    Raises:
        ValueError: a mark without its counterpart, two sections of one name, or one section within another.
    """
    found: dict[str, str] = {}
    name: str | None = None
    content: list[str] = []
    for line in document.read_text(encoding="utf-8").splitlines():
        mark = re.fullmatch(r"<!-- (begin|end): (\S+) -->", line)
        if mark is None:
            content.append(line)
        elif mark[1] == "begin" and name is None and mark[2] not in found:
            name, content = mark[2], []
        elif mark[1] == "end" and name is not None and name == mark[2]:
            found[name], name = "\n".join(content).strip(), None
        else:
            raise ValueError(f"{document.name}: {line} is out of place")
    if name is not None:
        raise ValueError(f"{document.name}: section {name} has no end")
    return found


def require_section(name: str, document: Path) -> None:
    """Raises ValueError: the document has no such section."""
    known = sections(document)
    if name not in known:
        raise ValueError(f"{document.name} has no section {name}; it has {', '.join(known) or 'none'}")


def write_section(name: str, markdown: str, document: Path) -> None:
    """Replace what stands between the marks of a section. The rest of the document is kept.

    Raises:
        ValueError: there is no such section, or the text has marks of its own.
    """
    require_section(name, document)
    if re.search(r"<!-- (begin|end): ", markdown):
        raise ValueError(f"the text for {name} has marks of its own")
    begin, end = (MARK.format(which=which, name=name) for which in ("begin", "end"))
    before, rest = document.read_bytes().decode("utf-8").split(begin, 1)
    _, after = rest.split(end, 1)
    document.write_bytes(f"{before}{begin}\n{markdown.strip()}\n{end}{after}".encode())

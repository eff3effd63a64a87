"""The figures in `docs/benchmarks.md`: a section between two marks for each command, which the command itself writes.

    <!-- begin: benchmarks.group_norm -->
    ...
    <!-- end: benchmarks.group_norm -->

What stands outside the marks is written by people and is left as it is.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from itertools import groupby
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
MARK = "<!-- {which}: {name} -->"
HELP = "write what is printed into docs/benchmarks.md, in place of what is there"  # of the option --write


def sections(document: Path = DOCUMENT) -> dict[str, str]:
    """The text between the marks, by the sections' names.

    Raises:
        ValueError: a mark without its counterpart, two sections of one name, or one section within another.
    """
    lines, found = document.read_text(encoding="utf-8").splitlines(), {}
    name, content = None, []
    for line in lines:
        mark = re.fullmatch(r"<!-- (begin|end): (\S+) -->", line)
        if mark is None:
            content.append(line)
        elif mark[1] == "begin" and name is None and mark[2] not in found:
            name, content = mark[2], []
        elif mark[1] == "end" and name == mark[2]:
            found[name], name = "\n".join(content).strip(), None
        else:
            raise ValueError(f"{document.name}: {line} is out of place")
    if name is not None:
        raise ValueError(f"{document.name}: section {name} has no end")
    return found


def write_section(name: str, markdown: str, document: Path = DOCUMENT) -> None:
    """Replace what stands between the marks of a section. The rest of the document is kept.

    Raises:
        ValueError: there is no such section, or the text has marks of its own.
    """
    _require(name, document)
    if re.search(r"<!-- (begin|end): ", markdown):
        raise ValueError(f"the text for {name} has marks of its own")
    begin, end = (MARK.format(which=which, name=name) for which in ("begin", "end"))
    before, rest = document.read_bytes().decode("utf-8").split(begin, 1)
    _, after = rest.split(end, 1)
    document.write_bytes(f"{before}{begin}\n{markdown.strip()}\n{end}{after}".encode())


@contextmanager
def reported(name: str, write: bool, document: Path = DOCUMENT) -> Iterator[None]:
    """What is printed within still appears on the screen; with `write` it becomes the section of that name at the end.

    A run that fails or is interrupted writes nothing.

    Raises:
        ValueError: there is no such section; before anything is measured.
    """
    if not write:
        yield
        return
    _require(name, document)
    copy = io.StringIO()
    with redirect_stdout(_Tee(sys.stdout, copy)):
        yield
    write_section(name, as_markdown(copy.getvalue()), document)


def as_markdown(printed: str) -> str:
    """What a command printed: tables and single lines stay as they are, several lines together keep their form."""
    parts = []
    for is_table, group in groupby(printed.split("\n"), key=lambda line: line.startswith("|")):
        for text in re.split(r"\n\s*\n", "\n".join(group)):
            if text := text.strip("\n"):
                parts.append(text if is_table or "\n" not in text else f"```text\n{text}\n```")
    return "\n\n".join(parts)


def _require(name: str, document: Path) -> None:
    known = sections(document)
    if name not in known:
        raise ValueError(f"{document.name} has no section {name}; it has {', '.join(known) or 'none'}")


class _Tee(io.TextIOBase):
    """A text stream that writes to several."""

    def __init__(self, *streams: io.TextIOBase) -> None:
        self._streams = streams

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

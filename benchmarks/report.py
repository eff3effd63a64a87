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

from core import marked

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
HELP = "write what is printed into docs/benchmarks.md, in place of what is there"  # of the option --write


def sections(document: Path = DOCUMENT) -> dict[str, str]:
    """See `core.marked.sections`."""
    return marked.sections(document)


def write_section(name: str, markdown: str, document: Path = DOCUMENT) -> None:
    """See `core.marked.write_section`."""
    marked.write_section(name, markdown, document)


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
    marked.require_section(name, document)
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

"""The page that goes through the papers figure by figure: its parts, from the files that the figures left."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..marked import sections, write_section
from .figure import Figure, short
from .listed import PAPERS, Paper
from .run import described

SUMMARY = "figures.summary"
VERDICTS = ("agrees", "partly", "does not hold here")


def write_page(page: Path, out: Path) -> None:
    """Write all parts of the page. Raises ValueError: it lacks one of them."""
    for name, text in parts(page, out).items():
        write_section(name, text, page)


def is_page(path: Path) -> bool:
    """Whether a file is such a page."""
    return path.is_file() and SUMMARY in sections(path)


def parts(page: Path, out: Path) -> dict[str, str]:
    """The text of each part, by its name. out: the folder with the figures."""
    where = Path(os.path.relpath(out, page.parent)).as_posix()
    about = {figure.name: described(out, figure.name) for paper in PAPERS for figure in paper.figures}
    found = {SUMMARY: summary(about)}
    return found | {f"figures.{paper.key}": of_paper(paper, about, where) for paper in PAPERS}


def summary(about: Mapping[str, dict[str, Any] | None]) -> str:
    """A row for each figure, and how many agree."""
    verdicts = [said["verdict"] for said in about.values() if said is not None]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    minutes = sum(said["seconds"] for said in about.values() if said is not None) / 60
    lines = [
        f"{len(verdicts)} figures and tables: {counts}. Drawn in {minutes:.0f} minutes on one core.",
        "",
        "| paper | figure | what the paper says | here |",
        "|---|---|---|---|",
    ]
    for paper in PAPERS:
        for figure in paper.figures:
            said = about[figure.name]
            verdict = "not drawn" if said is None else said["verdict"]
            lines.append(f"| {paper.title} | [{figure.title}](#{anchor(figure.title)}) | {figure.claim} | {verdict} |")
    return "\n".join(lines)


def of_paper(paper: Paper, about: Mapping[str, dict[str, Any] | None], where: str) -> str:
    """Its figures, one after the other."""
    return "\n\n".join(of_figure(figure, about[figure.name], where) for figure in paper.figures)


def of_figure(figure: Figure, said: Mapping[str, Any] | None, where: str) -> str:
    """Theirs, ours, agreement, and where to read."""
    read = "; ".join(f"`{file}`, `{name}`" for file, name in figure.read)
    lines = [f"### {figure.title}", "", f"Theirs: {figure.theirs} What it says: {figure.claim}", ""]
    if said is None:
        return "\n".join([*lines, f"Not drawn yet: `hspace figures {figure.name}`."])
    lines += [f"![Ours: {figure.title}]({where}/{said['picture']})", "", f"Ours: {said['says']}", ""]
    lines += [f"- {in_words(check)}" for check in said["checks"]]
    lines += ["", f"**{said['verdict'][0].upper()}{said['verdict'][1:]}.** Read {read}."]
    lines[-1] += f" Numbers: [{figure.name}.csv]({where}/{figure.name}.csv)."
    return "\n".join(lines)


def in_words(check: Mapping[str, Any]) -> str:
    """A number with its bound, and whether it holds."""
    value = "no number" if check["value"] is None else short(check["value"])
    limit = "at least" if check["at_least"] else "at most"
    return f"{check['what'].rstrip(':')}: {value} ({limit} {short(check['bound'])}){'' if check['holds'] else ' — no'}"


def anchor(heading: str) -> str:
    """Of a heading, as hosts of documents make it."""
    kept = "".join(letter for letter in heading.lower() if letter.isalnum() or letter in "_- ")
    return kept.replace(" ", "-")

"""Every kind of figure and table of the four papers, drawn anew."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import RequestError
from .output import Commands, command, print_note, print_table
from .recipes import tell

OUT, QUICK = Path("docs/figures"), Path("outputs/figures")


def add_to(commands: Commands) -> None:
    figures = command(
        commands,
        "figures",
        draw,
        "Draw the figures and tables of the four papers with this code, and say of each whether it agrees.",
    )
    figures.add_argument("names", nargs="*", metavar="NAME", help="of figures or papers (--list); all if left out")
    figures.add_argument("--model", help="a listed model, a repository on the Hub or a folder (avatars)")
    figures.add_argument("--out", type=Path, metavar="FOLDER", help=f"({OUT}; {QUICK} with --small)")
    figures.add_argument("--small", action="store_true", help="a quick look: little of each, in two minutes for all")
    figures.add_argument("--again", action="store_true", help="draw what is there too")
    figures.add_argument("--list", action="store_true", help="say which there are")


def draw(options: argparse.Namespace) -> None:
    """Raises RequestError: there is no such figure, or some could not be drawn."""
    from ..api import DEFAULT_MODEL, load_model
    from ..figures.bench import Bench
    from ..figures.listed import chosen_figures
    from ..figures.page import is_page, write_page
    from ..figures.run import draw_figures

    figures = chosen_figures(options.names)
    if options.list:
        print_table([["name", "figure", "what the paper says"], *([f.name, f.title, f.claim] for f in figures)])
        return
    out = options.out or (QUICK if options.small else OUT)
    bench = Bench(load_model(options.model or DEFAULT_MODEL), options.small)
    done = tell(draw_figures(bench, figures, out, options.again), True)
    for one in done:
        if one.about is not None:
            print(f"{one.figure.name}: {one.about['verdict']}{'' if one.fresh else ' (was there)'}")
            print(f"  {out / one.about['picture']}")
    page = out.parent / "papers.md"
    if not options.small and is_page(page):
        write_page(page, out)
        print(page)
    faults = [one for one in done if one.fault]
    for one in faults:
        print_note(f"{one.figure.name}: {one.fault}")
    if faults:
        raise RequestError(f"{len(faults)} of {len(done)} figures could not be drawn; the others are there.")

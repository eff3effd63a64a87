"""The papers and their figures, in the order of the page. A new one is a function and an entry in its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import RequestError
from . import asyrp, latent_top, local_editing, region_based
from .figure import Figure


@dataclass(frozen=True)
class Paper:
    """key: before the hyphen in the names of its figures. title: of its part of the page."""

    key: str
    title: str
    figures: tuple[Figure, ...]


PAPERS = (
    Paper("asyrp", "Asyrp", asyrp.FIGURES),
    Paper("local", "Local editing", local_editing.FIGURES),
    Paper("region", "Region-based editing", region_based.FIGURES),
    Paper("latent", "latent-TOP", latent_top.FIGURES),
)
FIGURES: dict[str, Figure] = {figure.name: figure for paper in PAPERS for figure in paper.figures}


def chosen_figures(names: Sequence[str]) -> list[Figure]:
    """Figures by their names, or those of a paper by its key, each once; all of them if none are named.

    Raises:
        RequestError: there is no such figure.
    """
    if not names:
        return list(FIGURES.values())
    papers = {paper.key: paper for paper in PAPERS}
    found: dict[str, Figure] = {}
    for name in names:
        if name in papers:
            found |= {figure.name: figure for figure in papers[name].figures}
        elif name in FIGURES:
            found[name] = FIGURES[name]
        else:
            raise RequestError(
                f"There is no figure {name!r}. Take some of {', '.join(FIGURES)}, or a paper: {', '.join(papers)}."
            )
    return list(found.values())

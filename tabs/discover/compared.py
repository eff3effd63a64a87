"""Methods, and JIVE's ranks, side by side on the region that was searched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from core.errors import RequestError
from core.progress import Job, Running
from core.studio.discover.compared import Compared, compare_methods, compare_ranks
from core.studio.discover.exploration import Exploration
from core.studio.turns import Turns
from core.studio.visit.session import Session
from tabs.results import pairs_view, progress_line
from tabs.shell import HEAVY, Shell, clearing, forget_after

NOTE = (
    "ROIR: change outside the region per change inside it, in these pictures; the smaller, the more local. Each goes "
    "as far as its linearised change is well visible, so look at both."
)


class Comparisons:
    """The section below the directions that were found."""

    def __init__(self) -> None:
        with gr.Accordion("Methods and ranks side by side, as in the papers", open=False, elem_id="compared"):
            with gr.Row():
                self.methods = gr.Button("Every method", size="sm", min_width=130, elem_id="compare-methods")
                self.ranks = gr.Button("JIVE at several ranks", size="sm", min_width=150, elem_id="compare-ranks")
            self.shown = gr.HTML(elem_id="comparison")

    def connect(self, shell: Shell, others: Sequence[Any]) -> None:
        """others: events after which the picture, the regions or the model are others."""
        self.methods.click(side_by_side, shell.session, self.shown, **HEAVY)
        self.ranks.click(at_ranks, shell.session, self.shown, **HEAVY)
        forget_after(others, shell, requests, self.shown)


def requests(session: Session) -> Turns:
    """To see things side by side, of which the newest replaces all others."""
    return session.discover.compared


@clearing(requests)
def side_by_side(session: Session) -> Iterator[str]:
    """Local editing, figure 5: the leading direction of every method."""
    yield from _compared(session, compare_methods, "The leading direction of every method")


@clearing(requests)
def at_ranks(session: Session) -> Iterator[str]:
    """Local editing, figure 6: the leading individual component for several joint and individual ranks."""
    yield from _compared(session, compare_ranks, "The leading individual component of JIVE; the paper takes 30 and 5")


def _compared(session: Session, compare: Callable[[Exploration], Job[list[Compared]]], title: str) -> Iterator[str]:
    exploration = session.discover.exploration
    if exploration is None:
        raise RequestError("Draw a region and find its directions first.")
    for event in (running := Running(requests(session).begin().follow(compare(exploration)))):
        yield progress_line(event)
    found, before = running.result, exploration.picture.pixels
    names = [f"{one.name}: ROIR {one.roir:.2f}" for one in found]
    view = pairs_view(f"{title}: {exploration.regions[0].label}", [(before, one.pixels) for one in found], names)
    yield f'{view}<p class="words" role="status">{NOTE}</p>'

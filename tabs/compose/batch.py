"""The section of Compose that applies the composition to several pictures at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from core.errors import VisitorError
from core.models.cards import ModelCard
from core.process import Process
from core.progress import Progress, Running
from core.studio.compose import pictures
from core.studio.turns import Outdated
from core.studio.visit.compose import active_presets
from core.studio.visit.session import Session
from tabs.compose.choices import options_of
from tabs.results import overtaken, pairs_view, progress_line
from tabs.shell import in_words
from tabs.tables import batch_rows, links
from tabs.visit import message

Values = Iterator[tuple[Any, ...]]
MAX_SHOWN = 12  # pictures before and after on the page
DONE = '<p class="words" role="status">The picture is edited.</p>'
START = "Edit them all"


class Batch:
    """The composition on several pictures, as a zip."""

    def __init__(self) -> None:
        gr.HTML(
            f'<p class="words">Up to {pictures.MAX_FILES} pictures, of each its central square. One that cannot be '
            "used does not stop the others.</p>"
        )
        self.files = gr.File(
            file_count="multiple", file_types=["image"], label="Pictures", height=140, elem_id="batch-files"
        )
        self.make = gr.Button(START, variant="primary", elem_id="make-batch")
        self.note = gr.HTML(elem_id="batch-note")
        self.file = gr.DownloadButton("Download the zip", size="sm", visible=False, elem_id="batch-file")

    def connect(self, session: gr.State, advanced: Sequence[Any], settings: dict[str, Any]) -> None:
        self.make.click(run_batch, [session, self.files, *advanced], [self.note, self.file], **settings)


def outcome(result: pictures.Batch, card: ModelCard) -> str:
    """How many pictures were edited, why the others were not, and which of them the model does not know."""
    return edited(result) + foreign(result, card)


def foreign(result: pictures.Batch, card: ModelCard) -> str:
    """Which pictures were edited although the model does not know them; nothing if it knows them all."""
    if not result.unknown:
        return ""
    names = "".join(f"<li><b>{escape(name)}</b></li>" for name in result.unknown)
    these, them = ("this picture", "it") if len(result.unknown) == 1 else ("these pictures", "them")
    words = (
        f"“{card.title}” cannot draw {these}: it has learned {card.shows} and nothing else. Edits of {them} are "
        "guesses, and are marked as such in the tables."
    )
    return f'<div class="message" role="alert">{escape(words)}<ul>{names}</ul></div>'


def edited(result: pictures.Batch) -> str:
    """How many pictures were edited, and why the others were not."""
    count = result.done + len(result.problems)
    if not result.problems:
        return f'<p class="words" role="status">All {count} pictures are edited.</p>' if count > 1 else DONE
    reasons = "".join(f"<li><b>{escape(name)}</b>: {escape(reason)}</li>" for name, reason in result.problems)
    words = f"{result.done} of {count} pictures are edited. The others could not be:"
    return f'<div class="message" role="alert">{words}<ul>{reasons}</ul></div>'


def compared(result: pictures.Batch) -> str:
    """The first of the pictures that were edited, before and after, by the names of their files."""
    names = [str(entry["picture"]) for entry in result.contents["pictures"] if "file" in entry]
    pairs = [(before, frame.pixels) for before, frame in zip(result.before, result.frames, strict=True)]
    title = "Before and after" if len(pairs) <= MAX_SHOWN else f"Before and after, the first {MAX_SHOWN}"
    return pairs_view(title, pairs[:MAX_SHOWN], names[:MAX_SHOWN])


@in_words
def run_batch(session: Session, paths: list[str] | None, process: Process, steps: float, seed: float | None) -> Values:
    turn = session.edits.begin("batch")
    try:
        files = [(Path(path).name, Path(path)) for path in paths or []]
        yield progress_line(Progress(0, 1), "Starting"), gr.update(visible=False)
        model, chosen = session.model(), active_presets(session)
        running = Running(turn.follow(pictures.batch(model, files, chosen, options_of(session, process, steps, seed))))
        for event in running:
            yield progress_line(event), gr.skip()
        path = session.file("composed.zip", running.result.data)
        result = running.result
        taken = links(batch_rows(result), result.contents, "batch")
        yield outcome(result, model.card) + compared(result) + taken, gr.update(value=str(path), visible=True)
    except Outdated:
        if turn.is_last_of_kind:
            yield overtaken(START), gr.skip()
    except VisitorError as error:
        yield message(error), gr.skip()

"""What the panels of Invert have in common: how a job is shown, begun and stopped."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.progress import Progress
from core.studio.visit.session import Session
from tabs.results import busy
from tabs.shell import in_words

PROGRESS_INTERVAL = 0.25  # seconds between reports of progress
# Values of a panel's two buttons, the one that begins and the one that stops.
RUNNING = gr.update(visible=False), gr.update(visible=True, value="Stop", interactive=True)
IDLE = gr.update(visible=True), gr.update(visible=False)


def working(event: Progress, preview: str | None) -> dict[str, Any]:
    """Values of a stage while something is computed; `preview` is shown until there is another one."""
    shown = busy(event)
    shown["preview"] = shown["preview"] or preview
    if event.total > 1:
        shown["note"] += f" {event.step} of {event.total}"
    return shown


@in_words
def stop(session: Session) -> Any:
    """The job ends at its next step, and says so itself."""
    session.invert.jobs.begin()
    return gr.update(value="Stopping …", interactive=False)

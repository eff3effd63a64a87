"""Another model for programs: opened by its repository or folder, then named like a listed one in every endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from core.models import opening
from core.models.loader import models
from core.progress import Running
from core.studio.first_use import lacks_curves
from core.studio.visit.session import Session
from tabs.endpoints import declare
from tabs.opening import may_read_folders, verdict
from tabs.shell import Shell


def build(shell: Shell) -> None:
    """Declare the endpoint; its parameters are components that are never shown."""
    with gr.Column(visible=False):
        label = "Repository on the Hub, OWNER/NAME or OWNER/NAME@REVISION; or a folder, where the app runs for you"
        name = gr.Textbox(label=label)
        shows = gr.Textbox("", label="What its pictures show, one or two words, for example 'cat'")
        declare(shell, open_model, [name, shows], gr.JSON(label="About it"))


def open_model(session: Session, name: str, shows: str, request: gr.Request) -> Iterator[dict[str, Any]]:
    """Open any unconditional diffusion model in the form of diffusers (UNet2DModel). Nothing in its files is executed.

    Returns a JSON with the id by which all other endpoints take it as their `model`, its resolution, the shape of its
    h-space, what it shows, the commit that it is pinned to, whether its perceptual curves are known, and whether it
    gives the published outputs of its network (pass, fail or unknown, and in words). Until then the JSON tells how far
    it is.
    """
    local = may_read_folders(request)
    running = Running(opening.open_model(name or "", shows or "", folders=local, token=None if local else False))
    for event in running:
        yield {"note": event.note, "step": event.step, "total": event.total}
    card = running.result
    about = {"id": card.id, "title": card.title, "resolution": card.resolution, "h_shape": list(card.h_shape)}
    about |= {"shows": card.domain_word, "revision": getattr(card.source, "revision", None)}
    outcome, words = verdict(model := models.get(card.id))
    yield about | {"curves_known": not lacks_curves(model), "verdict": outcome, "verdict_words": words}

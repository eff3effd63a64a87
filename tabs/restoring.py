"""A reloaded page finds its visit again: the browser keeps the visit's token, and the server what it has made."""

from __future__ import annotations

import secrets
import time
import weakref

import gradio as gr
from gradio.events import Dependency

from core.studio.visit.session import Session
from tabs.shell import QUIET

ASK = (
    "(visit, token) => { try { return [visit, sessionStorage.getItem('visit') || '']; } catch { return [visit, '']; } }"
)
# Also tells the page, whose tabs wait for it (places.js).
REMEMBER = (
    "(token) => { try { sessionStorage.setItem('visit', token); } catch {} "
    "document.body.dataset.visit = 'found'; return []; }"
)

PATIENCE = 4.0  # seconds that a page waits for a training of the page before to end

_VISITS: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()


def build(page: gr.Blocks, session: gr.State, model: gr.State) -> Dependency:
    """When the page is opened. `.then` of what is returned follows when the visit was found: an event that did not wait
    would work on another visit, which is thrown away."""
    token = gr.Textbox("", visible=False)
    found = page.load(find, [session, token], [session, token, model], js=ASK, **QUIET)
    found.then(None, token, None, js=REMEMBER, **QUIET)
    return found


def keep_training(visit: Session) -> None:
    """The page that showed a training is gone: it stops, and what it has learned is there for the new page, if a step
    does not take too long."""
    state = visit.text_edit
    state.stop_training, patience = True, time.monotonic() + PATIENCE
    while state.trains and time.monotonic() < patience:
        time.sleep(0.05)


def find(session: Session, token: str) -> tuple[Session, str, str]:
    """The visit of a token, or a new one with a token of its own; and its model."""
    known = _VISITS.get(token) if token else None
    if known is None:
        session.token = secrets.token_urlsafe(24)
        _VISITS[session.token] = session
        return session, session.token, session.model_id
    keep_training(known)
    known.edits.begin()  # the page that asked for them is gone
    known.seen.clear()  # and every tab shows its beginning
    known.compose.shown = None
    known.discover.lost = True
    known.text_edit.returning = known.text_edit.strip
    known.reopened = True
    return known, known.token, known.model_id

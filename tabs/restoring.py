"""A reloaded page finds its visit again: the browser keeps the visit's token, and the server what it has made."""

from __future__ import annotations

import secrets
import weakref

import gradio as gr

from core.studio.visit.session import Session
from tabs.shell import QUIET, Shell

ASK = (
    "(visit, token) => { try { return [visit, sessionStorage.getItem('visit') || '']; } catch { return [visit, '']; } }"
)
REMEMBER = "(token) => { try { sessionStorage.setItem('visit', token); } catch {} return []; }"

_VISITS: weakref.WeakValueDictionary[str, Session] = weakref.WeakValueDictionary()


def build(shell: Shell) -> None:
    """Before all other events of a page that was opened."""
    token = gr.Textbox("", visible=False)
    found = shell.page.load(find, [shell.session, token], [shell.session, token, shell.model], js=ASK, **QUIET)
    found.then(None, token, None, js=REMEMBER, **QUIET)


def find(session: Session, token: str) -> tuple[Session, str, str]:
    """The visit of a token, or a new one with a token of its own; and its model."""
    known = _VISITS.get(token) if token else None
    if known is None:
        session.token = secrets.token_urlsafe(24)
        _VISITS[session.token] = session
        return session, session.token, session.model_id
    known.edits.begin()  # the page that asked for them is gone
    known.seen.clear()  # and every tab shows its beginning
    known.compose.shown = None
    known.text_edit.returning = known.text_edit.strip
    return known, known.token, known.model_id

"""Events of Invert's page that cross one another."""

import gradio as gr
import pytest

from core.studio import library
from core.studio.visit.session import Session
from tabs.invert import tab


def test_a_late_suggestion_does_not_put_away_what_was_inverted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a picture waits for the device, and a job that the visitor starts then shows its results."""
    session = Session()
    session.picture = library.open_example(library.examples("avatars")[0], "avatars")
    shown = next(tab.fresh(session, "", "avatars-t2i", []))
    assert shown[0] != gr.skip()
    told = session.invert.suggested
    assert told

    def slow(session: Session, *_: object) -> str:
        session.invert.jobs.begin("invert")
        session.invert.suggested = "something else"
        return "something else"

    monkeypatch.setattr(tab, "suggested", slow)
    [values] = tab.fresh(session, "", "avatars-t2i", [])
    assert len(values) == len(shown)
    assert all(value == gr.skip() for value in values)
    assert session.invert.suggested == told

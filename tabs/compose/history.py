"""The results of a visit: their cards, and two of them side by side."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.errors import RequestError
from core.imaging import to_pil
from core.studio.compose.state import Result, compare
from core.studio.invert.state import TAB as INVERT
from core.studio.known_models import known_card
from core.studio.visit.session import Session
from tabs.results import frames_json
from tabs.tables import links, result_rows
from tabs.widgets import Cards, data_url

RESULTS: dict[str, Any] = {
    "multiple": True,
    "marks": ["A", "B"],
    "title": "Results of this visit",
    "nothing": "Every picture that is made here is kept for this visit. Choose two to compare them.",
}


def history_cards(session: Session) -> Cards:
    """The visit's results, newest first, and which of them are looked at."""
    items = [
        {
            "id": str(result.number),
            "name": f"No. {result.number}, {result.tab}",
            "note": result.words,
            "image": data_url(to_pil(result.frame.pixels)[0], quality=80),
            "about": f"{result.tab}: {result.words}",
        }
        for result in reversed(session.compose.history.results)
    ]
    return Cards(items, picked_results(session), **RESULTS)


def history_files(session: Session) -> str:
    """All numbers of all results, as files; nothing while there are none."""
    results = list(session.compose.history.results)
    return links(result_rows(results), [result.as_json() for result in results], "history") if results else ""


def picked_results(session: Session) -> list[str]:
    """The results that are looked at, by their numbers, as far as they are kept."""
    return [number for number in session.compose.picked if session.compose.history.result(int(number)) is not None]


def kept_result(session: Session, number: str | None) -> Result:
    """The result of that number. Raises RequestError: it is not kept any more."""
    result = session.compose.history.result(int(number)) if number else None
    if result is None:
        raise RequestError("This result is not kept any more. Choose another one.")
    return result


def return_to(session: Session, number: str | None) -> Result:
    """The visit is where this result was made: its picture, its strip, its edit by words.

    Raises:
        RequestError: it is not kept any more, or was made with another model.
    """
    result = kept_result(session, number)
    if result.picture is not None:
        if result.picture.model_id != session.model_id:
            title = known_card(result.picture.model_id).title
            raise RequestError(f"This result was made with the model “{title}”. Choose that first, at the top.")
        session.picture = result.picture
    if result.strip is not None:
        session.text_edit.returning = session.text_edit.show(result.strip)
    if result.inverted is not None:
        session.invert.return_to(result.inverted)
        session.seen.pop(INVERT, None)  # so that the tab looks at the picture anew
    return result


def pick(session: Session, clicked: str) -> tuple[Any, ...]:
    """Values of the cards, of the comparison and of the way back, after a click: the last two that were clicked, or of
    two the one that was not clicked again."""
    picked = picked_results(session)
    if clicked in picked and len(picked) > 1:
        picked.remove(clicked)
    else:
        picked = list(dict.fromkeys([*picked, clicked]))[-2:]
    session.compose.picked = picked
    results = [kept_result(session, number) for number in picked]
    back = gr.update(value=way_back(results), visible=True)
    return gr.update(value=picked), gr.update(value=comparison(results), visible=True), back


def way_back(results: list[Result]) -> str:
    """What the button says that returns to the last of them."""
    mark = f"{RESULTS['marks'][1]}: " if len(results) > 1 else ""
    return f"Back to {mark}No. {results[-1].number}"


def comparison(results: list[Result]) -> dict[str, Any]:
    """The stage with one result against its picture, or with two results against each other."""
    last = results[-1]
    value: dict[str, Any] = {"plain": True, "name": f"No. {last.number}: {last.words}", "seconds": last.seconds}
    value |= {"frames": frames_json([last.frame], lossless=True), "made": last.made}
    if len(results) == 1:
        return value | {
            "before": data_url(to_pil(last.before)[0], quality=95),
            "tags": ["Before", f"No. {last.number}"],
        }
    first = results[0]
    value["frames"] = frames_json([compare(first, last)], lossless=True)
    value["before"] = data_url(to_pil(first.frame.pixels)[0], quality=95)
    value["tags"] = [f"A: No. {first.number}", f"B: No. {last.number}"]
    value["sides"] = RESULTS["marks"]
    return value | {"name": f"{first.words}  against  {last.words}"}

"""The search on the page: what the visitor asks for, and rows that fill up as they become known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from core.directions import Injection
from core.discovery.interface import DiscoverySettings
from core.errors import RequestError, VisitorError
from core.models.loader import DiffusionModel
from core.progress import Progress, duration_in_words
from core.studio.discover.analysis import timestep_from_share
from core.studio.discover.estimate import estimated_seconds
from core.studio.discover.exploration import Exploration, requested_regions
from core.studio.discover.search import explore
from core.studio.discover.spectrum import spectra
from core.studio.frames import Picture
from core.studio.turns import Outdated
from core.studio.visit.session import Session
from tabs.charts import spectrum_plot
from tabs.discover.rows import rows_value
from tabs.shell import in_words
from tabs.tables import direction_rows, links, records, spectrum_rows
from tabs.visit import current_picture

STAY = "Better ones may take the place of these; those that you open or name stay."
REPORT_INTERVAL = 0.25  # seconds between reports of progress

Values = Iterator[tuple[Any, ...]]


def requested_exploration(
    session: Session,
    picture: Picture,
    value: Any,
    method: str,
    count: int,
    timestep: int,
    injection: Injection,
    size: int,
    *numbers: float,
) -> Exploration:
    """The search that the visitor asks for. value: of the region board. numbers: rank, joint rank, individual rank and
    rank of the projection, then the ridge, the noise levels from and to which directions act, and the strength a, 0 for
    what is visible. Raises RequestError."""
    model = session.model()
    regions = requested_regions(value or [], method, model.card.resolution)
    rank, joint, individual, projection = (int(number or 0) for number in numbers[:4])
    settings = DiscoverySettings(int(count or 0), rank, joint, individual, projection, float(numbers[4] or 0))
    t, (start, end, a) = timestep_from_share(model, timestep or 0), numbers[5:]
    acting = acting_levels(model, int(start or 0), int(end or 0))
    return Exploration(
        model,
        picture,
        regions,
        method,
        settings,
        t,
        int(size or 0),
        injection,
        acts_from=acting[0],
        acts_to=acting[1],
        strength=float(a or 0) or None,
    )


def acting_levels(model: DiffusionModel, start: int, end: int) -> tuple[int | None, int | None]:
    """The noise levels between which directions act, as a search takes them: None for all of them. start, end: of
    1000."""
    last = model.card.last_timestep
    start, end = (min(last, round(level * last / 999)) for level in (start, end))
    return (None, None) if (start, end) == (last, 0) else (start, end)


@in_words
def search(session: Session, prompt: str | None, value: Any, *settings: Any) -> Values:
    """Find directions. What was found before stays on the page until there is something new. prompt: what the picture
    shows, of text-to-image models; it may just have been written.

    Yields values of board, found, intro, opened, spectrum, find, stop and plot.
    """
    state, skip = session.discover, gr.skip()
    searching = (gr.update(visible=False), gr.update(visible=True, interactive=True, value="Stop"))
    idle = (gr.update(visible=True), gr.update(visible=False))
    picture = current_picture(session)
    if picture is None:
        raise RequestError("There is no picture. Upload one, or let the model imagine one.")
    if (prompt or "").strip() and session.describe(prompt or ""):  # an empty one is refused where it is written
        picture = session.picture or picture
        state.show(picture)
    turn = state.searches.begin()
    starting = {"busy": True, "note": "Starting …", "fraction": 0}
    yield skip, rows_value(state.exploration) | starting, *(skip,) * 3, *searching, skip
    try:
        exploration = requested_exploration(session, picture, value, *settings)
        if told := expected(exploration):
            yield skip, rows_value(state.exploration) | starting | {"note": told}, *(skip,) * 6
        version, last_report = 0, 0.0
        for event in turn.follow(explore(exploration)):
            if exploration.version != version and state.exploration is not exploration:  # its first rows
                state.exploration = exploration
                plot = spectrum_plot(spectra(exploration))
                showing = (gr.update(visible=False), gr.update(visible=False), gr.update(visible=True))
                yield skip, rows_value(exploration) | progress_value(event), *showing, *searching, plot
            elif exploration.version != version or time.monotonic() - last_report > REPORT_INTERVAL:
                yield skip, rows_value(state.exploration) | progress_value(event), *(skip,) * 6
                last_report = time.monotonic()
            version = exploration.version
        yield skip, rows_value(exploration), *(skip,) * 3, *idle, found_numbers(exploration)
    except Outdated:
        if state.stopped:  # the last report may have crossed the answer to "Stop"
            yield skip, rows_value(state.exploration), *(skip,) * 3, *idle, skip
    except VisitorError as error:
        note = {"note": error.message, "bad": True}
        yield skip, rows_value(state.exploration) | note, *(skip,) * 3, *idle, skip
    except Exception:
        yield skip, rows_value(state.exploration), *(skip,) * 3, *idle, skip
        raise


def expected(exploration: Exploration) -> str:
    """What to say of how long a search in a large network will take; "" of any other."""
    seconds = estimated_seconds(exploration)
    if seconds is None:
        return ""
    return f"This takes {duration_in_words(seconds)} here. “Stop” ends it; what was found stays …"


def found_numbers(exploration: Exploration) -> str:
    """The spectrum, and below it all numbers of the search as files."""
    regions, rows = spectra(exploration), direction_rows(exploration.rows)
    values = spectrum_rows(regions)
    return (
        spectrum_plot(regions)
        + '<p class="legend">Singular values:</p>'
        + links(values, records(values), "spectrum")
        + '<p class="legend">Directions that were found:</p>'
        + links(rows, [row.as_json() for row in exploration.rows], "directions")
    )


def progress_value(event: Progress) -> dict[str, Any]:
    """What `Directions` shows of a job's progress."""
    stay = f" {STAY}" if event.kept else ""
    return {"busy": True, "note": f"{event.note} …{stay}", "fraction": event.step / max(1, event.total)}


@in_words
def stop_search(session: Session) -> tuple[Any, ...]:
    """End the search. Returns values of found, find and stop."""
    session.discover.stop()
    return rows_value(session.discover.exploration), gr.update(visible=True), gr.update(visible=False)

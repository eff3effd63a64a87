"""What the sections of Compose read from the page and the visit: how to edit, and which directions there are."""

from __future__ import annotations

from core.process import Process
from core.studio.frames import EditOptions
from core.studio.visit.compose import available_presets
from core.studio.visit.session import Session


def options_of(session: Session, process: Process, steps: float | None, seed: float | None) -> EditOptions:
    """Options from the Advanced section. Raises RequestError."""
    state = session.compose
    return EditOptions(int(steps or 0), seed=int(seed or 0), process=process, source=state.source, boost=state.boost)


def component_choices(session: Session) -> list[tuple[str, str]]:
    """The composition's directions for a choice: (name, key)."""
    available = available_presets(session)
    return [(available[c.key].name, c.key) for c in session.compose.composition.components if c.key in available]

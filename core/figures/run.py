"""Drawing figures into a folder, one after the other: what is there is kept, so that a stopped run goes on."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import VisitorError
from ..progress import Job, Progress, Running
from ..tensor_file import write
from .bench import Bench
from .figure import Drawn, Figure

QUALITY = 82  # of the pictures


@dataclass(frozen=True)
class Done:
    """about: what NAME.json says. fresh: it was drawn now. fault: why it could not be drawn, if it could not."""

    figure: Figure
    about: dict[str, Any] | None = None
    fresh: bool = False
    fault: str = ""


def draw_figures(bench: Bench, figures: Sequence[Figure], out: Path, again: bool = False) -> Job[list[Done]]:
    """Each figure as NAME.webp or NAME.svg, NAME.csv and NAME.json.

    again: draw what is there too. Otherwise what was drawn of these weights, and as quickly or not, stays as it is. A
    figure that cannot be drawn does not stop the others.

    Raises:
        ResourceError: a file cannot be written.
    """
    done: list[Done] = []
    for number, figure in enumerate(figures):
        known = None if again else kept(out, figure, bench)
        if known is not None:
            done.append(Done(figure, known))
            continue
        words = f"{figure.name} ({number + 1} of {len(figures)})"
        yield Progress(number, len(figures), words)
        began = time.monotonic()
        try:
            running = Running(figure.draw(bench))
            for event in running:
                yield Progress(number, len(figures), f"{words}: {event.note}" if event.note else words)
            drawn = running.result
        except VisitorError as error:
            done.append(Done(figure, fault=error.message))
            continue
        done.append(Done(figure, save(drawn, out, figure, bench, time.monotonic() - began), True))
    yield Progress(len(figures), len(figures), "done")
    return done


def save(drawn: Drawn, out: Path, figure: Figure, bench: Bench, seconds: float) -> dict[str, Any]:
    """Write a figure's files, the description last. Returns what it says. Raises ResourceError."""
    for old in out.glob(f"{figure.name}.*"):
        old.unlink()
    if isinstance(drawn.picture, str):
        ending, content = "svg", drawn.picture.encode()
    else:
        encoded = io.BytesIO()
        drawn.picture.save(encoded, "WEBP", quality=QUALITY, method=6)
        ending, content = "webp", encoded.getvalue()
    about = {"picture": f"{figure.name}.{ending}", **drawn.as_json(), **_made_with(bench), "seconds": round(seconds)}
    write(out / f"{figure.name}.{ending}", content, f"figure {figure.name}")
    write(out / f"{figure.name}.csv", drawn.as_csv().encode(), f"table of {figure.name}")
    text = json.dumps(about, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write(out / f"{figure.name}.json", text.encode(), f"description of {figure.name}")
    return about


def kept(out: Path, figure: Figure, bench: Bench) -> dict[str, Any] | None:
    """What is said of a figure that is there, if it was drawn with the same model and as quickly."""
    about = described(out, figure.name)
    return (
        about if about is not None and {key: about.get(key) for key in _made_with(bench)} == _made_with(bench) else None
    )


def described(out: Path, name: str) -> dict[str, Any] | None:
    """What NAME.json says, if it and the files that it belongs to are there."""
    try:
        about: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(about, dict) and (out / f"{name}.csv").is_file() and (out / about.get("picture", "?")).is_file()
    return about if whole else None


def _made_with(bench: Bench) -> dict[str, Any]:
    return {"model": bench.model.card.id, "fingerprint": bench.model.fingerprint, "small": bench.small}

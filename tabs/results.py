"""Values of the stage: work in progress, and pictures with their measures in words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from torch import Tensor

from core.discovery.naming import in_words
from core.imaging import to_pil
from core.models.cards import ModelCard
from core.models.t2i_cards import TextToImageCard
from core.progress import Progress
from core.studio import domain as domains
from core.studio.domain import Domain
from core.studio.frames import Frame
from tabs.widgets import data_url

MAX_PAIR_SIDE = 256  # of a picture that is shown before and after


def busy(event: Progress) -> dict[str, Any]:
    preview = None if event.preview is None else data_url(to_pil(event.preview[:1])[0], quality=80)
    return {"busy": True, "note": f"{event.note} …", "fraction": event.step / event.total, "preview": preview}


def imagining(event: Progress) -> dict[str, Any]:
    """The stage while a new picture comes into being."""
    shown = busy(event)
    return {**shown, "before": shown.pop("preview")}


def frames_json(frames: list[Frame], lossless: bool = False) -> list[dict[str, Any]]:
    """Pictures with their measures. lossless: where they are saved as they are here, and not by a panel of sizes."""
    kind = "PNG" if lossless else "WEBP"
    return [
        {
            "strength": frame.strength,
            "image": data_url(to_pil(frame.pixels)[0], kind, quality=95),
            "measures": readable(frame.measures.as_json()),
        }
        for frame in frames
    ]


def readable(measures: dict[str, Any]) -> dict[str, Any]:
    """Measures with attributes in words."""
    for reading in measures["attributes"]:
        reading["name"] = in_words(reading["name"]).capitalize()
    return measures


def foreign(card: ModelCard | TextToImageCard, domain: Domain | None) -> dict[str, Any]:
    """What the stage says of a picture that its model does not know; nothing of others."""
    if domain is None or domain.known is not False or domain.nearest_pixels is None:
        return {"foreign": None}
    shown = data_url(to_pil(domain.nearest_pixels)[0], quality=90)
    titles = ", ".join(other.title for other in domains.others(card))
    if isinstance(card, ModelCard):
        way = f"choose one of the other models at the top ({titles}), or open one of your own there: “Another model”."
    else:
        way = f"choose another model here: {titles}."
    return {"foreign": {"words": domains.in_words(card), "nearest": shown, "others": f"For photographs {way}"}}


def pairs_view(title: str, pairs: Sequence[tuple[Tensor, Tensor]], names: Sequence[str] = ()) -> str:
    """Small pictures before and after, below a title. pairs: pixels (1, 3, R, R) or (3, R, R) each. names: of the
    pairs, if they have any."""
    figures = "".join(_figure(a, b, name) for (a, b), name in zip(pairs, names or [""] * len(pairs), strict=True))
    return f'<div class="pairs"><h4>{escape(title)}</h4><div>{figures}</div></div>'


def _figure(before: Tensor, after: Tensor, name: str) -> str:
    images = ""
    for side, pixels in (("Before", before), ("After", after)):
        shown = to_pil(pixels)[0]
        shown.thumbnail((MAX_PAIR_SIDE, MAX_PAIR_SIDE))
        alt = f"{side}: {name}" if name else side
        images += f'<img src="{data_url(shown, quality=88)}" alt="{escape(alt)}">'
    caption = f'<figcaption title="{escape(name)}">{escape(name)}</figcaption>' if name else ""
    return f"<figure>{images}{caption}</figure>"


def overtaken(button: str) -> str:
    """What stands where a job was, when it had to make way for something else."""
    return (
        f'<p class="words" role="status">Stopped for what you asked for after it. “{escape(button)}” does it again.</p>'
    )


def progress_line(event: Progress, note: str = "") -> str:
    """A line of progress with its rail."""
    done = 100 * event.step / event.total
    return (
        f'<div class="training"><div class="line" role="status"><span>{note or event.note} …</span></div>'
        f'<div class="rail"><i style="width:{done:.0f}%"></i></div></div>'
    )

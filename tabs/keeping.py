"""Below a result: the whole photograph before and after, and the file to take away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from core.errors import RequestError
from core.photo.record import Kind
from core.photo.sface import SAME
from core.photo.warp import Returning
from core.studio.keeping import Shown, Size, file_of
from core.studio.second_opinion import Opinion, opinion
from core.studio.visit.session import Session
from tabs.notices import inform
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.tables import links, records
from tabs.widgets import Stage, data_url

MAX_SHOWN = 1600  # pixels of the longer side on the page; the file has all of them
HOW = [
    ("Only what changed: keeps the photo's detail", "difference"),
    ("The whole square, as the model made it", "crop"),
]
SIZES: dict[Size, str] = {
    "photo": "The whole photo, with the edit in it",
    "square": "Only the square, as large as in the photo",
    "model": "As the model made it",
    "twice": "Twice as large",
    "four": "Four times as large",
}
ENLARGED = "Larger ones are smoother (Lanczos), but show no more detail than the model made."
PUT_BACK = "What the model made is enlarged smoothly (Lanczos); what it left alone is the photo itself."
NOTHING = "There is no result to keep yet."
UNSAID = "This edit has a direction or a model of your own, or words, which a file cannot name: it says nothing."

Find = Callable[..., Shown | None]  # from the session, the strength that is shown, and the values of `given`


class Keeping:
    """The widgets for one stage. name: of the tab."""

    def __init__(self, name: str) -> None:
        self.name = name
        with gr.Column(visible=False, elem_id=f"{name}-keeping", elem_classes="keeping") as self.panel:
            self.size = gr.Radio([], label="Size", info=ENLARGED, elem_classes="sizes")
            with gr.Row():
                self.how = gr.Radio(HOW, value="difference", label="What goes back into the photo", min_width=280)
                self.kind = gr.Radio(["JPEG", "PNG"], value="JPEG", label="File", min_width=140)
            self.says = gr.Checkbox(
                False,
                label="The file says what made it",
                info="model, direction, strength, steps and seed; dropping it here restores them",
            )
            self.file = gr.DownloadButton("Download", variant="primary", elem_classes="take-away")
            self.view = Stage({}, elem_classes="whole")
            self.ask = gr.Button("Ask other instruments", size="sm", elem_classes="ask")
            self.said = gr.HTML(elem_classes="said")

    def connect(self, shell: Shell, stage: Stage, find: Find, given: Sequence[Any] = ()) -> None:
        """find: what the stage shows. Its button opens the panel; the panel's own settings make the file again. Of
        another model it shows nothing."""
        session = shell.session
        shell.model.change(lambda: gr.update(visible=False), None, self.panel, queue=False, **QUIET)
        settings = [self.size, self.how, self.kind, self.says]
        outputs = [self.panel, self.view, self.size, self.how, self.file]

        @in_words
        def keep(
            event: gr.EventData, visit: Session, size: Size | None, how: Returning, kind: Kind, says: bool, *values: Any
        ) -> Any:
            strength = getattr(event, "strength", None)
            if not isinstance(strength, int | float):
                raise RequestError(NOTHING)
            shown = find(visit, float(strength), *values)
            if shown is None:
                raise RequestError(NOTHING)
            visit.kept[self.name] = shown
            return self._values(visit, shown, size if size in shown.sizes else None, how, kind, says)

        @in_words
        def again(visit: Session, size: Size | None, how: Returning, kind: Kind, says: bool) -> Any:
            shown = visit.kept.get(self.name)
            if shown is None:
                raise RequestError(NOTHING)
            return self._values(visit, shown, size, how, kind, says)

        @in_words
        def ask(visit: Session) -> Any:
            shown = visit.kept.get(self.name)
            if shown is None:
                raise RequestError(NOTHING)
            yield '<p class="words" role="status">Asking …</p>'
            yield opinion_view(opinion(shown))

        self.ask.click(ask, session, self.said, **HEAVY)
        stage.download(keep, [session, *settings, *given], outputs, **HEAVY)
        changed = [self.size.input, self.how.input, self.kind.input, self.says.input]
        gr.on(changed, again, [session, *settings], outputs, **HEAVY)

    def _values(
        self, visit: Session, shown: Shown, size: Size | None, how: Returning, kind: Kind, says: bool
    ) -> tuple[Any, ...]:
        """Values of panel, view, size, how and file."""
        size = size or next(iter(shown.sizes))
        result = shown.result(how, size)
        if says and not shown.token:
            inform(UNSAID)
        name, data = file_of(result, shown.name, kind, shown.token if says else "")
        path = visit.file(name, data)
        view = {
            "before": reduced(shown.original(size)),
            "frames": [{"strength": 0, "image": reduced(result), "measures": None}],
            "name": "In the photo" if size == "photo" else shown.name,
            "aspect": result.width / result.height,
            "kept": True,
            "small": size not in ("photo", "square"),  # the stage above shows the same
            "note": shown.name,
            "plain": True,
        }
        label = f"Download {'the photo' if size == 'photo' else 'it'} ({kind}, {result.width} x {result.height})"
        choices = [(f"{SIZES[one]} ({width} x {height})", one) for one, (width, height) in shown.sizes.items()]
        return (
            gr.update(visible=True),
            view,
            gr.update(choices=choices, value=size, info=PUT_BACK if shown.whole else ENLARGED),
            gr.update(visible=size in ("photo", "square")),
            gr.update(value=str(path), label=label),
        )


def opinion_view(found: Opinion) -> str:
    """What other instruments say, and why some say nothing."""
    parts = []
    if found.identity is not None:
        meaning = "the same person" if found.identity >= SAME else "another person"
        parts.append(f"<p>Similarity of the faces (SFace): <b>{found.identity:.2f}</b>, {meaning}.</p>")
    if found.read_outs:
        rows = "".join(
            f"<tr><td>{escape(one.name)}</td><td>{one.before:.0%}</td><td>{one.after:.0%}</td></tr>"
            for one in found.read_outs
        )
        head = "<tr><th>As the image-text model reads it</th><th>before</th><th>after</th></tr>"
        parts.append(f"<table>{head}{rows}</table>")
    if found.identity is not None or found.read_outs:
        table = opinion_rows(found)
        parts.append(links(table, records(table), "other-instruments"))
    parts += [f'<p class="words">{escape(words)}</p>' for words in found.words]
    return f'<div class="opinion" role="status">{"".join(parts)}</div>'


def opinion_rows(found: Opinion) -> list[list[Any]]:
    """The same as a table."""
    rows: list[list[Any]] = [["measure", "before", "after"], ["identity (SFace)", None, found.identity]]
    return rows + [[one.name, one.before, one.after] for one in found.read_outs]


def reduced(picture: Image.Image) -> str:
    """A picture as the page shows it."""
    shown = picture.copy()
    shown.thumbnail((MAX_SHOWN, MAX_SHOWN), Image.Resampling.LANCZOS)
    return data_url(shown, quality=88)

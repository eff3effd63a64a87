"""Discover: draw a region, and see what can change there without changing the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from core import regions as drawing
from core.discovery.basis import SIZE
from core.discovery.found import DEFAULTS, Settings
from core.discovery.methods import WITHOUT_REGION
from core.errors import RequestError, VisitorError
from core.imaging import to_pil
from core.models.cards import MODELS
from core.models.loader import models
from core.progress import Progress
from core.studio import library
from core.studio.discover.exploration import MAX_COUNT, Exploration
from core.studio.discover.overlays import glow
from core.studio.discover.pictures import others
from core.studio.discover.preset import as_preset
from core.studio.discover.rows import Row
from core.studio.discover.search import explore
from core.studio.discover.spectrum import spectra
from core.studio.frames import EditOptions, Picture
from core.studio.visit import compose as changes
from core.studio.visit.session import Session
from tabs.charts import spectrum_plot
from tabs.discover.widgets import Directions
from tabs.picture import PictureChooser
from tabs.regions import RegionBoard, ready_made, understood
from tabs.results import WORDS
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.strip import exact, strip
from tabs.visit import before_url, current_picture, good, message
from tabs.widgets import Stage, data_url

TITLE = "Discover"

METHODS = [
    ("Contrast: much inside, little outside", "contrast"),
    ("JIVE individual: what changes here alone", "jive_individual"),
    ("Projection: freed of what changes outside", "projection"),
    ("Jacobian: whatever changes here most", "jacobian"),
    ("JIVE joint: what changes here and elsewhere", "jive_joint"),
    ("Global: whatever changes the picture most", "global"),
    ("PCA: what varies most among pictures", "pca"),
]
VALUES = {
    "contrast": ("contrast", "Change inside per change outside, by which the rows are ordered."),
    "pca": ("deviation", "Standard deviation of h along this direction among the model's pictures."),
}
SINGULAR = ("σ", "Singular value, by which the rows are ordered: change of the picture per unit of h.")
ROIR = "Change outside the region over change inside it, in these pictures. The smaller, the more local."
COUNTED = 0.3  # standard deviations: smaller changes of an attribute are not told
OTHERS = 6
EVERY = 0.25  # seconds between reports of progress
INTRO = """<div class="intro"><h4>How it works</h4><ol>
<li><span>Choose a part of the picture: a ready-made one, a box, or a brush stroke.</span></li>
<li><span>The model is asked once how the picture moves with its innermost features, its <i>h</i>-space.</span></li>
<li><span>The directions that change your region most, and the rest least, are then plain algebra: for another region
they are there at once.</span></li></ol></div>"""

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------- layout


def build(shell: Shell, tab: gr.Tab) -> None:
    """The tab's widgets and events."""
    model_id = shell.model.value
    with gr.Row(elem_id="discover", elem_classes="columns"):
        with gr.Column(elem_classes="choices"):
            chooser = PictureChooser(shell, tab, "discover")
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Region</h3>")
                board = RegionBoard(
                    [], image=first_picture(model_id), presets=ready_made(model_id), most=drawing.MAX_REGIONS
                )
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Directions</h3>")
                method = gr.Dropdown(METHODS, value="contrast", label="Look for", filterable=False, elem_id="method")
                count = gr.Slider(1, MAX_COUNT, 5, step=1, label="How many per region", elem_id="count")
                find = gr.Button("Find directions", variant="primary", elem_id="find")
                stop = gr.Button("Stop", visible=False, elem_id="stop-search")
            advanced = gr.Accordion("Advanced", open=False, elem_classes="advanced", elem_id="discover-advanced")
            with advanced, gr.Column(elem_classes="section"):
                timestep = gr.Slider(
                    100, 900, 600, step=10, label="Timestep", info="where the model is asked; 600 is the papers'"
                )
                injection = gr.Radio(
                    [("Symmetric", "symmetric"), ("Asymmetric", "asymmetric")], value="symmetric", label="Injection"
                )
                size = gr.Slider(16, 256, SIZE, step=8, label="Basis", info="vectors of h-space to answer with")
                rank = gr.Slider(5, 100, DEFAULTS.rank, step=1, label="JIVE: rank of a region")
                joint = gr.Slider(1, 80, DEFAULTS.joint_rank, step=1, label="JIVE: joint rank")
                individual = gr.Slider(1, 30, DEFAULTS.individual_rank, step=1, label="JIVE: individual rank")
                off = gr.Slider(1, 60, DEFAULTS.projection_rank, step=1, label="Projection: rank of the outside")
                mu = gr.Slider(0.005, 1, DEFAULTS.mu, step=0.005, label="Contrast: ridge")
        with gr.Column(elem_classes="results"):
            intro = gr.HTML(INTRO, elem_id="discover-intro")
            found = Directions({}, elem_id="directions")
            with gr.Column(visible=False, elem_id="opened") as opened:
                stage = Stage({}, elem_id="discover-stage")
                with gr.Row(elem_classes="actions"):
                    save = gr.Button("Save as preset", variant="primary", min_width=140, elem_id="save-direction")
                    file = gr.DownloadButton("Download", visible=False, min_width=140, elem_id="direction-file")
                    compose = gr.Button("Send to Compose", min_width=140, elem_id="send-to-compose")
                    apply = gr.Button("Try on other pictures", min_width=140, elem_id="try-others")
                said = gr.HTML(elem_id="discover-said")
                elsewhere = gr.HTML(elem_id="elsewhere")
            with gr.Accordion(
                "Spectrum, joint and individual parts", open=False, visible=False, elem_id="spectrum"
            ) as spectrum:
                plot = gr.HTML()

    session = shell.session
    shown = [board, found, intro, opened, spectrum, find, stop]
    settings = [method, count, timestep, injection, size, rank, joint, individual, off, mu]
    on_stage = [opened, stage, said, elsewhere, file]

    chooser.connect(fresh, [], shown, imagined, HEAVY)
    board.input(check, [session, board], board, trigger_mode="always_last", **QUIET)
    find.click(search, [session, board, *settings], [*shown, plot], **HEAVY)
    stop.click(stop_search, session, [found, find, stop], queue=False, **QUIET)
    found.select(open_row, session, on_stage, **HEAVY)
    found.edit(rename, session, found, **QUIET)
    stage.release(exact_strength, session, stage, **HEAVY)
    apply.click(try_others, session, [elsewhere, apply], **HEAVY)
    save.click(save_row, session, [said, file], **QUIET)
    compose.click(send_row, session, said, **QUIET)

    @in_words
    def change_model(visit: Session, model_id: str) -> tuple[Any, ...]:
        """Another model: its examples and its ready-made regions."""
        visit.change_model(model_id)
        board = gr.update(value=[], image=first_picture(model_id), presets=ready_made(model_id), overlay="", said="")
        return *chooser.for_model(visit), board, *nothing_found()

    shell.model.change(change_model, [session, shell.model], [*chooser.widgets, *shown], **QUIET)


# ----------------------------------------------------------------------------------------------------------- picture


def first_picture(model_id: str) -> str:
    paths = library.examples(model_id)
    return before_url(library.open_picture(paths[0], model_id)) if paths else ""


def nothing_found() -> tuple[Any, ...]:
    """Values of found, intro, opened, spectrum, find, stop before a search."""
    hidden = gr.update(visible=False)
    return {}, gr.update(visible=True), hidden, hidden, gr.update(visible=True), hidden


def fresh(session: Session) -> Values:
    """Another picture: what was found on the one before is out of date; the regions stay."""
    session.begin_search()
    session.exploration = None
    picture = current_picture(session)
    yield gr.update(image=before_url(picture) if picture else ""), *nothing_found()


def imagined(event: Progress) -> tuple[Any, ...]:
    """Values of `shown` while a picture is being imagined."""
    image = data_url(to_pil(event.preview[:1])[0], quality=80)
    return gr.update(image=image), *(gr.skip(),) * 6


@in_words
def check(session: Session, value: Any) -> Any:
    """What the server makes of the regions, or what is wrong with them."""
    return understood(value, MODELS[session.model_id].resolution)


# ------------------------------------------------------------------------------------------------------------ search


def wanted(
    session: Session,
    picture: Picture,
    value: Any,
    method: str,
    count: int,
    timestep: int,
    injection: str,
    size: int,
    *ranks: float,
) -> Exploration:
    """What the visitor asks for. Raises RequestError."""
    model = models.get(session.model_id)
    regions = [] if not value and method in WITHOUT_REGION else drawing.parse(value or [], model.card.resolution)
    rank, joint, individual, off = (int(number or 0) for number in ranks[:4])
    settings = Settings(int(count or 0), rank, joint, individual, off, float(ranks[4] or 0))
    return Exploration(model, picture, regions, method, settings, int(timestep or 0), int(size or 0), injection)


@in_words
def search(session: Session, value: Any, *settings: Any) -> Values:
    """Find directions; rows fill up as they become known. What was found before stays until there is something new."""
    number = session.begin_search()
    skip, working = gr.skip(), (gr.update(visible=False), gr.update(visible=True, interactive=True, value="Stop"))
    over = (gr.update(visible=True), gr.update(visible=False))
    picture = current_picture(session)
    if picture is None:
        raise RequestError("There is no picture. Upload one, or let the model imagine one.")
    before = rows_value(session.exploration)
    yield skip, {**before, "busy": True, "note": "Starting …", "fraction": 0}, *(skip,) * 3, *working, skip
    try:
        one = wanted(session, picture, value, *settings)
        version, told = 0, 0.0
        for event in explore(one):
            if session.search != number:
                if session.search == session.stopped:  # what came last may have crossed the answer to "Stop"
                    yield skip, rows_value(session.exploration), *(skip,) * 3, *over, skip
                return
            if one.version != version and session.exploration is not one:
                session.exploration = one
                plot = spectrum_plot(spectra(one))
                showing = (gr.update(visible=False), gr.update(visible=False), gr.update(visible=True))
                yield skip, rows_value(one) | telling(event), *showing, *working, plot
            elif event.result is not None:
                yield skip, rows_value(one), *(skip,) * 3, *over, skip
            elif one.version != version or time.monotonic() - told > EVERY:
                yield skip, rows_value(session.exploration) | telling(event), *(skip,) * 6
                told = time.monotonic()
            version = one.version
    except VisitorError as error:
        note = {"note": error.message, "bad": True}
        yield skip, rows_value(session.exploration) | note, *(skip,) * 3, *over, skip
    except Exception:
        yield skip, rows_value(session.exploration), *(skip,) * 3, *over, skip
        raise


def telling(event: Progress) -> dict[str, Any]:
    return {"busy": True, "note": f"{event.note} …", "fraction": event.step / max(1, event.total)}


@in_words
def stop_search(session: Session) -> tuple[Any, ...]:
    session.stopped = session.begin_search()
    return rows_value(session.exploration), gr.update(visible=True), gr.update(visible=False)


def rows_value(one: Exploration | None) -> dict[str, Any]:
    """What `Directions` shows of an exploration."""
    if one is None:
        return {}
    rows = [row_json(row) for row in one.rows]
    return {"search": one.number, "picture": before_url(one.picture), "rows": rows, "refined": one.refined}


def row_json(row: Row) -> dict[str, Any]:
    label, meaning = VALUES.get(row.found.method, SINGULAR)
    facts = [[row.region.label or "Whole picture", "", "Where it acts"], [label, f"{row.found.value:.2f}", meaning]]
    ratio = row.roir if row.roir is not None else row.found.ratio
    if ratio is not None:
        facts.append(["ROIR", f"{ratio:.2f}", ROIR])
    known, about, told = row.suggestion, "", []
    if known is not None:
        told = [c for c in known.changes if abs(c.change) >= COUNTED][:2]
        if known.text:
            about = f"Suggested by the image-text model: {known.text}, {known.confidence:.0%} sure"
    frames = None if row.frames is None else [data_url(p, quality=85) for p in to_pil(row.frames)]
    heat = data_url(glow(row.heat, 128), quality=80)
    read = ", ".join(f"{in_plain_words(c.attribute)} {c.change:+.1f}".replace("-", "−") for c in told)
    return {"name": row.name, "about": about, "heat": heat, "frames": frames, "facts": facts, "changes": read}


def in_plain_words(attribute: str) -> str:
    return WORDS.get(attribute, attribute.replace("_", " ").capitalize())


# --------------------------------------------------------------------------------------------------------- one of them


def chosen_row(session: Session) -> tuple[Exploration, Row]:
    """The exploration and the row on the stage. Raises RequestError."""
    one = session.exploration
    if one is None or one.opened is None:
        raise RequestError("Choose a direction first.")
    return one, one.rows[one.opened]


@in_words
def open_row(event: gr.EventData, session: Session) -> Values:
    """The large picture of a row: its strength first, then the strip."""
    one = session.exploration
    if one is None:
        raise RequestError("These directions are out of date. Find them again.")
    index = getattr(event, "index", None)
    row = one.touch(index)
    ticket, one.opened = session.begin(), index
    base = {"before": before_url(one.picture), "name": row.name}
    file = gr.update(visible=False)
    yield gr.update(visible=True), {**base, "busy": True, "note": "Starting …", "fraction": 0}, "", "", file
    preset = as_preset(one, row)
    try:
        for value in strip(session, ticket, one.picture, preset, options_of(one), one.frames):
            if session.exploration is not one:
                return
            yield gr.skip(), value, *(gr.skip(),) * 3
    except VisitorError as error:
        yield gr.skip(), {**base, "note": error.message, "bad": True}, *(gr.skip(),) * 3


def options_of(one: Exploration) -> EditOptions:
    return EditOptions(steps=one.model.card.steps)


@in_words
def exact_strength(event: gr.EventData, session: Session) -> Values:
    one, row = chosen_row(session)
    strength = getattr(event, "strength", None)
    if not isinstance(strength, int | float):
        return
    yield from exact(session, one.picture, as_preset(one, row), options_of(one), strength, one.frames)


@in_words
def rename(event: gr.EventData, session: Session) -> Any:
    """The visitor's own name; a preset that was saved from this row follows."""
    one = session.exploration
    if one is None:
        return gr.skip()
    row = one.touch(getattr(event, "index", None), str(getattr(event, "name", "")))
    if row.key is not None:
        session.own[row.key] = as_preset(one, row)
    return gr.skip()


@in_words
def try_others(session: Session) -> Values:
    """The direction on the model's examples, before and after."""
    one, row = chosen_row(session)
    paths = [path for path in library.examples(one.model.card.id) if path.stem != one.picture.example][:OTHERS]
    if not paths:
        raise RequestError("This model has no examples to try it on.")
    pictures = [library.open_picture(path, one.model.card.id) for path in paths]
    ticket, again = session.begin(), gr.update(value="Try on other pictures", interactive=True)
    try:
        for event in others(one, row, pictures, row.strength):
            if session.ticket != ticket:
                break
            if event.result is None:
                share = f"{event.note} … {100 * event.step // event.total}%"
                yield gr.skip(), gr.update(value=share, interactive=False)
            else:
                yield pairs_view(event.result, row), again
                return
    except VisitorError as error:
        yield message(error), again
        return
    yield gr.skip(), again


def pairs_view(pairs: Any, row: Row) -> str:
    before, after = ([data_url(p, quality=88) for p in to_pil(side)] for side in pairs)
    figures = "".join(
        f'<figure><img src="{a}" alt="Before"><img src="{b}" alt="After"></figure>'
        for a, b in zip(before, after, strict=True)
    )
    return f'<div class="pairs"><h4>The same direction elsewhere, at {row.strength:+g}</h4><div>{figures}</div></div>'


def kept(session: Session, one: Exploration, row: Row) -> Row:
    """The row as a preset of the visitor's own, once."""
    preset = as_preset(one, row)
    if row.key is None:
        row = replace(row, key=session.keep(preset), touched=True)
        one.rows[one.opened] = row
    else:
        session.own[row.key] = preset
    return row


@in_words
def save_row(session: Session) -> tuple[Any, ...]:
    one, row = chosen_row(session)
    row = kept(session, one, row)
    path = session.write(session.own[row.key])
    return good(f"“{row.name}” is among your presets: in Text edit, and in Compose."), gr.update(
        value=str(path), visible=True
    )


@in_words
def send_row(session: Session) -> str:
    one, row = chosen_row(session)
    row = kept(session, one, row)
    changes.add(session, row.key)
    return good(f"“{row.name}” is in your composition. Open Compose to mix it with others.")

"""Discover: draw a region, and see what can change there without changing the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from core.discovery.basis import BASIS_SIZE
from core.discovery.interface import DEFAULT_SETTINGS, PAPER_BASIS, PAPER_RANKS
from core.discovery.locality import PAPER_STRENGTH
from core.discovery.methods import DEFAULT_METHOD, METHODS
from core.imaging import to_pil
from core.progress import Progress
from core.regions import MAX_REGIONS
from core.studio import library
from core.studio.discover.exploration import MAX_COUNT, Exploration
from core.studio.visit.session import Session
from tabs.discover.compared import Comparisons
from tabs.discover.direction import exact_strength, open_row, rename, save_row, send_row, shown_row, try_others
from tabs.discover.rows import rows_value
from tabs.discover.search import found_numbers, search, stop_search
from tabs.discover.widgets import Directions
from tabs.keeping import Keeping
from tabs.picture import PictureChooser
from tabs.regions import Drawn, RegionBoard, ready_made_regions, region_feedback
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.visit import before_url, current_picture
from tabs.widgets import Stage, data_url

TITLE = "Discover"

INJECTIONS = [
    ("The whole step (symmetric)", "symmetric"),
    ("What the picture will be, not the noise (asymmetric)", "asymmetric"),
]

PAPER_JIVE = "JIVE as in the paper: r = {}, r_C = {}, r_A = {}, a = {:g}".format(*PAPER_RANKS, PAPER_STRENGTH)

INTRO = """<div class="intro"><h4>How it works</h4><ol>
<li><span>Choose a part of the picture: tap the mouth or the hair, draw a box or a stroke, open a mask.</span></li>
<li><span>The model is asked once how the picture moves with its innermost features, its <i>h</i>-space.</span></li>
<li><span>The directions that change your region most, and the rest least, are then plain algebra: for another region
they are there at once.</span></li></ol></div>"""

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------- layout


def build(shell: Shell, tab: gr.Tab) -> None:
    """The tab's widgets and events."""
    model_id, defaults = shell.model.value, DEFAULT_SETTINGS
    with gr.Row(elem_id="discover", elem_classes="columns"):
        with gr.Column(elem_classes="choices"):
            chooser = PictureChooser(shell, tab, "discover")
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Region</h3>")
                board = RegionBoard(
                    [],
                    image=first_picture(model_id),
                    max_regions=MAX_REGIONS,
                    **ready_made_regions(model_id),
                )
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Directions</h3>")
                method = gr.Dropdown(
                    method_choices(), value=DEFAULT_METHOD, label="Look for", filterable=False, elem_id="method"
                )
                count = gr.Slider(1, MAX_COUNT, defaults.count, step=1, label="How many per region", elem_id="count")
                find = gr.Button("Find directions", variant="primary", elem_id="find")
                stop = gr.Button("Stop", visible=False, elem_id="stop-search")
            advanced = gr.Accordion("Advanced", open=False, elem_classes="advanced", elem_id="discover-advanced")
            with advanced, gr.Column(elem_classes="section"):
                timestep = gr.Slider(
                    100,
                    900,
                    600,
                    step=10,
                    label="How noisy the picture is when the model is asked (t)",
                    info="of 1000; 600 is the papers'",
                )
                acts_from = gr.Slider(
                    0, 999, 999, step=1, label="Directions act from this noise level …", elem_id="acts-from"
                )
                acts_to = gr.Slider(0, 999, 0, step=1, label="… down to this one (t)", elem_id="acts-to")
                a = gr.Slider(
                    0,
                    100,
                    0,
                    step=1,
                    label="How far the pictures go (a)",
                    info="0: as far as the change is well visible; the papers take 50",
                    elem_id="strength-a",
                )
                injection = gr.Radio(INJECTIONS, value="symmetric", label="What a direction may change")
                size = gr.Slider(
                    16,
                    256,
                    BASIS_SIZE,
                    step=8,
                    label="How fine the search is (basis)",
                    info="vectors of h-space; more take longer",
                )
                paper = gr.Button(
                    PAPER_JIVE,
                    size="sm",
                    elem_id="jive-paper",
                )
                rank = gr.Slider(5, 100, defaults.rank, step=1, label="Changes kept of a region (JIVE, rank)")
                joint = gr.Slider(
                    1, 80, defaults.joint_rank, step=1, label="Changes that regions share (JIVE, joint rank)"
                )
                individual = gr.Slider(
                    1, 30, defaults.individual_rank, step=1, label="Changes of one region alone (JIVE, individual rank)"
                )
                projection = gr.Slider(
                    1, 60, defaults.projection_rank, step=1, label="Changes outside that are avoided (projection, rank)"
                )
                mu = gr.Slider(0.005, 1, defaults.mu, step=0.005, label="Leave out faint changes (contrast, ridge μ)")
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
                keeping = Keeping("discover")
            with gr.Accordion(
                "Spectrum, joint and individual parts", open=False, visible=False, elem_id="spectrum"
            ) as spectrum:
                plot = gr.HTML()
            comparisons = Comparisons()

    session = shell.session
    shown = [board, found, intro, opened, spectrum, find, stop, plot]
    settings = [
        method,
        count,
        timestep,
        injection,
        size,
        rank,
        joint,
        individual,
        projection,
        mu,
        acts_from,
        acts_to,
        a,
    ]
    on_stage = [opened, stage, said, elsewhere, file]

    # First, because the page begins events of one click one after the other.
    comparisons.connect(shell, [find.click, shell.model.change, *chooser.choosing])
    chooser.connect(show_picture, [], shown, show_preview, HEAVY)
    board.connect(session, drawn_on, keep_drawn)
    as_printed = (*PAPER_RANKS, PAPER_BASIS, PAPER_STRENGTH)
    paper.click(lambda: as_printed, None, [rank, joint, individual, size, a], queue=False, **QUIET)
    find.click(search, [session, chooser.prompt, board, *settings], shown, **HEAVY)
    stop.click(stop_search, session, [found, find, stop], queue=False, **QUIET)
    found.select(open_row, session, on_stage, **HEAVY)
    found.edit(rename, session, found, **QUIET)
    stage.release(exact_strength, session, stage, **HEAVY)
    keeping.connect(shell, stage, shown_row)
    apply.click(try_others, session, [elsewhere, apply], **HEAVY)
    save.click(save_row, session, [said, file], **QUIET)
    compose.click(send_row, session, said, **QUIET)

    @in_words
    def change_model(visit: Session, model_id: str) -> tuple[Any, ...]:
        """Another model: its examples, its ready-made regions, and those that were drawn for it before."""
        visit.change_model(model_id)
        drawn = visit.discover.drawn
        board = gr.update(value=drawn, image=shown_picture(visit), overlay="", said="", **ready_made_regions(model_id))
        if drawn and visit.picture is not None:
            board |= region_feedback(drawn, visit.picture.pixels.shape[-1])
        return *chooser.for_model(visit), board, *found_before(visit.discover.exploration)

    shell.model.change(change_model, [session, shell.model], [*chooser.widgets, *shown], **QUIET)


# ----------------------------------------------------------------------------------------------------------- picture


def first_picture(model_id: str) -> str:
    paths = library.examples(model_id)
    return before_url(library.open_picture(paths[0], model_id)) if paths else ""


def shown_picture(session: Session) -> str:
    return first_picture(session.model_id) if session.picture is None else before_url(session.picture)


def method_choices() -> list[tuple[str, str]]:
    """Every method by its label and its name."""
    return [(method.label, method.name) for method in METHODS.values()]


def nothing_found() -> tuple[Any, ...]:
    """Values of found, intro, opened, spectrum, find, stop, plot before a search."""
    hidden = gr.update(visible=False)
    return {}, gr.update(visible=True), hidden, hidden, gr.update(visible=True), hidden, ""


def show_picture(session: Session) -> Values:
    """Another picture: what was found on the one before is put away, and found again with it; the regions stay."""
    picture, state = current_picture(session), session.discover
    state.show(picture)
    board: dict[str, Any] = gr.update(image=before_url(picture) if picture else "")
    if state.lost and state.drawn and picture is not None:  # the page was loaded anew
        board |= {"value": state.drawn} | region_feedback(state.drawn, picture.pixels.shape[-1])
    state.lost = False
    yield board, *found_before(state.exploration)


def found_before(exploration: Exploration | None) -> tuple[Any, ...]:
    """Values of found, intro, opened, spectrum, find, stop, plot for what is kept of a picture."""
    if exploration is None:
        return nothing_found()
    hidden, shown = gr.update(visible=False), gr.update(visible=True)
    return rows_value(exploration), hidden, hidden, shown, shown, hidden, found_numbers(exploration)


def show_preview(event: Progress) -> tuple[Any, ...]:
    """Values of `shown` while a picture is being imagined."""
    image = gr.skip() if event.preview is None else gr.update(image=data_url(to_pil(event.preview[:1])[0], quality=80))
    return image, *(gr.skip(),) * 7


def keep_drawn(session: Session, value: Any) -> None:
    """What is drawn, for a page that is loaded anew."""
    session.discover.drawn = list(value or [])


def drawn_on(session: Session) -> Drawn:
    """The picture on the board."""
    picture = current_picture(session)
    return None if picture is None else (picture.pixels, picture.placement)

"""Compose: several directions at once, their strengths mixed like channels of a desk."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import suppress
from html import escape
from typing import Any

import gradio as gr

from core import presets
from core.errors import VisitorError
from core.process import Process
from core.progress import Running
from core.studio.compose import applying, link
from core.studio.compose.common_start import mixing_words
from core.studio.compose.word_change import NO_CHANGE
from core.studio.domain import domain_of
from core.studio.frames import EditOptions, IntervalSource
from core.studio.keeping import Shown
from core.studio.known_models import is_known, known_card
from core.studio.turns import Outdated, Turn
from core.studio.visit.compose import add_preset, available_presets
from core.studio.visit.session import Session
from core.studio.visit.words import composed, what_made_it, words_in_force
from tabs.compose.batch import Batch
from tabs.compose.choices import options_of
from tabs.compose.filmstrip import Filmstrip
from tabs.compose.history import RESULTS, history_cards, history_files, pick, return_to
from tabs.compose.hub_browser import HubBrowser
from tabs.compose.mixer import change_composition, mixer_value
from tabs.compose.share import Share
from tabs.compose.similarity import Similarity
from tabs.compose.sweep import Sweep
from tabs.compose.widgets import Mixer
from tabs.compose.words import WordsSection, asked_for, axis_of, follow_change, follow_undo, told, without_place
from tabs.keeping import Keeping
from tabs.opened_link import restore
from tabs.picture import PictureChooser
from tabs.process import process_choice, shown_process, usual_steps
from tabs.results import busy, foreign, frames_json, imagining
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.visit import before_url, current_picture, first_stage, preset_items, visit_stage
from tabs.widgets import Cards, Stage

TITLE = "Compose"

HINT = "Choose a direction, then another: the picture shows their sum."
QUERY = "compose"
SOURCES = [("As the directions suggest", "preset"), ("From the model's perceptual curves", "curves")]

# Properties of cards: an update replaces all of them.
PALETTE: dict[str, Any] = {
    "columns": 4,
    "multiple": True,
    "title": "Directions to add",
    "search": True,
    "nothing": "This model has no ready directions yet: train one in Text edit, or get one from the Hub.",
}

Values = Iterator[tuple[Any, ...]]


# ------------------------------------------------------------------------------------------------------------- layout


def build(shell: Shell, tab: gr.Tab) -> None:
    """The tab's widgets and events."""
    model_id = shell.model.value
    with gr.Row(elem_id="compose", elem_classes="columns"):
        with gr.Column(elem_classes="choices"):
            chooser = PictureChooser(shell, tab, "compose")
            with gr.Column(elem_classes="section"):
                gr.HTML("<h3>Directions</h3>")
                with gr.Tabs(elem_classes="pills", selected="here"):
                    with gr.Tab("Here", id="here"), gr.Column(elem_classes="scroll"):
                        palette = Cards(preset_items(model_id, {}), [], elem_id="palette", **PALETTE)
                        elsewhere = gr.HTML(elem_id="palette-others")
                    with gr.Tab("From the Hub", id="hub"):
                        hub = HubBrowser()
                opened = gr.UploadButton(
                    "Open a preset file", file_types=[presets.SUFFIX], size="sm", elem_id="compose-open"
                )
        with gr.Column(elem_classes="results"):
            with gr.Column(elem_classes="together"):  # on a phone the picture stays in view as far as this goes
                stage = Stage(first_stage(model_id) | {"hint": HINT}, elem_id="compose-stage")
                mixer = Mixer(elem_id="mixer")
            words = WordsSection(model_id)
            keeping = Keeping("compose")
            with gr.Accordion("Sweep: two strengths against each other", open=False, elem_id="sweep"):
                sweep = Sweep()
            with gr.Accordion("Filmstrip and animation", open=False, elem_id="animation"):
                filmstrip = Filmstrip()
            with gr.Accordion(
                "What they share, and how to take it out (orthogonalise)", open=False, elem_id="similarity"
            ):
                similarity = Similarity()
            with gr.Accordion("Keep and share", open=False, elem_id="share"):
                share = Share()
            with gr.Accordion("Several pictures at once", open=False, elem_id="batch"):
                batch = Batch()
            with gr.Accordion("History: everything this visit has made", open=False, elem_id="history") as past:
                history = Cards([], [], elem_id="results", **RESULTS)
                comparison = Stage({}, elem_id="comparison", visible=False)
                back = gr.Button("Back to this result", size="sm", visible=False, elem_id="back")
                numbers = gr.HTML(elem_id="history-numbers")
            with gr.Accordion("Advanced", open=False, elem_id="advanced-compose"), gr.Row():
                process, steps = process_choice("compose-steps")
                with gr.Column(min_width=260):
                    source = gr.Radio(
                        SOURCES, value="preset", label="At which noise levels they act", elem_id="compose-sources"
                    )
                    boost = gr.Checkbox(
                        False,
                        label="Boost quality all the same",
                        info="also where a direction of the mix suggests no boosting",
                        elem_id="compose-boost",
                    )
                    in_force = gr.HTML(elem_id="compose-in-force")
                    seed = gr.Number(0, label="Seed of the noise that is added (boosting)", precision=0)

    session, advanced = shell.session, [process, steps, seed]
    follow = [palette, elsewhere, mixer, *sweep.follow, *similarity.follow, *share.follow, in_force, *advanced]
    shown, unchanged = [stage, *follow], (gr.skip(),) * len(follow)

    def following(visit: Session) -> tuple[Any, ...]:
        """Values of `follow` for the visit's composition."""
        return (
            palette_cards(visit),
            others_words(visit),
            mixer_value(visit),
            *sweep.for_composition(visit),
            *similarity.for_composition(visit),
            *share.for_composition(visit),
            in_force_words(visit),
            *(shown_process(*visit.compose.restored) if visit.compose.restored else (gr.skip(),) * 3),
        )

    def rendering(visit: Session, *values: Any) -> Values:
        """Values of `shown`: what follows the composition at once, its picture when it is there."""
        state, turn = visit.compose, visit.edits.begin()
        state.shown, followed = None, None
        staged: dict[str, Any] = {}
        with suppress(Outdated):  # the picture is shown by the request that came after this one
            for staged in render(visit, turn, *(state.restored or values)):
                # As things are now: another request may have changed the composition since this one began.
                composition = state.composition
                yield staged, *(following(visit) if composition is not followed else unchanged)
                followed = composition
        # And it may have done so since this one's last values, which can reach the page after the other request's.
        while state.composition is not followed:
            followed = state.composition
            yield gr.skip(), *following(visit)
        if turn.is_current and not staged.get("bad"):
            state.shown = dependencies(visit, values)

    @in_words
    def refresh(visit: Session, *values: Any) -> Values:
        """The composition or the visit's own directions may be others than those shown."""
        if visit.compose.shown != dependencies(visit, values):
            yield from rendering(visit, *values)

    @in_words
    def toggle(event: gr.EventData, visit: Session, *values: Any) -> Values:
        """A card of the palette: added, or taken out again."""
        state, key = visit.compose, str(getattr(event, "id", ""))
        if key in state.composition:
            state.change(state.composition.remove(key))
        else:
            add_preset(visit, key)
        yield from rendering(visit, *values)

    @in_words
    def mix(event: gr.EventData, visit: Session, *values: Any) -> Values:
        """Something was done at the mixing desk."""
        change_composition(visit, *(getattr(event, name, None) for name in ("what", "key", "value")))
        yield from rendering(visit, *values)

    @in_words
    def take_cell(event: gr.EventData, visit: Session, across: str, down: str, *values: Any) -> Values:
        """The strengths of a sweep's cell become those of the composition, locked or not, and of its words."""
        state = visit.compose
        composition, words_then = state.composition.lock(False), None
        for key, name in ((across, "across"), (down, "down")):
            strength: Any = getattr(event, name, None)  # refused below if it is no number
            axis = axis_of(key or "")
            if axis is None:
                composition = composition.set(key, strength)
            elif isinstance(strength, int | float):
                words_then = (words_then or words_in_force(visit)).along(axis[0], float(strength), axis[1])
        state.change(composition.lock(state.composition.locked), words_then)
        yield from rendering(visit, *values)

    @in_words
    def open_file(visit: Session, path: str | None, *values: Any) -> Values:
        if path is None:
            return
        preset = presets.for_model(presets.load(path), visit.model())
        add_preset(visit, visit.keep_file(preset))
        yield from rendering(visit, *values)

    @in_words
    def pick_result(event: gr.EventData, visit: Session) -> tuple[Any, ...]:
        """A result of the history: one is looked at, two are compared."""
        return pick(visit, str(getattr(event, "id", "")))

    @in_words
    def go_back(visit: Session, *values: Any) -> Values:
        result = return_to(visit, next(reversed(visit.compose.picked), None))
        if result.tab != TITLE:  # a strip is shown in Text edit, wherever its direction was found
            yield gr.Tabs(selected=result.tab if result.strip is None else "Text edit"), *(gr.skip(),) * len(shown)
            return
        visit.compose.change(result.composition, result.change)
        for followed in rendering(visit, *values):
            yield gr.skip(), *followed

    @in_words
    def retune(visit: Session, *values: Any) -> Values:
        """The visitor's own process, steps or seed."""
        visit.compose.restored = None
        yield from rendering(visit, *values)

    @in_words
    def change_words(visit: Session, *values: Any) -> Values:
        """Other words, in the same pass. values: what is written of them, then process, steps and seed."""
        count = len(words.written)
        change = asked_for(visit, *values[:count])
        visit.compose.change(words=change)
        visit.compose.target_offered = change.target  # from now on it follows the picture
        yield from rendering(visit, *values[count:])

    @in_words
    def leave_words(visit: Session, *values: Any) -> Values:
        """The directions alone."""
        visit.compose.change(words=NO_CHANGE)
        yield from rendering(visit, *values)

    @in_words
    def choose_source(source: IntervalSource, visit: Session, *values: Any) -> Values:
        """The intervals come from the directions or from the model's curves."""
        visit.compose.source = source
        yield from rendering(visit, *values)

    @in_words
    def choose_boost(boost: bool, visit: Session, *values: Any) -> Values:
        """Quality is boosted though a direction suggests not to, or not."""
        visit.compose.boost = bool(boost)
        yield from rendering(visit, *values)

    @in_words
    def change_model(visit: Session, model_id: str) -> tuple[Any, ...]:
        visit.change_model(model_id)
        words_of_model = words.for_model(visit)
        return *chooser.for_model(visit), *words_of_model, visit_stage(visit) | {"hint": HINT}, *following(visit)

    @in_words
    def open_link(visit: Session, request: gr.Request) -> tuple[Any, Any]:
        """If the page was opened by a link: its composition, its picture, and this tab."""
        token = request.query_params.get(QUERY)
        if not token:
            return gr.skip(), gr.skip()
        return gr.Tabs(selected=TITLE), restore(visit, token, request)

    assert tab.parent is not None  # the page's tabs
    given = [session, *advanced]
    keeping.connect(shell, stage, shown_composition, advanced)
    chooser.connect(rendering, advanced, shown, lambda event: (imagining(event), *unchanged), HEAVY)
    taken = sweep.grid.release(take_cell, [session, sweep.across, sweep.down, *advanced], shown, **HEAVY)
    returned = back.click(go_back, given, [tab.parent, *shown], **HEAVY)
    asked = [words.apply.click, words.target.submit]
    applied = gr.on(asked, change_words, [session, *words.written, *advanced], shown, **HEAVY)
    left = words.leave.click(leave_words, given, shown, **HEAVY)
    mixed = mixer.release(mix, given, shown, **HEAVY)
    changes = [
        palette.release(toggle, given, shown, **HEAVY),
        mixed,
        tab.select(refresh, given, shown, **HEAVY),
        gr.on([steps.release, seed.submit], retune, given, shown, **HEAVY),
        process.input(usual_steps, process, steps, **QUIET).then(retune, given, shown, **HEAVY),
        source.input(choose_source, [source, *given], shown, **HEAVY),
        boost.input(choose_boost, [boost, *given], shown, **HEAVY),
        applied,
        left,
        opened.upload(open_file, [session, opened, *advanced], shown, **HEAVY),
        taken,
        similarity.connect(session, HEAVY).then(refresh, given, shown, **HEAVY),
        hub.connect(session, QUIET).then(refresh, given, shown, **HEAVY),
        returned,
    ]
    mixer.release(similarity.forget, None, similarity.note, **QUIET)
    for event in (applied, left):
        event.then(told, [session, words.target], words.told, **QUIET)
    for event, handler in ((taken, follow_change), (returned, follow_change), (mixed, follow_undo)):
        event.then(handler, [session, words.target], [*words.written, words.told], **QUIET)
    # Not one of `shown`: in a closed accordion there are no cards yet, and an update without all their properties, even
    # a skipped one, would leave them without any.
    for event in changes:
        event.then(history_cards, session, history, **QUIET).then(history_files, session, numbers, **QUIET)
    past.expand(history_cards, session, history, **QUIET).then(history_files, session, numbers, **QUIET)
    history.release(pick_result, session, [history, comparison, back], **QUIET)
    words.connect(session, tab, chooser.prompt)
    sweep.connect(session, advanced, HEAVY)
    filmstrip.connect(session, advanced, HEAVY)
    batch.connect(session, advanced, HEAVY)
    share.connect(session, advanced, QUIET).then(palette_cards, session, palette, **QUIET)
    shell.model.change(change_model, [session, shell.model], [*chooser.widgets, *words.follow, *shown], **QUIET)
    # Nothing of this tab can be an output here: Gradio has not made it yet. Opening the tab shows what was restored.
    shell.found.then(open_link, session, [tab.parent, shell.model], **QUIET)


# ------------------------------------------------------------------------------------------------------------- at work


def dependencies(session: Session, values: tuple[Any, ...]) -> tuple[Hashable, ...]:
    """What the tab's widgets depend on. values: process, steps and seed."""
    own, state = tuple((key, preset.name) for key, preset in session.own.items()), session.compose
    picture = None if session.picture is None else session.picture.key
    asked = state.source, state.boost, state.restored or values, words_in_force(session)
    return state.composition, picture, session.model_id, own, *asked


def in_force_words(session: Session) -> str:
    """Which intervals are in force in the mix, and why."""
    state = session.compose
    try:
        chosen = [preset for preset, _ in applying.resolve(state.composition, available_presets(session))]
        options = EditOptions(source=state.source, boost=state.boost)
        card = known_card(session.model_id)
        words = f"{applying.intervals_in_words(card, chosen, options)} {mixing_words(chosen)}".strip()
    except VisitorError as error:
        words = error.message
    return f'<p class="words" role="status">{escape(words)}</p>' if words else ""


def palette_cards(session: Session) -> Cards:
    """The directions to add, those that are part of the composition marked."""
    return Cards(preset_items(session.model_id, session.own), session.compose.composition.keys, **PALETTE)


def others_words(session: Session) -> str:
    """How many directions of the visitor's own are for other models, which this one cannot use."""
    models = [preset.model for preset in session.own.values() if preset.model != session.model_id]
    if not models:
        return ""
    titles = ", ".join(known_card(one).title if is_known(one) else one for one in dict.fromkeys(models))
    words = f"{len(models)} more of your directions {'is' if len(models) == 1 else 'are'} for other models: {titles}."
    return f'<p class="words">{escape(words)}</p>'


def shown_composition(
    session: Session, strength: float, process: Process, steps: float, seed: float | None
) -> Shown | None:
    """The picture on the stage: the composition's latest, of the visit's picture."""
    picture, state = current_picture(session), session.compose
    result = state.history.latest(state.composition, words_in_force(session))
    if picture is None or result is None or result.key[:3] != picture.key:
        return None
    options, token = options_of(session, process, steps, seed), ""
    keys = state.composition.keys
    travels = link.model_travels(session.model_id) and link.prompt_travels(picture)
    if travels and not words_in_force(session) and all(link.travels(key) for key in keys):
        about = link.picture_name(picture), options.step_count, options.seed, process, picture.conditioning
        token = link.encode(state.composition, session.model_id, *about)
    return Shown(picture, picture.pixels, result.frame.pixels, result.words, token)


def render(
    session: Session, turn: Turn, process: Process, steps: float, seed: float | None
) -> Iterator[dict[str, Any]]:
    """Values of the stage, until the composition's picture is there.

    Raises:
        Outdated: the visitor has asked for something else.
    """
    picture = current_picture(session)
    if picture is None:
        yield {"hint": HINT}
        return
    base: dict[str, Any] = {"before": before_url(picture), "hint": HINT, "photo": picture.placement is not None}
    composition, history, change = session.compose.composition, session.compose.history, words_in_force(session)
    try:
        chosen = applying.resolve(composition, available_presets(session))
        options = options_of(session, process, steps, seed)
        if not chosen and not change:
            note = "All directions are muted." if composition.components else ""
            yield {**base, "note": f"{note} {without_place(session)}".strip()}
            return
        base["name"] = ", ".join(filter(None, [applying.describe_composition(chosen), change.words if change else ""]))
        key = (*picture.key, composition.effect, options, change)
        result = history.find(key)
        if result is None:
            # The last result of the same picture stays until the new one is there.
            last = next((result for result in reversed(history.results) if result.tab == TITLE), None)
            kept: dict[str, Any] = {}
            if last is not None and last.key[:3] == key[:3]:
                kept = {"frames": frames_json([last.frame]), "seconds": last.seconds, "stale": True}
            yield {**base, **kept, "busy": True, "note": "Starting …", "fraction": 0}
            model = session.model()
            for event in (looking := Running(turn.follow(domain_of(model, picture, to_show=True)))):
                yield {**base, **busy(event), **kept}
            base |= foreign(model.card, looking.result)
            started = time.monotonic()
            running = Running(turn.follow(composed(session, picture, chosen, change, options)))
            for event in running:
                if event.preview is not None or not kept:
                    yield {**base, **busy(event), **kept}
            frame = running.result
            seconds = time.monotonic() - started
            about = {"card": model.card, "picture": picture, "domain": looking.result, "change": change}
            words = ", ".join([base["name"], *options.in_words()])
            about["made"] = what_made_it(picture, chosen, options, change)
            result = history.keep(key, composition, words, picture.pixels[0], frame, seconds, **about)
        base |= foreign(known_card(session.model_id), result.domain)
        shown = {"frames": frames_json([result.frame]), "seconds": result.seconds, "made": result.made}
        yield {**base, **shown, "note": without_place(session)}
    except VisitorError as error:
        yield {**base, "note": error.message, "bad": True}

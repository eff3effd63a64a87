"""Compose: several directions at once, their strengths mixed like channels of a desk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from core import presets
from core.errors import RequestError, VisitorError
from core.imaging import content_hash
from core.models.loader import DiffusionModel, models
from core.progress import finish
from core.studio import library
from core.studio.compose import applying, link
from core.studio.frames import Picture
from core.studio.sample import sample_picture
from core.studio.visit import compose as changes
from core.studio.visit.session import Session
from tabs.compose.history import RESULTS, compared, history_items
from tabs.compose.pictures import Batch, Film, Sweep, options_of
from tabs.compose.share import HubBrowser, Share, fetch
from tabs.compose.similarity import Likeness
from tabs.compose.widgets import Mixer
from tabs.picture import PictureChooser
from tabs.results import busy, frames_json, imagining
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.visit import before_url, current_picture, first_stage, preset_items
from tabs.widgets import Cards, Stage, data_url

TITLE = "Compose"

HINT = "Choose a direction, then another: the picture shows their sum."
QUERY = "compose"

# Properties of cards: an update replaces all of them.
PALETTE: dict[str, Any] = {
    "columns": 4,
    "multiple": True,
    "title": "Directions to add",
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
                    with gr.Tab("From the Hub", id="hub"):
                        hub = HubBrowser()
                opened = gr.UploadButton(
                    "Open a preset file", file_types=[presets.SUFFIX], size="sm", elem_id="compose-open"
                )
        with gr.Column(elem_classes="results"):
            stage = Stage(first_stage(model_id) | {"hint": HINT}, elem_id="compose-stage")
            mixer = Mixer(elem_id="mixer")
            with gr.Accordion("Sweep: two strengths against each other", open=False, elem_id="sweep"):
                sweep = Sweep()
            with gr.Accordion("Filmstrip and animation", open=False, elem_id="animation"):
                film = Film()
            with gr.Accordion("What they share, and how to keep them apart", open=False, elem_id="likeness"):
                alike = Likeness()
            with gr.Accordion("Keep and share", open=False, elem_id="share"):
                share = Share()
            with gr.Accordion("Several pictures at once", open=False, elem_id="batch"):
                batch = Batch()
            with gr.Accordion("History: everything this visit has made", open=False, elem_id="history") as past:
                history = Cards([], [], elem_id="results", **RESULTS)
                comparison = Stage({}, elem_id="comparison", visible=False)
                back = gr.Button("Back to this composition", size="sm", visible=False, elem_id="back")
            with gr.Accordion("Advanced", open=False, elem_id="advanced-compose"), gr.Row():
                steps = gr.Slider(
                    10, 100, 40, step=1, label="Steps", info="of inversion and of editing", elem_id="compose-steps"
                )
                seed = gr.Number(0, label="Seed of the boosting noise", minimum=0, precision=0)

    session, advanced = shell.session, [steps, seed]
    follow = [palette, mixer, *sweep.follow, *alike.follow, *share.follow, steps, seed]
    shown = [stage, *follow]

    def following(visit: Session) -> tuple[Any, ...]:
        """Values of `follow` for the visit's composition."""
        return (
            palette_cards(visit),
            desk(visit),
            *sweep.for_composition(visit),
            *alike.for_composition(visit),
            *share.for_composition(visit),
            *(visit.restored or (gr.skip(), gr.skip())),
        )

    def rendering(visit: Session, *values: Any) -> Values:
        """Values of `shown`: what follows the composition at once, its picture when it is there."""
        ticket, told, visit.composed = visit.begin(), None, None
        for staged in composing(visit, ticket, *(visit.restored or values)):
            # As things are now: another request may have changed the composition since this one began.
            now = visit.composition
            yield staged, *(following(visit) if now is not told else (gr.skip(),) * len(follow))
            told = now
        # And so it may have since the last answer was made, which can arrive after the other request's.
        while visit.composition is not told:
            told = visit.composition
            yield gr.skip(), *following(visit)
        if visit.ticket == ticket and not staged.get("bad"):
            visit.composed = wanted(visit, values)

    @in_words
    def refresh(visit: Session, *values: Any) -> Values:
        """The composition or the visit's own directions may be others than those shown."""
        if visit.composed != wanted(visit, values):
            yield from rendering(visit, *values)

    @in_words
    def toggle(event: gr.EventData, visit: Session, *values: Any) -> Values:
        """A card of the palette: added, or taken out again."""
        key = str(getattr(event, "id", ""))
        if key in visit.composition:
            changes.change(visit, visit.composition.remove(key))
        else:
            changes.add(visit, key)
        yield from rendering(visit, *values)

    @in_words
    def mix(event: gr.EventData, visit: Session, *values: Any) -> Values:
        """Something was done at the desk."""
        at_the_desk(visit, *(getattr(event, name, None) for name in ("what", "key", "value")))
        yield from rendering(visit, *values)

    @in_words
    def take_cell(event: gr.EventData, visit: Session, across: str, down: str, *values: Any) -> Values:
        """The strengths of a sweep's cell become those of the composition, locked or not."""
        composition = visit.composition.lock(False)
        for key, name in ((across, "across"), (down, "down")):
            composition = composition.set(key, getattr(event, name, None))
        changes.change(visit, composition.lock(visit.composition.locked))
        yield from rendering(visit, *values)

    @in_words
    def open_file(visit: Session, path: str | None, *values: Any) -> Values:
        if path is None:
            return
        preset = presets.load(path)
        presets.require_model(preset, models.get(visit.model_id))
        changes.add(visit, visit.keep(preset))
        yield from rendering(visit, *values)

    @in_words
    def pick(event: gr.EventData, visit: Session, picked: list[str] | None) -> tuple[Any, ...]:
        """A result of the history: one is looked at, two are compared."""
        return compared(visit, picked, str(getattr(event, "id", "")))

    @in_words
    def go_back(visit: Session, picked: list[str] | None, *values: Any) -> Values:
        result = visit.history.result(int(picked[-1])) if picked else None
        if result is None:
            raise RequestError("This result is not kept any more. Choose another one.")
        changes.change(visit, result.composition)
        yield from rendering(visit, *values)

    @in_words
    def retune(visit: Session, *values: Any) -> Values:
        """The visitor's own steps or seed."""
        visit.restored = None
        yield from rendering(visit, *values)

    @in_words
    def change_model(visit: Session, model_id: str) -> tuple[Any, ...]:
        visit.change_model(model_id)
        return *chooser.for_model(visit), first_stage(model_id) | {"hint": HINT}, *following(visit)

    given = [session, *advanced]
    unseen = (gr.skip(),) * len(follow)
    chooser.connect(rendering, advanced, shown, lambda event: (imagining(event), *unseen), HEAVY)
    made = [
        palette.release(toggle, given, shown, **HEAVY),
        mixer.release(mix, given, shown, **HEAVY),
        tab.select(refresh, given, shown, **HEAVY),
        gr.on([steps.release, seed.submit], retune, given, shown, **HEAVY),
        opened.upload(open_file, [session, opened, *advanced], shown, **HEAVY),
        sweep.grid.release(take_cell, [session, sweep.across, sweep.down, *advanced], shown, **HEAVY),
        alike.connect(session, HEAVY).then(refresh, given, shown, **HEAVY),
        hub.connect(session, QUIET).then(refresh, given, shown, **HEAVY),
        back.click(go_back, [session, history, *advanced], shown, **HEAVY),
    ]
    # Not one of `shown`: in a closed accordion there are no cards yet, and an update without all their properties, even
    # a skipped one, would leave them without any.
    for event in made:
        event.then(history_cards, session, history, **QUIET)
    past.expand(history_cards, session, history, **QUIET)
    history.release(pick, [session, history], [history, comparison, back], **QUIET)
    sweep.connect(session, advanced, HEAVY)
    film.connect(session, advanced, HEAVY)
    batch.connect(session, advanced, HEAVY)
    share.connect(session, advanced, QUIET).then(palette_cards, session, palette, **QUIET)
    shell.model.change(change_model, [session, shell.model], [*chooser.widgets, *shown], **QUIET)
    # Nothing of this tab can be an output here: Gradio has not made it yet. Opening the tab shows what was restored.
    shell.page.load(restore, session, [tab.parent, shell.model], **QUIET)


# ------------------------------------------------------------------------------------------------------------- at work


def wanted(session: Session, values: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the tab's widgets depend on. values: steps and seed."""
    own = tuple((key, preset.name) for key, preset in session.own.items())
    return session.composition, id(session.picture), session.model_id, own, session.restored or values


def palette_cards(session: Session) -> Cards:
    """The directions to add, those that are part of the composition marked."""
    return Cards(preset_items(session.model_id, session.own), session.composition.keys, **PALETTE)


def desk(session: Session) -> dict[str, Any]:
    """Value of the mixer."""
    known, heard = changes.known(session), session.composition.heard
    parts = []
    for component in session.composition.components:
        preset = known.get(component.key)
        if preset is None:
            continue
        picture = preset.picture()
        low, high = preset.strength_range
        part = {"key": component.key, "name": preset.name, "image": data_url(picture) if picture else None}
        part |= {"strength": component.strength, "unit": preset.strength, "low": low, "high": high}
        parts.append(part | {"muted": component.muted, "solo": component.solo, "heard": component in heard})
    return {"parts": parts, "locked": session.composition.locked, "undo": bool(session.history.past)}


def at_the_desk(session: Session, what: Any, key: Any, value: Any) -> None:
    """One change of the composition as the mixer tells it. Raises RequestError."""
    composition = session.composition
    match what:
        case "undo":
            changes.undo(session)
            return
        case "clear":
            composition = type(composition)(locked=composition.locked)
        case "lock":
            composition = composition.lock(bool(value))
        case "set":
            composition = composition.set(key, value)
        case "mute":
            composition = composition.mute(key, bool(value))
        case "solo":
            composition = composition.solo(key, bool(value))
        case "move" if isinstance(value, int):
            composition = composition.move(key, value)
        case "remove":
            composition = composition.remove(key)
        case _:
            raise RequestError("This change is not understood. Try it again.")
    changes.change(session, composition)


@in_words
def restore(session: Session, request: gr.Request) -> tuple[Any, ...]:
    """The page was opened by a link: its composition, its picture, and this tab."""
    token = request.query_params.get(QUERY)
    if not token:
        return gr.skip(), gr.skip()
    restored = link.decode(token)
    model = models.get(restored.model_id)
    session.change_model(restored.model_id)
    session.picture = named_picture(model, restored.picture)
    session.restored = restored.steps, restored.seed
    changes.change(session, fetch(session, restored.composition))
    return gr.Tabs(selected=TITLE), restored.model_id


def named_picture(model: DiffusionModel, name: str) -> Picture | None:
    """The picture that a link means: an example, or a sample by its seed; None if it names none that is here."""
    if name.startswith("seed-"):
        return finish(sample_picture(model, int(name.removeprefix("seed-"))))
    for path in library.examples(model.card.id):
        if path.stem == name:
            return replace(library.open_picture(path, model.card.id), example=name)
    return None


def history_cards(session: Session) -> Cards:
    """Everything that this visit has made."""
    return Cards(history_items(session), [], **RESULTS)


def composing(session: Session, ticket: int, steps: float, seed: float | None) -> Iterator[dict[str, Any]]:
    """Values of the stage, until done or until the visitor asks for something else."""
    picture = current_picture(session)
    if picture is None:
        yield {"hint": HINT}
        return
    base: dict[str, Any] = {"before": before_url(picture), "hint": HINT}
    try:
        chosen, options = changes.chosen(session), options_of(steps, seed)
        if not chosen:
            note = "All directions are muted." if session.composition.components else ""
            yield {**base, "note": note}
            return
        base["name"] = applying.in_words(chosen)
        heard = session.composition.heard
        key = (content_hash(picture.pixels), session.model_id, frozenset((c.key, c.strength) for c in heard), options)
        result = session.history.find(key)
        if result is None:
            # The last picture stays until the new one is there.
            last = session.history.results[-1] if session.history.results else None
            there = last is not None and last.key[0] == key[0]
            kept = {"frames": frames_json([last.frame]), "seconds": last.seconds} if there else {}
            yield {**base, **kept, "busy": True, "note": "Starting …", "fraction": 0}
            started = time.monotonic()
            model = models.get(session.model_id)
            for event in applying.apply(model, picture, [(preset, [c]) for preset, c in chosen], options):
                if session.ticket != ticket:
                    return
                if event.result is None and (event.preview is not None or not there):
                    yield {**base, **busy(event), **kept}
            before, [frame] = picture.pixels[0], event.result
            seconds = time.monotonic() - started
            result = session.history.keep(key, session.composition, base["name"], before, frame, seconds)
        yield {**base, "frames": frames_json([result.frame]), "seconds": result.seconds}
    except VisitorError as error:
        yield {**base, "note": error.message, "bad": True}

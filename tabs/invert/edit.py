"""The second panel of Invert: other words for the inverted picture, with attention control, region and strength."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Literal

import gradio as gr
from torch import Tensor

from core.errors import RequestError, VisitorError, shortened
from core.imaging import to_pil
from core.inversion.alignment import words_of
from core.inversion.editing import Attention, PromptEditSettings
from core.inversion.robustness import with_counterpart
from core.models.t2i_cards import TextToImageCard
from core.progress import Running, finish
from core.regions import MAX_REGIONS, parse_regions, union
from core.studio.compose.composition import Composition
from core.studio.invert import targets
from core.studio.invert.automatic import choose
from core.studio.invert.state import InvertedEdit
from core.studio.invert.targets import PromptEdits
from core.studio.invert.trial import Trial
from core.studio.keeping import Shown, nearest
from core.studio.turns import Outdated
from core.studio.visit.invert import source_of
from core.studio.visit.session import Session
from core.studio.words import remark
from core.text_to_image import TextToImage, load_text_to_image
from tabs.invert.jobs import IDLE, PROGRESS_INTERVAL, RUNNING, stop, working
from tabs.invert.reconstructions import cut_note, picture_url
from tabs.invert.words import label
from tabs.keeping import Keeping
from tabs.regions import Drawn, RegionBoard, ready_made_regions
from tabs.results import frames_json
from tabs.shell import HEAVY, QUIET, Shell, in_words
from tabs.visit import message, notes
from tabs.widgets import Cards, Stage, data_url, weights_input

ATTENTION = [
    ("Automatic: what suits the change of words", "auto"),
    ("Swap: replaced words take over the places of the old ones", "swap"),
    ("Refine: only new words act", "refine"),
    ("None: the whole picture may change", "none"),
]
HINT = "Write what the picture should show instead."
STEPS = [
    "Write the source prompt again with a word changed, replaced or added; a line for each version.",
    "All of them start from the noise of your picture, in one batch. Attention control keeps what the words do not "
    "change in its place; a region keeps all the rest exactly.",
    "The strength goes from the source to the target, and a little beyond.",
]
CARDS: dict[str, Any] = {"columns": 6, "title": "Target prompts", "nothing": ""}
KIND = "edit"
MAX_NAME = 120  # characters of a prompt where it names its picture

Values = Iterator[tuple[Any, ...]]


class Editor:
    """Widgets of the panel. `shown`: all that depends on the inversion that is edited."""

    def __init__(self, card: TextToImageCard, picture: Tensor | None, model_id: str) -> None:
        with gr.Row(elem_classes="asked"):
            with gr.Column(min_width=280, scale=3):
                self.prompts = gr.Textbox(
                    label="What it should show, one per line (target prompts)",
                    lines=3,
                    max_lines=targets.MAX_PROMPTS,
                    placeholder="a smiling face with glasses",
                    elem_id="targets",
                )
            with gr.Column(min_width=240, scale=2):
                self.attention = gr.Radio(
                    ATTENTION, value="auto", label="What stays in its place (attention)", elem_id="attention"
                )
        with gr.Accordion("Only in a part of the picture", open=False, elem_id="edit-region"):
            self.board = RegionBoard(
                [],
                image="" if picture is None else picture_url(picture),
                max_regions=MAX_REGIONS,
                elem_classes="narrow",
                **ready_made_regions(model_id),
            )
        with gr.Accordion("How strongly words count, and what is kept", open=False, elem_id="edit-advanced"):
            with gr.Row():
                self.guidance = gr.Slider(
                    1,
                    15,
                    card.working_guidance,
                    step=0.5,
                    label="How strongly the words count (guidance)",
                    info="of the target; 1 is none",
                    elem_id="edit-guidance",
                )
                self.weights = weights_input("weights")
            with gr.Row():
                self.cross = gr.Slider(
                    0,
                    1,
                    card.cross_steps,
                    step=0.05,
                    label="Keep where words act (cross-attention)",
                    info="share of the steps",
                )
                self.itself = gr.Slider(
                    0, 1, 0.4, step=0.05, label="Keep the layout (self-attention)", info="share of the steps"
                )
        with gr.Row(elem_classes="actions"):
            self.edit = gr.Button("Edit", variant="primary", min_width=140, elem_id="edit-inverted")
            self.stop = gr.Button("Stop", visible=False, min_width=140, elem_id="stop-edit")
        # Below the buttons: what appears when the prompts are left must not move the button that is being pressed.
        self.told = gr.HTML(elem_id="targets-told")
        self.note = gr.HTML(elem_id="edit-said")
        self.cards = Cards([], None, elem_id="edited", visible=False, **CARDS)
        self.stage = Stage({}, elem_id="edit-stage")
        self.keeping = Keeping("invert")
        self.buttons = [self.edit, self.stop]
        self.shown = [self.note, self.cards, self.stage]
        self.former, self.offered = gr.Textbox("", visible=False), gr.Textbox("", visible=False)
        self.opening = [self.board, *self.shown, self.former, self.offered]
        self.defaults = [self.guidance, self.cross]
        self.inputs = [self.attention, self.board, self.guidance, self.weights, self.cross, self.itself]

    def connect(self, shell: Shell) -> None:
        session = shell.session
        self.edit.click(run, [session, self.prompts, *self.inputs], [*self.shown, *self.buttons], **HEAVY)
        self.prompts.blur(unknown_note, [session, self.prompts], self.told, queue=False, **QUIET)
        self.edit.click(lambda: "", None, self.told, queue=False, **QUIET)  # the edit itself says it
        self.stop.click(stop, session, self.stop, queue=False, **QUIET)
        self.cards.input(look, [session, self.cards], self.stage, **QUIET)
        self.stage.release(exact, session, self.stage, **HEAVY)
        self.keeping.connect(shell, self.stage, shown_edit)
        self.board.connect(session, drawn_on)


# In the browser, so that what the visitor has written meanwhile stays, and what they have taken out stays out.
OFFER = """(former, offered, written) => {
    const text = written || "", bare = text.trim();
    if (!offered || ![former, ""].includes(bare) || (!bare && window.hspaceOffered === offered)) return text;
    return (window.hspaceOffered = offered);
}"""


@in_words
def open_panel(session: Session, written: str) -> tuple[Any, ...]:
    """The panel was opened: values of `opening`."""
    return *opened(session), *offered_target(session, written)


def offered_target(session: Session, written: str) -> tuple[str, str]:
    """What was offered before and what is now, once there is an inversion; see `OFFER`. The targets start from what the
    picture shows, a word of it changed where one has a counterpart."""
    state = session.invert
    inversion, former, offered = state.inversion, state.target_offered, ""
    if inversion is not None and (written or "").strip() in {"", former}:
        state.target_offered = offered = with_counterpart(inversion.prompt)
    return former, offered


def opened(session: Session) -> tuple[Any, ...]:
    """The panel was opened: values of its board and of `shown`, for the inversion that is chosen now."""
    state = session.invert
    inversion = state.inversion
    # What was said of this inversion stays: the visitor may have asked for an edit before this answer comes.
    note, state.noted = gr.skip() if inversion is state.noted else "", inversion
    if inversion is None:
        return gr.skip(), note, gr.update(visible=False), {"hint": "Invert the picture first.", "steps": STEPS}
    picture = picture_url(inversion.pixels)
    # All properties, because those of a widget that has not been shown yet are replaced by what comes.
    board = gr.update(image=picture, max_regions=MAX_REGIONS, **ready_made_regions(session.model_id))
    if state.edits is None:
        hint = f"Inverted by {label(inversion.method)}. {HINT}"
        return board, note, gr.update(visible=False), {"before": picture, "hint": hint, "steps": STEPS}
    return board, note, cards(state.edits), edited(state.edits)


def drawn_on(session: Session) -> Drawn:
    """The picture on the board: what was inverted."""
    state = session.invert
    if state.trial is None or state.inversion is None:
        return None
    pixels = state.inversion.pixels
    return pixels, source_of(session, state.trial.card, pixels).placement


@in_words
def unknown_note(session: Session, written: str | None) -> str:
    """Which words of the targets the model does not know."""
    trial = session.invert.trial
    said = "" if trial is None else remark(trial.card, written or "")
    return notes([said] if said else [])


# --------------------------------------------------------------------------------------------------------------- edit


def requested_edits(
    session: Session,
    prompts: str,
    attention: Attention | Literal["auto"],
    value: Any,
    guidance: float,
    weights: str,
    cross: float,
    itself: float,
) -> PromptEdits:
    """The edits that the visitor wants, with nothing done yet. Raises RequestError."""
    state = session.invert
    if state.trial is None or state.inversion is None:
        raise RequestError("There is nothing to edit yet. Invert the picture first.")
    card, inversion = state.trial.card, state.inversion
    region = union(parse_regions(value, card.resolution)) if value else None
    lines, by_word = targets.read_prompts(prompts or ""), targets.read_weights(weights or "")
    if all(words_of(line) == words_of(inversion.prompt) for line in lines):
        raise RequestError("The target says what the source says. Change, add or take out a word.")
    own: dict[str, Any] = {"guidance": float(guidance or 0), "cross_steps": float(cross or 0)}
    own |= {"self_steps": float(itself or 0), "region": region}
    if attention != "auto":
        return targets.begin_edits(card, inversion, lines, PromptEditSettings(attention=attention, **own), by_word)
    chosen = choose(load_text_to_image(card), card, inversion, lines, bool(by_word))
    edits = targets.begin_edits(card, inversion, lines, chosen.settings(**own), by_word)
    edits.note, edits.worded = chosen.note, dict(chosen.worded)
    return edits


@in_words
def run(session: Session, *values: Any) -> Values:
    """Values of `shown` and of the buttons: every target first, then the strips of strengths."""
    state, skip, trial = session.invert, gr.skip(), session.invert.trial
    turn, state.noted = state.jobs.begin(KIND), state.inversion
    try:
        edits = requested_edits(session, *values)
        base = {"before": picture_url(edits.inversion.pixels), "plain": True}
        yield "", skip, {**base, "busy": True, "note": "Starting …", "fraction": 0}, *RUNNING
        model = load_text_to_image(edits.card)
        state.edits, version, last_report, preview = None, 0, 0.0, None
        with suppress(Outdated):
            for event in Running(turn.follow(targets.run(edits, model))):
                if edits.version != version:
                    notes = skip
                    if not version:
                        state.edits, notes = edits, remarks(edits, model)
                    version = edits.version
                    yield notes, cards(edits), {**edited(edits), "note": f"{event.note} …"}, skip, skip
                elif not version and (event.preview is not None or time.monotonic() - last_report > PROGRESS_INTERVAL):
                    shown = working(event, preview)
                    last_report, preview = time.monotonic(), shown["preview"]
                    yield skip, skip, {**base, **shown}, skip, skip
        keep_results(session, edits, trial)
        if turn.is_last_of_kind:
            yield skip, skip, opened(session)[-1], *IDLE
    except VisitorError as error:
        yield message(error), skip, opened(session)[-1], *IDLE
    except Exception:
        yield skip, skip, opened(session)[-1], *IDLE
        raise


def keep_results(session: Session, edits: PromptEdits, trial: Trial | None) -> None:
    """Every target at strength 1 is part of the visit's history."""
    picture, history = session.picture, session.compose.history
    for prompt, frames in edits.frames.items():
        frame = next(frame for frame in frames if frame.strength == 1)
        inverted = None if trial is None else InvertedEdit(trial, edits, prompt)
        about = {
            "tab": "Invert",
            "card": edits.card,
            "picture": picture,
            "inverted": inverted,
            "made": edits.made(prompt),
        }
        before, method = edits.inversion.pixels[0], label(edits.inversion.method)
        key = (id(edits), prompt)
        history.keep(key, Composition(), f"{shortened(prompt)} ({method})", before, frame, edits.seconds, **about)


@in_words
def exact(event: gr.EventData, session: Session) -> Iterator[dict[str, Any]]:
    """A strength outside the strip, computed for itself and added to what is there."""
    state, strength = session.invert, getattr(event, "strength", None)
    edits = state.edits
    if edits is None or not isinstance(strength, int | float):
        return
    turn, prompt = state.jobs.begin(KIND), edits.shown
    strength = round(min(max(float(strength), targets.MIN_STRENGTH), targets.MAX_STRENGTH), 3)
    job = targets.add_strength(edits, load_text_to_image(edits.card), prompt, strength)
    finish(turn.follow(job))
    yield {**edited(edits), "strength": strength}


def shown_edit(session: Session, strength: float) -> Shown | None:
    """The target on the stage at a strength. It goes back into the photograph that the visit has, if it is of that."""
    edits = session.invert.edits
    frame = None if edits is None else nearest(edits.frames[edits.shown], strength)
    if edits is None or frame is None:
        return None
    before = edits.inversion.pixels
    picture = source_of(session, edits.card, before)
    return Shown(picture, before, frame.pixels, f"{shortened(edits.shown)} {frame.strength:g}")


@in_words
def look(session: Session, prompt: str) -> dict[str, Any]:
    """Another target on the stage."""
    edits = session.invert.edits
    if edits is None or prompt not in edits.frames:
        raise RequestError("This picture is no longer here. Edit again.")
    edits.shown = prompt
    return edited(edits)


def edited(edits: PromptEdits) -> dict[str, Any]:
    """The stage with the strengths of the shown target."""
    return {
        "before": picture_url(edits.inversion.pixels),
        "name": shortened(edits.shown, MAX_NAME),
        "plain": True,
        "low": targets.MIN_STRENGTH,
        "high": targets.MAX_STRENGTH,
        "strength": 1.0,
        "seconds": edits.seconds,
        "strip": list(targets.STRENGTHS),
        "photo": None,
        "frames": frames_json(edits.frames[edits.shown]),
        "made": edits.made(edits.shown),
    }


def cards(edits: PromptEdits) -> Any:
    """The targets at strength 1, to choose between; nothing if there is one."""
    items = []
    for prompt, frames in edits.frames.items():
        frame = next(frame for frame in frames if frame.strength == 1)
        items.append(
            {"id": prompt, "name": shortened(prompt, MAX_NAME), "image": data_url(to_pil(frame.pixels)[0], quality=88)}
        )
    return Cards(items, edits.shown, visible=len(items) > 1, **CARDS)


def remarks(edits: PromptEdits, model: TextToImage) -> str:
    """What the visitor should know of what was done."""
    cut_off = []
    for number, prompt in enumerate(edits.prompts, start=1):
        if cut := model.words_cut(prompt):
            what = "The target prompt" if len(edits.prompts) == 1 else f"Target prompt {number}"
            cut_off.append(cut_note(what, prompt, cut))
    told = remark(edits.card, edits.inversion.prompt, *edits.prompts)
    return "".join(cut_off) + notes([words for words in (told, edits.note) if words])

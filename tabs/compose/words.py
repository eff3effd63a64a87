"""The section of Compose that changes words in the same pass as directions, in a text-to-image model."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from core.errors import RequestError
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.regions import READY_MADE
from core.studio.compose.word_change import MAX_GUIDANCE, Axis, WordChange, axis_name, new_words, read_change
from core.studio.invert.targets import MAX_STRENGTH, MIN_STRENGTH
from core.studio.known_models import known_card, takes_prompt
from core.studio.visit.session import Session
from core.studio.visit.words import words_in_force
from core.studio.words import remark
from tabs.shell import QUIET, in_words
from tabs.visit import current_picture, notes
from tabs.widgets import weights_input

EVERYWHERE, DRAWN = "", "drawn"
ABOUT = (
    "Write what the picture shows with a word changed, added or taken out. Words and directions act in one pass, from "
    "the picture's inversion, which is made once and takes longer. Filmstrips, several pictures at once, presets and "
    "links are of the directions alone."
)
AS_WRITTEN: tuple[Any, ...] = (gr.skip(),) * 5  # values of `WordsSection.written`
AXIS = "words:"  # before the axis, in the place of a direction's key


class WordsSection:
    """`written`: what says the change of words. `follow`: what depends on the model."""

    def __init__(self, model_id: str) -> None:
        with gr.Accordion(
            "Change the words too", open=False, visible=takes_prompt(model_id), elem_id="compose-words"
        ) as self.panel:
            gr.HTML(f'<p class="words">{ABOUT}</p>')
            self.target = gr.Textbox(
                label="What it should show (target prompt)", lines=2, max_lines=4, elem_id="compose-target"
            )
            with gr.Row():
                self.strength = gr.Slider(
                    MIN_STRENGTH,
                    MAX_STRENGTH,
                    1,
                    step=0.05,
                    label="How far the words go",
                    info="0 is the picture's own prompt, 1 the target",
                    min_width=260,
                    elem_id="words-strength",
                )
                self.guidance = gr.Slider(
                    1,
                    MAX_GUIDANCE,
                    usual_guidance(model_id),
                    step=0.5,
                    label="How strongly words count (guidance)",
                    info="1 is none",
                    min_width=260,
                    elem_id="words-guidance",
                )
            with gr.Row():
                self.weights = weights_input("words-weights", 200)
                self.where = gr.Dropdown(
                    places(model_id), value=EVERYWHERE, label="Where anything may change", elem_id="words-where"
                )
            with gr.Row(elem_classes="actions"):
                self.apply = gr.Button("Apply the words", variant="primary", min_width=140, elem_id="apply-words")
                self.leave = gr.Button("Without words", min_width=140, elem_id="leave-words")
            self.told = gr.HTML(elem_id="words-told")
        self.written = [self.target, self.strength, self.guidance, self.weights, self.where]
        self.follow = [self.panel, *self.written[1:]]

    def for_model(self, session: Session) -> tuple[Any, ...]:
        """Values of `follow` for a model that was just chosen. The target is offered when the tab is opened."""
        return gr.update(visible=takes_prompt(session.model_id)), *written_values(session)[1:]

    def connect(self, session: gr.State, tab: gr.Tab, prompt: gr.Textbox) -> None:
        """What happens within the section. prompt: what the picture shows."""
        written = [session, self.target]
        gr.on([tab.select, prompt.change], offer, written, [self.target, self.told], **QUIET)
        self.target.blur(told, written, self.told, queue=False, **QUIET)


def usual_guidance(model_id: str) -> float:
    """That of a model's edits by words."""
    card = TEXT_TO_IMAGE.get(model_id)
    return card.working_guidance if card is not None else 1.0


def places(model_id: str) -> list[tuple[str, str]]:
    """Where anything may change."""
    ready = [(label, label) for label in READY_MADE.get(known_card(model_id).domain_word, {})]
    return [("Everywhere", EVERYWHERE), *ready, ("What is drawn in Discover", DRAWN)]


def written_values(session: Session) -> tuple[Any, ...]:
    """Values of `written` for the change of words that is in force."""
    change, model_id = words_in_force(session), session.model_id
    guidance = usual_guidance(model_id) if change.guidance is None else change.guidance
    weights = ", ".join(f"{word} {weight:g}" for word, weight in change.weights)
    labels = [label for _, label in places(model_id) if label != DRAWN]
    where = next((label for label in labels if region_json(session, label) == change.where), DRAWN)
    return change.target, change.strength, guidance, weights, gr.update(choices=places(model_id), value=where)


@in_words
def follow_change(session: Session, written: str | None) -> tuple[Any, ...]:
    """Values of `written` and told after something else has changed what is in force; what is written stays where there
    is no change of words."""
    values = AS_WRITTEN
    if words_in_force(session):
        values = written_values(session)
        session.compose.target_offered = written = values[0]
    return *values, told(session, written)


@in_words
def follow_undo(session: Session, written: str | None) -> tuple[Any, ...]:
    """Likewise after something was done at the mixing desk: an undo may have been of the words."""
    undone, session.compose.words_undone = session.compose.words_undone, False
    return follow_change(session, written) if undone else (*AS_WRITTEN, told(session, written))


@in_words
def offer(session: Session, written: str | None) -> tuple[Any, Any]:
    """The tab was opened, or the picture is another one: the target that is in force, or what the picture shows, of
    which a word can be changed. Values of target and told."""
    if not takes_prompt(session.model_id):
        return gr.skip(), gr.skip()
    picture, state = current_picture(session), session.compose
    target = words_in_force(session).target or ("" if picture is None else picture.conditioning)
    if (written or "").strip() not in {"", state.target_offered} or not target:
        return gr.skip(), told(session, written)
    state.target_offered = target
    return target, told(session, target)


@in_words
def told(session: Session, written: str | None) -> str:
    """Which words of the target the model does not know, and that words which were applied have no place in this
    picture's prompt."""
    said = [remark(known_card(session.model_id), written or "")] if takes_prompt(session.model_id) else []
    return notes([one for one in (*said, without_place(session)) if one])


def without_place(session: Session) -> str:
    """That words which were applied to another picture are not to this one; "" if they are, or there are none."""
    asked = session.compose.change_of_words
    if not asked or words_in_force(session):
        return ""
    return f"{asked.words} is not applied here: what this picture shows has no place for it."


def asked_for(
    session: Session, target: str | None, strength: float, guidance: float, weights: str | None, where: str | None
) -> WordChange:
    """The change that the visitor asks for. Raises RequestError."""
    picture = current_picture(session)
    if picture is None:
        raise RequestError("There is no picture. Choose one first.")
    usual = usual_guidance(session.model_id)
    own = None if guidance == usual else float(guidance)
    change = read_change(picture, target or "", float(strength), own, weights or "", region_json(session, where or ""))
    if not change:
        raise RequestError("Write what the picture should show instead, or leave the words as they are.")
    return change


def region_json(session: Session, where: str) -> str:
    """The regions of a place, as a change of words keeps them. Raises RequestError: nothing is drawn."""
    if where == EVERYWHERE:
        return ""
    if where == DRAWN:
        if not session.discover.drawn:
            raise RequestError("Nothing is drawn in Discover. Draw a region there, or choose another place.")
        return json.dumps(session.discover.drawn)
    boxes = READY_MADE.get(known_card(session.model_id).domain_word, {})
    if where not in boxes:
        raise RequestError("There is no such place. Choose another one.")
    return json.dumps([{"label": where, "boxes": [boxes[where]]}])


def axis_choices(session: Session) -> list[tuple[str, str]]:
    """What of the change of words a sweep can go along."""
    change, picture = words_in_force(session), session.picture
    if not change or picture is None:
        return []
    axes = [(axis_name(axis).capitalize(), f"{AXIS}{axis}") for axis in ("strength", "guidance")]
    words = new_words(picture, change)
    return [*axes, *((axis_name("weight", word).capitalize(), f"{AXIS}weight:{word}") for word in words)]


def axis_of(key: str) -> tuple[Axis, str] | None:
    """(axis, word) of a choice of `axis_choices`; None: it is a direction's key."""
    if not key.startswith(AXIS):
        return None
    axis, _, word = key.removeprefix(AXIS).partition(":")
    return axis, word  # type: ignore[return-value]


def axis_range(session: Session, key: str) -> tuple[float, float]:
    """Where a sweep along an axis begins and ends, until the visitor says."""
    axis = axis_of(key)
    if axis is None or axis[0] == "strength":
        return 0.0, 1.0
    return (1.0, 2 * usual_guidance(session.model_id)) if axis[0] == "guidance" else (-1.0, 2.0)

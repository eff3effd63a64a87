"""`/compose_words`: directions and a change of words in one pass, for programs."""

from __future__ import annotations

import json
import time
from typing import Any

import gradio as gr

from core.models.t2i_cards import TEXT_TO_IMAGE
from core.studio.compose import applying
from core.studio.compose.word_change import MAX_GUIDANCE, read_change
from core.studio.frames import EditOptions
from core.studio.photographs import given_back, require_returned
from core.studio.visit.session import Session
from core.studio.visit.words import composed
from tabs.compose.endpoints import chosen_directions
from tabs.endpoints import (
    COMPOSITION_LABEL,
    REGIONS_LABEL,
    Answers,
    declare,
    given_picture,
    picture_input,
    placement_input,
    prompt_input,
    returned_input,
    stream_progress,
    told_placement,
    told_prompt,
)
from tabs.shell import Shell

FIRST, MODEL = "avatars-t2i", "Text-to-image model: its id"


def build(shell: Shell) -> None:
    """Declare the endpoint; its parameters are components that are never shown."""
    with gr.Column(visible=False):
        image = picture_input()
        composition = gr.Textbox("{}", label=f"{COMPOSITION_LABEL}; {{}} for words alone")
        target = gr.Textbox("", label="What the picture should show: its prompt with a word changed, added or left out")
        strength = gr.Number(1.0, label="How far the words go: 0 is the picture's own prompt, 1 the target, up to 1.5")
        guidance = gr.Number(0, label=f"How strongly words count, 1 to {MAX_GUIDANCE:g}; 0: the model's usual one")
        weights = gr.Textbox("", label="More or less of single words, for example 'smiling 2, glasses 0.5', -5 to 5")
        regions = gr.JSON({}, label=f"{REGIONS_LABEL}; outside nothing changes; none for everywhere")
        model = gr.Dropdown(list(TEXT_TO_IMAGE), value=FIRST, label=MODEL, allow_custom_value=True)
        picture, about = gr.Image(label="Picture", format="png"), gr.JSON(label="About it")
        asked = [image, composition, target, strength, guidance, weights, regions, model]
        asked += [placement_input(), returned_input(), prompt_input()]
        declare(shell, compose_words, asked, [picture, about])


def compose_words(
    session: Session,
    image: str | None,
    composition: str,
    target: str,
    words_strength: float,
    guidance: float,
    weights: str,
    regions: Any,
    model: str,
    placement: Any,
    returned: str,
    prompt: str = "",
) -> Answers:
    """Apply directions and a change of words to a picture in one pass, in a text-to-image model.

    The words are changed as by prompt-to-prompt on the picture's anchored inversion, which is made once for a session;
    the directions, presets by their names, act in the same steps.

    Returns the picture and a JSON of measures and the seconds taken. Until then the JSON tells how far it is.
    """
    started = time.monotonic()
    require_returned(returned)
    source = given_picture(image, model, placement, prompt)
    named = (composition or "").strip()
    chosen = chosen_directions(session, named, model) if named not in ("", "{}") else []
    where = json.dumps(regions) if regions else ""
    change = read_change(source, target or "", words_strength, guidance or None, weights or "", where)
    frame = yield from stream_progress(composed(session, source, chosen, change, EditOptions()))
    about: dict[str, Any] = {"model": model, "composition": applying.describe_composition(chosen)}
    about |= {"words": change.words if change else "", "seconds": round(time.monotonic() - started, 2)}
    about |= {"placement": told_placement(source)} | told_prompt(source)
    yield given_back(source, frame.pixels, returned), about | frame.measures.as_json()

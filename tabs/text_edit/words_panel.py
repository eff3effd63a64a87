"""The panel in which a direction is trained from words: the words, the paper's to try, and how it is trained."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.asyrp.prompts import TABLE_2
from core.studio.known_models import known_card
from core.studio.train import SUGGESTED
from tabs.shell import QUIET
from tabs.text_edit.training import discard_training, stop_training, words_note

TRAINED = [
    ("Fast: the same change for every picture, about a minute (one global Δh)", "global"),
    ("Thorough: depends on the picture, a few minutes (implicit, f_t)", "implicit"),
    ("One change for each noise level, the same for every picture (Δh per timestep)", "per_timestep"),
]
LATENTS = [
    ("Random noise: changes more", "random"),
    ("Pictures, inverted first: keeps more of them", "inverted"),
]
PAPERS = [
    (f"{data}: {source} → {target}", f"{source} → {target}")
    for data, pairs in TABLE_2.items()
    for source, target in pairs
]


class WordsPanel:
    """Its widgets. written: what a training is begun with, after the session. shown: what it changes."""

    def __init__(self, model_id: str) -> None:
        few, short = SUGGESTED["global"]
        with gr.Column(elem_classes="section") as self.words:
            self.source = gr.Textbox(
                known_card(model_id).domain_word, label="What the pictures show", max_lines=1, elem_id="source-text"
            )
            self.target = gr.Textbox(
                label="What they should show", placeholder="face with a red beard", max_lines=1, elem_id="target-text"
            )
            self.papers = gr.Dropdown(
                PAPERS, value=None, label="Or words of the paper to try (Asyrp, Table 2)", elem_id="paper-texts"
            )
            self.form = gr.Radio(TRAINED, value="global", label="How", elem_id="form")
            with gr.Accordion("Training settings", open=False, elem_id="training-settings"):
                self.latents = gr.Radio(LATENTS, value="random", label="What it learns from", elem_id="latents")
                self.files = gr.File(
                    label="Your own pictures to learn from, if you like: 4 to 200",
                    file_count="multiple",
                    file_types=["image"],
                    type="filepath",
                    height=170,
                    visible=False,
                    elem_id="training-pictures",
                )
                self.samples = gr.Slider(8, 512, few, step=8, label="Samples", info="pictures to learn from")
                self.steps = gr.Slider(8, 60, short, step=1, label="Steps", info="of the process")
                self.coefficient = gr.Slider(
                    0,
                    3,
                    0,
                    step=0.1,
                    label="How strongly the words count (λ)",
                    info="0: as the paper has it for these words (its Table 3), 0.8 for others",
                    elem_id="coefficient",
                )
            self.train = gr.Button("Train this direction", variant="primary", elem_id="train")
            # Below the button, so that it does not move while it is pressed.
            self.unknown = gr.HTML(elem_id="unknown-words")
        with gr.Row(visible=False) as self.stopping:
            self.stop = gr.Button("Stop and keep", elem_id="stop", min_width=120)
            self.discard = gr.Button("Discard", elem_id="discard", min_width=100)
        self.training = gr.HTML(elem_id="training")
        how = (self.form, self.samples, self.steps, self.coefficient, self.latents, self.files)
        self.written = [self.source, self.target, *how]
        self.shown = [self.training, self.words, self.stopping]

    def connect(self, session: gr.State) -> None:
        """What happens within the panel."""
        written = [session, self.source, self.target]
        self.stop.click(stop_training, session, self.stop, queue=False, **QUIET)
        self.discard.click(discard_training, session, self.stop, queue=False, **QUIET)
        gr.on([self.source.blur, self.target.blur, self.target.submit], words_note, written, self.unknown, **QUIET)
        self.papers.input(texts_of, self.papers, [self.source, self.target], **QUIET).then(
            words_note, written, self.unknown, **QUIET
        )
        self.form.input(lambda form: SUGGESTED[form], self.form, [self.samples, self.steps], **QUIET)
        self.latents.input(lambda chosen: gr.update(visible=chosen == "inverted"), self.latents, self.files, **QUIET)


def texts_of(chosen: str | None) -> tuple[Any, Any]:
    """The two texts of a row of the paper's table."""
    source, arrow, target = (chosen or "").partition(" → ")
    return (source, target) if arrow else (gr.skip(), gr.skip())

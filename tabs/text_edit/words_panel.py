"""The panel in which a direction is trained from words: the words, the paper's to try, and how it is trained."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.asyrp.prompts import TABLE_2
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.studio.between_prompts import FITTED, HERE, MEAN, WAYS
from core.studio.known_models import known_card, takes_prompt, usual_prompt
from core.studio.train import SUGGESTED
from tabs.shell import QUIET
from tabs.text_edit.training import discard_training, stop_training, words_note

TRAINED = [
    ("Fast: the same change for every picture, about a minute (one global Δh)", "global"),
    ("Thorough: depends on the picture, a few minutes (implicit, f_t)", "implicit"),
    ("One change for each noise level, the same for every picture (Δh per timestep)", "per_timestep"),
]
BY_PROMPTS = [
    ("For this picture: about half a minute (Δh per timestep, fitted to what the words do to it)", HERE.form),
    ("For any picture: a minute or two (Δh per timestep, fitted to what the words do)", FITTED.form),
    ("By the mean of what they do to h: seconds, weak for many words (Δh per timestep)", MEAN.form),
]
LATENTS = [
    ("Random noise: changes more", "random"),
    ("Pictures, inverted first: keeps more of them", "inverted"),
]
BUTTON = ("Train this direction", "Make this direction")  # if it is trained by an image-text model, and if not
PAPERS = [
    (f"{data}: {source} → {target}", f"{source} → {target}")
    for data, pairs in TABLE_2.items()
    for source, target in pairs
]


class WordsPanel:
    """Its widgets. written: what a training is begun with, after the session. shown: what it changes. follow: what
    depends on the model."""

    def __init__(self, model_id: str) -> None:
        self.way = first_form(model_id)
        few, short = suggested_numbers(self.way)
        drawn = draws_pictures(self.way)
        with gr.Column(elem_classes="section") as self.words:
            of_source, of_target = labels(model_id)
            self.source = gr.Textbox(first_words(model_id), **of_source, max_lines=1, elem_id="source-text")
            self.target = gr.Textbox(**of_target, max_lines=1, elem_id="target-text")
            self.papers = gr.Dropdown(
                PAPERS, value=None, label="Or words of the paper to try (Asyrp, Table 2)", elem_id="paper-texts"
            )
            self.form = gr.Radio(forms(model_id), value=self.way, label="How", elem_id="form")
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
                self.samples = gr.Slider(
                    8, 512, few, step=8, label="Samples", info="pictures to learn from", visible=drawn
                )
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
            self.train = gr.Button(BUTTON[self.way in WAYS], variant="primary", elem_id="train")
            # Below the button, so that it does not move while it is pressed.
            self.unknown = gr.HTML(elem_id="unknown-words")
        with gr.Row(visible=False) as self.stopping:
            self.stop = gr.Button("Stop and keep", elem_id="stop", min_width=120)
            self.discard = gr.Button("Discard", elem_id="discard", min_width=100)
        with gr.Row(visible=False) as self.ending:
            self.end = gr.Button("Stop", elem_id="end", min_width=120)
        self.training = gr.HTML(elem_id="training")
        self.of_training = [self.latents, self.coefficient]
        self.follow = [self.source, self.target, self.form, self.samples, self.steps, self.train, *self.of_training]
        how = (self.form, self.samples, self.steps, self.coefficient, self.latents, self.files)
        self.written = [self.source, self.target, *how]
        self.shown = [self.training, self.words, self.stopping, self.ending]

    def for_model(self, model_id: str) -> tuple[Any, ...]:
        """Values of `follow` for a model that was just chosen."""
        way, (of_source, of_target) = first_form(model_id), labels(model_id)
        source = gr.update(value=first_words(model_id), **of_source)
        return source, gr.update(**of_target), gr.update(choices=forms(model_id), value=way), *settings_for(way)

    def connect(self, session: gr.State) -> None:
        """What happens within the panel."""
        written = [session, self.source, self.target]
        self.stop.click(stop_training, session, queue=False, **QUIET)
        for button in (self.discard, self.end):
            button.click(discard_training, session, queue=False, **QUIET)
        gr.on([self.source.blur, self.target.blur, self.target.submit], words_note, written, self.unknown, **QUIET)
        self.papers.input(texts_of, self.papers, [self.source, self.target], **QUIET).then(
            words_note, written, self.unknown, **QUIET
        )
        self.form.input(settings_for, self.form, [self.samples, self.steps, self.train, *self.of_training], **QUIET)
        self.latents.input(lambda chosen: gr.update(visible=chosen == "inverted"), self.latents, self.files, **QUIET)


def first_words(model_id: str) -> str:
    """What the pictures of a model show: a word for texts, a prompt for a text-to-image model."""
    return usual_prompt(model_id) if takes_prompt(model_id) else known_card(model_id).domain_word


def labels(model_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the two texts. What a picture shows is said above them where the model is told it; there the two are prompts
    of their own."""
    if takes_prompt(model_id):
        info = "What the direction changes; what your picture shows is said above."
        example = TEXT_TO_IMAGE[model_id].prompt
        return {"label": "From the prompt", "info": info}, {"label": "To the prompt", "placeholder": example}
    return (
        {"label": "What the pictures show", "info": None},
        {"label": "What they should show", "placeholder": "face with a red beard"},
    )


def forms(model_id: str) -> list[tuple[str, str]]:
    """The ways to a direction from words."""
    return [*BY_PROMPTS, *TRAINED] if takes_prompt(model_id) else TRAINED


def first_form(model_id: str) -> str:
    """The one that is chosen until the visitor chooses."""
    return HERE.form if takes_prompt(model_id) else "global"


def draws_pictures(form: str) -> bool:
    """Whether pictures are drawn to learn from."""
    return form not in WAYS or not WAYS[form].of_picture


def suggested_numbers(form: str) -> tuple[int, int]:
    """Samples and steps."""
    return (WAYS[form].samples or FITTED.samples, WAYS[form].steps) if form in WAYS else SUGGESTED[form]


def settings_for(form: str) -> tuple[Any, ...]:
    """Values of samples, steps, the button, and what only a training has."""
    untrained, (samples, steps) = form in WAYS, suggested_numbers(form)
    drawn = gr.update(value=samples, visible=draws_pictures(form))
    return drawn, steps, gr.update(value=BUTTON[untrained]), *(gr.update(visible=not untrained),) * 2


def texts_of(chosen: str | None) -> tuple[Any, Any]:
    """The two texts of a row of the paper's table."""
    source, arrow, target = (chosen or "").partition(" → ")
    return (source, target) if arrow else (gr.skip(), gr.skip())

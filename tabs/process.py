"""The choice between the two ways to edit, with their number of steps."""

from __future__ import annotations

import gradio as gr

from core.process import USUAL_STEPS, Process

CHOICES = [("In few steps, held to the picture", "anchored"), ("As in the paper, inverted first", "paper")]

INFO = "of editing; directions found in Discover take twice as many"


def process_choice(elem_id: str) -> tuple[gr.Radio, gr.Slider]:
    """The process, and the slider of its steps. elem_id: of the slider."""
    process = gr.Radio(CHOICES, value="anchored", label="Way of editing")
    steps = gr.Slider(4, 100, USUAL_STEPS["anchored"], step=1, label="Steps", info=INFO, elem_id=elem_id)
    return process, steps


def usual_steps(process: Process) -> int:
    """Value of the slider when another process is chosen."""
    return USUAL_STEPS[process]

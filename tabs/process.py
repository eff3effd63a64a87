"""The choice between the ways to edit, with their number of steps."""

from __future__ import annotations

from typing import Any

import gradio as gr

from core.process import USUAL_STEPS, Process

CHOICES = [
    ("In few steps, held to the picture", "anchored"),
    ("As in the paper, inverted first", "paper"),
    ("As its authors published it (Algorithm 1)", "published"),
]
# Asyrp edits with S~ = 1,000 steps, and trains with 40.
MOST_STEPS: dict[Process, int] = {"anchored": 100, "paper": 1000, "published": 1000}

INFO = "of editing; directions found in Discover take twice as many"


def process_choice(elem_id: str) -> tuple[gr.Radio, gr.Slider]:
    """The process, and the slider of its steps. elem_id: of the slider."""
    process = gr.Radio(CHOICES, value="anchored", label="Way of editing")
    most, usual = MOST_STEPS["anchored"], USUAL_STEPS["anchored"]
    steps = gr.Slider(4, most, usual, step=1, label="Steps", info=INFO, elem_id=elem_id)
    return process, steps


def usual_steps(process: Process) -> Any:
    """The slider when another process is chosen."""
    info = "of editing" if process == "anchored" else "of editing; the paper shows 1000"
    return gr.update(value=USUAL_STEPS[process], maximum=MOST_STEPS[process], info=info)


def shown_process(process: Process, steps: int, seed: int) -> tuple[Any, ...]:
    """Process, steps and seed of what was opened, for the widgets that show them."""
    return process, gr.update(value=steps, maximum=max(steps, MOST_STEPS[process])), seed

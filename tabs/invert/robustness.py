"""The third panel of Invert: the same picture with noise, and with other source prompts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from core.errors import quoted
from core.imaging import to_pil
from core.studio.invert.robustness_study import MAX_PROMPTS, SIGMAS, Variant
from core.studio.invert.trial import StudyCell, Trial
from tabs.exports import csv_link, json_link
from tabs.invert import words
from tabs.tables import records
from tabs.widgets import data_url

INTRO = (
    '<p class="words">How much does an inversion depend on noise in the picture, and on the words? Every chosen method '
    "puts the noisy picture, or the picture with another prompt, into the model; the numbers compare with what it was "
    "given.</p>"
)
THUMBNAIL_SIDE = 176  # side of a picture in the grid
KIND = "robustness"


class Robustness:
    """Widgets of the panel."""

    def __init__(self) -> None:
        gr.HTML(INTRO)
        with gr.Row(elem_classes="asked"):
            with gr.Column(min_width=220, scale=2):
                self.sigmas = gr.CheckboxGroup(
                    [(f"σ {sigma:g}", sigma) for sigma in SIGMAS],
                    value=list(SIGMAS),
                    label="Noise that is added (σ, of 255)",
                    elem_id="sigmas",
                )
            with gr.Column(min_width=280, scale=3):
                self.prompts = gr.Textbox(
                    label="Other descriptions, one per line (source prompts)",
                    placeholder="a face\na photo of a dog",
                    lines=2,
                    max_lines=MAX_PROMPTS,
                    elem_id="changed-prompts",
                )
                self.suggest = gr.Button("Suggest some", size="sm", elem_id="suggest-changed")
        with gr.Row(elem_classes="actions"):
            self.start = gr.Button("Try how robust it is", variant="primary", min_width=160, elem_id="study")
            self.stop = gr.Button("Stop", visible=False, min_width=140, elem_id="stop-study")
        self.state = gr.HTML(elem_id="study-state")
        self.grid = gr.HTML(elem_id="robustness")
        self.inputs = [self.sigmas, self.prompts]
        self.shown = [self.state, self.grid, self.start, self.stop]


def grid(trial: Trial, rows: Sequence[Variant], methods: Sequence[str]) -> str:
    """Variants down, methods across; what is not computed yet is blank."""
    heads = "".join(f'<th scope="col">{words.explained_method(m)}</th>' for m in methods)
    body = ""
    for sigma, prompt in rows:
        cells = [trial.cells.get((sigma, prompt, method)) for method in methods]
        first = next((cell for cell in cells if cell is not None), None)
        picture = "<i></i>" if first is None else image(first.noisy, "What went in")
        body += f'<tr><th scope="row">{picture}<span>{variant_name(trial, sigma, prompt)}</span></th>'
        for method, cell in zip(methods, cells, strict=True):
            body += f'<td data-method="{escape(method)}">{cell_html(cell) if cell else "<i></i>"}</td>'
        body += "</tr>"
    legend = (
        "PSNR in dB and SSIM of the reconstruction, and after “edits” the PSNR of the source prompt decoded at the "
        "working guidance: how close to the picture an edit starts."
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="Robustness"><table class="robust"><thead><tr>'
        f'<th scope="col">Went in</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="legend">{legend} <span class="takes">{csv_link(grid_rows(trial), "robustness")} '
        f"{json_link(records(grid_rows(trial)), 'robustness')}</span></p>"
    )


def grid_rows(trial: Trial) -> list[list[Any]]:
    """The study as a table: a row for each cell."""
    names = sorted({name for cell in trial.cells.values() for name in cell.measures})
    rows = [[c.method, c.sigma, c.prompt, *(c.measures.get(name) for name in names)] for c in trial.cells.values()]
    return [["method", "sigma", "prompt", *names], *rows]


def variant_name(trial: Trial, sigma: float, prompt: str) -> str:
    if sigma:
        return f"σ = {sigma:g}"
    return "As it is" if prompt == trial.prompt else escape(quoted(prompt))


def cell_html(cell: StudyCell) -> str:
    v = cell.measures
    title = f"PSNR {v['psnr']:.2f} dB, SSIM {v['ssim']:.3f}, {v['seconds']:.1f} s, {v['evaluations']:.0f} evaluations"
    return (
        f'<span title="{title}">{image(cell.reconstruction, f"By {words.label(cell.method)}")}'
        f"<b>{v['psnr']:.1f}</b><small>{v['ssim']:.2f} · edits {v['psnr decoded']:.1f}</small></span>"
    )


def image(pixels: Any, alt: str) -> str:
    return f'<img src="{data_url(to_pil(pixels, THUMBNAIL_SIDE)[0], quality=85)}" alt="{escape(alt)}">'

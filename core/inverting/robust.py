"""The robustness study of a trial, one cell after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.errors import RequestError
from core.inversion import robustness
from core.inversion.inversion import read_prompt
from core.inversion.model import TextToImage
from core.inverting.bench import Cell, Trial
from core.inverting.trying import distance_of
from core.progress import Job, Progress
from core.visit import exclusively, within

SIGMAS = (5.0, 10.0, 20.0)
MOST_SIGMAS, MOST_PROMPTS = 6, 6

Variant = tuple[float, str]  # sigma, prompt


def variants(trial: Trial, sigmas: Sequence[float], prompts: Sequence[str]) -> list[Variant]:
    """The picture as it is, with each noise, and with each other prompt (the rows of the paper's figure 3).

    Raises:
        RequestError: too many, or out of range.
    """
    if len(sigmas) > MOST_SIGMAS:
        raise RequestError(f"There are {len(sigmas)} strengths of noise; up to {MOST_SIGMAS} can be used.")
    for sigma in sigmas:
        within("noise", sigma, 0, 100)
    others = [read_prompt(prompt, "A changed prompt is empty.") for prompt in prompts if prompt.strip()]
    if len(others) > MOST_PROMPTS:
        raise RequestError(f"There are {len(others)} changed prompts; up to {MOST_PROMPTS} can be used. Remove some.")
    rows = [(0.0, trial.prompt), *((float(sigma), trial.prompt) for sigma in sorted(sigmas))]
    return list(dict.fromkeys([*rows, *((0.0, prompt) for prompt in others)]))


def study(trial: Trial, model: TextToImage, rows: Sequence[Variant], methods: Sequence[str]) -> Job:
    """Every method on every variant that is not in `trial.cells` yet; they are filled along the way, and a stopped
    study goes on where it was. Result: the trial; events count cells.

    Raises:
        RequestError, ResourceError: as `core.inversion.methods.invert`.
    """
    total = len(rows) * len(methods)
    distance = distance_of(trial.card)
    for sigma, prompt in rows:
        for method in methods:
            key = (sigma, prompt, method)
            if key in trial.cells:
                continue
            done = sum((s, p, m) in trial.cells for s, p in rows for m in methods)
            settings = replace(trial.settings, budget=None)
            job = robustness.study(model, trial.pixels, [prompt], [method], [sigma], settings, distance)
            for event in exclusively(job):
                if event.result is None:
                    yield Progress(done, total, event.note, event.preview)
            [made] = event.result
            inverted = made.inversion
            # Without the inversion itself, which is large.
            trial.cells[key] = Cell(
                sigma, prompt, method, inverted.pixels, inverted.reconstruction, made.decoded, made.measures
            )
            yield Progress(done + 1, total, method)
    yield Progress(total, total, "Done", result=trial)

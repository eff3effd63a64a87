"""The robustness study of a trial, one cell after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import RequestError
from ...inversion.robustness import other_prompts, study_robustness
from ...progress import Job, Progress, Running
from ...text_to_image import TextToImage, read_prompt
from .. import measuring
from ..device import exclusively
from ..frames import require_range
from ..jobs import Work, device_job
from ..known_models import usual_prompt
from .run_methods import run_work
from .trial import StudyCell, Trial

SIGMAS = (5.0, 10.0, 20.0)
MAX_SIGMAS, MAX_PROMPTS = 6, 6

Variant = tuple[float, str]  # sigma, prompt


def variants(trial: Trial, sigmas: Sequence[float], prompts: Sequence[str]) -> list[Variant]:
    """The picture as it is, with each noise, and with each other prompt (the rows of the paper's figure 3).

    Raises:
        RequestError: too many, or out of range.
    """
    if len(sigmas) > MAX_SIGMAS:
        raise RequestError(f"There are {len(sigmas)} strengths of noise; up to {MAX_SIGMAS} can be used.")
    for sigma in sigmas:
        require_range("noise", sigma, 0, 100)
    others = [read_prompt(prompt, "A changed prompt is empty.") for prompt in prompts if prompt.strip()]
    if len(others) > MAX_PROMPTS:
        raise RequestError(f"There are {len(others)} changed prompts; up to {MAX_PROMPTS} can be used. Remove some.")
    rows = [(0.0, trial.prompt), *((float(sigma), trial.prompt) for sigma in sorted(sigmas))]
    return list(dict.fromkeys([*rows, *((0.0, prompt) for prompt in others)]))


def suggested_prompts(model_id: str, prompt: str) -> list[str]:
    """Other source prompts to try with a picture that a prompt describes."""
    return other_prompts(prompt, usual_prompt(model_id))


def study_work(trial: Trial, model: TextToImage, rows: Sequence[Variant], methods: Sequence[str]) -> Work:
    """Of `fill_study`."""
    left = [(sigma, prompt, m) for sigma, prompt in rows for m in methods if (sigma, prompt, m) not in trial.cells]
    each = [run_work(replace(trial, results={}), model, [method]) for _, _, method in left]
    return sum(each, 2.0 * len(left) * Work(trial.settings.steps, 2.0 * trial.settings.steps))


@device_job(study_work, resumable=True)
def fill_study(trial: Trial, model: TextToImage, rows: Sequence[Variant], methods: Sequence[str]) -> Job[Trial]:
    """Every method on every variant that is not in `trial.cells` yet; they are filled along the way, and a stopped
    study goes on where it was. Events count cells.

    Raises:
        RequestError, ResourceError: as `core.inversion.methods.invert`.
    """
    total = len(rows) * len(methods)
    distance = measuring.distance_or_none(trial.card)
    for sigma, prompt in rows:
        for method in methods:
            key = (sigma, prompt, method)
            if key in trial.cells:
                continue
            done = sum((s, p, m) in trial.cells for s, p in rows for m in methods)
            settings = replace(trial.settings, budget=None)
            job = study_robustness(model, trial.pixels, [prompt], [method], [sigma], settings, distance)
            running = Running(exclusively(job))
            for event in running:
                yield Progress(done, total, event.note, event.preview)
            [result] = running.result
            inversion = result.inversion
            # Without the inversion itself, which is large.
            trial.cells[key] = StudyCell(
                sigma, prompt, method, inversion.pixels, inversion.reconstruction, result.decoded, result.measures
            )
            yield Progress(done + 1, total, method, kept=True)
    return trial

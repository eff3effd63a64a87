"""Several methods on one picture, one after the other: what is done stays, what was stopped goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import ResourceError
from ...inversion.inversion import Inversion
from ...inversion.methods import invert
from ...inversion.solution import Checkpoint
from ...progress import Job, Progress, Running
from ...text_to_image import TextToImage
from .. import measuring
from ..device import exclusively
from ..jobs import Work, device_job
from .meter import Meter
from .trial import MethodResult, Trial

BATCH_REDUCTION = 4  # how much smaller batches are made when memory is short
SHORT_OF_MEMORY = "Memory was short, so it was done in smaller batches."
ERROR_GAIN = 5
INK, GLOW, WHITE = (20, 16, 12), (221, 90, 53), (255, 250, 244)


OPTIMISED = ("latent-top", "teacher-forced", "null-text")  # methods with iterations at every step


def run_work(trial: Trial, model: TextToImage, methods: Sequence[str]) -> Work:
    """Of `run_methods`."""
    work, settings = Work(0, 0), trial.settings
    for method in trial.missing(methods):
        passes = 3 * settings.iterations if any(name in method.lower() for name in OPTIMISED) else 4
        work += settings.steps * Work(4.0 + passes, 4.0 + 2 * passes)
    return work


@device_job(run_work, resumable=True)
def run_methods(trial: Trial, model: TextToImage, methods: Sequence[str]) -> Job[Trial]:
    """Run those of the methods that are missing; the trial, which is returned, is filled along the way.

    Events count the steps of each phase of a method. Closing the job stops it, and begun again it goes on. A method
    that needs more memory than there is is left out, with its reason in `trial.failed`; the others are run.

    Raises:
        RequestError: a setting that the model cannot have.
    """
    todo = trial.missing(methods)
    for number, method in enumerate(todo, start=1):
        if method in trial.results:  # out of time: what it has is not good enough to go on from
            trial.checkpoints.pop(method, None)
        name = method if len(todo) == 1 else f"{method} ({number} of {len(todo)})"
        checkpoint = trial.checkpoints.setdefault(method, Checkpoint())
        meter = Meter(model.device)
        try:
            inversion, note = yield from _invert_in_memory(trial, model, method, checkpoint, meter, name)
        except ResourceError as error:
            trial.failed[method] = error.message
            continue
        trial.results[method] = MethodResult(inversion, meter.peak, note)
        del trial.checkpoints[method]
        yield Progress(number, len(todo), method, inversion.reconstruction, kept=True)
    return trial


def _invert_in_memory(
    trial: Trial, model: TextToImage, method: str, checkpoint: Checkpoint, meter: Meter, name: str
) -> Job[tuple[Inversion, str]]:
    """One method, in smaller batches for as long as it does not fit. Returns its inversion, and what had to be done."""
    distance, note, earlier = measuring.distance_or_none(trial.card), "", checkpoint.seconds
    while True:
        job = invert(
            model,
            trial.pixels,
            trial.prompt,
            method,
            trial.settings,
            checkpoint,
            distance,
            lambda: earlier + meter.clock(),
        )
        try:
            running = Running(exclusively(meter.run(job)))
            for event in running:
                yield replace(event, note=f"{name}: {event.note}", kept=True)
            return running.result, note
        except ResourceError:
            if model.rows == 1:
                raise
        model, note = in_smaller_batches(model, BATCH_REDUCTION), SHORT_OF_MEMORY
        yield Progress(0, 1, f"{name}: memory is short, trying smaller batches")


def in_smaller_batches(model: TextToImage, factor: int) -> TextToImage:
    """The same model after memory was short: its calls have so many times fewer rows."""
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return replace(model, rows=max(1, model.rows // factor))


def error_map(a: Tensor, b: Tensor, gain: float = ERROR_GAIN) -> Image.Image:
    """Where two pictures (1, 3, H, W) in [-1, 1] differ: the mean absolute difference of the channels, `gain` times,
    from black (none) over the app's red (half of the range) to white."""
    error = ((a - b).abs().mean(1)[0] / 2 * gain).clamp(0, 1).cpu().numpy()
    stops = np.array([INK, GLOW, WHITE], dtype=float)
    coloured = np.stack([np.interp(error, [0, 0.5, 1], stops[:, channel]) for channel in range(3)], axis=-1)
    return Image.fromarray(coloured.round().astype(np.uint8))

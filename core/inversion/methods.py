"""The methods by name, and the one way to call them. A new one is a file that declares itself, and a line here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from .. import metrics
from ..errors import RequestError
from ..imaging import content_hash
from ..progress import Job
from ..text_to_image import TextToImage, read_prompt
from . import (
    anchored,
    cycle_diffusion,
    ddib,
    ddim,
    direct,
    edict,
    edit_friendly,
    fixed_point,
    latent_top,
    negative_prompt,
    null_text,
    teacher_forced,
)
from .editing import reconstruct
from .inversion import Inversion
from .optimise import gaussianity
from .solution import DEFAULTS, Checkpoint, InversionMethod, InversionSettings, Task

# In the order in which the page shows them.
METHODS: dict[str, InversionMethod] = {
    method.name: method
    for method in (
        anchored.METHOD,
        latent_top.METHOD,
        latent_top.PUBLISHED,
        teacher_forced.METHOD,
        fixed_point.METHOD,
        direct.METHOD,
        edict.METHOD,
        edit_friendly.METHOD,
        null_text.METHOD,
        negative_prompt.METHOD,
        cycle_diffusion.METHOD,
        ddib.METHOD,
        ddim.GUIDED,
        ddim.METHOD,
    )
}


def invert(
    model: TextToImage,
    pixels: Tensor,
    prompt: str,
    method: str,
    settings: InversionSettings = DEFAULTS,
    checkpoint: Checkpoint | None = None,
    distance: metrics.Distance | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Job[Inversion]:
    """Put a picture (1, 3, R, R) in [-1, 1] and its prompt into a model.

    Events count the steps of each phase of the method, then those of the reconstruction. Closing the job cancels it;
    begun again with the same `checkpoint` it goes on from where it was. When settings.budget is used up, nothing more
    is optimised and the job finishes with the best so far.

    Measures: "psnr", "ssim" and, with a `distance`, "distance" of the reconstruction to the picture, and with
    " to bound" to what the autoencoder makes of the picture; "psnr bound" of that; "gaussianity" of x_T (0 is white and
    normal); "evaluations" of the network, "gradients" (those also differentiated) and "seconds" of the inversion alone,
    those before it was cancelled included; "out of time", 1 if the budget was used up.

    Raises:
        RequestError: no such method, an empty or endless prompt, a picture of another size, steps out of range.
        ResourceError: out of memory.
    """
    if method not in METHODS:
        raise RequestError(f"There is no method {method!r}. Choose one of: {', '.join(METHODS)}.")
    prompt = read_prompt(prompt, "Write a source prompt: what the picture shows.")
    side = model.resolution
    if tuple(pixels.shape) != (1, 3, side, side):
        raise RequestError(f"The model takes one picture of {side}x{side} pixels.")
    key = (model.id, model.fingerprint, content_hash(pixels), prompt, method, replace(settings, budget=None))
    checkpoint = (checkpoint or Checkpoint()).of(key).to(model.device)
    task = Task(
        model=model.counting(checkpoint.evaluations),
        x0=model.encode(pixels),
        text=model.embed([prompt]),
        empty=model.embed([""]),
        settings=settings,
        checkpoint=checkpoint,
        clock=clock,
        started=clock() - checkpoint.seconds,
    )
    try:
        solution = yield from METHODS[method].invert(task)
    finally:
        checkpoint.seconds = clock() - task.started
    out_of_time = task.out_of_time()
    solution = solution.to("cpu")  # it outlives the job

    inversion = Inversion(
        method, model.id, model.fingerprint, prompt, solution, settings.guidance, pixels.cpu(), pixels.cpu()
    )
    reconstruction = yield from reconstruct(model, inversion)
    measures = {
        **compare(model, task.x0, pixels, reconstruction, distance),
        "gaussianity": gaussianity(solution.x_T.float()).item(),
        "evaluations": float(checkpoint.evaluations.forward),
        "gradients": float(checkpoint.evaluations.backward),
        "seconds": checkpoint.seconds,
        "out of time": float(out_of_time),
    }
    return replace(inversion, reconstruction=reconstruction.cpu(), measures=measures)


def compare(
    model: TextToImage, x0: Tensor, pixels: Tensor, reconstruction: Tensor, distance: metrics.Distance | None = None
) -> dict[str, float]:
    """The measures of a reconstruction against the picture and against the autoencoder's own, see `invert`."""
    pixels, reconstruction = pixels.to(model.device), reconstruction.to(model.device)
    bound = model.decode(x0)
    measures = {"psnr bound": metrics.psnr(bound, pixels).item()}
    for to, goal in (("", pixels), (" to bound", bound)):
        measures["psnr" + to] = metrics.psnr(reconstruction, goal).item()
        measures["ssim" + to] = metrics.ssim(reconstruction, goal).item()
        if distance is not None:
            measures["distance" + to] = distance(reconstruction, goal).item()
    return measures

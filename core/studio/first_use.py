"""What is measured of a model the first time that it is used here, and kept: its perceptual curves."""

from __future__ import annotations

from dataclasses import replace

from ..curves import measure_curves
from ..intervals import Curves
from ..kept_on_disk import keep, place
from ..models.cards import MODELS
from ..models.loader import DiffusionModel
from ..progress import Job, stage
from ..sampling import sample
from . import measuring
from .device import exclusively
from .jobs import Work, device_job

# Pictures and noise levels: on a GPU it takes seconds; on a CPU a network at 256x256 takes a few minutes.
ON_GPU, ON_CPU = (16, 100), (2, 25)
SAMPLING_STEPS = 25
NOTE = "Measuring once where edits of this model begin"


def lacks_curves(model: DiffusionModel) -> bool:
    """Whether the model's intervals are not known."""
    return model.card.curves is None


def measure_first(model: DiffusionModel) -> Job[None]:
    """Measure the curves of a model that has none (Asyrp, Figure 19), on pictures that it makes itself; from then on it
    has them, in this process and in later ones.

    The paper takes 100 photographs. A model's own pictures are on its manifold as its inversions are, and the first t
    at which a mean of few reaches a threshold is known to a few per cent.

    Raises:
        ModelUnavailable: LPIPS is not here and cannot be fetched. ResourceError: out of memory.
    """
    if not lacks_curves(model):
        return
    curves, pictures = yield from own_curves(model)
    keep("curves", model.fingerprint, curves.as_json() | {"pictures": pictures})
    file = place("curves", model.fingerprint)
    if file is not None:
        model.card = replace(model.card, curves=str(file))
        if model.card.id in MODELS:
            MODELS[model.card.id] = model.card


def curves_work(model: DiffusionModel) -> Work:
    """Of `own_curves`."""
    pictures, steps = ON_GPU
    return Work(SAMPLING_STEPS + steps, 2.0 * pictures * (SAMPLING_STEPS + steps))


@device_job(curves_work)
def own_curves(model: DiffusionModel) -> Job[tuple[Curves, int]]:
    """The curves of a model, and of how many of its own pictures they are. Raises as `measure_first`."""
    distance = measuring.distance(model.card)
    pictures, steps = ON_CPU if model.device.type == "cpu" else ON_GPU
    total = SAMPLING_STEPS + steps
    made = exclusively(sample(model, seed=0, count=pictures, steps=SAMPLING_STEPS))
    pixels = yield from stage(made, NOTE, total=total, previews=False)
    measured = exclusively(measure_curves(model, pixels, distance, min(steps, model.schedule.T)))
    return (yield from stage(measured, NOTE, SAMPLING_STEPS, total, previews=False)), pictures

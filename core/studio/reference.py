"""The pictures of a model that averages are over: the same for the app, the command line and the benchmarks.

They are those that come with the model, then such as it imagines. As in the paper they are inverted (Asyrp, appendix
L.1 takes 20): random noise lies elsewhere than the latents of pictures (J.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..cache import Cache, Counted
from ..editing import invert
from ..memory import MAX_REFERENCE
from ..models.loader import DiffusionModel
from ..progress import Job, Progress, stage
from . import library
from .device import exclusively
from .jobs import Work
from .latents import KEPT
from .sample import sample_picture, sample_work

COUNT = 20

PICTURES: Cache[Counted[list[Tensor]]] = Cache(MAX_REFERENCE, "reference pictures")


def pictures_work(model: DiffusionModel, count: int = COUNT) -> Work:
    """Of `reference_pictures`."""
    return max(0, count - len(library.examples(model.card.id))) * sample_work(model, 0)


def reference_pictures(model: DiffusionModel, count: int = COUNT) -> Job[Tensor]:
    """Pixels (count, 3, R, R): the examples, then what the seeds 0, 1, ... give. The first of more are those of fewer.

    Raises:
        ModelUnavailable: what draws for the model cannot be had. ResourceError: out of memory.
    """
    key = model.card.id, model.fingerprint
    kept = PICTURES.get(key)
    made = list(kept.value) if kept is not None else []
    examples = library.examples(model.card.id)
    while len(made) < count:
        if len(made) < len(examples):
            made.append(library.open_example(examples[len(made)], model.card.id).pixels)
            continue
        yield Progress(len(made), count, "Imagining pictures")
        job = stage(sample_picture(model, len(made) - len(examples)), f"Imagining picture {len(made) + 1} of {count}")
        made.append((yield from job).pixels)
    PICTURES.put(key, Counted(made, sum(pixels.nbytes for pixels in made)))
    return torch.cat(made[:count])


def latents_work(model: DiffusionModel, steps: int, count: int = COUNT) -> Work:
    """Of `reference_latents`."""
    return pictures_work(model, count) + Work(steps, steps * count)


def reference_latents(model: DiffusionModel, steps: int, count: int = COUNT) -> Job[Tensor]:
    """x_T (count, C, h, w) of the reference pictures, inverted in S steps. Raises as `reference_pictures`, `invert`."""
    pixels = yield from reference_pictures(model, count)
    found = []
    for part in pixels.split(model.rows_per_call()):
        job = exclusively(invert(model, part, steps, cache=KEPT.latents))
        found.append((yield from stage(job, f"Reading {count} pictures")).x_T)
    return torch.cat(found)

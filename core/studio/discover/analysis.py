"""What is known of a picture at a timestep, whatever region is asked about; kept for all visitors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...cache import Cache
from ...discovery import basis as krylov
from ...discovery.basis import Basis
from ...discovery.linear import Jacobian, descend, nearest_timestep
from ...editing import invert
from ...latents import Latent, latent_key
from ...models.loader import DiffusionModel
from ...progress import Job, Progress
from ..device import DEVICE, exclusively
from ..frames import Picture, require_range
from ..latents import LATENTS

AT = 0.6  # of T (Local editing, section 5)
MAX_BYTES = 384 * 2**20

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Analysis:
    """What is known of one picture at one timestep: x_t, and the basis that serves every region.

    x_t: (1, C, h, w) in network space. latent: of the model's own step count. size: basis vectors that were asked for.
    """

    model: DiffusionModel
    picture: Picture
    latent: Latent
    x_t: Tensor
    basis: Basis
    size: int

    @property
    def t(self) -> int:
        return self.basis.t

    @property
    def nbytes(self) -> int:
        """Of what takes most of it."""
        return self.basis.nbytes

    def jacobian(self) -> Jacobian:
        """Its linearisation, made again: it holds the decoder's activations, which are larger than the basis."""
        return Jacobian(self.model, self.x_t, self.t)


class AnalysisCache(Cache[Analysis]):
    """Analyses of all visitors by what they are of."""

    def __init__(self, capacity: int = MAX_BYTES) -> None:
        super().__init__(capacity)


ANALYSES = AnalysisCache()


def analysis_key(model: DiffusionModel, picture: Picture, t: int, size: int) -> Key:
    return latent_key(picture.pixels, model.card.id, model.card.steps), model.card.id, model.fingerprint, t, size


def keep(analysis: Analysis) -> None:
    """In place of the one of the same picture, timestep and size, if there is one."""
    one = analysis
    ANALYSES.put(analysis_key(one.model, one.picture, one.t, one.size), one)


def nearest(model: DiffusionModel, timestep: int | None) -> int:
    """The timestep of the model's trajectory that is nearest to one that was asked for, by default 0.6 T.

    Raises:
        RequestError: it is out of range.
    """
    T = model.schedule.T
    if timestep is not None:
        require_range("timestep", timestep, 0, T)
    return nearest_timestep(model, model.card.steps, AT if timestep is None else timestep / T)


def analyse(model: DiffusionModel, picture: Picture, timestep: int | None = None, size: int = krylov.SIZE) -> Job:
    """Analyse a picture at a timestep; at once if it has been analysed before. Result: an `Analysis`.

    Raises:
        RequestError: timestep or size out of range. ResourceError: out of memory.
    """
    require_range("basis size", size, 8, krylov.MAX_SIZE)
    t, steps = nearest(model, timestep), model.card.steps
    known = ANALYSES.get(analysis_key(model, picture, t, size))
    total = 2 * steps + 2 * size
    if known is not None:
        yield Progress(total, total, "Already analysed", result=known)
        return
    for event in exclusively(invert(model, picture.pixels, steps, cache=LATENTS)):
        latent = event.result
        yield Progress(event.step, total, "Reading the picture")
    for event in exclusively(descend(model, latent.x_T, t, steps)):
        x_t = event.result
        yield Progress(steps + event.step, total, "Finding its place")
    with DEVICE:
        jacobian = Jacobian(model, x_t, t)
    for event in exclusively(krylov.analyse(jacobian, size)):
        if event.result is None:
            yield Progress(2 * steps + event.step, total, "Analysing")
    analysis = Analysis(model, picture, latent, x_t, event.result, size)
    keep(analysis)
    yield Progress(total, total, "Analysed", result=analysis)

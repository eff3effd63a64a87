"""A picture's analysis at a timestep, the same for every region that is asked about; kept for all visitors."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from ...cache import Cache
from ...discovery.basis import BASIS_SIZE, MAX_BASIS_SIZE, Basis, krylov_basis
from ...discovery.jacobian_operator import LINEARISED_AT, Jacobian, denoise_to, nearest_timestep
from ...latents import Key as LatentKey
from ...latents import Latent, latent_key
from ...memory import MAX_ANALYSES, bytes_of
from ...models.loader import DiffusionModel
from ...progress import Job, stage
from ..device import DEVICE, exclusively
from ..frames import Picture, require_range
from ..latents import latent_of

MIN_BASIS_SIZE = 8  # basis vectors

Key = tuple[LatentKey, str, str, int, int]


@dataclass(frozen=True)
class Analysis:
    """One picture at one timestep: x_t, and the basis that serves every region.

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
        return self.basis.nbytes + bytes_of(self.picture, self.latent, self.x_t)

    def cpu(self) -> Analysis:
        """The same in the machine's own memory, where it is of use as well."""
        basis = self.basis
        on_cpu = replace(basis, vectors=basis.vectors.cpu(), responses=basis.responses.cpu(), whole=basis.whole.cpu())
        latent = replace(self.latent, x_T=self.latent.x_T.cpu())
        return replace(self, latent=latent, x_t=self.x_t.cpu(), basis=on_cpu)

    def jacobian(self) -> Jacobian:
        """Its linearisation, made anew: it holds the decoder's activations, which are larger than the basis."""
        return Jacobian(self.model, self.x_t, self.t)


class AnalysisCache(Cache[Analysis]):
    """Analyses of all visitors by what they are of."""

    def __init__(self, capacity: int = MAX_ANALYSES) -> None:
        super().__init__(capacity, "analyses")


ANALYSES = AnalysisCache()


def analysis_key(model: DiffusionModel, picture: Picture, t: int, size: int) -> Key:
    """What tells analyses apart: picture, model, its weights, timestep, basis vectors asked for."""
    return latent_key(picture.pixels, model.card.id, model.card.steps), model.card.id, model.fingerprint, t, size


def keep_analysis(analysis: Analysis) -> None:
    """Keep it for the next request, instead of an older one of the same picture, timestep and size."""
    key = analysis_key(analysis.model, analysis.picture, analysis.t, analysis.size)
    ANALYSES.put(key, analysis)


def trajectory_timestep(model: DiffusionModel, timestep: int | None) -> int:
    """The timestep of the model's trajectory that is nearest to the requested one, by default 0.6 T.

    Raises:
        RequestError: it is out of range.
    """
    T = model.schedule.T
    if timestep is not None:
        require_range("timestep", timestep, 0, T)
    return nearest_timestep(model, model.card.steps, LINEARISED_AT if timestep is None else timestep / T)


def require_basis_size(size: int) -> None:
    """Raises RequestError: so many basis vectors cannot be had."""
    require_range("basis size", size, MIN_BASIS_SIZE, MAX_BASIS_SIZE)


def analyse_picture(
    model: DiffusionModel, picture: Picture, timestep: int | None = None, size: int = BASIS_SIZE
) -> Job[Analysis]:
    """Analyse a picture at a timestep; at once if it has been analysed before. size: basis vectors.

    Raises:
        RequestError: timestep or size out of range. ResourceError: out of memory.
    """
    require_basis_size(size)
    t, steps = trajectory_timestep(model, timestep), model.card.steps
    analysis = ANALYSES.get(analysis_key(model, picture, t, size))
    if analysis is not None:
        return analysis
    total = 2 * steps + 2 * size
    latent = yield from latent_of(model, picture.pixels, steps, total)
    descent = exclusively(denoise_to(model, latent.x_T, t, steps))
    x_t = yield from stage(descent, "Finding its place", steps, total)
    with DEVICE.turn():
        jacobian = Jacobian(model, x_t, t)
    basis = yield from stage(exclusively(krylov_basis(jacobian, size)), "Analysing", 2 * steps, total)
    analysis = Analysis(model, picture, latent, x_t, basis, size)
    keep_analysis(analysis)
    return analysis

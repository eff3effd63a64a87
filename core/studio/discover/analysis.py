"""A picture's analysis at a timestep, the same for every region that is asked about; kept for all visitors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...cache import Cache
from ...discovery.basis import BASIS_SIZE, MAX_BASIS_SIZE, Basis, krylov_basis
from ...discovery.interface import DEFAULT_SETTINGS, DiscoverySettings, Refine
from ...discovery.jacobian_operator import LINEARISED_AT, PLACE_STEPS, Jacobian, nearest_timestep, place
from ...errors import ResourceError
from ...latents import Key as LatentKey
from ...latents import latent_key
from ...memory import MAX_ANALYSES, bytes_of
from ...models.loader import DiffusionModel
from ...progress import Job, stage
from ...regions import Region
from ..device import DEVICE, exclusively
from ..frames import Picture, require_range
from ..jobs import Work, device_job

MIN_BASIS_SIZE = 8  # basis vectors
# Of a first answer. Eleven vectors in blocks of one hold more than 96% of the energy of a region's five leading
# directions on `avatars`, 90% on a 256x256 network with random weights; in larger blocks less.
MIN_FIRST_VECTORS, SPARE_VECTORS, REGION_BLOCK, WHOLE_BLOCK = 11, 6, 1, 4

Key = tuple[LatentKey, str, str, int, int]


@dataclass(frozen=True)
class Analysis:
    """One picture at one timestep: x_t, and the basis that serves every region, or as much of it as there is.

    x_t: (1, C, h, w) in network space. size: basis vectors that were asked for. complete: whether the basis has all of
    them, or all that there are.
    """

    model: DiffusionModel
    picture: Picture
    x_t: Tensor
    basis: Basis
    size: int
    complete: bool = True

    @property
    def t(self) -> int:
        return self.basis.t

    @property
    def nbytes(self) -> int:
        return self.basis.nbytes + bytes_of(self.picture, self.x_t)

    def cpu(self) -> Analysis:
        """The same in the machine's own memory, where it is of use as well."""
        basis = self.basis
        newest = None if basis.newest is None else basis.newest.cpu()
        parts = (basis.vectors.cpu(), basis.responses.cpu(), basis.whole.cpu())
        on_cpu = replace(basis, vectors=parts[0], responses=parts[1], whole=parts[2], newest=newest)
        return replace(self, x_t=self.x_t.cpu(), basis=on_cpu)

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
    return latent_key(picture.pixels, model.key, model.card.steps), model.key, model.fingerprint, t, size


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


def timestep_from_share(model: DiffusionModel, thousandths: float) -> int:
    """The timestep at so many thousandths of T, from 0 for the picture to 1000 for noise."""
    return round(thousandths * model.schedule.T / 1000)


def require_basis_size(size: int) -> None:
    """Raises RequestError: so many basis vectors cannot be had."""
    require_range("basis size", size, MIN_BASIS_SIZE, MAX_BASIS_SIZE)


PRODUCT = 3  # passes of the network that a product with J or its transpose takes, about


def basis_work(size: int) -> Work:
    """Of finding a picture's place and a basis of so many vectors."""
    return Work(PLACE_STEPS + PRODUCT * size / 2, PLACE_STEPS + 2 * PRODUCT * size)


def analyse_work(
    model: DiffusionModel,
    picture: Picture,
    timestep: int | None = None,
    size: int = BASIS_SIZE,
    begun: Analysis | None = None,
) -> Work:
    """Of `analyse_picture`."""
    return basis_work(size)


@device_job(analyse_work)
def analyse_picture(
    model: DiffusionModel,
    picture: Picture,
    timestep: int | None = None,
    size: int = BASIS_SIZE,
    begun: Analysis | None = None,
) -> Job[Analysis]:
    """Analyse a picture at a timestep; at once if it has been analysed before. size: basis vectors. begun: by
    `first_look`, from which it goes on; then three quarters of the size are vectors of the whole picture at least.

    Raises:
        RequestError: timestep or size out of range. ResourceError: out of memory.
    """
    require_basis_size(size)
    t = trajectory_timestep(model, timestep)
    known = begun or ANALYSES.get(analysis_key(model, picture, t, size))
    if known is not None and known.complete:
        return known
    start = None if known is None else known.basis
    wanted = size if start is None else min(MAX_BASIS_SIZE, max(size, len(start) + size * 3 // 4))
    total = PLACE_STEPS + 2 * wanted
    x_t = known.x_t if known is not None else (yield from _place(model, picture, t, total))
    with DEVICE.turn():
        jacobian = Jacobian(model, x_t, t)
    growing = krylov_basis(jacobian, wanted, start=start)
    basis = yield from stage(exclusively(growing), "Analysing", PLACE_STEPS, total)
    analysis = Analysis(model, picture, x_t, basis, size)
    keep_analysis(analysis)
    return analysis


def first_look(
    model: DiffusionModel,
    picture: Picture,
    timestep: int | None = None,
    size: int = BASIS_SIZE,
    regions: Sequence[Region] = (),
    settings: DiscoverySettings = DEFAULT_SETTINGS,
    aim: Refine | None = None,
) -> Job[Analysis]:
    """As much of an analysis as a first answer needs: for every region a few vectors more than it is to have
    directions, in the network's own precision. A complete analysis is returned as it is; one that was begun for other
    regions is extended.

    regions: that the answer is about; none for the whole picture. aim: of the method, see `DiscoveryMethod`.

    Raises:
        RequestError: timestep or size out of range. ResourceError: out of memory.
    """
    require_basis_size(size)
    t = trajectory_timestep(model, timestep)
    known = ANALYSES.get(analysis_key(model, picture, t, size))
    if known is not None and known.complete:
        return known
    vectors = max(MIN_FIRST_VECTORS, settings.count + SPARE_VECTORS)
    total = PLACE_STEPS + (2 * vectors + 1) * max(1, len(regions))
    x_t = known.x_t if known is not None else (yield from _place(model, picture, t, total))
    start = None if known is None else known.basis

    def first_basis(dtype: torch.dtype) -> Job[Basis]:
        """Events count the products."""
        with DEVICE.turn():
            jacobian = Jacobian(model, x_t, t, dtype)
        if not regions:
            wanted = min(MAX_BASIS_SIZE, vectors + (0 if start is None else len(start)))
            growing = exclusively(krylov_basis(jacobian, wanted, WHOLE_BLOCK, start=start))
            return (yield from stage(growing, first=2 * (vectors - wanted)))
        return (yield from _region_vectors(jacobian, regions, vectors, settings, aim, start))

    half = model.dtype.itemsize < torch.float32.itemsize
    try:
        basis = yield from stage(first_basis(model.dtype if half else torch.float32), "Analysing", PLACE_STEPS, total)
    except ResourceError:
        if not half:
            raise
        basis = yield from stage(first_basis(torch.float32), "Analysing", PLACE_STEPS, total)
    analysis = Analysis(model, picture, x_t, basis, size, complete=False)
    keep_analysis(analysis)
    return analysis


def _place(model: DiffusionModel, picture: Picture, t: int, total: int) -> Job[Tensor]:
    return (yield from stage(exclusively(place(model, picture.pixels, t)), "Finding its place", total=total))


def _region_vectors(
    jacobian: Jacobian,
    regions: Sequence[Region],
    vectors: int,
    settings: DiscoverySettings,
    aim: Refine | None,
    start: Basis | None,
) -> Job[Basis]:
    """So many more vectors for each region, and then what `aim` adds."""
    basis, done = start, 0
    for region in regions:
        wanted = min(MAX_BASIS_SIZE, vectors + (0 if basis is None else len(basis)))
        growing = exclusively(krylov_basis(jacobian, wanted, REGION_BLOCK, start=basis, mask=region.mask))
        basis = yield from stage(growing, first=done - 2 * (wanted - vectors))
        done += 2 * vectors
        if aim is not None:
            basis = yield from stage(exclusively(aim(jacobian, basis, region, settings)), first=done)
        done += 1
    if basis is None:
        raise ValueError("there are no regions")
    return basis

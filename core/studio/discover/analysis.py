"""A picture's analysis at a timestep, the same for every region that is asked about; kept for all visitors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...cache import Cache
from ...discovery.basis import BASIS_SIZE, MAX_BASIS_SIZE, Basis, krylov_basis
from ...discovery.jacobian_operator import LINEARISED_AT, PLACE_STEPS, Jacobian, nearest_timestep, place
from ...errors import RequestError, ResourceError
from ...latents import Key as LatentKey
from ...latents import Latent, latent_key
from ...models.loader import DiffusionModel
from ...progress import Job, stage
from ...regions import Region
from ..device import DEVICE, exclusively
from ..frames import Picture, require_range
from ..latents import latent_of

MIN_BASIS_SIZE = 8  # basis vectors
# Of a first answer: on `avatars` 10 vectors hold 98 to 100% of the energy of the five leading directions of a region, 8
# hold 90 to 98%; in larger blocks less (`python -m benchmarks.discover_speed first`).
VECTORS_PER_DIRECTION, FIRST_BLOCK = 2, 2
MAX_BYTES = 384 * 2**20

Key = tuple[LatentKey, str, str, int, int]


@dataclass(frozen=True)
class Analysis:
    """One picture at one timestep: x_t, and the basis that serves every region, or as much of it as there is.

    inverted: the picture's latent of the model's own step count, once it was needed. x_t: (1, C, h, w) in network
    space. size: basis vectors that were asked for. complete: whether the basis has all of them, or all that there are.
    """

    model: DiffusionModel
    picture: Picture
    inverted: Latent | None
    x_t: Tensor
    basis: Basis
    size: int
    complete: bool = True

    @property
    def t(self) -> int:
        return self.basis.t

    @property
    def latent(self) -> Latent:
        """The picture's latent. Raises RequestError: it has not been inverted yet."""
        if self.inverted is None:
            raise RequestError("This picture is not analysed yet. Wait a moment, then try again.")
        return self.inverted

    @property
    def nbytes(self) -> int:
        """Of the basis, which takes most of it."""
        return self.basis.nbytes

    def jacobian(self) -> Jacobian:
        """Its linearisation, made anew: it holds the decoder's activations, which are larger than the basis."""
        return Jacobian(self.model, self.x_t, self.t)


class AnalysisCache(Cache[Analysis]):
    """Analyses of all visitors by what they are of."""

    def __init__(self, capacity: int = MAX_BYTES) -> None:
        super().__init__(capacity)


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
    model: DiffusionModel,
    picture: Picture,
    timestep: int | None = None,
    size: int = BASIS_SIZE,
    begun: Analysis | None = None,
) -> Job[Analysis]:
    """Analyse a picture at a timestep; at once if it has been analysed before. size: basis vectors. begun: by
    `first_look`, from which it goes on.

    Raises:
        RequestError: timestep or size out of range. ResourceError: out of memory.
    """
    require_basis_size(size)
    t = trajectory_timestep(model, timestep)
    kept = ANALYSES.get(analysis_key(model, picture, t, size))
    if kept is not None and kept.complete:
        return kept
    known = begun or kept
    total = PLACE_STEPS + 2 * size
    x_t = known.x_t if known is not None else (yield from _place(model, picture, t, total))
    with DEVICE:
        jacobian = Jacobian(model, x_t, t)
    growing = krylov_basis(jacobian, size, start=None if known is None else known.basis)
    basis = yield from stage(exclusively(growing), "Analysing", PLACE_STEPS, total)
    inverted = None if known is None else known.inverted
    analysis = Analysis(model, picture, inverted, x_t, basis, size)
    keep_analysis(analysis)
    return analysis


def first_look(
    model: DiffusionModel,
    picture: Picture,
    timestep: int | None = None,
    size: int = BASIS_SIZE,
    regions: Sequence[Region] = (),
    count: int = 5,
) -> Job[Analysis]:
    """As much of an analysis as a first answer needs: `VECTORS_PER_DIRECTION` vectors of the basis for every direction
    of every region, in the network's own precision. A complete analysis is returned as it is; one that was begun for
    other regions is extended.

    regions: that the answer is about; none for the whole picture. count: directions per region.

    Raises:
        RequestError: timestep or size out of range. ResourceError: out of memory.
    """
    require_basis_size(size)
    t = trajectory_timestep(model, timestep)
    known = ANALYSES.get(analysis_key(model, picture, t, size))
    if known is not None and (known.complete or not regions):
        return known
    masks: list[np.ndarray | None] = [region.mask for region in regions] or [None]
    vectors = VECTORS_PER_DIRECTION * max(count, MIN_BASIS_SIZE // VECTORS_PER_DIRECTION)
    total = PLACE_STEPS + 2 * vectors * len(masks)
    x_t = known.x_t if known is not None else (yield from _place(model, picture, t, total))
    start = None if known is None else known.basis
    looking = _first_basis(model, x_t, t, size, masks, vectors, start)
    basis = yield from stage(looking, "Analysing", PLACE_STEPS, total)
    inverted = None if known is None else known.inverted
    analysis = Analysis(model, picture, inverted, x_t, basis, size, complete=False)
    keep_analysis(analysis)
    return analysis


def _place(model: DiffusionModel, picture: Picture, t: int, total: int) -> Job[Tensor]:
    return (yield from stage(exclusively(place(model, picture.pixels, t)), "Finding its place", total=total))


def _first_basis(
    model: DiffusionModel,
    x_t: Tensor,
    t: int,
    size: int,
    masks: Sequence[np.ndarray | None],
    vectors: int,
    start: Basis | None,
) -> Job[Basis]:
    """So many more vectors for each mask, but no more than `size` in all. Half precision where the network itself
    computes in it, float32 where that turns out too rough. Events count the products."""

    def extended(dtype: torch.dtype) -> Job[Basis]:
        with DEVICE:
            jacobian = Jacobian(model, x_t, t, dtype)
        basis = start
        for number, mask in enumerate(masks):
            wanted = min(size, vectors + (0 if basis is None else len(basis)))
            growing = krylov_basis(jacobian, wanted, FIRST_BLOCK, start=basis, mask=mask)
            basis = yield from stage(exclusively(growing), first=2 * vectors * number)
        if basis is None:
            raise ValueError("a first look needs a mask")
        return basis

    if model.dtype.itemsize < torch.float32.itemsize:
        try:
            return (yield from extended(model.dtype))
        except ResourceError:  # tried again below
            pass
    return (yield from extended(torch.float32))


def with_latent(analysis: Analysis) -> Job[Analysis]:
    """The analysis with the picture's latent, from which pictures of directions are made.

    Raises:
        ResourceError: out of memory.
    """
    if analysis.inverted is not None:
        return analysis
    inverted = yield from latent_of(analysis.model, analysis.picture.pixels, analysis.model.card.steps)
    return replace(analysis, inverted=inverted)

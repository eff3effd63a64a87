"""The singular values of regions, and how much of each is joint and individual: what is plotted."""

from __future__ import annotations

from dataclasses import dataclass

from ...discovery import jive
from ...discovery.algebra import leading_eigenvectors
from ...discovery.interface import with_rest
from ...regions import union
from .exploration import Exploration


@dataclass(frozen=True)
class Spectrum:
    """Of one region: its singular values, the largest first, and how JIVE splits its energy.

    joint, individual: shares of ||X||^2, which leave a residual; None for the whole picture, which JIVE cannot split.
    """

    label: str
    values: tuple[float, ...]
    joint: float | None = None
    individual: float | None = None


def spectra(exploration: Exploration, count: int = 30) -> list[Spectrum]:
    """Of each drawn region and of the rest; of the whole picture where nothing is drawn.

    Raises:
        RequestError: the picture is not analysed yet.
    """
    basis, regions = exploration.require_analysis().basis, exploration.regions
    if union(regions) is None:
        return [Spectrum("Whole picture", tuple(basis.values[:count].tolist()))]
    split = jive.decompose(basis, regions, exploration.settings)
    result = []
    for region, C, A in zip(with_rest(regions), split.joint, split.individual, strict=True):
        energies, _ = leading_eigenvectors(basis.gram(region.mask), max(count, len(C)))
        energies = energies.clamp(min=0)
        total = energies[: len(C)].sum().item()
        joint, individual = (part.square().sum().item() / max(total, 1e-30) for part in (C, A))
        values = tuple(energies.sqrt()[:count].tolist())
        result.append(Spectrum(region.label.capitalize(), values, joint, individual))
    return result

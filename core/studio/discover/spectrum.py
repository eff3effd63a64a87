"""The singular values of regions, and how much of each is joint and individual: what is plotted."""

from __future__ import annotations

from dataclasses import dataclass

from ...discovery import jive
from ...discovery.found import leading, union, with_rest
from .exploration import Exploration


@dataclass(frozen=True)
class Spectrum:
    """Of one region: its singular values, the largest first, and how JIVE splits its energy (None: it cannot).

    joint, individual: shares of ||X||^2; what is left of 1 is noise to both.
    """

    label: str
    values: tuple[float, ...]
    joint: float | None = None
    individual: float | None = None


def spectra(one: Exploration, count: int = 30) -> list[Spectrum]:
    """Of each drawn region and of the rest; of the whole picture where nothing is drawn."""
    basis = one.analysis.basis
    if union(one.regions) is None:
        return [Spectrum("Whole picture", tuple(basis.values[:count].tolist()))]
    parts = with_rest(one.regions)
    split = jive.decompose(basis, one.regions, one.settings)
    made = []
    for region, C, A in zip(parts, split.joint, split.individual, strict=True):
        energies, _ = leading(basis.gram(region.mask), max(count, len(C)))
        energies = energies.clamp(min=0)
        total = energies[: len(C)].sum().item()
        shares = [part.square().sum().item() / max(total, 1e-30) for part in (C, A)]
        made.append(Spectrum(region.label.capitalize(), tuple(energies.sqrt()[:count].tolist()), *shares))
    return made

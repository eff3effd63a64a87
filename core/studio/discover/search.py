"""The search itself: the picture analysed, quick directions, their pictures, then better ones."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...discovery import contrast, global_jacobian, jive, pca
from ...discovery.found import Found, Settings, union
from ...discovery.locality import measure, strength_for
from ...discovery.methods import discover
from ...discovery.refinement import refine
from ...errors import RequestError
from ...progress import Job, Progress
from ...regions import Region
from ..device import DEVICE, exclusively
from .analysis import Analysis, analyse, keep
from .exploration import MAX_COUNT, Exploration
from .pictures import draw
from .rows import Row, kept, untouched

MAX_ROWS = 24  # in all
WHOLE = ""  # label of the whole picture


def explore(exploration: Exploration, refining: bool = True) -> Job:
    """Run a search. Result: the exploration itself, which is filled along the way.

    refining: after the quick answer, converge the drawn regions and replace what that changes.

    Raises:
        RequestError: what was asked cannot be done with this picture. ResourceError: out of memory.
    """
    one = exploration
    for event in analyse(one.model, one.picture, one.timestep, one.size):
        if event.result is None:
            yield event
    one.analysis = event.result
    one.settings = yield from _sampled(one)
    with DEVICE:
        one.rows = find(one)
    one.version += 1
    yield Progress(0, 1, "Drawing them")
    yield from draw(one, one.rows)
    if refining and one.method not in (global_jacobian.NAME, jive.JOINT, pca.NAME):
        for region in one.regions:
            mu = one.settings.mu if one.method == contrast.NAME else None
            job = refine(one.analysis.jacobian(), one.analysis.basis, region.mask, one.settings.count, mu)
            for event in exclusively(job):
                yield Progress(event.step, event.total, "Refining")
            one.analysis = replace(one.analysis, basis=event.result)
        keep(one.analysis)
        with DEVICE:
            rows = kept(one.rows, find(one))
        yield from draw(one, rows)
        one.rows = untouched(one.rows, rows)
    one.refined = True
    one.version += 1
    yield Progress(1, 1, "Done", result=one)


def _sampled(one: Exploration) -> Generator[Progress, None, Settings]:
    """The settings, with principal components of h at the timestep if the method is PCA. Returns them."""
    if one.method != pca.NAME:
        return one.settings
    key = one.model.card.id, one.model.fingerprint, one.analysis.t
    if key not in _COMPONENTS:
        job = pca.collect(one.model, [one.analysis.t], components=MAX_COUNT)
        for event in exclusively(job):
            yield Progress(event.step, event.total, "Sampling the model")
        while len(_COMPONENTS) >= 8:
            _COMPONENTS.pop(next(iter(_COMPONENTS)), None)
        _COMPONENTS[key] = event.result
    return replace(one.settings, components=_COMPONENTS[key])


_COMPONENTS: dict[tuple[str, str, int], Any] = {}


def find(one: Exploration) -> list[Row]:
    """Rows without pictures: dense algebra in the basis alone (PCA: one product per direction)."""
    basis, regions = one.analysis.basis, list(one.regions)
    everywhere = Region(WHOLE, np.ones((basis.resolution,) * 2, bool))
    together = union(regions) or everywhere
    rows, each = [], max(1, MAX_ROWS // max(1, len(regions)))
    for found in discover(basis, regions, one.method, one.settings):
        region = next((r for r in regions if r.label == found.region), together)
        if found.y is None:
            [found] = measure(one.analysis.jacobian(), [found], region)
            found = replace(found, ratio=None if region is everywhere else found.ratio)
        number = 1 + sum(row.region is region for row in rows)
        if number > each:
            continue
        name = f"{region.label or 'Whole picture'}, no. {number}"
        rows.append(Row(found, region, strength_for(found, region), heat(one.analysis, found), name))
    if not rows:
        raise RequestError("Nothing in this region changes with h. Draw it elsewhere.")
    return rows


def heat(analysis: Analysis, found: Found) -> Tensor:
    """Where a direction changes the picture: sum over channels of |J v|, (R, R) in pixel units per unit of strength."""
    if found.y is not None:
        return analysis.basis.response(found.y).abs().sum(0)
    h = torch.zeros(1, *analysis.basis.vectors.shape[1:])
    delta = found.direction.delta_h(h, torch.zeros(1, 1), analysis.t)
    return analysis.jacobian().forward(delta)[0].abs().sum(0).cpu()

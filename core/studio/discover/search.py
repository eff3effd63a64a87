"""The search itself: a first look at the picture, quick directions, their pictures, then better ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from ...cache import Cache, Sized
from ...calibration import response
from ...directions import GlobalDirection, Part, parts_of
from ...discovery.interface import DiscoverySettings, FoundDirection, Refine
from ...discovery.locality import VISIBLE_CHANGE, delta_at, measure_locality, strength_for
from ...discovery.methods import discover, find_method
from ...editing import EditSettings
from ...errors import RequestError
from ...memory import MAX_PREPARED
from ...progress import Job, Progress, stage
from ...regions import Region, union
from ..device import DEVICE, exclusively
from ..jobs import Work, device_job
from .analysis import MIN_FIRST_VECTORS, PRODUCT, Analysis, analyse_picture, basis_work, first_look, keep_analysis
from .exploration import MAX_COUNT, Exploration
from .pictures import DRAWN, draw_rows
from .rows import DirectionRow, carry_over, keep_pinned

MAX_ROWS = 24  # in all
WHOLE = ""  # label of the whole picture

# What methods have prepared, by (method, model, its weights, timestep).
PREPARED: Cache[Sized] = Cache(MAX_PREPARED, "prepared")


def explore_work(exploration: Exploration, refining: bool = True) -> Work:
    """Of `explore`."""
    regions = max(1, len(exploration.regions))
    rows = min(MAX_ROWS, regions * exploration.settings.count)
    products = 2 * regions * (MIN_FIRST_VECTORS + (exploration.size if refining else 0))
    drawn = 2 * Work(6.0 * DRAWN, DRAWN * (2.0 + 4 * rows))
    return basis_work(exploration.size) + Work(PRODUCT * products, PRODUCT * products) + drawn


@device_job(explore_work)
def explore(exploration: Exploration, refining: bool = True) -> Job[Exploration]:
    """Run a search. Returns the exploration itself, which is filled along the way: rows from the first few vectors of
    the basis, their pictures, and what a complete basis makes better.

    refining: after that, converge the directions of the drawn regions too.

    Raises:
        RequestError: what was asked cannot be done with this picture. ResourceError: out of memory.
    """
    method = find_method(exploration.method)
    exploration.analysis = yield from first_look(
        exploration.model,
        exploration.picture,
        exploration.timestep,
        exploration.size,
        exploration.regions,
        exploration.settings,
        method.aim,
    )
    exploration.settings = yield from _prepared_settings(exploration, exploration.analysis.t)
    with DEVICE.turn():
        exploration.rows = find_rows(exploration)
    exploration.version += 1
    yield Progress(0, 1, "Drawing them", kept=True)
    yield from _with_rows(draw_rows(exploration, exploration.rows))
    yield from _with_rows(_complete(exploration, exploration.analysis))
    if refining and method.refine is not None:
        yield from _with_rows(_refine(exploration, exploration.analysis, method.refine))
    exploration.refined = True
    exploration.version += 1
    return exploration


def _with_rows(job: Job[None]) -> Job[None]:
    """The job, when there are rows to look at."""
    for event in job:
        yield replace(event, kept=True)


def _prepared_settings(exploration: Exploration, t: int) -> Job[DiscoverySettings]:
    """The settings with what the method has to prepare at timestep t, if it has to."""
    method, model = find_method(exploration.method), exploration.model
    if method.prepare is None:
        return exploration.settings
    key = method.name, model.key, model.fingerprint, t
    prepared = PREPARED.get(key)
    if prepared is None:
        prepared = yield from stage(exclusively(method.prepare(model, t, MAX_COUNT)), str.capitalize)
        PREPARED.put(key, prepared)
    return replace(exploration.settings, prepared=prepared)


def _complete(exploration: Exploration, begun: Analysis) -> Job[None]:
    """Go on to the whole basis, and replace the rows that this makes better."""
    completing = analyse_picture(begun.model, begun.picture, begun.t, begun.size, begun)
    exploration.analysis = yield from stage(completing, "Looking closer")
    if exploration.analysis is not begun:
        yield from _replace_rows(exploration)


def _refine(exploration: Exploration, analysis: Analysis, refine: Refine) -> Job[None]:
    """Converge the directions of every region, and replace the rows that this makes better."""
    for region in exploration.regions:
        job = refine(analysis.jacobian(), analysis.basis, region, exploration.settings)
        basis = yield from stage(exclusively(job), "Refining")
        exploration.analysis = analysis = replace(analysis, basis=basis)
    keep_analysis(analysis)
    yield from _replace_rows(exploration)


def _replace_rows(exploration: Exploration) -> Job[None]:
    """Find the rows anew; those that the visitor has named or opened stay as they are."""
    if all(row.found.y is None for row in exploration.rows):  # directions that do not come from the basis
        return
    with DEVICE.turn():
        rows = carry_over(exploration.rows, find_rows(exploration))
    yield from draw_rows(exploration, rows)
    exploration.rows = keep_pinned(exploration.rows, rows)
    exploration.version += 1


def find_rows(exploration: Exploration) -> list[DirectionRow]:
    """Rows without pictures: dense algebra in the basis alone, and two products for a direction outside it.

    Raises:
        RequestError: the picture is not analysed yet, or nothing in the regions changes.
    """
    analysis, regions = exploration.require_analysis(), list(exploration.regions)
    everywhere = Region(WHOLE, np.ones((analysis.basis.resolution,) * 2, bool))
    together = union(regions) or everywhere
    max_per_region = max(1, MAX_ROWS // max(1, len(regions)))
    rows: list[DirectionRow] = []
    for found in discover(analysis.basis, regions, exploration.method, exploration.settings):
        region = next((region for region in regions if region.label == found.region), together)
        if found.y is None:
            [found] = measure_locality(analysis.jacobian(), [found], region)
            found = replace(found, ratio=None if region is everywhere else found.ratio)
        number = 1 + sum(row.region is region for row in rows)
        if number > max_per_region:
            continue
        name = f"{region.label or 'Whole picture'}, no. {number}"
        heat, acting = heat_map(analysis, found), _acting(exploration, found)
        rows.append(DirectionRow(acting, region, _strength(exploration, acting, region), heat, name))
    if not rows:
        raise RequestError("Nothing in this region changes with h. Draw it elsewhere.")
    return rows


def _acting(exploration: Exploration, found: FoundDirection) -> FoundDirection:
    """The direction from where the search has it act on; where it ends is up to the edit."""
    start, _ = exploration.interval
    direction = found.direction
    if start >= exploration.model.card.last_timestep or not isinstance(direction, GlobalDirection):
        return found
    return replace(found, direction=replace(direction, t_start=start))


def _strength(exploration: Exploration, found: FoundDirection, region: Region) -> float:
    """As the visitor has set it, or for a visible change: in fewer timesteps it takes as much more as a unit shift in
    them does less."""
    if exploration.strength is not None:
        return float(exploration.strength)
    schedule, (_, end) = exploration.model.schedule, exploration.interval
    accumulation = exploration.model.card.accumulation
    part = parts_of(found.direction)[0]
    timesteps = schedule.timesteps(exploration.model.card.steps)
    whole = EditSettings(len(timesteps), injection=exploration.injection)
    less = response(schedule, timesteps, replace(part, t_edit=end), whole)
    if not less:
        return strength_for(found, region, accumulation=accumulation)
    unrestricted = replace(part.direction, t_start=None) if isinstance(part.direction, GlobalDirection) else None
    more = response(schedule, timesteps, Part(unrestricted) if unrestricted is not None else part, whole)
    return strength_for(found, region, VISIBLE_CHANGE * more / less, accumulation)


def heat_map(analysis: Analysis, found: FoundDirection) -> Tensor:
    """Where a direction changes the picture: sum over channels of |J v|, (R, R) in pixel units per unit of strength."""
    if found.y is not None:
        return analysis.basis.response(found.y).abs().sum(0)
    jacobian = analysis.jacobian()
    return jacobian.forward(delta_at(found.direction, jacobian))[0].abs().sum(0).cpu()

"""One region of the picture that was searched: every method, or JIVE with several ranks, side by side (Local editing,
figures 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...discovery.interface import DiscoverySettings, FoundDirection
from ...discovery.jive import INDIVIDUAL
from ...discovery.locality import measure_locality, roir, strength_for
from ...discovery.methods import METHODS, discover
from ...editing import EditSettings
from ...errors import RequestError
from ...intervals import Intervals
from ...process import USUAL_STEPS
from ...progress import Job, stage
from ...regions import Region
from ..device import DEVICE
from ..jobs import Work, device_job
from ..latents import edit_together
from .exploration import Exploration
from .pictures import DRAWN

RANKS = tuple((joint, individual) for individual in (2, 5, 10) for joint in (5, 10, 20, 30))  # (r_C, r_A)


@dataclass(frozen=True)
class Compared:
    """The leading direction of one way for a region. pixels: (3, R, R), the picture at the strength that should be well
    visible there. roir: of this picture, change outside per change inside."""

    name: str
    pixels: Tensor
    roir: float
    strength: float


def compared_work(exploration: Exploration) -> Work:
    """Of `compare_methods`."""
    return Work(2.0 * DRAWN, 2.0 * DRAWN * (1 + len(METHODS)))


@device_job(compared_work)
def compare_methods(exploration: Exploration) -> Job[list[Compared]]:
    """Every method that needs no samples of the model, on the first of the regions.

    Raises:
        RequestError: nothing was searched yet, or there is no region. ResourceError: out of memory.
    """
    region, ways = region_of(exploration), []
    for method in METHODS.values():
        if method.prepare is None:
            ways.append((method.label.partition(":")[0], leading(exploration, region, method.name)))
    return (yield from drawn(exploration, region, ways))


def ranks_work(exploration: Exploration) -> Work:
    """Of `compare_ranks`."""
    return Work(2.0 * DRAWN, 2.0 * DRAWN * (1 + len(RANKS)))


@device_job(ranks_work)
def compare_ranks(exploration: Exploration) -> Job[list[Compared]]:
    """JIVE's individual component of the first region for each of `RANKS`, as far as the basis holds them.

    Raises: as `compare_methods`.
    """
    region, ways = region_of(exploration), []
    for joint, individual in RANKS:
        settings = replace(exploration.settings, count=1, joint_rank=joint, individual_rank=individual)
        ways.append((f"r_C = {joint}, r_A = {individual}", leading(exploration, region, INDIVIDUAL.name, settings)))
    return (yield from drawn(exploration, region, ways))


def region_of(exploration: Exploration) -> Region:
    """The first of the regions. Raises RequestError."""
    exploration.require_analysis()
    if not exploration.regions:
        raise RequestError("Draw a region and find its directions first: methods are compared by what changes there.")
    return exploration.regions[0]


def leading(
    exploration: Exploration, region: Region, method: str, settings: DiscoverySettings | None = None
) -> FoundDirection:
    """The first direction of a method for a region. Raises RequestError: there is none."""
    analysis, regions = exploration.require_analysis(), list(exploration.regions)
    settings = replace(exploration.settings, count=1) if settings is None else settings
    with DEVICE.turn():
        found = discover(analysis.basis, regions, method, settings)
        if not found:
            raise RequestError("Nothing in this region changes with h. Draw it elsewhere.")
        mine = next((one for one in found if one.region == region.label), None)
        return mine or measure_locality(analysis.jacobian(), found[:1], region)[0]


def drawn(exploration: Exploration, region: Region, ways: Sequence[tuple[str, FoundDirection]]) -> Job[list[Compared]]:
    """All of them in one batch, with the picture itself."""
    picture, accumulation = exploration.require_analysis().picture, exploration.model.card.accumulation
    strengths = [strength_for(one, region, accumulation=accumulation) for _, one in ways]
    weighted = []
    for place, (_, one) in enumerate(ways):
        column = torch.zeros(1 + len(ways))
        column[1 + place] = strengths[place]
        weighted.append((one.direction, column))
    settings = EditSettings(USUAL_STEPS["anchored"], Intervals(exploration.interval[1], 0), exploration.injection)
    job = edit_together(exploration.model, picture.pixels, 1 + len(ways), weighted, settings, "anchored")
    pixels = (yield from stage(job, "Drawing them")).cpu()
    ratios = roir(pixels[:1].expand_as(pixels[1:]), pixels[1:], region.mask).tolist()
    rows = zip(ways, pixels[1:], ratios, strengths, strict=True)
    return [Compared(name, one, ratio, a) for (name, _), one, ratio, a in rows]

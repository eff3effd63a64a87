"""Directions of regions, each at the strength that changes its region equally: what both papers compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..directions import CompositeDirection, Direction, Injection
from ..discovery import contrast, global_jacobian, jive, projection, region_jacobian
from ..discovery.basis import BASIS_SIZE, BLOCK_SIZE, Basis, krylov_basis
from ..discovery.interface import DiscoverySettings, FoundDirection
from ..discovery.jacobian_operator import LINEARISED_AT, Jacobian, nearest_timestep, place
from ..discovery.locality import mean_squares, roir, strength_for
from ..discovery.methods import discover
from ..editing import EditSettings, edit
from ..progress import Job, stage
from ..regions import Region, ready_made_labels, ready_made_region
from ..studio import library
from .bench import ROWS, STEPS, Bench

CHANGE = 0.15  # root mean square change inside the region at which methods are compared
PASSES, NEAR = 3, 0.05  # of the search for that strength; how near it has to come
PLAIN, JIVE, JOINT = region_jacobian.NAME, jive.INDIVIDUAL_NAME, jive.JOINT_NAME
PROJECTION, GLOBAL, CONTRAST = projection.NAME, global_jacobian.NAME, contrast.NAME
ASYRP = "asyrp"
COMPARED = (PLAIN, JIVE, JOINT, PROJECTION, CONTRAST, GLOBAL, ASYRP)
LABELS = ("Eyes", "Mouth")
SYMMETRIC = EditSettings(STEPS, injection="symmetric")
ASYRP_OF = {"Eyes": "closed eyes", "Mouth": "smiling"}  # the shipped direction of that part
CALLED = {
    PLAIN: "without JIVE",
    JIVE: "individual",
    JOINT: "joint",
    PROJECTION: "projection",
    CONTRAST: "contrast (ours)",
    GLOBAL: "global (Haas)",
    ASYRP: "Asyrp",
}


@dataclass(frozen=True)
class Candidate:
    """A direction, the region that it is for, a first guess of its strength, and how it acts. linear: its linearised
    ROIR, if it has one."""

    method: str
    region: Region
    direction: Direction
    start: float
    injection: Injection = "symmetric"
    t_edit: int = 0
    linear: float | None = None


@dataclass(frozen=True)
class Local:
    """An edit by one method at equal change inside. before, after: (1, 3, R, R)."""

    portrait: int
    method: str
    region: Region
    strength: float
    before: Tensor
    after: Tensor

    @property
    def roir(self) -> float:
        """Change outside per change inside."""
        return roir(self.before, self.after, self.region.mask).item()

    @property
    def squares(self) -> tuple[float, float]:
        """Mean squared change inside and outside."""
        inside, outside = mean_squares(self.before, self.after, self.region.mask)
        return inside.item(), outside.item()


def regions_of(bench: Bench) -> list[Region]:
    """The regions that the figures are of."""
    known = ready_made_labels(bench.model.card.domain_word)
    labels = LABELS if set(LABELS) <= set(known) else tuple(known[:2])
    return [ready_made_region(bench.model.card.domain_word, label, bench.model.card.resolution) for label in labels]


def basis_of(
    bench: Bench, portrait: int, size: int = BASIS_SIZE, at: float = LINEARISED_AT
) -> Job[tuple[Tensor, Basis]]:
    """x_t of a portrait at a share of T, and the basis of its Jacobian there. Kept."""
    size = bench.count(size, 16)

    def make() -> Job[tuple[Tensor, Basis]]:
        pixels = (yield from bench.portraits(portrait + 1))[portrait : portrait + 1]
        t = nearest_timestep(bench.model, bench.model.card.steps, at)
        x_t = yield from stage(place(bench.model, pixels, t), "Finding its place")
        growing = krylov_basis(Jacobian(bench.model, x_t, t), size, min(BLOCK_SIZE, size))
        return x_t, (yield from stage(growing, f"Analysing portrait {portrait}"))

    return (yield from bench.once(("basis", portrait, size, at), make))


def found_by(
    basis: Basis, regions: Sequence[Region], region: Region, method: str, settings: DiscoverySettings
) -> list[FoundDirection]:
    """Directions of a method for one of the regions, with what they change inside it."""
    found = discover(basis, regions, method, settings)
    return [one for one in found if one.region == region.label] or [of_region(basis, one, region) for one in found]


def of_region(basis: Basis, found: FoundDirection, region: Region) -> FoundDirection:
    """A direction of the basis with its change inside a region and its linearised ROIR there."""
    if found.y is None:
        raise ValueError("the direction does not lie in the basis")
    inside = (found.y @ basis.gram(region.mask) @ found.y).clamp(min=0).sqrt().item()
    outside = (found.y @ basis.gram(~region.mask) @ found.y).clamp(min=0).sqrt().item()
    ratio = outside / inside if inside > 0 else float("inf")
    return replace(found, inside=inside, ratio=ratio, region=region.label)


def candidate_of(found: FoundDirection, region: Region, t_edit: int = 0) -> Candidate:
    """At the strength that the linearisation suggests."""
    return Candidate(
        found.method, region, found.direction, strength_for(found, region, CHANGE), "symmetric", t_edit, found.ratio
    )


def rendered(bench: Bench, x_T: Tensor, candidates: Sequence[Candidate], strengths: Tensor) -> Job[Tensor]:
    """One latent (1, C, h, w) with each candidate at its own strength: pixels (n, 3, R, R)."""
    made = []
    for rows in torch.arange(len(candidates)).split(ROWS):
        few = [candidates[i] for i in rows.tolist()]
        parts = [
            (CompositeDirection((one.direction,), (1.0,), (one.t_edit,), (one.injection,)), strengths[i] * mine)
            for i, one, mine in zip(rows.tolist(), few, torch.eye(len(few)), strict=True)
        ]
        job = edit(bench.model, x_T.repeat(len(few), 1, 1, 1), parts, EditSettings(STEPS))
        made.append((yield from stage(job, "Editing regions", previews=False)).cpu())
    return torch.cat(made)


def at_equal_change(
    bench: Bench, x_T: Tensor, before: Tensor, candidates: Sequence[Candidate], change: float = CHANGE
) -> Job[tuple[Tensor, Tensor]]:
    """Strengths (n,) at which each candidate changes its region of a picture (1, 3, R, R) by `change`; the edits."""
    strengths = torch.tensor([one.start for one in candidates])
    after, left = before.repeat(len(candidates), 1, 1, 1), list(range(len(candidates)))
    passes = bench.count(PASSES, 1)
    for n in range(passes):
        after[left] = yield from rendered(bench, x_T, [candidates[i] for i in left], strengths[left])
        factors = {}
        for i in left:
            reached = mean_squares(before, after[i : i + 1], candidates[i].region.mask)[0].sqrt().item()
            factors[i] = change / max(reached, 1e-6)
        left = [i for i, factor in factors.items() if abs(factor - 1) > NEAR]
        if not left or n == passes - 1:
            break
        strengths[left] *= torch.tensor([factors[i] for i in left]).clamp(0.25, 4)
    return strengths, after


def study(bench: Bench) -> Job[list[Local]]:
    """The leading direction of every method and region on several portraits, each found on the portrait itself."""

    def make() -> Job[list[Local]]:
        n, regions = bench.count(5, 1), regions_of(bench)
        x_T = yield from bench.latents(n)
        befores = yield from bench.rebuilt(n)
        made: list[Local] = []
        for k in range(n):
            _, basis = yield from basis_of(bench, k)
            settings = DiscoverySettings(count=1)
            candidates = []
            for region in regions:
                for method in COMPARED:
                    if method == ASYRP:
                        candidates += asyrp_of(bench, region)
                        continue
                    found = found_by(basis, regions, region, method, settings)
                    candidates += [candidate_of(one, region) for one in found[:1]]
            strengths, after = yield from at_equal_change(bench, x_T[k : k + 1], befores[k : k + 1], candidates)
            for i, one in enumerate(candidates):
                before = befores[k : k + 1]
                made.append(Local(k, one.method, one.region, float(strengths[i]), before, after[i : i + 1]))
        return made

    return (yield from bench.once("locality", make))


def asyrp_of(bench: Bench, region: Region) -> list[Candidate]:
    """The shipped direction of a region, if there is one."""
    name = ASYRP_OF.get(region.label, "")
    if name.lower() not in (known.lower() for known in shipped_names(bench)):
        return []
    preset = bench.preset(name)
    return [Candidate(ASYRP, region, preset.direction, 1.0, preset.injection, bench.t_edit(name))]


def shipped_names(bench: Bench) -> list[str]:
    """Names of the model's directions; none is no fault here."""
    return [preset.name for preset in library.shipped(bench.model.card.id).values()]


def of_method(edits: Sequence[Local], method: str, label: str | None = None) -> list[Local]:
    """Those of one method, of one region or of all, by portrait."""
    return [one for one in edits if one.method == method and label in (None, one.region.label)]


def mean_roir(edits: Sequence[Local]) -> float:
    """Over edits."""
    return float(np.mean([one.roir for one in edits])) if edits else float("nan")


def share_lower(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of pairs in which the first is lower."""
    return float(np.mean([x < y for x, y in zip(a, b, strict=True)])) if len(a) else float("nan")

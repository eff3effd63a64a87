"""The figures of Li et al. (Unsupervised region-based image editing of denoising diffusion models, 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..directions import CompositeDirection, Direction, GlobalDirection
from ..discovery import boundary
from ..discovery.interface import DiscoverySettings, FoundDirection
from ..discovery.jacobian_operator import nearest_timestep
from ..editing import EditSettings
from ..evaluation.measures import changes
from ..evaluation.statistics import rank_correlation
from ..imaging import to_pil
from ..precision import in_float64
from ..progress import Job, stage
from .bench import STEPS, Bench
from .figure import Check, Drawn, Figure, Row
from .grids import Cell, grid
from .local_editing import measures_of
from .locality import (
    CALLED,
    CHANGE,
    GLOBAL,
    PLAIN,
    PROJECTION,
    SYMMETRIC,
    Candidate,
    Local,
    at_equal_change,
    basis_of,
    candidate_of,
    found_by,
    of_method,
    regions_of,
    share_lower,
    study,
)

# Bounds, in the order of the claims below.
LESS_OUTSIDE = 1.0  # mean squared change outside over that of another method
SHARE = 0.8  # of the portraits and regions
KEEPS = 0.84  # identity: the lowest of the paper's Table 1
ORDER = 0.8  # rank correlation with the order of the paper's Table 2: two neighbours may change places
BEST = 1.0  # of a measure over the best other method's
OVERLAP = 0.5  # mean cosine of principal angles between what is found at two timesteps
CHOSEN = 1.0  # ROIR at the best chosen timesteps over that at all


def motivation(bench: Bench) -> Job[Drawn]:
    edits = yield from study(bench)
    regions = regions_of(bench)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    for region in regions:
        plain, projected = (of_method(edits, method, region.label) for method in (PLAIN, PROJECTION))
        rows += [{"region": region.label, **measures_of(bench, mine)} for mine in (plain, projected)]
        shown: list[Cell] = [plain[0].before]
        for mine in (plain, projected):
            shown += [mine[0].after, heat(mine[0].before, mine[0].after)]
        cells.append(shown)
    plain, projected = (of_method(edits, method) for method in (PLAIN, PROJECTION))
    outside = [[one.squares[1] for one in mine] for mine in (plain, projected)]
    checks = [
        Check(
            "mean squared change outside, projected over direct:",
            float(np.mean(outside[1]) / np.mean(outside[0])),
            LESS_OUTSIDE,
            False,
        ),
        Check(
            "share of portraits and regions in which projection changes less outside:",
            share_lower(outside[1], outside[0]),
            SHARE,
        ),
    ]
    says = (
        f"The leading singular vector of a region and the same projected off those of its outside (rank 10), on each "
        f"of {len(plain) // len(regions)} held-out portraits, at equal change inside ({CHANGE})."
    )
    columns = ("original", "direct", "its change", "projected", "its change")
    return Drawn(grid(cells, columns, [region.label for region in regions], side=116), rows, checks, says)


def heat(before: Tensor, after: Tensor) -> Cell:
    """Where two pictures (1, 3, R, R) differ, white where they do not."""
    change = (after - before)[0].abs().mean(0) / 0.3
    level = 1 - 2 * change.clamp(0, 1)
    [picture] = to_pil(torch.stack((torch.ones_like(level), level, level)))
    return picture


def inside_and_outside(bench: Bench) -> Job[Drawn]:
    edits = yield from study(bench)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    checks = []
    regions = regions_of(bench)
    for region in regions:
        ours, semdiff = (of_method(edits, method, region.label) for method in (PROJECTION, GLOBAL))
        for mine in (ours, semdiff):
            inside, outside = (float(np.mean([one.squares[k] for one in mine])) for k in (0, 1))
            rows.append(
                {"region": region.label, "method": CALLED[mine[0].method], "MSE in": inside, "MSE out": outside}
            )
        ratio = float(rows[-2]["MSE out"]) / float(rows[-1]["MSE out"])
        checks.append(
            Check(f"MSE outside the {region.label.lower()}, ours over Semdiff's:", ratio, LESS_OUTSIDE, False)
        )
        cells.append([ours[0].before, ours[0].after, semdiff[0].after])
    says = (
        f"Semdiff's directions are the singular vectors of the whole picture's Jacobian; both at equal change inside, "
        f"on {len(of_method(edits, PROJECTION)) // len(regions)} held-out portraits."
    )
    names = [region.label for region in regions]
    return Drawn(grid(cells, ("original", "ours", "Semdiff"), names, side=128), rows, checks, says)


def semantics(bench: Bench) -> Job[Drawn]:
    n, count, regions = bench.count(2, 1), bench.count(3, 1), regions_of(bench)
    x_T = yield from bench.latents(n)
    befores = yield from bench.rebuilt(n)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    probe = bench.gauges.probe
    identities = []
    for k in range(n):
        _, basis = yield from basis_of(bench, k)
        candidates: list[Candidate] = []
        for region in regions:
            found = found_by(basis, regions, region, PROJECTION, DiscoverySettings(count=count))
            candidates += [candidate_of(one, region) for one in found[:count]]
        before = befores[k : k + 1]
        strengths, after = yield from at_equal_change(bench, x_T[k : k + 1], before, candidates)
        for i, candidate in enumerate(candidates):
            edit = Local(k, PROJECTION, candidate.region, float(strengths[i]), before, after[i : i + 1])
            most = "" if probe is None else _most(changes(probe, before, edit.after))
            measured = measures_of(bench, [edit])
            row: Row = {"portrait": k, "region": candidate.region.label, "number": 1 + i % count, "most changed": most}
            whole = float((edit.after - before).square().mean())
            rows.append(row | {"identity": measured["identity"], "MSE": whole, "distance": measured["distance"]})
            identities.append(float(measured["identity"]))
        cells.append([befores[k], *after])
    check = Check("mean identity:", float(np.mean(identities)), KEEPS)
    columns = ["original", *(f"{region.label} {i + 1}" for region in regions for i in range(count))]
    says = f"The first {count} projected directions of each region on {n} held-out portraits, at equal change inside."
    return Drawn(grid(cells, columns), rows, [check], says)


def _most(change: dict[str, float]) -> str:
    name = max(change, key=lambda one: abs(change[one]))
    return f"{name} {change[name]:+.2f}"


# -------------------------------------------------------------------------------------------------------------- table 2

THEIRS = {  # Table 2: Frechet distance, identity, MSE (x 1e-4), LPIPS of a smile
    "Asyrp": (54.04, 0.4892, 16.60, 0.2172),
    "boundary": (53.04, 0.5671, 15.14, 0.1765),
    "Semdiff": (21.77, 0.7224, 5.23, 0.0424),
    "projection": (14.22, 0.8627, 5.74, 0.0289),
}
MEASURED = ("Frechet distance", "identity", "MSE", "distance")
SMILE, SMILES = "smile", 1.0  # the attribute, and how far it is moved: standard deviations
FITTED_ON, ROUNDS = 3, 4


@dataclass(frozen=True)
class Smile:
    """A direction that smiles, forwards, with a first guess of its strength and how it acts."""

    direction: Direction
    start: float
    settings: EditSettings


def comparison(bench: Bench) -> Job[Drawn]:
    n, few = bench.count(10, 3), bench.count(FITTED_ON, 2)
    x_T = yield from bench.latents(n + few)
    before = yield from bench.rebuilt(n + few)
    smiles = yield from smiles_of(bench, x_T[:few], before[:few])
    rows: list[Row] = []
    cells: list[list[Cell]] = [[before[few + k] for k in range(min(4, n))]]
    for name, one in smiles.items():
        strength = one.start
        for _ in range(ROUNDS if not bench.small else 1):
            after = yield from bench.decoded(x_T[:few], [(one.direction, strength)], one.settings)
            reached = smile_change(bench, before[:few], after)
            if abs(reached / SMILES - 1) < 0.1:
                break
            strength *= float(np.clip(SMILES / max(reached, 1e-3), 0.4, 2.5))
        after = yield from bench.decoded(x_T[few:], [(one.direction, strength)], one.settings)
        rows.append({"method": name, "strength": strength, **of_smile(bench, before[few:], after)})
        cells.append([after[k] for k in range(min(4, n))])
    checks = []
    ours = next(row for row in rows if row["method"] == "projection")
    for k, measure in enumerate(MEASURED):
        theirs = [THEIRS[str(row["method"])][k] for row in rows]
        found = np.array([[float(row[measure]) for row in rows]])
        checks.append(
            Check(
                f"rank correlation with the paper's order, {measure}:", float(rank_correlation(theirs, found)[0]), ORDER
            )
        )
    for measure in ("Frechet distance", "distance"):
        best = min(float(row[measure]) for row in rows if row is not ours)
        checks.append(Check(f"{measure} of ours over the best other's:", float(ours[measure]) / best, BEST, False))
    says = (
        f"Each method's smile, fitted on {few} portraits to {SMILES:g} standard deviation by the probe, on {n} other "
        "held-out portraits. Projection and Semdiff: the direction of the mouth, of five found on one portrait, that "
        "moves the smile most; boundary: a linear one between labelled samples, a step at one timestep."
    )
    return Drawn(grid(cells, names=("original", *smiles)), rows, checks, says)


def smiles_of(bench: Bench, x_T: Tensor, before: Tensor) -> Job[dict[str, Smile]]:
    """Each method's direction that smiles."""
    regions = regions_of(bench)
    mouth = next(region for region in regions if region.label == "Mouth")
    x_t, basis = yield from basis_of(bench, 0)
    asyrp = bench.preset("smiling")
    whole: Direction = CompositeDirection((asyrp.direction,), (1.0,), (bench.t_edit("smiling"),), (asyrp.injection,))
    found = {"Asyrp": Smile(whole, 0.5, EditSettings(STEPS))}

    t = nearest_timestep(bench.model, bench.model.card.steps)
    samples = boundary.labelled(bench.model, t, bench.count(64, 8))
    h, attributes = yield from stage(samples, str.capitalize)
    if SMILE in attributes:
        normal, _ = boundary.boundary(h, attributes[SMILE] > attributes[SMILE].median())
        at = nearest_timestep(bench.model, STEPS)
        delta = normal.float().cpu().view(1, *bench.model.card.h_shape)
        one_step = CompositeDirection((GlobalDirection(delta, STEPS, t_start=at),), (1.0,), (at,), ("symmetric",))
        start = 0.5 * float(bench.model.features(x_t, t).h.float().norm())
        found["boundary"] = Smile(one_step, start, SYMMETRIC)
    for name, method in (("Semdiff", GLOBAL), ("projection", PROJECTION)):
        candidates = found_by(basis, regions, mouth, method, DiscoverySettings(count=5))[:5]
        best, most = candidates[0], 0.0
        for one in candidates[: bench.count(5, 2)]:
            strength = candidate_of(one, mouth).start
            after = yield from bench.decoded(x_T, [(one.direction, strength)], SYMMETRIC)
            change = smile_change(bench, before, after)
            if abs(change) > abs(most):
                best, most = one, change
        forwards = CompositeDirection((best.direction,), (1.0 if most >= 0 else -1.0,), (0,), ("symmetric",))
        found[name] = Smile(forwards, candidate_of(best, mouth).start, SYMMETRIC)
    return found


def smile_change(bench: Bench, before: Tensor, after: Tensor) -> float:
    """Mean change of the smile, in standard deviations."""
    probe = bench.gauges.probe
    return float("nan") if probe is None else changes(probe, before, after)[SMILE]


@torch.no_grad()
def of_smile(bench: Bench, before: Tensor, after: Tensor) -> Row:
    """What Table 2 has of an edit, and how far the smile moved."""
    gauges, nothing = bench.gauges, float("nan")
    return {
        "smile": smile_change(bench, before, after),
        "Frechet distance": bench.frechet(before, after),
        "identity": nothing if gauges.identity is None else float(gauges.identity(before, after).mean()),
        "MSE": float(((after - before) / 2).square().mean()),
        "distance": nothing if gauges.distance is None else float(gauges.distance(before, after).mean()),
    }


# --------------------------------------------------------------------------------------------------- chosen timesteps

INTERVALS = {"all": (1000, 0), "T to 0.7 T": (1000, 700), "0.7 T to 0.4 T": (700, 400), "0.4 T to 0": (400, 0)}


def chosen_timesteps(bench: Bench) -> Job[Drawn]:
    n = bench.count(2, 1)
    regions = regions_of(bench)
    mouth = regions[-1]
    x_T = yield from bench.latents(n)
    befores = yield from bench.rebuilt(n)
    T = bench.model.schedule.T
    values: dict[str, list[float]] = {}
    cells: list[list[Cell]] = []
    overlaps = []
    for k in range(n):
        spans: list[Tensor] = []
        leading: FoundDirection | None = None
        for at in (0.6, 0.45, 0.75) if not bench.small else (0.6, 0.75):
            _, basis = yield from basis_of(bench, k, at=at)
            settings = DiscoverySettings(count=5)
            found = found_by(basis, regions, mouth, PROJECTION, settings)
            spans.append(torch.stack([one.direction.delta.flatten() for one in found]))  # type: ignore[attr-defined]
            leading = leading or found[0]
        overlaps += [principal_cosines(spans[0], other).mean().item() for other in spans[1:]]
        assert leading is not None
        candidates = []
        for first, last in INTERVALS.values():
            direction = leading.direction
            if first < 1000:
                direction = replace(direction, t_start=first * T // 1000)  # type: ignore[type-var]
            start = candidate_of(leading, mouth).start * (1 if (first, last) == (1000, 0) else 2)
            candidates.append(Candidate(PROJECTION, mouth, direction, start, "symmetric", last * T // 1000))
        before = befores[k : k + 1]
        _, after = yield from at_equal_change(bench, x_T[k : k + 1], before, candidates)
        for name, one in zip(INTERVALS, after, strict=True):
            values.setdefault(name, []).append(Local(k, PROJECTION, mouth, 0.0, before, one[None]).roir)
        cells.append([befores[k], *after])
    rows: list[Row] = [
        {"timesteps": name, "portraits": n, "ROIR": float(np.mean(found))} for name, found in values.items()
    ]
    means = {str(row["timesteps"]): float(row["ROIR"]) for row in rows}
    best = min(value for name, value in means.items() if name != "all")
    checks = [
        Check(
            "mean cosine between the five directions found at 0.6 T and at others:", float(np.mean(overlaps)), OVERLAP
        ),
        Check("ROIR at the best chosen timesteps over that at all:", best / means["all"], CHOSEN, False),
    ]
    says = (
        f"The leading projected direction of the {mouth.label.lower()} on {n} held-out portraits, acting at all "
        "timesteps or in a part of them, at equal change inside."
    )
    return Drawn(grid(cells, ("original", *INTERVALS)), rows, checks, says)


def principal_cosines(A: Tensor, B: Tensor) -> Tensor:
    """Cosines of the principal angles between the row spaces of A (n, D) and B (m, D), descending."""
    Q, P = (torch.linalg.qr(in_float64(X).T)[0] for X in (A, B))
    return torch.linalg.svdvals(Q.T @ P)


FIGURES = (
    Figure(
        "region-1",
        "Figures 1 and 6: direct and projected",
        "A mouth edited with a direction as it is, which changes other parts, and projected, which does not.",
        "Projection suppresses changes outside the region.",
        (("core/discovery/projection.py", "directions"),),
        motivation,
    ),
    Figure(
        "region-3",
        "Figures 3 and 4, Table 1: what is found",
        "Semantics of eyes and mouth on several people, with identities of 0.84 to 0.91.",
        "Directions of a region have meanings and keep the person.",
        (("core/discovery/projection.py", "directions"), ("core/discovery/naming.py", "SAYS")),
        semantics,
    ),
    Figure(
        "region-7",
        "Figure 7: change inside and outside",
        "Mean squared change inside and outside of mouth and eyes, by theirs and by Semdiff.",
        "At a similar change theirs changes less outside.",
        (("core/discovery/locality.py", "mean_squares"),),
        inside_and_outside,
    ),
    Figure(
        "region-table2",
        "Figure 5 and Table 2: smiles by four methods",
        "Frechet distance, identity, MSE and LPIPS of a smile by Asyrp, Boundary Diffusion, Semdiff and theirs, which "
        "is the best in all but MSE, where Semdiff is.",
        "In the order: theirs, Semdiff, Boundary Diffusion, Asyrp.",
        (("core/discovery/boundary.py", "boundary"), ("core/discovery/global_jacobian.py", "directions")),
        comparison,
    ),
    Figure(
        "region-timesteps",
        "Section “Method”: chosen timesteps",
        "In words: h-space is consistent across timesteps, and edits act at timesteps that are set.",
        "What is found at one timestep holds at others, and choosing timesteps makes edits more local.",
        (("core/directions.py", "GlobalDirection"), ("core/studio/discover/search.py", "explore")),
        chosen_timesteps,
    ),
)

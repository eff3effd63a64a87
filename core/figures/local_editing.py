"""The figures of Kouzelis et al. (Enabling local editing in diffusion models by joint and individual component
analysis, BMVC 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..discovery.interface import PAPER_BASIS, PAPER_RANKS, DiscoverySettings, FoundDirection
from ..evaluation.measures import changes
from ..evaluation.statistics import rank_correlation
from ..progress import Job
from .bench import Bench
from .figure import Check, Drawn, Figure, Row
from .grids import Cell, grid
from .locality import (
    ASYRP,
    ASYRP_OF,
    CALLED,
    CHANGE,
    COMPARED,
    GLOBAL,
    JIVE,
    JOINT,
    PLAIN,
    SYMMETRIC,
    Candidate,
    Local,
    at_equal_change,
    basis_of,
    candidate_of,
    found_by,
    mean_roir,
    of_method,
    regions_of,
    rendered,
    share_lower,
    study,
)

# Bounds, in the order of the claims below.
MORE_LOCAL = 1.0  # ROIR of one over that of another
SHARE = 0.8  # of the portraits and regions
ROBUST = 2.0  # largest ROIR over the smallest, over timesteps
SAME_WAY = 0.8  # share of other portraits whose attribute changes the same way
OPPOSITE = -0.5  # cosine of the changes of the picture by opposite strengths
ORDERED = 0.9  # rank correlation of strength and size of the change


def components(bench: Bench) -> Job[Drawn]:
    edits = yield from study(bench)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    regions = regions_of(bench)
    for region in regions:
        shown: list[Cell] = []
        for method in (PLAIN, JIVE, JOINT):
            mine = of_method(edits, method, region.label)
            rows.append(
                {"region": region.label, "component": CALLED[method], "portraits": len(mine), "ROIR": mean_roir(mine)}
            )
            shown = shown or [mine[0].before]
            shown.append(mine[0].after)
        cells.append(shown)
    plain, own, joint = (of_method(edits, method) for method in (PLAIN, JIVE, JOINT))
    checks = [
        Check("ROIR of individual over that without JIVE:", mean_roir(own) / mean_roir(plain), MORE_LOCAL, False),
        Check(
            "share of portraits and regions in which individual is the more local:",
            share_lower([one.roir for one in own], [one.roir for one in plain]),
            SHARE,
        ),
        Check("ROIR of joint over that without JIVE:", mean_roir(joint) / mean_roir(plain), MORE_LOCAL),
    ]
    says = (
        f"The leading direction of each, found on each of {len(plain) // len(regions)} held-out portraits, at the "
        f"strength that changes its region by {CHANGE} (root mean square)."
    )
    columns = ("original", *(CALLED[method] for method in (PLAIN, JIVE, JOINT)))
    return Drawn(grid(cells, columns, [region.label for region in regions], side=128), rows, checks, says)


def side_by_side(bench: Bench) -> Job[Drawn]:
    edits = yield from study(bench)
    regions = regions_of(bench)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    for region in regions:
        shown: list[Cell] = []
        for method in COMPARED:
            mine = of_method(edits, method, region.label)
            shown.append(mine[0].after if mine else None)
            if mine:
                rows.append({"region": region.label, **measures_of(bench, mine)})
        cells.append([of_method(edits, PLAIN, region.label)[0].before, *shown])
    mean = {
        method: {
            key: float(np.mean([float(row[key]) for row in rows if row["method"] == CALLED[method]])) for key in KEYS
        }
        for method in COMPARED
        if of_method(edits, method)
    }
    checks = []
    for method in (PLAIN, GLOBAL, ASYRP):
        if method in mean:
            ratio = mean[JIVE]["ROIR"] / mean[method]["ROIR"]
            checks.append(Check(f"ROIR of individual over that of {CALLED[method]}:", ratio, MORE_LOCAL, False))
            better = mean[JIVE]["identity"] - mean[method]["identity"]
            checks.append(Check(f"identity kept more than by {CALLED[method]}:", better, 0.0))
    count = len(of_method(edits, PLAIN)) // len(regions)
    says = f"Equal change inside the region, {count} held-out portraits; Asyrp's are {', '.join(_asyrp_names(bench))}."
    columns = ("original", *(CALLED[method].replace(" (", "\n(") for method in COMPARED))
    return Drawn(grid(cells, columns, [region.label for region in regions]), rows, checks, says)


KEYS = ("ROIR", "identity", "MSE inside", "MSE outside", "distance", "Frechet distance")


@torch.no_grad()
def measures_of(bench: Bench, edits: Sequence[Local]) -> Row:
    """Means over the edits of one method."""
    before, after = (torch.cat([getattr(one, side) for one in edits]) for side in ("before", "after"))
    inside, outside = (float(np.mean([one.squares[k] for one in edits])) for k in (0, 1))
    gauges = bench.gauges
    nothing = float("nan")
    return {
        "method": CALLED[edits[0].method],
        "ROIR": mean_roir(edits),
        "identity": nothing if gauges.identity is None else float(gauges.identity(before, after).mean()),
        "MSE inside": inside,
        "MSE outside": outside,
        "distance": nothing if gauges.distance is None else float(gauges.distance(before, after).mean()),
        "Frechet distance": bench.frechet(before, after) if len(edits) > 1 else nothing,
    }


def _asyrp_names(bench: Bench) -> list[str]:
    return [ASYRP_OF[region.label] for region in regions_of(bench) if region.label in ASYRP_OF]


# ------------------------------------------------------------------------------------------------------------- figure 4


def transfer(bench: Bench) -> Job[Drawn]:
    source, n, count = 18, bench.count(6), bench.count(2, 1)
    source = 0 if bench.small else source
    x_T = yield from bench.latents(20 if not bench.small else 3)
    others = [k for k in range(len(x_T)) if k != source][:n]
    before = yield from bench.rebuilt(len(x_T))
    _, basis = yield from basis_of(bench, source)
    regions = regions_of(bench)
    rows: list[Row] = []
    cells: list[list[Cell]] = [[before[k] for k in [source, *others[:5]]]]
    names, shares = ["original"], []
    probe = bench.gauges.probe
    for region in regions:
        found = found_by(basis, regions, region, JIVE, DiscoverySettings(count=count))
        for number, one in enumerate(found[:count], 1):
            candidate = candidate_of(one, region)
            first = x_T[source : source + 1]
            strengths, _ = yield from at_equal_change(bench, first, before[source : source + 1], [candidate])
            which = [source, *others]
            a = float(strengths[0])
            forth = yield from bench.decoded(x_T[which], [(one.direction, a)], SYMMETRIC)
            back = yield from bench.decoded(x_T[which], [(one.direction, -a)], SYMMETRIC)
            most, share = ("", float("nan"))
            if probe is not None:
                most, share = same_way(bench, back[1:], forth[1:])
            shares.append(share)
            rows.append(
                {"region": region.label, "component": number, "strength": a, "attribute": most, "same way": share}
            )
            cells.append(list(forth[:6]))
            names.append(f"{region.label} {number}\n{most}".replace("_", " "))
    check = Check(
        "mean share of other portraits whose most changed attribute goes the same way:",
        float(np.mean(shares)),
        SAME_WAY,
    )
    says = (
        f"Individual components found on portrait {source} (the first column), applied to {n} other held-out portraits "
        "at the strength that fits the first; attributes by the probe, from the opposite strength to this one."
    )
    columns = ("found on", *(f"other {k + 1}" for k in range(len(cells[0]) - 1)))
    return Drawn(grid(cells, columns, names), rows, [check], says)


def same_way(bench: Bench, before: Tensor, after: Tensor) -> tuple[str, float]:
    """The attribute that changes most on average, and the share of pictures in which it goes that way."""
    probe = bench.gauges.probe
    assert probe is not None
    mean = changes(probe, before, after)
    most = max(mean, key=lambda name: abs(mean[name]))
    with torch.no_grad():
        change = (probe.attributes(after)[most] - probe.attributes(before)[most]) * np.sign(mean[most])
    return most, float((change > 0).float().mean())


# ------------------------------------------------------------------------------------------------------------- figure 6

JOINT_RANKS, INDIVIDUAL_RANKS = (5, 15, 30), (2, 5, 20)


def ranks(bench: Bench) -> Job[Drawn]:
    n, region = bench.count(2, 1), regions_of(bench)[0]
    r, joint, individual = PAPER_RANKS
    joint_ranks = JOINT_RANKS if not bench.small else (5, joint)
    individual_ranks = INDIVIDUAL_RANKS if not bench.small else (individual,)
    x_T = yield from bench.latents(n)
    befores = yield from bench.rebuilt(n)
    values: dict[tuple[int, int], list[float]] = {}
    cells: list[list[Cell]] = []
    for k in range(n):
        _, basis = yield from basis_of(bench, k, PAPER_BASIS)
        pairs = [(a, c) for a in individual_ranks for c in joint_ranks]
        candidates = []
        for a, c in pairs:
            settings = DiscoverySettings(count=1, rank=r, joint_rank=c, individual_rank=a)
            found = found_by(basis, regions_of(bench), region, JIVE, settings)
            candidates.append(candidate_of(found[0], region))
        before = befores[k : k + 1]
        _, after = yield from at_equal_change(bench, x_T[k : k + 1], before, candidates)
        for pair, one in zip(pairs, after, strict=True):
            values.setdefault(pair, []).append(Local(k, JIVE, region, 0.0, before, one[None]).roir)
        if k == 0:
            cells = [list(after[i : i + len(joint_ranks)]) for i in range(0, len(pairs), len(joint_ranks))]
    rows: list[Row] = [
        {"r_C": c, "r_A": a, "portraits": n, "ROIR": float(np.mean(found))} for (a, c), found in values.items()
    ]
    chosen = float(np.mean(values[individual, joint]))
    low = float(np.mean(values[individual, joint_ranks[0]]))
    checks = [Check(f"ROIR with r_C = {joint_ranks[0]} over that with {joint}:", low / chosen, MORE_LOCAL)]
    if not bench.small:
        high = float(np.mean(values[individual_ranks[-1], joint]))
        checks.append(
            Check(f"ROIR with r_A = {individual_ranks[-1]} over that with {individual}:", high / chosen, MORE_LOCAL)
        )
    marked = (individual_ranks.index(individual), joint_ranks.index(joint))
    says = (
        f"The leading individual component of the {region.label.lower()} for each pair of ranks with r = {r} on {n} "
        f"held-out portraits, at equal change of the region; the paper's pair is framed."
    )
    columns, names = [f"r_C = {c}" for c in joint_ranks], [f"r_A = {a}" for a in individual_ranks]
    return Drawn(grid(cells, columns, names, marked=marked), rows, checks, says)


# --------------------------------------------------------------------------------------------------------- figures 7, 8

SHARES_OF_T = (0.3, 0.45, 0.6, 0.75)


def timesteps(bench: Bench) -> Job[Drawn]:
    n = bench.count(2, 1)
    levels = SHARES_OF_T if not bench.small else (0.6, 0.75)
    regions = regions_of(bench)
    x_T = yield from bench.latents(n)
    befores = yield from bench.rebuilt(n)
    values: dict[tuple[str, float], list[float]] = {}
    cells: list[list[Cell]] = [[befores[0]] for _ in regions]
    for k in range(n):
        candidates: list[Candidate] = []
        keys = []
        for at in levels:
            _, basis = yield from basis_of(bench, k, at=at)
            for region in regions:
                found = found_by(basis, regions, region, JIVE, DiscoverySettings(count=1))
                candidates.append(candidate_of(found[0], region))
                keys.append((region.label, at))
        before = befores[k : k + 1]
        _, after = yield from at_equal_change(bench, x_T[k : k + 1], before, candidates)
        for key, candidate, one in zip(keys, candidates, after, strict=True):
            values.setdefault(key, []).append(Local(k, JIVE, candidate.region, 0.0, before, one[None]).roir)
            if k == 0:
                cells[[region.label for region in regions].index(key[0])].append(one)
    rows: list[Row] = [
        {"region": label, "t per T": at, "portraits": n, "ROIR": float(np.mean(found))}
        for (label, at), found in values.items()
    ]
    checks = []
    for region in regions:
        means = [float(np.mean(found)) for (label, _), found in values.items() if label == region.label]
        checks.append(
            Check(f"largest ROIR over the smallest, {region.label.lower()}:", max(means) / min(means), ROBUST, False)
        )
    says = f"The first individual component of each timestep on {n} held-out portraits, at equal change."
    columns = ["original", *(f"t = {at:g} T" for at in levels)]
    return Drawn(grid(cells, columns, [region.label for region in regions]), rows, checks, says)


# ------------------------------------------------------------------------------------------------------------- figure 9

AMOUNTS = (-40.0, -20.0, 0.0, 20.0, 40.0)


def cumulative(bench: Bench) -> Job[Drawn]:
    regions = regions_of(bench)
    amounts = AMOUNTS if not bench.small else (-40.0, 40.0)
    x_T = yield from bench.latents(1)
    before = yield from bench.rebuilt(1)
    _, basis = yield from basis_of(bench, 0)
    vectors: list[FoundDirection] = []
    for number in range(2):
        for region in regions:
            settings = DiscoverySettings(count=2)
            vectors.append(found_by(basis, regions, region, JIVE, settings)[number])
    sums: list[Candidate] = []
    total: Tensor | None = None
    for one in vectors:
        delta = one.direction.delta  # type: ignore[attr-defined]
        total = delta if total is None else total + delta
        sums.append(Candidate(JIVE, regions[0], replace(one.direction, delta=total), 1.0))  # type: ignore[type-var]
    cells: list[list[Cell]] = []
    made: dict[tuple[int, float], Tensor] = {}
    for j, candidate in enumerate(sums):
        strengths = torch.tensor(amounts)
        after = yield from rendered(bench, x_T, [candidate] * len(amounts), strengths)
        made |= {(j, a): picture for a, picture in zip(amounts, after, strict=True)}
    rows: list[Row] = []
    opposite, ordered = [], []
    for j in range(len(sums)):
        sizes = []
        for a in amounts:
            change = made[j, a] - before[0]
            sizes.append(change.square().mean().sqrt().item())
            rows.append({"sum of": j + 1, "a": a, "root mean square change": sizes[-1]})
        ends = [(made[j, a] - before[0]).flatten() for a in (amounts[0], amounts[-1])]
        opposite.append(torch.nn.functional.cosine_similarity(ends[0], ends[1], dim=0).item())
        ordered.append(float(rank_correlation([abs(a) for a in amounts], np.array([sizes]))[0]))
    cells = [[made[j, a] for j in range(len(sums))] for a in amounts]
    checks = [
        Check("largest cosine of the changes by opposite strengths:", max(opposite), OPPOSITE, False),
    ]
    if not bench.small:
        checks.append(Check("least rank correlation of |a| and the change:", min(ordered), ORDERED))
    columns = ["v1", *(f"+ v{j + 1}" for j in range(1, len(sums)))]
    says = (
        f"Sums of the first {len(sums)} individual components of {' and '.join(one.label.lower() for one in regions)}, "
        "in turn, on one held-out portrait; a as the paper counts it, over 40 steps."
    )
    return Drawn(grid(cells, columns, [f"a = {a:+g}" if a else "a = 0" for a in amounts]), rows, checks, says)


FIGURES = (
    Figure(
        "local-3",
        "Figures 1 and 3: joint and individual components",
        "Edits with singular vectors of the region's Jacobian, with its individual component and with the joint one, "
        "for faces, churches and paintings.",
        "The individual component changes the region alone, the joint one everything.",
        (("core/discovery/jive.py", "individual_directions"), ("core/discovery/jive.py", "joint_directions")),
        components,
    ),
    Figure(
        "local-4",
        "Figure 4: one picture's directions on others",
        "Components found on the first picture of a row and applied to the others of it.",
        "They mean the same on other pictures.",
        (("core/discovery/jive.py", "individual_directions"),),
        transfer,
    ),
    Figure(
        "local-5",
        "Figures 5 and 10, Table 1: methods side by side",
        "Asyrp, Haas et al., the region's Jacobian without JIVE and with it for four edits; Frechet distance, identity "
        "and ROIR, in which the one with JIVE is mostly the best.",
        "With JIVE edits are the most local and keep the person best.",
        (("core/discovery/methods.py", "METHODS"), ("core/discovery/locality.py", "roir")),
        side_by_side,
    ),
    Figure(
        "local-6",
        "Figure 6: ranks",
        "One local edit for several joint and individual ranks; r_C = 30 and r_A = 5 are framed.",
        "A low joint rank or a high individual one changes more outside the region.",
        (("core/discovery/jive.py", "jive"), ("core/discovery/interface.py", "DiscoverySettings")),
        ranks,
    ),
    Figure(
        "local-7",
        "Figures 7 and 8 (B.2): timesteps",
        "The first component of eyes, mouth, windows found at several timesteps.",
        "The method is robust to the timestep.",
        (("core/discovery/jacobian_operator.py", "nearest_timestep"),),
        timesteps,
    ),
    Figure(
        "local-9",
        "Figure 9 (B.3): sums of components",
        "A face under sums of one, two, three and four components, each at strengths from -40 to 40.",
        "Strength scales the edit, opposite strengths are opposite, and components add up.",
        (("core/directions.py", "CompositeDirection"),),
        cumulative,
    ),
)

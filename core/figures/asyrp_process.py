"""Asyrp: the process around an edit: its steps, its editing interval, and the boosting of quality."""

from __future__ import annotations

import numpy as np

from ..curves import measure_curves
from ..drawing import Line, Mark, line_plot
from ..editing import EditSettings
from ..errors import RequestError
from ..evaluation.statistics import rank_correlation
from ..intervals import BOOST_THRESHOLD, EDIT_THRESHOLD, Curves, Intervals, first_reaching
from ..metrics import psnr
from ..models.cards import PRESETS
from ..progress import Job, stage
from ..studio.analyses import editing_ends
from ..studio.frames import EditOptions
from .bench import STEPS, Bench, pairs
from .figure import Check, Drawn, Figure, Row
from .grids import Cell, grid

NAME = "smiling"

# Bounds, in the order of the claims below.
SAME_SUM = 0.2  # by how much the change in other numbers of steps may differ, as a share of that in 40
ORDERED = 0.9  # rank correlation
FLEXIBLE = 0.25  # editing strength of the boosting interval at most, as the paper confirms of its own (section 4.2)
AGREED = 40  # timesteps by which t_edit and t_boost may differ from those of the shipped curves
BETTER = 1.0  # Frechet distance without boosting, or without an editing interval, per that with it
SAME_CONTENT = 0.9  # identity that boosting at 1.2 leaves of an edit


def curves_of(bench: Bench) -> Job[tuple[Curves, int]]:
    """The model's curves over held-out pictures, and over how many."""
    n, steps = bench.count(10), bench.count(25, 10)

    def make() -> Job[Curves]:
        pixels = yield from bench.portraits(n)
        distance = bench.gauges.distance
        if distance is None:
            raise RequestError(" ".join(bench.gauges.missing) or "The perceptual distance cannot be measured.")
        return (yield from stage(measure_curves(bench.model, pixels, distance, steps), "Measuring the curves"))

    return (yield from bench.once(("curves", n, steps), make)), n


# -------------------------------------------------------------------------------------------------------- figures 3, 19


def curves(bench: Bench) -> Job[Drawn]:
    found, n = yield from curves_of(bench)
    t = found.t.tolist()
    strengths = [found.editing_strength(s) for s in t]
    rows: list[Row] = [
        {"t": int(s), "LPIPS(x, P_t)": float(p), "LPIPS(x, x_t)": float(q), "editing strength": float(xi)}
        for s, p, q, xi in zip(t, found.predicted_x0, found.noisy, strengths, strict=True)
    ]
    t_edit, t_boost = found.t_edit(1.0), found.t_boost()
    rising = float(rank_correlation(t, found.predicted_x0[None])[0])
    checks = [
        Check("rank correlation of LPIPS(x, P_t) and t:", rising, ORDERED),
        Check("editing flexibility left below t_boost:", found.editing_flexibility(t_boost), FLEXIBLE, False),
        Check("timesteps from t_boost up to t_edit:", float(t_edit - t_boost), 0.0),
    ]
    if isinstance(bench.model.card.curves, str) and (PRESETS / bench.model.card.curves).is_file():
        shipped = Curves.load(PRESETS / bench.model.card.curves)
        differs = max(abs(shipped.t_edit(1.0) - t_edit), abs(shipped.t_boost() - t_boost))
        checks.append(Check("timesteps by which the ends differ from shipped ones:", float(differs), AGREED, False))
    lines = [Line("P_t", t, found.predicted_x0), Line("x_t", t, found.noisy), Line("editing strength", t, strengths)]
    marks = [Mark(EDIT_THRESHOLD, "0.33", level=True), Mark(BOOST_THRESHOLD, "1.2", level=True)]
    plot = line_plot("Perceptual distance from the picture", lines, "t", "distance", marks, alone=True, include=(0.0,))
    says = (
        f"Mean over {n} held-out portraits, by the model's own perceptual distance. Read off: t_edit {t_edit} for "
        f"texts that mean the same, t_boost {t_boost}."
    )
    return Drawn(plot, rows, checks, says)


# ------------------------------------------------------------------------------------------------------------ figure 17


def other_steps(bench: Bench) -> Job[Drawn]:
    n = bench.count(4)
    steps = (20, 40, 80) if not bench.small else (10, 20)
    pixels = yield from bench.portraits(n)
    subject = bench.subject(NAME)
    preset = subject.preset
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    owns: dict[int, float] = {}
    for s in steps:
        x_T = yield from bench.latents(n, s)
        before = yield from bench.rebuilt(n, s)
        settings = EditSettings(s, Intervals(bench.t_edit(NAME), 0))
        after = yield from bench.decoded(x_T, [(preset.direction, 1.0)], settings)
        own = bench.measured(subject, pixels, pairs(before, after))["own"][:, -1]
        owns[s] = float(own.mean())
        rebuilt = psnr(before, pixels).mean().item()
        rows.append({"steps": s, "own change": owns[s], "PSNR without an edit": rebuilt})
        cells.append([after[k] for k in range(min(4, n))])
    middle = owns[40] if 40 in owns else owns[steps[-1]]
    check = Check(
        "largest relative difference of the change from that in 40 steps:",
        max(abs(own / middle - 1) for own in owns.values()),
        SAME_SUM,
        False,
    )
    better = [float(row["PSNR without an edit"]) for row in rows]
    more = Check("dB of reconstruction gained from the fewest steps to the most:", better[-1] - better[0], 0.0)
    says = (
        f"{NAME} at strength 1 with delta_h S / S~ in {', '.join(map(str, steps))} steps on {n} held-out portraits. "
        "The paper goes to 1,000, which is the same command and too long for here."
    )
    turned = [list(column) for column in zip(*cells, strict=True)]
    return Drawn(grid(turned, [f"{s} steps" for s in steps]), rows, [check, more], says)


# ------------------------------------------------------------------------------------------------------- figures 18, 22

NAMES = ("smiling", "old")


def edit_thresholds(bench: Bench) -> Job[Drawn]:
    n = bench.count(8)
    pixels = yield from bench.portraits(n)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    levels = editing_ends(bench.model.card)
    ends = [t_edit for _, t_edit in levels]
    orders = []
    for name in NAMES[: bench.count(2, 1)]:
        subject = bench.subject(name)
        shown: list[Cell] = [pixels[1]]
        owns, identities = [], []
        for level, t_edit in levels:
            edited = yield from bench.edited(subject, pixels, EditOptions(t_edit=t_edit))
            table = bench.measured(subject, pixels, edited)
            owns.append(float(table["own"][:, -1].mean()))
            identities.append(float(np.nanmean(table["identity"][:, -1])) if "identity" in table else float("nan"))
            row: Row = {"direction": name, "threshold": level, "t_edit": t_edit, "own change": owns[-1]}
            rows.append(row | {"identity": identities[-1]})
            shown.append(edited[1, -1])
        cells.append(shown)
        orders += [
            Check(
                f"rank correlation of own change and the length of the interval, {name}:",
                float(rank_correlation([-t for t in ends], np.array([owns]))[0]),
                ORDERED,
            ),
            Check(
                f"rank correlation of identity and the shortness of the interval, {name}:",
                float(rank_correlation(ends, np.array([identities]))[0]),
                ORDERED,
            ),
        ]
    columns = ["original", *(f"{level:g}\nt_edit {t}" for level, t in levels)]
    says = (
        f"Editing down to where the model's curve reaches each threshold, on {n} held-out portraits at strength 1. The "
        "shipped directions begin at t = 700."
    )
    return Drawn(grid(cells, columns, NAMES[: len(cells)]), rows, orders, says)


# --------------------------------------------------------------------------------------------------- figures 20, 21, 23

BOOST_GRID = (0.9, 1.2, 1.5)


def boosting(bench: Bench) -> Job[Drawn]:
    n, steps = bench.count(16, 3), bench.count(STEPS, 10)
    pixels = yield from bench.portraits(n)
    x_T = yield from bench.latents(n, steps)
    found, _ = yield from curves_of(bench)
    subject = bench.subject(NAME)
    t_edit = bench.t_edit(NAME)
    levels = [(0.0, 0), *((level, first_reaching(found.t, found.noisy, level)) for level in BOOST_GRID)]
    rows: list[Row] = []
    cells: list[list[Cell]] = [[pixels[k]] for k in range(min(2, n))]
    distances, identities = [], []
    unboosted = None
    for level, t_boost in levels:
        settings = EditSettings(steps, Intervals(t_edit, min(t_boost, t_edit)))
        after = yield from bench.decoded(x_T, [(subject.preset.direction, 1.0)], settings)
        unboosted = after if unboosted is None else unboosted
        compare = bench.gauges.identity
        kept = float("nan") if compare is None else float(compare(unboosted, after).mean())
        distances.append(bench.frechet(pixels, after))
        identities.append(kept)
        own = float(bench.measured(subject, pixels, pairs(pixels, after))["own"][:, -1].mean())
        row: Row = {"edit": NAME, "threshold": level, "t_boost": t_boost, "Frechet distance": distances[-1]}
        rows.append(row | {"identity to unboosted": kept, "own change": own})
        for k, line in enumerate(cells):
            line.append(after[k])
    at = 1 + BOOST_GRID.index(BOOST_THRESHOLD)
    to_the_end = yield from bench.decoded(x_T, [(subject.preset.direction, 1.0)], EditSettings(steps, Intervals(0, 0)))
    whole = bench.frechet(pixels, to_the_end)
    own = float(bench.measured(subject, pixels, pairs(pixels, to_the_end))["own"][:, -1].mean())
    row = {"edit": f"{NAME}, no editing interval", "threshold": 0.0, "t_boost": 0, "Frechet distance": whole}
    rows.append(row | {"identity to unboosted": float("nan"), "own change": own})
    for k, line in enumerate(cells):
        line.append(to_the_end[k])
    rebuilt: list[float] = []
    for level, t_boost in (levels[0], levels[at]):
        after = yield from bench.decoded(x_T, settings=EditSettings(steps, Intervals(1000, t_boost)))
        rebuilt.append(bench.frechet(pixels, after))
        rows.append({"edit": "none", "threshold": level, "t_boost": t_boost, "Frechet distance": rebuilt[-1]})
        rows[-1] |= {"identity to unboosted": float("nan"), "own change": 0.0}
    checks = [
        Check("Frechet distance of edits without an editing interval per that with it:", whole / distances[0], BETTER),
        Check("Frechet distance of edits without boosting per that at 1.2:", distances[0] / distances[at], BETTER),
        Check("Frechet distance of reconstructions without boosting per that at 1.2:", rebuilt[0] / rebuilt[1], BETTER),
        Check("identity of an edit boosted at 1.2 with the same unboosted:", identities[at], SAME_CONTENT),
    ]
    columns = ["original", "no boosting", *(f"{level:g}\nt_boost {t}" for level, t in levels[1:]), "edited\nto the end"]
    says = (
        f"{NAME} at strength 1 in {steps} steps on {n} held-out portraits, noise below where the model's curve of x_t "
        f"reaches each threshold; Frechet distances to the originals. The last two rows are without an edit."
    )
    return Drawn(grid(cells, columns), rows, checks, says)


FIGURES = (
    Figure(
        "asyrp-19",
        "Figures 3 and 19: perceptual curves and editing strength",
        "LPIPS of P_t and of x_t to the picture against t, averaged over 100 pictures of each data set; the intervals "
        "are read off at 0.33 and 1.2.",
        "The curves give an editing interval above a boosting interval that can change little.",
        (("core/curves.py", "measure_curves"), ("core/intervals.py", "editing_strength")),
        curves,
    ),
    Figure(
        "asyrp-17",
        "Figure 17: more steps with scaled delta_h",
        "Edits of directions trained with 40 steps, in 40 and in 1,000 steps.",
        "delta_h S / S~ edits as much in any number of steps, and more steps look better.",
        (("core/directions.py", "weighted_delta"),),
        other_steps,
    ),
    Figure(
        "asyrp-22",
        "Figures 18 and 22: the editing interval",
        "Smiling with editing intervals of several lengths, and grids of thresholds.",
        "Short intervals change too little, long ones too much.",
        (("core/studio/analyses.py", "editing_ends"), ("core/intervals.py", "t_edit")),
        edit_thresholds,
    ),
    Figure(
        "asyrp-23",
        "Figures 20, 21 and 23: quality boosting",
        "DDIM and edits with and without boosting, and a grid of thresholds of the boosting interval.",
        "Boosting makes better pictures and keeps their content, and so does an end of the editing interval.",
        (("core/editing.py", "EditSettings"), ("core/intervals.py", "t_boost")),
        boosting,
    ),
)

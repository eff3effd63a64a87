"""Asyrp: edits, their linearity and sums, one shift for all pictures, averaged forms, its tables of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..asyrp.forms import global_direction, mean_direction
from ..evaluation.measures import changes
from ..metrics import psnr
from ..presets import Preset
from ..progress import Job
from ..studio.analyses import imagined
from ..studio.compose.applying import combine
from .bench import Bench, pairs
from .figure import Check, Drawn, Figure, Row
from .grids import Cell, grid

# Bounds, in the order of the claims below.
OWN, SHARE_THAT_WORK = 0.7, 0.9  # standard deviations that a direction has to move; share of the directions that do
R2 = 0.9  # of strength and attribute over -1..1
SAME_WAY = 0.9  # share of pictures whose attribute goes the same way
ADDED = 0.25  # by how much a change under a sum may differ from the change alone, as a share
FORM_CHANGE = 0.25  # by how much the own change of an averaged form may differ
ONE_SHIFT = ("smiling", "closed eyes", "open mouth", "old", "angry")
LINEAR = ("smiling", "old", "closed eyes")


def strengths_to_one(count: int) -> list[float]:
    """Evenly spaced from -1 to 1."""
    return [round(c, 4) for c in np.linspace(-1, 1, count).tolist()]


def r_squared(x: Sequence[float], y: Sequence[float]) -> float:
    """Of a straight line fitted to the points."""
    values = np.asarray(y, float)
    left = values - np.polyval(np.polyfit(np.asarray(x, float), values, 1), np.asarray(x, float))
    total = np.square(values - values.mean()).sum()
    return float(1 - np.square(left).sum() / total) if total > 0 else float("nan")


# ------------------------------------------------------------------------------------------------------------- figure 4


def gallery(bench: Bench) -> Job[Drawn]:
    names, n = bench.directions(), bench.count(5)
    names = names[: bench.count(len(names))]
    pixels = yield from bench.portraits(bench.count(24, 6))
    rows: list[Row] = []
    befores: list[Cell] = []
    afters: list[Cell] = []
    for k, name in enumerate(names):
        subject = bench.subject(name)
        without = bench.without(subject, pixels)
        chosen = (without if len(without) else pixels).roll(-k, 0)[:n]  # not the same one in every column
        edited = yield from bench.edited(subject, chosen)
        table = bench.measured(subject, chosen, edited)
        other, most = bench.others(table, subject)
        means: Row = {
            key: float(np.nanmean(table[key][:, -1])) for key in ("own", "identity", "distance") if key in table
        }
        rows.append({"direction": name, "portraits": len(chosen), **means, "other": other, "largest other": most})
        befores.append(chosen[0])
        afters.append(edited[0, -1])
    works = [float(row["own"]) >= OWN and not float(row["own"]) <= float(row["largest other"]) for row in rows]
    blocks = range(0, len(names), 5)
    cells = [part[i : i + 5] for i in blocks for part in (befores, afters)]
    captions = [words for i in blocks for words in ([""] * 5, names[i : i + 5])]
    check = Check(
        f"share of {len(names)} directions that move their attribute by {OWN} standard deviations, more than any other",
        float(np.mean(works)),
        SHARE_THAT_WORK,
    )
    says = f"Each direction at strength 1 on {n} held-out portraits that lack its attribute, in the app's process."
    return Drawn(grid(cells, captions=captions), rows, [check], says)


# -------------------------------------------------------------------------------------------------- figures 7, 8 and 33


def linearity(bench: Bench) -> Job[Drawn]:
    names, n = LINEAR[: bench.count(3, 1)], bench.count(8)
    strengths = strengths_to_one(5)
    pixels = yield from bench.portraits(n)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    fits, singles = [], []
    for name in names:
        subject = bench.subject(name, strengths)
        edited = yield from bench.edited(subject, pixels)
        own = bench.measured(subject, pixels, edited)["own"]
        fits.append(r_squared(subject.strengths, own.mean(0)))
        singles.append(float(np.nanmedian([r_squared(subject.strengths, row) for row in own])))
        for c, mean, spread in zip(subject.strengths, own.mean(0), own.std(0), strict=True):
            rows.append({"direction": name, "strength": c, "own": float(mean), "standard deviation": float(spread)})
        cells.append(list(edited[1]))
    columns = [f"{c:+g}" if c else "0" for c in subject.strengths]
    checks = [Check(f"R² of strength and attribute, {name}:", fit, R2) for name, fit in zip(names, fits, strict=True)]
    says = (
        f"{len(strengths)} strengths from -1 to 1 on {n} held-out portraits; R² of a straight line through the mean "
        f"own changes (median of single portraits {', '.join(f'{one:.2f}' for one in singles)})."
    )
    return Drawn(grid(cells, columns, names), rows, checks, says)


PAIRS = (("smiling", "gray hair"), ("glasses", "closed eyes"), ("beard", "angry"))


def combination(bench: Bench) -> Job[Drawn]:
    n = bench.count(8)
    pixels = yield from bench.portraits(n)
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    differences = []
    for pair in PAIRS[: bench.count(3, 1)]:
        subjects = [bench.subject(name) for name in pair]
        chosen = [(subject.preset, 1.0) for subject in subjects]
        alone = []
        for subject in subjects:
            alone.append((yield from bench.edited(subject, pixels)))
        whole = replace(subjects[0], preset=combine(bench.model.card, chosen, " + ".join(pair)))
        together = yield from bench.edited(whole, pixels)
        for subject, single in zip(subjects, alone, strict=True):
            one = float(bench.measured(subject, pixels, single)["own"][:, -1].mean())
            summed = float(bench.measured(subject, pixels, together)["own"][:, -1].mean())
            differences.append(abs(summed / one - 1))
            rows.append(
                {"pair": " + ".join(pair), "attribute of": subject.preset.name, "alone": one, "in the sum": summed}
            )
        cells.append([together[0, 0], alone[0][0, -1], alone[1][0, -1], together[0, -1]])
    names = [" +\n".join(pair) for pair in PAIRS]
    check = Check(
        "largest relative difference of a change in the sum from the change alone", max(differences), ADDED, False
    )
    says = f"Sums of two directions on {n} held-out portraits, mean change of each attribute."
    columns = ("original", "first", "second", "both")
    return Drawn(grid(cells, columns, names[: len(cells)]), rows, [check], says)


def interpolation(bench: Bench) -> Job[Drawn]:
    pair, n = ("smiling", "old"), bench.count(2, 1)
    strengths = [-1.0, -0.5, 0.0, 0.5, 1.0] if not bench.small else [-1.0, 1.0]
    pixels = yield from bench.portraits(n)
    subjects = [bench.subject(name) for name in pair]
    grids: list[Tensor] = []
    for c in strengths:
        row_of = []
        for d in strengths:
            chosen = [(subjects[0].preset, c), (subjects[1].preset, d)]
            whole = replace(subjects[0], preset=combine(bench.model.card, chosen, " + ".join(pair)))
            row_of.append((yield from bench.edited(whole, pixels))[:, -1])
        grids.append(torch.stack(row_of, 1))
    changed = torch.stack(grids, 1)  # (N, first, second, 3, R, R)
    rows: list[Row] = []
    explained = []
    values = np.zeros((2, len(strengths), len(strengths)))
    for i, c in enumerate(strengths):
        for j, d in enumerate(strengths):
            probe = bench.gauges.probe
            assert probe is not None  # directions come with instruments
            change = changes(probe, pixels, changed[:, i, j])
            values[:, i, j] = [subject.sign * change[subject.attribute] for subject in subjects]
            row: Row = {pair[0]: c, pair[1]: d}
            rows.append(row | {f"change of {name}": float(v[i, j]) for name, v in zip(pair, values, strict=True)})
    for axis, value in enumerate(values):
        own = value.mean(1 - axis)
        spread = np.square(value - value.mean()).sum()
        explained.append(float(len(strengths) * np.square(own - own.mean()).sum() / spread))
    checks = [
        Check(f"share of the change of {name} that its own strength explains:", share, R2)
        for name, share in zip(pair, explained, strict=True)
    ]
    says = f"{len(strengths)} x {len(strengths)} mixtures of two directions on {n} held-out portraits."
    cells = [list(row) for row in changed[0]]
    columns = [f"{pair[1]}\n{d:+g}" for d in strengths]
    return Drawn(grid(cells, columns, [f"{pair[0]} {c:+g}" for c in strengths], side=88), rows, checks, says)


# ---------------------------------------------------------------------------------- homogeneity, figures 6 (b) and 10


def homogeneity(bench: Bench) -> Job[Drawn]:
    names, n = ONE_SHIFT[: bench.count(5, 1)], bench.count(20, 3)
    pixels = yield from bench.portraits(n + 1)
    x_T = (yield from bench.latents(n + 1))[:1]
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    shares = []
    for name in names:
        preset = bench.preset(name)
        one = mean_direction(bench.model, preset.direction, x_T, bench.t_edit(name))
        subject = bench.subject(name, (1.0,), replace(one, gain=preset.direction.gain))
        edited = yield from bench.edited(subject, pixels)
        own = bench.measured(subject, pixels, edited)["own"][1:, -1]
        shares.append(float((own > 0).mean()))
        rows.append({"direction": name, "portraits": n, "mean own change": float(own.mean()), "same way": shares[-1]})
        cells.append([edited[0, -1], *edited[1:7, -1]])
    cells = [list(pixels[:7]), *cells]
    checks = [
        Check(f"share of {n} others that change the same way, {name}:", share, SAME_WAY)
        for name, share in zip(names, shares, strict=True)
    ]
    says = (
        f"delta_h_t of one portrait (the first column), added as it is to {n} others; own change by the probe, none of "
        "them chosen for lacking the attribute."
    )
    columns = ["its own", *[f"other {k}" for k in range(1, 7)]]
    return Drawn(grid(cells, columns[: len(cells[1])], ["original", *names], side=92), rows, checks, says)


def forms(bench: Bench) -> Job[Drawn]:
    names, n = ("smiling", "gray hair")[: bench.count(2, 1)], bench.count(8)
    pixels = yield from bench.portraits(n)
    x_T = (yield from bench.latents(bench.count(21, 3)))[1:]
    rows: list[Row] = []
    cells: list[list[Cell]] = []
    differences, nearer = [], []
    for name in names:
        preset = bench.preset(name)
        mean = mean_direction(bench.model, preset.direction, x_T, bench.t_edit(name))
        made = {"f_t": preset.direction, "mean": mean, "global": global_direction(mean)}
        pictures: dict[str, Tensor] = {}
        owns: dict[str, float] = {}
        for form, direction in made.items():
            subject = bench.subject(name, (1.0,), replace(direction, gain=preset.direction.gain))  # type: ignore[type-var]
            edited = yield from bench.edited(subject, pixels)
            pictures[form], pictures["original"] = edited[:, -1], edited[:, 0]
            owns[form] = float(bench.measured(subject, pixels, edited)["own"][:, -1].mean())
        away = psnr(pictures["f_t"], pictures["original"]).mean().item()
        for form in ("f_t", "mean", "global"):
            to_f = float("nan") if form == "f_t" else psnr(pictures[form], pictures["f_t"]).mean().item()
            rows.append({"direction": name, "form": form, "own change": owns[form], "PSNR to f_t": to_f})
            if form != "f_t":
                differences.append(abs(owns[form] / owns["f_t"] - 1))
                nearer.append(to_f - away)
        cells.append([pictures[form][0] for form in ("original", "f_t", "mean", "global")])
    checks = [
        Check("largest relative difference of an own change from that of f_t", max(differences), FORM_CHANGE, False),
        Check("least gain in dB of an averaged form over the original, as pictures of f_t's edit:", min(nearer), 0.0),
    ]
    says = f"f_t, its mean over {len(x_T)} other portraits, and that over time, on {n} held-out portraits."
    return Drawn(grid(cells, ("original", "delta_h_t", "mean", "global"), names), rows, checks, says)


# ------------------------------------------------------------------------------------------------------------ figure 31


def from_noise(bench: Bench) -> Job[Drawn]:
    n, name = bench.count(8), "smiling"
    preset: Preset = bench.preset(name)
    plain, changed = yield from imagined(bench.model, preset, 1.0, 100, n)
    subject = bench.subject(name)
    own = bench.measured(subject, plain, pairs(plain, changed))["own"][:, -1]
    rows: list[Row] = [{"seed": 100 + i, "own change": float(value)} for i, value in enumerate(own)]
    check = Check("share of new pictures that change the way the direction means:", float((own > 0).mean()), SAME_WAY)
    says = f"{n} new pictures from noise, without and with {name} at strength 1; not chosen."
    return Drawn(grid([list(plain), list(changed)], names=("without", "with")), rows, [check], says)


FIGURES = (
    Figure(
        "asyrp-4",
        "Figures 4, 5 and 34: edits",
        "Real pictures edited with directions of text pairs: smiling, sad, young, tanned and others of faces, unseen "
        "domains such as Pixar and Neanderthal, and other data sets.",
        "Each direction brings its attribute, and little else.",
        (("core/studio/edit.py", "intervals_for"), ("core/process.py", "edit_pictures")),
        gallery,
    ),
    Figure(
        "asyrp-7",
        "Figure 7: linearity",
        "One face from a negative multiple of the smiling direction to a positive one, in equal steps.",
        "Scaling delta_h scales the attribute, in the negative direction too.",
        (("core/directions.py", "weighted_delta"), ("core/editing.py", "edit")),
        linearity,
    ),
    Figure(
        "asyrp-8",
        "Figure 8: linear combination",
        "Faces under single directions and under their sums.",
        "Sums of directions change all of their attributes.",
        (("core/directions.py", "CompositeDirection"), ("core/studio/compose/applying.py", "combine")),
        combination,
    ),
    Figure(
        "asyrp-33",
        "Figure 33: mixed interpolation",
        "A grid of one face between two attributes, smiling and young, at several strengths of each.",
        "Any mixture of two attributes can be had.",
        (("core/studio/compose/pictures.py", "sweep"),),
        interpolation,
    ),
    Figure(
        "asyrp-homogeneity",
        "Section 5.3: homogeneity (figure 6 b)",
        "delta_h of one sample, added to other samples.",
        "The same delta_h has the same effect on other pictures.",
        (("core/asyrp/forms.py", "mean_direction"),),
        homogeneity,
    ),
    Figure(
        "asyrp-10",
        "Figures 10, 29 and 30: delta_h_t, its mean and the global one",
        "The same edits with f_t, with its mean over 20 pictures and with the mean of that over time.",
        "All three give almost the same pictures.",
        (("core/asyrp/forms.py", "mean_direction"), ("core/asyrp/forms.py", "global_direction")),
        forms,
    ),
    Figure(
        "asyrp-31",
        "Figure 31: sampling from noise with a direction",
        "Random samples, made with directions.",
        "The direction works without inversion too.",
        (("core/studio/analyses.py", "imagined"),),
        from_noise,
    ),
)

"""Asyrp: h against eps, random shifts, other places in the U-Net, and how delta h depends on the timestep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..asyrp.consistency import AtTimestep, consistency
from ..asyrp.forms import along_edit
from ..asyrp.perturbation import gaussian, random_of_equal_share
from ..asyrp.train import TrainedForm, Training, TrainingSettings
from ..directions import Direction
from ..drawing import Line, line_plot
from ..editing import EditSettings
from ..errors import RequestError
from ..evaluation.measures import changes, largest_other
from ..evaluation.statistics import rank_correlation
from ..intervals import Intervals
from ..layers import EPS, at_layer, count, middle
from ..metrics import psnr
from ..models.loader import DiffusionModel
from ..progress import Job, Progress, stage
from .bench import STEPS, Bench, pairs
from .figure import Check, Drawn, Figure, Row
from .grids import Cell, grid

NAME = "smiling"

# Bounds, in the order of the claims below.
SAME_WAY = 0.9  # share of pictures whose attribute goes the same way
CARRIED = 0.5  # of the change of the sample that it was optimised on, on other pictures
BEST = 0.0  # own change per side effect of the mid block, less that of the best other block
TWICE = 1.0  # how many times as much eps has to change or to cost
UNSEEN = 30.0  # dB: a picture that differs by less looks the same
ALIKE = 0.7  # cosine of delta h of pictures, and of timesteps, with their mean
GROWS = 0.5  # rank correlation of the distance from the global direction with the progress of the process
VISIBLE = 0.2  # standard deviations: an edit that changes its own attribute by less is none


def settings_for(bench: Bench, injection: str = "asymmetric") -> EditSettings:
    """The papers' process over the editing interval of `NAME`, without boosting."""
    settings = EditSettings(STEPS, Intervals(bench.t_edit(NAME), 0))
    return replace(settings, injection="symmetric") if injection == "symmetric" else settings


def trained(
    bench: Bench, model: DiffusionModel, form: TrainedForm, x_T: Tensor, epochs: int, batch: int, words: str
) -> Job[Direction]:
    """A direction of the texts of `NAME` from latents, with the settings that the shipped one was made with.

    Raises:
        RequestError: the model has no image-text model.
    """
    preset, image_text = bench.preset(NAME), bench.gauges.image_text
    if image_text is None:
        raise RequestError(f"Nothing is trained without an image-text model. {' '.join(bench.gauges.missing)}")
    settings = TrainingSettings(
        form=form,
        steps=STEPS,
        samples=len(x_T),
        epochs=epochs,
        batch=batch,
        l_recon=6.0,
        t_edit=bench.t_edit(NAME),
        t_start=preset.direction.t_start,
    )
    training = Training(model, image_text, preset.source_text, preset.target_text, settings, x_T)
    return (yield from stage(training.run(), words, previews=False))


def own_change(bench: Bench, before: Tensor, after: Tensor) -> np.ndarray:
    """Of `NAME`'s attribute, (N,), in standard deviations."""
    table = bench.measured(bench.subject(NAME), before, pairs(before, after))
    own: np.ndarray = table["own"][:, -1]
    return own


def identity(bench: Bench, before: Tensor, after: Tensor) -> float:
    """Mean similarity of the persons; no number where nothing compares them."""
    compare = bench.gauges.identity
    with torch.no_grad():
        return float("nan") if compare is None else compare(before, after).mean().item()


# -------------------------------------------------------------------------------------------------------- figures 6, 13


def optimised(bench: Bench) -> Job[Drawn]:
    n, epochs = bench.count(6), bench.count(10, 1)
    x_T = yield from bench.latents(n + 1)
    before = yield from bench.rebuilt(n + 1)
    rows: list[Row] = []
    cells: list[list[Cell]] = [list(before[:6])]
    found: dict[str, dict[str, float]] = {}
    for space in ("h", "eps"):
        model = bench.model if space == "h" else at_layer(bench.model, EPS)
        words = f"Optimising a shift of {space}"
        direction = yield from trained(bench, model, "per_timestep", x_T[:1], epochs, 1, words)
        after = yield from bench.decoded(x_T, [(direction, 1.0)], settings_for(bench), model)
        own = own_change(bench, before, after)
        found[space] = {
            "own change of the sample": float(own[0]),
            "own change of others": float(own[1:].mean()),
            "same way": float((own[1:] > 0).mean()),
            "identity of others": identity(bench, before[1:], after[1:]),
            "Frechet distance of others": bench.frechet(before[1:], after[1:]),
        }
        rows.append({"space": space, "others": n, **found[space]})
        cells.append(list(after[:6]))
    h, eps = found["h"], found["eps"]
    checks = [
        Check("share of others that an h optimised on one sample moves the same way:", h["same way"], SAME_WAY),
        Check(
            "change of others per change of the sample, in h:",
            h["own change of others"] / max(h["own change of the sample"], 1e-6),
            CARRIED,
        ),
        Check(
            "own change of others in h per that in eps:",
            h["own change of others"] / max(abs(eps["own change of others"]), 1e-6),
            TWICE,
        ),
        Check(
            "Frechet distance per own change of others, in eps over that in h:",
            _cost(eps) / _cost(h),
            TWICE,
        ),
    ]
    says = (
        f"A shift for each timestep, optimised on one portrait for “smiling face” by {epochs} passes, in h and in eps, "
        f"and both added to {n} others."
    )
    columns = ["optimised on", *[f"other {k}" for k in range(1, 6)]]
    return Drawn(grid(cells, columns[: len(cells[0])], ("original", "delta h", "delta eps")), rows, checks, says)


def _cost(of: dict[str, float]) -> float:
    return of["Frechet distance of others"] / max(abs(of["own change of others"]), 1e-6)


def theorem(bench: Bench) -> Job[Drawn]:
    n, sigma = bench.count(3), 0.3
    x_T = yield from bench.latents(n)
    before = yield from bench.rebuilt(n)
    eps_model = at_layer(bench.model, EPS)
    timesteps = torch.tensor(bench.model.schedule.timesteps(STEPS))
    rms_h = _rms_of_h(bench, x_T)
    eps_noise = gaussian(eps_model.card.h_shape, timesteps, STEPS, 1.0, 1)
    h_noise = gaussian(bench.model.card.h_shape, timesteps, STEPS, rms_h, 2)
    every = EditSettings(STEPS)
    both = yield from bench.decoded(x_T, [(eps_noise, sigma)], replace(every, injection="symmetric"), eps_model)
    rows: list[Row] = []
    lines: dict[str, list[float]] = {"eps": [], "h": []}
    sizes = [0.1, 0.2, 0.3, 0.5] if not bench.small else [0.3]
    shown: dict[str, Tensor] = {}
    for size in sizes:
        for space, model, noise in (("eps", eps_model, eps_noise), ("h", bench.model, h_noise)):
            after = yield from bench.decoded(x_T, [(noise, size)], every, model)
            lines[space].append(psnr(after, before).mean().item())
            rows.append({"space": space, "sigma per RMS": size, "PSNR to the unshifted": lines[space][-1]})
            if size == sigma:
                shown[space] = after
    same = psnr(both, before).mean().item()
    rows.append({"space": "eps, in both terms", "sigma per RMS": sigma, "PSNR to the unshifted": same})
    checks = [
        Check(f"dB between (a) and (b), eps shifted by {sigma} in both terms:", same, UNSEEN),
        Check(
            "dB by which the same share of noise in h leaves more than in eps, least of all sizes:",
            min(a - b for a, b in zip(lines["h"], lines["eps"], strict=True)),
            0.0,
        ),
    ]
    cells: list[list[Cell]] = [[one[k] for one in (before, both, shown["eps"], shown["h"])] for k in range(min(2, n))]
    says = (
        f"Random noise at every step on {n} held-out portraits, its size in units of the root mean square of eps or of "
        f"h: {', '.join(f'{size:g}' for size in sizes)}; pictures at {sigma}."
    )
    columns = ("(a) DDIM", "(b) eps, in\nP_t and D_t", "(c) eps, in\nP_t alone", "(d) h")
    return Drawn(grid(cells, columns), rows, checks, says)


def _rms_of_h(bench: Bench, x_T: Tensor) -> float:
    """Root mean square of h along the edited trajectories of latents."""
    steps = along_edit(bench.model, bench.preset(NAME).direction, x_T, bench.t_edit(NAME))
    return float(np.sqrt(np.mean([step.features.h.float().square().mean().item() for step in steps])))


# ------------------------------------------------------------------------------------------------------------- figure 9


def random_shifts(bench: Bench) -> Job[Drawn]:
    n = bench.count(12, 3)
    x_T = yield from bench.latents(n)
    before = yield from bench.rebuilt(n)
    preset = bench.preset(NAME)
    rows: list[Row] = []
    cells: list[list[Cell]] = [list(before[:6])]
    distances: dict[str, float] = {}
    frechets: dict[str, float] = {}
    trips = (("h", 1.0), ("eps", 1.0), ("h", 3.0))
    names = ["original", "random h", "random eps", "random h,\ntripled"]
    for space, times in trips:
        yield Progress(len(rows), len(trips), f"A random shift of {space}")
        random = random_of_equal_share(
            bench.model, preset.direction, x_T[:4], bench.t_edit(NAME), "h" if space == "h" else "eps", 7
        )
        model = bench.model if space == "h" else at_layer(bench.model, EPS)
        after = yield from bench.decoded(x_T, [(random, times)], settings_for(bench), model)
        away = (after - before).square().mean().sqrt().item()
        key = f"{space} x {times:g}"
        distances[key], frechets[key] = away, bench.frechet(before, after)
        rows.append(
            {
                "space": space,
                "times": times,
                "root mean square change": away,
                "Frechet distance": frechets[key],
                "identity": identity(bench, before, after),
            }
        )
        cells.append(list(after[:6]))
    checks = [
        Check(
            "change by random eps per change by random h of equal share:",
            distances["eps x 1"] / distances["h x 1"],
            TWICE,
        ),
        Check("Frechet distance by random eps per that by random h:", frechets["eps x 1"] / frechets["h x 1"], TWICE),
    ]
    says = (
        f"A random shift at every step of the editing interval on {n} held-out portraits, as large a share of h or of "
        f"eps as delta_h of {NAME} is of h."
    )
    return Drawn(grid(cells, names=names), rows, checks, says)


# ------------------------------------------------------------------------------------------------------------ figure 15


def layers(bench: Bench) -> Job[Drawn]:
    unet = bench.model.unet.unet
    places: list[int | str] = list(range(1, count(unet) + 1))
    places = places if not bench.small else [middle(unet)]
    n, samples, epochs = bench.count(6), bench.count(8, 4), bench.count(2, 1)
    x_T = yield from bench.latents(n)
    before = yield from bench.rebuilt(n)
    learn_from = (yield from bench.latents(n + samples))[n:]
    rows: list[Row] = []
    cells: list[list[Cell]] = [[before[k] for k in range(min(3, n))]]
    scores: dict[int | str, float] = {}
    probe = bench.gauges.probe
    subject = bench.subject(NAME)
    for place in places:
        model = at_layer(bench.model, place)
        direction = yield from trained(bench, model, "global", learn_from, epochs, 4, f"Training at block {place}")
        after = yield from bench.decoded(x_T, [(direction, 1.0)], settings_for(bench), model)
        own = float(own_change(bench, before, after).mean())
        other, most = ("", float("nan"))
        if probe is not None:
            other, most = largest_other(changes(probe, before, after), subject.attribute, subject.also)
        scores[place] = own / max(most, 1e-6) if own >= VISIBLE else 0.0
        rows.append(
            {
                "block": place,
                "h": "x".join(map(str, model.card.h_shape)),
                "own change": own,
                "largest other": most,
                "which": other,
                "identity": identity(bench, before, after),
                "own change per largest other": scores[place],
            }
        )
        cells.append([after[k] for k in range(min(3, n))])
    best_other = max((score for place, score in scores.items() if place != middle(unet)), default=0.0)
    check = Check(
        "own change per largest other change, mid block less the best other block:",
        scores[middle(unet)] - best_other,
        BEST,
    )
    says = (
        f"A global direction for “smiling face” trained at each block of the U-Net from {samples} latents in "
        f"{epochs} passes, on {n} held-out portraits; {middle(unet)} is the mid block; below {VISIBLE} is no change."
    )
    columns = ["original", *(f"block {place}" for place in places)]
    turned = [list(column) for column in zip(*cells, strict=True)]
    return Drawn(grid(turned, columns, side=84), rows, [check], says)


# -------------------------------------------------------------------------------------------------------- appendix L.1


def over_time(bench: Bench) -> Job[Drawn]:
    names, n = (NAME, "gray hair")[: bench.count(2, 1)], bench.count(12)
    x_T = yield from bench.latents(n)
    rows: list[Row] = []
    lines, alongs, acrosses, growth = [], [], [], []
    for name in names:
        found: list[AtTimestep] = yield from stage(
            consistency(bench.model, bench.preset(name).direction, x_T, bench.t_edit(name)), f"delta h of {name}"
        )
        for at in found:
            rows.append({"direction": name, **vars(at)})
        t = [float(at.t) for at in found]
        lines.append(Line(name, t, [at.distance for at in found]))
        alongs.append(float(np.mean([at.along for at in found])))
        acrosses.append(float(np.mean([at.across for at in found])))
        growth.append(float(rank_correlation([-at.t for at in found], np.array([[at.distance for at in found]]))[0]))
    checks = [
        Check("least mean cosine of delta_h of a picture and of all:", min(acrosses), ALIKE),
        Check("least mean cosine of delta_h_t and the global direction:", min(alongs), ALIKE),
        Check("least rank correlation of the distance from it with the progress of the process:", min(growth), GROWS),
    ]
    plot = line_plot(
        "Distance of delta_h_t from the global direction",
        lines,
        "t",
        "||mean - global|| per ||global||",
        downwards=True,
        alone=True,
        include=(0.0,),
    )
    says = (
        f"delta_h along the edited trajectories of {n} held-out portraits, at every timestep of the editing interval."
    )
    return Drawn(plot, rows, checks, says)


FIGURES = (
    Figure(
        "asyrp-6",
        "Figure 6: optimised on one sample, in h and in eps",
        "A shift for each timestep, optimised on one sample for smiling: in h it edits that sample and others alike, "
        "in eps it changes its sample little and distorts others.",
        "One delta_h_t carries over to other pictures, one delta eps_t does not.",
        (("core/asyrp/train.py", "TrainingSettings"), ("core/layers.py", "EpsUNet")),
        optimised,
    ),
    Figure(
        "asyrp-9",
        "Figure 9: random shifts of h and of eps",
        "Random shifts of the size of the smiling direction: in h pictures stay realistic and change little, in eps "
        "they are distorted; tripled ones in h change what is shown.",
        "h is robust, eps is not.",
        (("core/asyrp/perturbation.py", "random_of_equal_share"),),
        random_shifts,
    ),
    Figure(
        "asyrp-13",
        "Figures 12 and 13: shifts of both terms, and damage by the size of noise",
        "(a) DDIM, (b) eps shifted in both terms, which looks the same (theorem 1), (c) eps shifted in P_t alone, "
        "which degrades, (d) h shifted, which does not; (e) degradation by the size of noise.",
        "A shift of eps in both terms cancels; noise in eps degrades, in h it does not.",
        (("core/asyrp/perturbation.py", "gaussian"), ("core/schedule.py", "reverse_step")),
        theorem,
    ),
    Figure(
        "asyrp-15",
        "Figures 14 and 15: the choice of the layer",
        "Edits with f_t trained at each of the 15 layers of the U-Net: the first six change nothing, those beside the "
        "mid block are hard to tune, later ones bring artifacts.",
        "The mid block is the best place.",
        (("core/layers.py", "at_layer"), ("core/layers.py", "BlockUNet")),
        layers,
    ),
    Figure(
        "asyrp-L1",
        "Appendix L.1: delta_h against t",
        "In words: delta_h is roughly the same over pictures and timesteps, and its distance from the global direction "
        "grows along the process.",
        "delta_h_t is consistent across timesteps, less so at the end.",
        (("core/asyrp/consistency.py", "consistency"),),
        over_time,
    ),
)

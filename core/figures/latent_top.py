"""The figures of latent-TOP (On the robustness of diffusion inversion in image manipulation)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..drawing import Line, line_plot
from ..errors import RequestError
from ..evaluation.statistics import rank_correlation
from ..inversion import cycle_diffusion, ddib, latent_top
from ..inversion.methods import invert
from ..inversion.robustness import SIGMAS, RobustnessResult, study_robustness
from ..inversion.solution import InversionSettings
from ..progress import Job, stage
from .bench import Bench, Held
from .figure import Check, Drawn, Figure, Row
from .grids import Cell, grid

PUBLISHED, OURS = latent_top.PUBLISHED.name, latent_top.METHOD.name
CYCLE, DDIB = cycle_diffusion.METHOD.name, ddib.METHOD.name
ORDER = (PUBLISHED, CYCLE, DDIB)  # of the paper, best first
SHOWN = {PUBLISHED: "latent-TOP\nas published", CYCLE: "CycleDiffusion", DDIB: "DDIB", OURS: "latent-TOP,\nours"}
STEPS, ITERATIONS = 12, 10  # the paper: 50 and 10
NOTHING = "a face"  # a prompt that says nothing of the picture

# Bounds, in the order of the claims below.
BEFORE = 0.0  # dB by which one method is before the next
RISES = 0.9  # rank correlation of iterations and reconstruction
EARLY = 0.8  # share of what ten iterations gain over one that five gain


def settings(bench: Bench, iterations: int = ITERATIONS) -> InversionSettings:
    """The paper's, in fewer steps."""
    return InversionSettings(steps=bench.count(STEPS, 4), iterations=bench.count(iterations, 2))


def held(bench: Bench) -> Held:
    """The pictures with prompts. Raises RequestError: the model comes with none."""
    if bench.held is None or not bench.held.prompts:
        raise RequestError(f"{bench.model.card.id} comes with no held-out pictures with prompts.")
    return bench.held


Studied = list[tuple[int, str, RobustnessResult]]  # number of the picture, what was changed, and what came of it


def studied(bench: Bench) -> Job[Studied]:
    """Every method on pictures as they are, with noise, and with other prompts."""

    def make() -> Job[Studied]:
        known, painter = held(bench), bench.painter
        made: Studied = []
        for number, (prompt, target, _, _) in list(known.prompts.items())[: bench.count(2, 1)]:
            job = study_robustness(
                painter,
                known.pixels[number : number + 1],
                [prompt, NOTHING, target] if not bench.small else [prompt],
                list(ORDER),
                SIGMAS if not bench.small else SIGMAS[:1],
                settings(bench),
                bench.gauges.distance,
            )
            called = {prompt: "its prompt", NOTHING: f"“{NOTHING}”", target: "the wrong word"}
            for result in (yield from stage(job, previews=False)):
                prompted = called[result.inversion.prompt]
                what = f"noise {result.sigma:g}" if prompted == "its prompt" else prompted
                made.append((number, what, result))
        return made

    return (yield from bench.once("robustness", make))


def cells_of(results: Studied, whats: list[str], number: int) -> list[list[Cell]]:
    """A row for each method: what went in above, what came back below."""
    rows: list[list[Cell]] = []
    first = [_of(results, number, what, ORDER[0]) for what in whats]
    rows.append([one.inversion.pixels for one in first])
    for method in ORDER:
        rows.append([_of(results, number, what, method).inversion.reconstruction for what in whats])
    return rows


def _of(results: Studied, number: int, what: str, method: str) -> RobustnessResult:
    return next(one for n, w, one in results if (n, w, one.method) == (number, what, method))


def table(results: Studied, whats: list[str]) -> list[Row]:
    """Means over the pictures."""
    rows: list[Row] = []
    for what in whats:
        for method in ORDER:
            mine = [one.measures for _, w, one in results if w == what and one.method == method]
            means = {key: float(np.mean([one[key] for one in mine])) for key in mine[0]}
            kept: Row = {
                key: means[key] for key in ("psnr", "ssim", "distance", "psnr decoded", "psnr bound") if key in means
            }
            rows.append({"changed": what, "method": method, "pictures": len(mine), **kept})
    return rows


def order_checks(rows: list[Row], words: str, key: str = "psnr") -> list[Check]:
    """Least lead of each method over the next one of the paper's order, over what was changed."""
    checks = []
    for first, second in zip(ORDER, ORDER[1:], strict=False):
        leads = [
            float(a[key]) - float(b[key])
            for a in rows
            for b in rows
            if a["changed"] == b["changed"] and (a["method"], b["method"]) == (first, second)
        ]
        called = {PUBLISHED: "latent-TOP"}
        checks.append(
            Check(f"{words}: dB that {called.get(first, first)} is before {second}, at least", min(leads), BEFORE)
        )
    return checks


def reconstruction(bench: Bench) -> Job[Drawn]:
    results = yield from studied(bench)
    whats = ["noise 0"]
    rows = table(results, whats)
    numbers = sorted({number for number, _, _ in results})
    cells: list[list[Cell]] = []
    for number in numbers:
        column = cells_of(results, whats, number)
        cells.append([row[0] for row in column])
    known = held(bench)
    made = []
    for number in numbers:
        job = invert(
            bench.painter,
            known.pixels[number : number + 1],
            known.prompts[number][0],
            OURS,
            settings(bench),
            distance=bench.gauges.distance,
        )
        made.append((yield from stage(job, "Inverting: ours", previews=False)))
        cells[numbers.index(number)].append(made[-1].reconstruction)
    kept = {
        key: float(np.mean([one.measures[key] for one in made])) for key in ("psnr", "ssim", "distance", "psnr bound")
    }
    rows.append({"changed": "noise 0", "method": f"{OURS} (ours)", "pictures": len(made), **kept})
    for row in rows:
        row.setdefault("psnr decoded", float("nan"))
    rows = [{key: row[key] for key in rows[0]} for row in rows]
    checks = [
        *order_checks(rows, "reconstruction"),
        *order_checks(rows, "decoded at the working guidance", "psnr decoded"),
    ]
    says = (
        f"{len(numbers)} held-out portraits with their prompts, {settings(bench).steps} steps, "
        f"{settings(bench).iterations} iterations, guidance 7.5, 20 samples of starts. CycleDiffusion keeps the noise "
        "of every step, so its reconstruction is what the autoencoder makes of the picture by construction."
    )
    columns = ("input", *(SHOWN[method] for method in (*ORDER, OURS)))
    return Drawn(grid(cells, columns, side=128), rows, checks, says)


def noise(bench: Bench) -> Job[Drawn]:
    whats = [f"noise {sigma:g}" for sigma in (SIGMAS if not bench.small else SIGMAS[:1])]
    return (yield from _robust(bench, whats, "Gaussian noise of sigma 0, 5, 10 and 20 (of 255) on the picture"))


def prompts(bench: Bench) -> Job[Drawn]:
    whats = ["noise 0", f"“{NOTHING}”", "the wrong word"] if not bench.small else ["noise 0"]
    return (yield from _robust(bench, whats, "The source prompt replaced by one that says nothing and by a wrong one"))


def _robust(bench: Bench, whats: list[str], words: str) -> Job[Drawn]:
    results = yield from studied(bench)
    rows = table(results, whats)
    numbers = sorted({number for number, _, _ in results})
    checks = [*order_checks(rows, "reconstruction"), *order_checks(rows, "decoded", "psnr decoded")]
    says = (
        f"{words}; {len(numbers)} held-out portraits, {settings(bench).steps} steps. PSNR is to what went in; "
        "“decoded” is the source prompt decoded at the working guidance, from which edits start."
    )
    columns = [what if what != "noise 0" or len(whats) == len(SIGMAS) else "its prompt" for what in whats]
    names = ("input", *(SHOWN[method] for method in ORDER))
    return Drawn(grid(cells_of(results, whats, numbers[0]), columns, names), rows, checks, says)


ATTEMPTS = (1, 2, 5, 10)


def convergence(bench: Bench) -> Job[Drawn]:
    known = held(bench)
    number = next(iter(known.prompts))
    attempts = ATTEMPTS if not bench.small else (1, 2)
    rows: list[Row] = []
    found: dict[str, list[float]] = {"20 starts": [], "1 start": []}
    for words, starts in (("20 starts", 20), ("1 start", 1)):
        for m in attempts if starts == 20 else attempts[-1:]:
            chosen = replace(settings(bench, m), iterations=m, starts=starts)
            job = invert(bench.painter, known.pixels[number : number + 1], known.prompts[number][0], PUBLISHED, chosen)
            made = yield from stage(job, f"{m} iterations", previews=False)
            found[words].append(made.measures["psnr to bound"])
            rows.append({"iterations": m, "starts": starts, "PSNR to bound": found[words][-1]})
    many = found["20 starts"]
    checks = [
        Check(
            "rank correlation of iterations and reconstruction:",
            float(rank_correlation(attempts, np.array([many]))[0]),
            RISES,
        ),
        Check("dB gained by several starts:", many[-1] - found["1 start"][0], BEFORE),
    ]
    if not bench.small:
        checks.append(Check("share of the gain of ten iterations that five have:", _gain(many[2], many), EARLY))
    lines = [Line("20 samples of starts", attempts, many), Line("one start", attempts[-1:], found["1 start"])]
    plot = line_plot("Reconstruction by iterations", lines, "iterations m at every step", "dB to bound", alone=True)
    says = f"One held-out portrait, {settings(bench).steps} steps; PSNR to what the autoencoder makes of the picture."
    return Drawn(plot, rows, checks, says)


def _gain(at: float, many: list[float]) -> float:
    return (at - many[0]) / (many[-1] - many[0])


FIGURES = (
    Figure(
        "latent-2",
        "Figure 2: inversion",
        "Pictures reconstructed by DDIB, CycleDiffusion and latent-TOP, whose reconstructions are the most accurate.",
        "latent-TOP before CycleDiffusion before DDIB.",
        (("core/inversion/latent_top.py", "as_published"), ("core/inversion/ddib.py", "invert")),
        reconstruction,
    ),
    Figure(
        "latent-3a",
        "Figure 3, left: noise on the picture",
        "The same with Gaussian noise of sigma 5, 10 and 20: DDIB fails from the least noise on, CycleDiffusion "
        "distorts details at 20.",
        "latent-TOP before CycleDiffusion before DDIB at every noise.",
        (("core/inversion/robustness.py", "study_robustness"), ("core/inversion/robustness.py", "add_noise")),
        noise,
    ),
    Figure(
        "latent-3b",
        "Figure 3, right: other source prompts",
        "The same with changed source prompts.",
        "latent-TOP reconstructs with any prompt, before CycleDiffusion and DDIB.",
        (("core/inversion/robustness.py", "study_robustness"),),
        prompts,
    ),
    Figure(
        "latent-convergence",
        "Section 2.2: convergence and several starts",
        "In words: the trajectory, the prior and several starts make optimisation efficient, convergent and stable.",
        "More iterations reconstruct better, most of it early, and several starts help.",
        (("core/inversion/latent_top.py", "start_with_hops"), ("core/inversion/latent_top.py", "optimise_step")),
        convergence,
    ),
)

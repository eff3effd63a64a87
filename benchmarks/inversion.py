"""What every inversion method makes of held-out portraits in the embedded text-to-image model, and what it costs.

    python -m benchmarks.inversion                                  # everything; a day on two cores
    python -m benchmarks.inversion methods --portraits 100
    python -m benchmarks.inversion published --portraits 10
    python -m benchmarks.inversion ssim --portraits 10
    python -m benchmarks.inversion robustness --portraits 20
    python -m benchmarks.inversion race --portraits 20
    python -m benchmarks.inversion times
    python -m benchmarks.inversion options --portraits 4
    python -m benchmarks.inversion race --portraits 10 --write      # also into docs/benchmarks.md

methods: reconstruction against the picture and against what the autoencoder makes of it; and an edit in which one
word of the prompt changes (prompt-to-prompt, no region): what it changes of the attribute that is meant, in standard
deviations of the population, the similarity of identity, and PSNR outside the face part concerned. It succeeds where
the probe finds that the changed word holds, and takes both pictures for the same person. published: the same of
latent-TOP as its paper has it, beside ours. ssim: the structural similarity of the reconstructions alone, of every
method. robustness: the same
portraits with noise and with changed source prompts (section 3 of the paper of latent-TOP); "decoded" is the source
prompt decoded as if it were a target, because an anchored source comes back exactly by construction. race: the least
iterations with which latent-TOP reconstructs as well as null-text as released, and the seconds of both. times: what a
visitor waits for, on a machine that does nothing else. options: latent-TOP where its paper is silent, one setting
changed at a time; "gaussianity" is how far x_T is from white and normal, 0 if it is both. attention, skip, guidance:
edits of the anchored method with one setting changed, each on the same inversions. options and skip are printed only.

50 steps, and guidance 7.5 unless another is given. Every row is written to a file in `benchmarks/measured` as soon as
it is there, and the file is in the repository: begun again, here or elsewhere, the benchmark goes on from it. Its name
is that of the model's weights and of the default settings, so other rows are never mixed in; after a change to a method
delete its rows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import released_null_text
from benchmarks.portrait_edits import Case, cases, holds
from benchmarks.report import HELP, reported
from core import metrics
from core.inversion import latent_top
from core.inversion.editing import PromptEditSettings, Target, edit
from core.inversion.inversion import Inversion
from core.inversion.methods import METHODS, invert
from core.inversion.robustness import SIGMAS, study_robustness
from core.inversion.solution import DEFAULTS, InversionSettings
from core.models.t2i_cards import TextToImageCard
from core.progress import finish
from core.studio import measuring
from core.text_to_image import TextToImage, load_text_to_image, text_to_image_card
from training.evaluate_t2i import read_portraits

MODEL = "avatars-t2i"
MEASURED = Path(__file__).parent / "measured"
PUBLISHED = latent_top.PUBLISHED.name
ORDER = (PUBLISHED, "latent-TOP", "CycleDiffusion", "DDIB")  # of the paper, best first
COMPARED_METHODS = [name for name in METHODS if name != PUBLISHED]  # that has a table of its own, on fewer portraits
NO_DIFFERENCE = 120.0  # dB, the most that `metrics.psnr` says
RELEASED = released_null_text.METHOD.name
ANYONE = "a face"
SAME = 0.68  # similarity of identity at which the probe errs as often about one person as about two (its card)

Row = dict[str, float]


# Of latent-TOP; the first of each is its default here.
OPTIONS: dict[str, tuple[object, ...]] = {
    "rate": (DEFAULTS.rate, 1e-2, 4e-2),
    "late": (DEFAULTS.late, 0.1, 0.5, 1.0),
    "noise_rate": (DEFAULTS.noise_rate, 0.0, 1e-3, 1e-1),
    "optimiser": (DEFAULTS.optimiser, "lbfgs"),
    "gaussian": (DEFAULTS.gaussian, 0.1, 1.0),
    "shared": (DEFAULTS.shared, True),
    "starts": (DEFAULTS.starts, 1),
    "start": (DEFAULTS.start, "source"),
    "prior_iterations": (DEFAULTS.prior_iterations, 0, 3),
    "tolerance": (DEFAULTS.tolerance, 1e-4, 1e-6),
}


class Rows:
    """Rows by their keys, in a file of one JSON line each: (key, row)."""

    def __init__(self, path: Path) -> None:
        self.path, self._rows = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                key, row = json.loads(line)
                self._rows[tuple(key)] = row

    def known(self, key: tuple[object, ...]) -> Row:
        """The row of a key if it is there, else an empty one."""
        return self._rows.get(key, {})

    def get(self, key: tuple[object, ...], made: Callable[[], Row]) -> Row:
        """The row of a key, made now if it is not there yet."""
        if key not in self._rows:
            began = time.monotonic()
            self._rows[key] = {name: float(f"{value:.6g}") for name, value in made().items()}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write(json.dumps([list(key), self._rows[key]]) + "\n")
            print(f"{key}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        return self._rows[key]


def rows_name(model: TextToImage, settings: InversionSettings, edits: PromptEditSettings) -> str:
    """Of the weights and the settings that rows are of."""
    # The names that the settings had when the first rows were measured: with others, those would not be found.
    described = f"({_described('Settings', settings)}, {_described('EditSettings', edits)})"
    return f"{model.fingerprint[:8]}-{hashlib.sha256(described.encode()).hexdigest()[:4]}"


LATER = {"weight_steps": 1.0, "self_side": 4}  # settings that came later, with what was always so before


def _described(name: str, settings: InversionSettings | PromptEditSettings) -> str:
    known = {field.name: getattr(settings, field.name) for field in fields(settings)}
    later = {name: value for name, value in LATER.items() if known.get(name) == value}
    values = (f"{name}={value!r}" for name, value in known.items() if name not in later)
    return f"{name}({', '.join(values)})"


@dataclass(frozen=True)
class Bench:
    """The model, how distances are measured, what is measured already, and the settings of inversions and edits."""

    card: TextToImageCard
    model: TextToImage
    rows: Rows
    settings: InversionSettings
    edits: PromptEditSettings

    def inverted(self, case: Case, method: str, **changes: object) -> Inversion:
        settings = replace(self.settings, **changes)
        distance = measuring.distance_or_none(self.card)
        return finish(invert(self.model, case.pixels, case.prompt, method, settings, distance=distance))

    def method(self, case: Case, method: str, **changes: object) -> Row:
        """Reconstruction and edit of one portrait by one method, with other settings if any are given."""
        inversion = self.inverted(case, method, **changes)
        return {**inversion.measures, **self.edited(case, inversion)}

    def similarity(self, case: Case, method: str) -> Row:
        """SSIM of one reconstruction. Where the rest of the row is measured already and says that the method makes what
        the autoencoder makes, that need not be inverted again."""
        if self.rows.known(("method", case.number, method)).get("psnr to bound", 0.0) >= NO_DIFFERENCE:
            bound = self.model.decode(self.model.encode(case.pixels))
            return {"ssim": metrics.ssim(bound.cpu(), case.pixels).item(), "ssim to bound": 1.0}
        measures = self.inverted(case, method).measures
        return {name: measures[name] for name in ("ssim", "ssim to bound")}

    def edited(self, case: Case, inversion: Inversion, **changes: Any) -> Row:
        """The edit of one inverted portrait, with other settings than a visitor's if any are given."""
        edited = finish(edit(self.model, inversion, [Target(case.target)], replace(self.edits, **changes))).cpu()
        [about] = measuring.measure(self.card, case.pixels, edited)
        [own] = [reading.change for reading in about.attributes if reading.name == case.swap.attribute]
        outside = torch.from_numpy(~case.mask)[None, None]
        [seen] = read_portraits(measuring.probe(self.card), edited)
        return {
            "success": holds()[case.swap.target](seen) and about.identity >= SAME,
            "own": case.swap.sign * own,
            "identity": about.identity,
            "psnr outside": metrics.psnr(edited, case.pixels, outside).item(),
        }

    def robust(self, case: Case, method: str, sigma: float, prompt: str) -> Row:
        """Reconstruction of one portrait with noise, or with another prompt."""
        distance = measuring.distance_or_none(self.card)
        job = study_robustness(self.model, case.pixels, [prompt], [method], [sigma], self.settings, distance)
        [result] = finish(job)
        return result.measures


# ------------------------------------------------------------------------------------------------------------- tables


def heading(first: str, others: Iterable[str]) -> None:
    """Of a Markdown table."""
    columns = [first, *others]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


COLUMNS = {
    "psnr": ".2f",
    "distance": ".4f",
    "psnr to bound": ".2f",
    "distance to bound": ".4f",
    "success": ".0%",
    "own": "+.2f",
    "identity": ".3f",
    "psnr outside": ".2f",
    "evaluations": ".0f",
    "gradients": ".0f",
}


BELOW = "below bound"  # how far the PSNR of the median portrait is below the autoencoder's
IN_DB = ("psnr", BELOW, "psnr outside")
COMPARED = {  # of `methods`: its columns, and what they are called
    "psnr": "PSNR",
    "distance": "distance",
    BELOW: BELOW,
    "success": "edit succeeds",
    "own": "own change",
    "identity": "identity",
    "psnr outside": "PSNR outside",
    "evaluations": "evaluations",
    "gradients": "differentiated",
}


def methods(bench: Bench, chosen: Sequence[Case], names: Sequence[str]) -> None:
    """Means over portraits, one row per method; then how close each is to what the autoencoder makes of the picture."""
    table: dict[str, list[Row]] = {name: [] for name in names}
    for case in chosen:
        for name, rows in table.items():
            rows.append(bench.rows.get(("method", case.number, name), partial(bench.method, case, name)))
    heading("method", COMPARED.values())
    for name, rows in table.items():
        cells = {k: format(mean(row[k] for row in rows), COLUMNS[k]) for k in COMPARED if k in COLUMNS}
        cells[BELOW] = f"{median(row['psnr bound'] - row['psnr'] for row in rows):.2f}"
        print(f"| {name} | {' | '.join(cells[k] + (' dB' if k in IN_DB else '') for k in COMPARED)} |")
    print()
    to_bound = [column for column in COLUMNS if column.endswith("to bound")]
    heading("method", to_bound)
    for name, rows in table.items():
        print(f"| {name} | {' | '.join(format(mean(row[k] for row in rows), COLUMNS[k]) for k in to_bound)} |")
    print()


def ssim(bench: Bench, chosen: Sequence[Case], names: Sequence[str]) -> None:
    """Means over portraits, one row per method: against the picture, and against what the autoencoder makes of it."""
    table: dict[str, list[Row]] = {name: [] for name in names}
    for case in chosen:
        for name, rows in table.items():
            known = bench.rows.known(("method", case.number, name))
            made = partial(bench.similarity, case, name)
            rows.append(known if "ssim" in known else bench.rows.get(("ssim", case.number, name), made))
    heading("method", ("SSIM", "SSIM to bound"))
    for name, rows in table.items():
        means = (format(mean(row[k] for row in rows), ".4f") for k in ("ssim", "ssim to bound"))
        print(f"| {name} | {' | '.join(means)} |")
    print()


def robustness(bench: Bench, chosen: Sequence[Case], names: Sequence[str]) -> None:
    """PSNR, reconstructed and decoded, means over portraits, one column per variant."""
    variants: list[tuple[str, float, Callable[[Case], str]]] = [
        *((f"noise {sigma:g}", sigma, lambda case: case.prompt) for sigma in SIGMAS),
        ("“a face”", 0.0, lambda case: ANYONE),
        ("the wrong word", 0.0, lambda case: case.target),
    ]
    heading("method", (name for name, *_ in variants))
    for name in names:
        cells = []
        for label, sigma, prompt in variants:
            rows = [
                bench.rows.get(("robust", c.number, name, label), partial(bench.robust, c, name, sigma, prompt(c)))
                for c in chosen
            ]
            cells.append(f"{mean(r['psnr'] for r in rows):.2f}, {mean(r['psnr decoded'] for r in rows):.2f}")
        print(f"| {name} | {' | '.join(cells)} |")
    print()


def race(bench: Bench, chosen: Sequence[Case], most: int = 10) -> None:
    """On every portrait the least m with which latent-TOP is as close to the picture as null-text as released; with
    starts sampled around the empty prompt, as null-text starts, and around the source prompt."""

    @patch.dict(METHODS, {RELEASED: released_null_text.METHOD})
    def run(case: Case, method: str, iterations: int, start: str) -> Row:
        measured = bench.inverted(case, method, iterations=iterations, start=start).measures
        return {"psnr": measured["psnr"], "seconds": measured["seconds"]}

    plain: list[Row] = []
    ours: dict[str, list[tuple[Row, int]]] = {"empty": [], "source": []}
    for case in chosen:
        made = partial(run, case, RELEASED, most, "empty")
        plain.append(bench.rows.get(("race", case.number, RELEASED, most), made))
        for start, found in ours.items():
            for m in range(1, most + 1):
                made = partial(run, case, "latent-TOP", m, start)
                row = bench.rows.get(("race", case.number, "latent-TOP", start, m), made)
                if row["psnr"] >= plain[-1]["psnr"]:
                    break
            found.append((row, m))
    print(f"{RELEASED} takes {median(row['seconds'] for row in plain):.1f} s on the median portrait", end="")
    for start, found in ours.items():
        reached = [(row, m, p["seconds"]) for (row, m), p in zip(found, plain, strict=True) if row["psnr"] >= p["psnr"]]
        print(
            f"\n\nlatent-TOP, started around the {start} prompt, is as close on {len(reached)} of {len(plain)}", end=""
        )
        if reached:
            ratios = [seconds / row["seconds"] for row, _, seconds in reached]
            print(f", {median(ratios):.2f} times as fast on the median, {min(ratios):.2f} at least", end="")
            print(f"; iterations needed: {', '.join(str(m) for _, m, _ in reached)}", end="")
    print("\n")


def options(bench: Bench, chosen: Sequence[Case], method: str = "latent-TOP") -> None:
    """Means over portraits, one row per value of one setting; the row of the defaults comes first."""
    columns = ("psnr", "psnr to bound", "gaussianity", "success", "own", "identity", "evaluations", "gradients")
    heading("setting", columns)
    changes: list[dict[str, object]] = [{}]
    changes += [{name: value} for name, (_, *values) in OPTIONS.items() for value in values]
    for change in changes:
        label = ", ".join(f"{name} {value}" for name, value in change.items()) or "defaults"
        rows = [
            bench.rows.get(("options", c.number, method, label), partial(bench.method, c, method, **change))
            for c in chosen
        ]
        cells = (format(mean(row[k] for row in rows), COLUMNS.get(k, ".3f")) for k in columns)
        print(f"| {label} | {' | '.join(cells)} |", flush=True)
    print()


# Of edits: one row of a table each.
EDITS: dict[str, tuple[dict[str, Any], ...]] = {
    "attention": (
        {"attention": "none"},
        {"cross_steps": 0.0},
        {"cross_steps": 0.2},
        {"cross_steps": 0.4},
        {"cross_steps": 0.8},
    ),
    "skip": ({"skip": 0.0}, {"skip": 0.2}, {"skip": 0.36}, {"skip": 0.5}),
    "guidance": ({"guidance": 3.0}, {"guidance": 5.0}, {"guidance": 7.5}, {"guidance": 10.0}),
}


UNRECORDED = {"options", "skip"}  # printed on request, without a section in the document


def edits(bench: Bench, chosen: Sequence[Case], what: str, method: str = "anchored") -> None:
    """Means over portraits of edits by one method, one row per change of the settings."""
    columns = ("success", "own", "identity", "psnr outside")
    table: list[list[Row]] = [[] for _ in EDITS[what]]
    for case in chosen:
        inversion: Inversion | None = None
        for rows, changes in zip(table, EDITS[what], strict=True):

            def made(case: Case = case, changes: dict[str, Any] = changes) -> Row:
                nonlocal inversion
                inversion = inversion or bench.inverted(case, method)
                return bench.edited(case, inversion, **changes)

            rows.append(bench.rows.get((what, case.number, method, *changes.values()), made))
    heading(what, columns)
    for changes, rows in zip(EDITS[what], table, strict=True):
        label = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in changes.items())
        print(f"| {label} | {' | '.join(format(mean(row[k] for row in rows), COLUMNS[k]) for k in columns)} |")
    print()


def times(bench: Bench, chosen: Sequence[Case], names: Sequence[str]) -> None:
    """Medians over portraits, of which the first warms up; not kept, they are this machine's."""
    heading("method", ("inversion", "an edit of one target"))
    for method in names:
        seconds, edited = [], []
        for case in chosen:
            inversion = bench.inverted(case, method)
            seconds.append(inversion.measures["seconds"])
            began = time.perf_counter()
            finish(edit(bench.model, inversion, [Target(case.target)], bench.edits))
            edited.append(time.perf_counter() - began)
        print(f"| {method} | {median(seconds[1:]):.1f} s | {median(edited[1:]):.1f} s |", flush=True)
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["methods", "published", "ssim", "robustness", "race", "times", "options", *EDITS]
    parser.add_argument("what", nargs="*", help=f"{', '.join(everything)}; all of them by default")
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--guidance", type=float, default=DEFAULTS.guidance)
    parser.add_argument("--methods", nargs="+", default=None, choices=list(METHODS), metavar="METHOD")
    parser.add_argument("--run", type=Path, default=MEASURED, help="where rows are kept")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    what = arguments.what or everything
    if set(what) - set(everything) or arguments.portraits < 1:
        parser.error(f"choose from {', '.join(everything)}, on at least one portrait")
    if arguments.write and set(what) <= UNRECORDED:
        parser.error(f"docs/benchmarks.md has no section for {' and '.join(what)}: leave --write out")
    if arguments.write and arguments.methods and {"methods", "ssim"} & set(what):
        parser.error("--write writes the table of all methods: leave --methods out")
    card = text_to_image_card(MODEL)
    model = load_text_to_image(card)
    settings, visitors = (
        replace(DEFAULTS, guidance=arguments.guidance),
        PromptEditSettings(cross_steps=card.cross_steps),
    )
    rows = Rows(arguments.run / f"inversion-{rows_name(model, settings, visitors)}.jsonl")
    bench = Bench(card, model, rows, settings, visitors)
    chosen = cases(arguments.portraits)
    tables: dict[str, Callable[[], None]] = {
        "methods": lambda: methods(bench, chosen, arguments.methods or COMPARED_METHODS),
        "published": lambda: methods(bench, chosen, (PUBLISHED, latent_top.METHOD.name)),
        "ssim": lambda: ssim(bench, chosen, arguments.methods or COMPARED_METHODS),
        "robustness": lambda: robustness(bench, chosen, arguments.methods or ORDER),
        "race": lambda: race(bench, chosen),
        "times": lambda: times(bench, cases(4), arguments.methods or COMPARED_METHODS),
        "options": lambda: options(bench, chosen),
        **{name: partial(edits, bench, chosen, name) for name in EDITS},
    }
    for name in (name for name in tables if name in what):
        with reported(f"benchmarks.inversion.{name}", arguments.write and name not in UNRECORDED):
            print(f"{len(chosen)} portraits, {settings.steps} steps, guidance {settings.guidance:g}\n")
            tables[name]()


if __name__ == "__main__":
    main()

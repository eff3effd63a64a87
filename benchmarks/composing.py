"""Whether directions add up, what orthogonalising them is worth, and what composing costs, with the embedded model.

    python -m benchmarks.composing                                   # everything; about 10 minutes on two cores
    python -m benchmarks.composing linearity --portraits 1 --pairs 1 --steps 10
    python -m benchmarks.composing times --write                     # also into docs/benchmarks.md

Changes are the probe's, in standard deviations of the population, against the same portrait edited with strength 0, on
portraits no model was trained on. Pairs are those of all shipped directions of different attributes.

linearity: the change under a pair at strengths 1 and 1 against the sum of the changes under each alone: R^2 over
portraits and attributes, for each pair and for all of them together, and R^2 over attributes of the portraits' mean
changes. negative: the mean change of its attribute at strength 1 and -1, and the share of portraits in which the two
have opposite signs. orthogonal: of each direction of a pair alone, the larger change of the other's attribute; of both
together, the largest change of an attribute that neither means; and what is left of their own changes; before and after
taking out of each what it shares with the other. Sizes per portrait, then their means. times: a sweep, and a changed
strength.

Every portrait is inverted once. All strengths of all directions and pairs are one batch, and a direction alone is
edited once and not for every pair that it is part of.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import mean, median

import numpy as np
import torch

from benchmarks.report import HELP, reported
from core import presets
from core.errors import RequestError
from core.models.loader import DiffusionModel, models
from core.presets import Preset
from core.progress import finish
from core.studio import library
from core.studio.compose import applying, orthogonalise, pictures
from core.studio.frames import EditOptions, Picture
from training.dataset import held_out, to_pixels
from training.make_directions import RECIPES, Recipe

GOAL = 0.8
Pair = tuple[int, int]


@dataclass(frozen=True)
class Shipped:
    """A direction that comes with the app, and the recipe that says what it means."""

    recipe: Recipe
    preset: Preset

    @property
    def meant(self) -> set[str]:
        return {self.recipe.attribute, *self.recipe.also}


@dataclass
class Measured:
    """Changes, one array per portrait: of every direction alone at 1 and at -1 (D, A) and of every pair (P, A), for
    the attributes in their order. orthogonalised: by metric, of every pair without what they share: the first, the
    second, and both (P, 3, A)."""

    attributes: list[str] = field(default_factory=list)
    alone: list[np.ndarray] = field(default_factory=list)
    reverse: list[np.ndarray] = field(default_factory=list)
    pairs: list[np.ndarray] = field(default_factory=list)
    orthogonalised: dict[str, list[np.ndarray]] = field(
        default_factory=lambda: {metric: [] for metric in orthogonalise.METRICS}
    )


def portraits(count: int) -> list[Picture]:
    """Held-out portraits, as pictures of the model."""
    images, _ = held_out(count)
    return [Picture(to_pixels(image[None]), "avatars") for image in images[:count]]


def shipped_directions() -> list[Shipped]:
    """All directions that come with the app."""
    available = library.shipped("avatars")
    files = {name: presets.file_name(name).removesuffix(presets.SUFFIX) for name in RECIPES}
    return [Shipped(RECIPES[name], available[file]) for name, file in files.items() if file in available]


# ------------------------------------------------------------------------------------------------------------ editing


def readings(
    model: DiffusionModel, picture: Picture, directions: Sequence[Preset], table: np.ndarray, steps: int
) -> tuple[list[str], np.ndarray]:
    """(attributes, their readings (n, A)) of a picture under the strengths in the rows of a table (n, D)."""
    rows, names = [], []
    for part in np.array_split(table, -(-len(table) // applying.MAX_PICTURES)):
        used = np.flatnonzero(part.any(axis=0)).tolist() or [0]
        chosen = [(directions[d], part[:, d].tolist()) for d in used]
        for frame in finish(applying.apply(model, picture, chosen, EditOptions(steps=steps))):
            read = sorted((reading.name, reading.change) for reading in frame.measures.attributes)
            names = [name for name, _ in read]
            rows.append([change for _, change in read])
    return names, np.array(rows)


def measure(
    model: DiffusionModel,
    people: Sequence[Picture],
    directions: Sequence[Shipped],
    pairs: Sequence[Pair],
    steps: int,
    orthogonal_portraits: int,
) -> Measured:
    """Everything but the times, on all portraits; on the first `orthogonal_portraits` of them also without what
    directions share."""
    measured, plain, began = Measured(), [one.preset for one in directions], time.monotonic()
    alone = np.eye(len(directions))
    both = np.array([alone[a] + alone[b] for a, b in pairs])
    table = np.concatenate([np.zeros((1, len(directions))), alone, -alone, both])
    for number, picture in enumerate(people, start=1):
        measured.attributes, read = readings(model, picture, plain, table, steps)
        up, down, summed = np.split(read[1:] - read[0], [len(directions), 2 * len(directions)])
        measured.alone.append(up)
        measured.reverse.append(down)
        measured.pairs.append(summed)
        if number <= orthogonal_portraits:
            for metric in orthogonalise.METRICS:
                found = [
                    readings(model, picture, chosen, np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), steps)[1] - read[0]
                    for chosen in without_shared(model, picture, plain, pairs, metric)
                ]
                measured.orthogonalised[metric].append(np.stack(found))
        print(f"portrait {number} of {len(people)}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return measured


def without_shared(
    model: DiffusionModel,
    picture: Picture,
    directions: Sequence[Preset],
    pairs: Sequence[Pair],
    metric: orthogonalise.Metric,
) -> Iterator[tuple[Preset, Preset]]:
    """Of every pair: each without what it shares with the other; as it is if nothing is left. All directions are
    compared once for every t_edit, and not for every pair."""
    comparison = orthogonalise.Comparison(model, picture, directions, metric)

    def without(a: int, b: int) -> Preset:
        try:
            return finish(comparison.orthogonalise([a, b]))
        except RequestError:
            return directions[a]

    for a, b in pairs:
        yield without(a, b), without(b, a)


# ------------------------------------------------------------------------------------------------------------- tables


def r_squared(measured: np.ndarray, expected: np.ndarray) -> float:
    """1 - ||measured - expected||^2 / ||measured - mean||^2."""
    spread = np.square(measured - measured.mean()).sum()
    return float(1 - np.square(measured - expected).sum() / max(1e-12, spread))


def linearity(measured: Measured, directions: Sequence[Shipped], pairs: Sequence[Pair]) -> None:
    single, both = np.stack(measured.alone), np.stack(measured.pairs)
    expected = np.stack([single[:, a] + single[:, b] for a, b in pairs], axis=1)
    values = [r_squared(both[:, p], expected[:, p]) for p in range(len(pairs))]
    on_average = [r_squared(both[:, p].mean(0), expected[:, p].mean(0)) for p in range(len(pairs))]
    far = [directions[a].recipe.part != directions[b].recipe.part for a, b in pairs]
    print("| pair | R^2 | of mean changes | different parts |\n|---|---|---|---|")
    for (a, b), value, of_means, different in sorted(
        zip(pairs, values, on_average, far, strict=True), key=lambda row: row[1]
    ):
        names = f"{directions[a].preset.name} + {directions[b].preset.name}"
        print(f"| {names} | {value:.2f} | {of_means:.2f} | {'yes' if different else 'no'} |")
    for words, which in (("All pairs", [True] * len(pairs)), ("Pairs of different parts", far)):
        if not any(which):
            continue
        together = r_squared(both[:, which], expected[:, which])
        print(f"\n{words}: R^2 {together:.2f} together")
        for of_what, each in (("of single portraits", values), ("of mean changes", on_average)):
            chosen = [value for value, fits in zip(each, which, strict=True) if fits]
            reached = sum(value >= GOAL for value in chosen)
            print(
                f"R^2 {of_what}: mean {mean(chosen):.2f}, median {median(chosen):.2f}, least {min(chosen):.2f}; "
                f"{reached} of {len(chosen)} pairs reach {GOAL}"
            )
    print()


def negative(measured: Measured, directions: Sequence[Shipped]) -> None:
    print(
        "| direction | attribute | change at 1 | change at -1 | opposite signs | suggested |\n|---|---|---|---|---|---|"
    )
    reversed_ = []
    for d, one in enumerate(directions):
        column = measured.attributes.index(one.recipe.attribute)
        up, down = (np.stack(changes)[:, d, column] for changes in (measured.alone, measured.reverse))
        low, high = one.preset.strength_range
        reversed_.append(up.mean() * down.mean() < 0)
        print(
            f"| {one.preset.name} | {one.recipe.attribute} | {up.mean():+.2f} | {down.mean():+.2f} | "
            f"{(up * down < 0).mean():.0%} | {low:g} to {high:g} |"
        )
    print(f"\nReversed on average: {sum(reversed_)} of {len(directions)}\n")


def orthogonal(measured: Measured, directions: Sequence[Shipped], pairs: Sequence[Pair]) -> None:
    count, metrics = len(measured.orthogonalised[orthogonalise.METRICS[0]]), orthogonalise.METRICS
    single, both = np.stack(measured.alone[:count]), np.stack(measured.pairs[:count])
    before = np.stack([np.stack([single[:, a], single[:, b], both[:, p]], 1) for p, (a, b) in enumerate(pairs)], 1)
    after = [np.stack(measured.orthogonalised[metric]) for metric in metrics]
    states = np.stack([before, *after], -1)  # (n, P, 3, A, states)
    rows = []
    for p, (a, b) in enumerate(pairs):
        i, j = (measured.attributes.index(directions[d].recipe.attribute) for d in (a, b))
        off = off_target(measured, directions[a].meant | directions[b].meant)
        first, second, together = states[:, p].swapaxes(0, 1)
        side_effect = np.maximum(np.abs(first[:, j]), np.abs(second[:, i])).mean(0)
        own = (first[:, i].mean(0) / first[:, i, 0].mean() + second[:, j].mean(0) / second[:, j, 0].mean()) / 2
        rows.append([side_effect, np.abs(together[:, off]).max(1).mean(0), own])
    table = np.array(rows)  # (pairs, quantities, states)
    quantities = {
        "side effect": "Larger change of the other's attribute",
        "off target": "Largest change off target of both together",
        "own": "Own change left",
    }
    print(f"| pair | {' | '.join(f'{what}, {name}' for what in quantities for name in ('before', *metrics))} |")
    print("|---" * (1 + 3 * states.shape[-1]) + "|")
    for (a, b), row in zip(pairs, table, strict=True):
        values = " | ".join(f"{value:.2f}" for value in row.ravel())
        print(f"| {directions[a].preset.name} + {directions[b].preset.name} | {values} |")
    for what, values in zip(quantities.values(), table.transpose(1, 2, 0), strict=True):
        print(f"\n{what}, mean over {len(pairs)} pairs: {values[0].mean():.3f} before", end="")
        for name, changes in zip(metrics, values[1:], strict=True):
            print(f", {changes.mean():.3f} in {name} (less for {np.mean(changes < values[0]):.0%})", end="")
    print("\n")


def off_target(measured: Measured, meant: set[str]) -> list[int]:
    """Columns of the attributes that neither direction is meant to change."""
    return [i for i, name in enumerate(measured.attributes) if name not in meant]


def times(model: DiffusionModel, picture: Picture, directions: Sequence[Shipped], runs: int = 4) -> None:
    chosen, spent = [(one.preset, 1.0) for one in directions[:3]], {"sweep": [], "strength": []}
    finish(applying.apply(model, picture, [(preset, [c]) for preset, c in chosen]))
    for k in range(runs):
        began = time.perf_counter()
        grid = pictures.evenly_spaced(-1.0, 1.0, 5)
        finish(pictures.sweep(model, picture, chosen[:2], 0, 1, grid, grid))
        spent["sweep"].append(time.perf_counter() - began)
        began = time.perf_counter()
        changed = [(preset, [c - 0.1 * (k + 1) * (i == 0)]) for i, (preset, c) in enumerate(chosen)]
        finish(applying.apply(model, picture, changed))
        spent["strength"].append(time.perf_counter() - began)
    print("| what | first | median of the others | goal |\n|---|---|---|---|")
    for what, claim, goal in (
        ("sweep", "5x5 sweep, 7 anchored steps", 6),
        ("strength", "changed strength in a three-part composition, 7 anchored steps", 1),
    ):
        first, *rest = spent[what]
        print(f"| {claim} | {first:.1f} s | {median(rest):.1f} s | {goal} s |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["linearity", "negative", "orthogonal", "times"]
    parser.add_argument("what", nargs="*", help=f"{', '.join(everything)}; all of them by default")
    parser.add_argument("--portraits", type=int, default=10)
    parser.add_argument("--orthogonal-portraits", type=int, default=4, help="how many of them, for orthogonal")
    parser.add_argument("--pairs", type=int, help="so many pairs, evenly chosen; all by default")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    what = arguments.what or everything
    if set(what) - set(everything) or min(arguments.portraits, arguments.orthogonal_portraits) < 1:
        parser.error(f"choose from {', '.join(everything)}, on at least one portrait")

    began, model, directions = time.monotonic(), models.get("avatars"), shipped_directions()
    people = portraits(arguments.portraits)
    pairs = [
        (a, b)
        for a, b in combinations(range(len(directions)), 2)
        if directions[a].recipe.attribute != directions[b].recipe.attribute
    ]
    if arguments.pairs is not None:
        pairs = pairs[:: max(1, len(pairs) // arguments.pairs)][: arguments.pairs]
    if set(what) - {"times"}:
        orthogonal_portraits = min(arguments.orthogonal_portraits, len(people)) if "orthogonal" in what else 0
        measured = measure(model, people, directions, pairs, arguments.steps, orthogonal_portraits)
    tables: dict[str, Callable[[], None]] = {
        "linearity": lambda: linearity(measured, directions, pairs),
        "negative": lambda: negative(measured, directions),
        "orthogonal": lambda: orthogonal(measured, directions, pairs),
        "times": lambda: times(model, people[0], directions),
    }
    for name in (name for name in tables if name in what):
        with reported(f"benchmarks.composing.{name}", arguments.write):
            counts = f"{len(directions)} directions, {len(pairs)} pairs, {len(people)} portraits"
            print(f"{counts}, {arguments.steps} steps\n")
            tables[name]()
    print(f"Wall time {time.monotonic() - began:.0f} s, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()

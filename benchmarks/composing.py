"""Whether directions add up, and what composing costs, with the embedded model.

    python -m benchmarks.composing                       # everything on 16 portraits
    python -m benchmarks.composing linearity --portraits 4 --pairs 3
    python -m benchmarks.composing times

linearity: for every pair of shipped directions of different attributes, the probe's changes under the pair against the
sum of the single changes (R^2 over portraits and attributes, in standard deviations), and the share of directions
whose strength -1 changes their attribute the other way. orthogonal: the largest change of an attribute that neither
direction of a pair means, before and after taking out of the first what it shares with the second. times: a sweep, and
a changed strength.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import combinations
from statistics import mean, median

import numpy as np
import torch
from torch import Tensor

from core import studio
from core.composing import applying, likeness, pictures
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.progress import finish
from core.visit import EditOptions, Frame, Picture
from training.dataset import held_out, to_pixels
from training.make_directions import RECIPES, Recipe

Known = list[tuple[Recipe, Preset]]


def portraits(count: int) -> list[Picture]:
    """Held-out portraits, as pictures of the model."""
    images, _ = held_out(count)
    return [Picture(to_pixels(image[None]), "avatars") for image in images[:count]]


def known() -> Known:
    """The shipped directions with the recipes that say what they mean."""
    library = studio.library("avatars")
    by_name = {preset.name: preset for preset in library.values()}
    keyed = {**by_name, **library}
    return [(recipe, keyed[name]) for name, recipe in RECIPES.items() if name in keyed]


def changes(frame: Frame, before: Frame) -> dict[str, float]:
    """By attribute: its change from one frame to another, in standard deviations of the population."""
    old = {reading.name: reading.change for reading in before.measures.attributes}
    return {reading.name: reading.change - old[reading.name] for reading in frame.measures.attributes}


def run(
    model: DiffusionModel, picture: Picture, chosen: Sequence[tuple[Preset, list[float]]], steps: int
) -> list[Frame]:
    return finish(applying.apply(model, picture, chosen, EditOptions(steps=steps)))


def r_squared(measured: Sequence[float], expected: Sequence[float]) -> float:
    """1 - ||measured - expected||^2 / ||measured - mean||^2."""
    m, e = np.asarray(measured), np.asarray(expected)
    return float(1 - ((m - e) ** 2).sum() / max(1e-12, ((m - m.mean()) ** 2).sum()))


def linearity(model: DiffusionModel, people: list[Picture], pairs: list[tuple], steps: int) -> None:
    print("| pair | R^2 | different parts |\n|---|---|---|")
    apart, opposite = [], {}
    for (recipe_a, a), (recipe_b, b) in pairs:
        both, summed = [], []
        for picture in people:
            strengths = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (-1.0, 0.0), (0.0, -1.0)]
            plain, only_a, only_b, pair, minus_a, minus_b = run(
                model, picture, [(a, [s for s, _ in strengths]), (b, [s for _, s in strengths])], steps
            )
            alone = [changes(frame, plain) for frame in (only_a, only_b)]
            for name, value in changes(pair, plain).items():
                both.append(value)
                summed.append(alone[0][name] + alone[1][name])
            for recipe, up, down in ((recipe_a, alone[0], minus_a), (recipe_b, alone[1], minus_b)):
                reversed_ = changes(down, plain)[recipe.attribute] * up[recipe.attribute] < 0
                opposite.setdefault(recipe.name, []).append(reversed_)
        value = r_squared(both, summed)
        different = recipe_a.part != recipe_b.part
        apart += [value] if different else []
        print(f"| {a.name} + {b.name} | {value:.2f} | {'yes' if different else 'no'} |", flush=True)
    if apart:
        print(f"\nPairs of different parts: mean R^2 {mean(apart):.2f}, {mean(v >= 0.8 for v in apart):.0%} reach 0.8")
    shares = ", ".join(f"{name} {mean(values):.0%}" for name, values in opposite.items())
    print(f"Strength -1 changes the attribute the other way: {shares}\n")


def off_target(model: DiffusionModel, people: list[Picture], preset: Preset, meant: set[str], steps: int) -> Tensor:
    """Mean absolute change of every attribute that is not meant, over people."""
    rows = []
    for picture in people:
        plain, edited = run(model, picture, [(preset, [0.0, 1.0])], steps)
        rows.append([abs(v) for name, v in sorted(changes(edited, plain).items()) if name not in meant])
    return torch.tensor(rows).mean(0)


def orthogonal(model: DiffusionModel, people: list[Picture], pairs: list[tuple], steps: int) -> None:
    print("| direction | without | largest change off target | in h-space | in the response |\n|---|---|---|---|---|")
    lowered = []
    for (recipe_a, a), (_, b) in pairs:
        meant = {recipe_a.attribute, *recipe_a.also}
        row = [off_target(model, people, a, meant, steps).max().item()]
        for metric in ("h-space", "response"):
            each = []
            for picture in people:
                made = finish(likeness.orthogonalise(model, picture, a, [b], metric))
                each.append(off_target(model, [picture], made, meant, steps))
            row.append(torch.stack(each).mean(0).max().item())
        lowered.append([row[0] - value for value in row[1:]])
        print(f"| {a.name} | {b.name} | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)
    if lowered:
        h, response = np.mean(lowered, axis=0)
        print(f"\nLowered on average by {h:.2f} (h-space) and {response:.2f} (response) standard deviations\n")


def times(model: DiffusionModel, people: list[Picture], directions: Known, runs: int = 3) -> None:
    chosen = [(preset, 1.0) for _, preset in directions[:3]]
    picture, spent = people[0], {"sweep": [], "strength": []}
    finish(applying.apply(model, picture, [(preset, [c]) for preset, c in chosen]))
    for k in range(runs):
        began = time.perf_counter()
        grid = pictures.even(-1.0, 1.0, 5)
        finish(pictures.sweep(model, picture, chosen[:2], 0, 1, grid, grid, EditOptions(steps=20)))
        spent["sweep"].append(time.perf_counter() - began)
        began = time.perf_counter()
        changed = [(preset, [c - 0.1 * (k + 1) * (i == 0)]) for i, (preset, c) in enumerate(chosen)]
        finish(applying.apply(model, picture, changed))
        spent["strength"].append(time.perf_counter() - began)
    print("| what | median | worst | goal |\n|---|---|---|---|")
    for what, claim, goal in (
        ("sweep", "5x5 sweep at 20 steps", 20),
        ("strength", "changed strength in a three-part composition, 40 steps", 3),
    ):
        print(f"| {claim} | {median(spent[what]):.1f} s | {max(spent[what]):.1f} s | {goal} s |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["linearity", "orthogonal", "times"]
    parser.add_argument("what", nargs="*", choices=[*everything, []], default=everything)
    parser.add_argument("--portraits", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=1000, help="at most so many pairs")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    model, people, directions = studio.models.get("avatars"), portraits(arguments.portraits), known()
    pairs = [pair for pair in combinations(directions, 2) if pair[0][0].attribute != pair[1][0].attribute]
    pairs = pairs[: arguments.pairs]
    if "linearity" in arguments.what:
        linearity(model, people, pairs, arguments.steps)
    if "orthogonal" in arguments.what:
        orthogonal(model, people, pairs, arguments.steps)
    if "times" in arguments.what:
        times(model, people, directions)


if __name__ == "__main__":
    main()

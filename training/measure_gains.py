"""The gains of the shipped directions: few anchored steps times these do what 40 steps as in the paper do.

    python -m benchmarks.samplers --samplers paper
    python -m benchmarks.samplers --samplers anchored --strengths 0.7 1.0 1.4
    python -m training.measure_gains                # writes them into the presets

The gain is where the own change, between the strengths that were measured, reaches that of the paper's process; but no
further from 1 than identity and surroundings of the picture allow.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from benchmarks.samplers import DEFAULTS, rows
from core import presets
from training.make_directions import RECIPES, preset_path

LOWEST, HIGHEST = 0.7, 1.5


def gain(paper: float, measured: dict[float, float]) -> float:
    """paper: the own change to reach. measured: own changes by strength at a gain of 1, two or more."""
    points = sorted(measured.items())
    pairs = list(pairwise(points))
    (low, first), (high, second) = next((pair for pair in pairs if pair[1][1] >= paper), pairs[-1])
    slope = (second - first) / (high - low)
    wanted = low + (paper - first) / slope if slope > 0 else 1.0
    return round(min(max(wanted, LOWEST), HIGHEST), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="what `benchmarks.samplers` measured, if it is elsewhere")
    measured = rows(parser.parse_args().rows)
    paper, anchored = (sampler.name for sampler in DEFAULTS)
    for name in RECIPES:
        own = [row for row in measured if row["direction"] == name]
        wanted = [row["figures"][0] for row in own if (row["sampler"], row["strength"]) == (paper, 1.0)]
        known = {row["strength"] * row["gain"]: row["figures"][0] for row in own if row["sampler"] == anchored}
        if not wanted or len(known) < 2:
            continue
        path = preset_path(name)
        preset = presets.load(path)
        found = gain(wanted[-1], known)
        presets.save(replace(preset, direction=replace(preset.direction, gain=found)), path)
        print(f"{name}: {found}")


if __name__ == "__main__":
    main()

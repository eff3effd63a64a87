"""The gains of the shipped directions: few anchored steps times these do what 40 steps as in the paper do.

    python -m benchmarks.samplers --samplers paper
    python -m benchmarks.samplers --samplers anchored --strengths 0.8 1.0 1.25
    python -m training.measure_gains                # writes them into the presets

The gain is where the own change, between the strengths that were measured, reaches 0.98 of that of the paper's process;
above 1 only if the person stays as much the same as in that process, and the surroundings to within a decibel. A
corrected direction is held to what it did as it was trained: that is what its strength meant.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.samplers import DEFAULTS, is_corrected, rows
from core import presets
from training.make_directions import RECIPES, preset_path

LOWEST, HIGHEST = 0.54, 2.0  # below, glasses are drawn half
LEEWAY = 1.0  # dB
NEAR = 0.035  # a gain that is right to this stays: every measurement at a new one would move it again
SHARE = 0.98  # of the own change in the paper's process


def gain(paper: list[float], measured: dict[float, list[float]]) -> float:
    """paper: [own change, largest other change, identity, PSNR outside] to reach. measured: the same by strength at a
    gain of 1, of two strengths or more."""
    strengths = sorted(measured)
    tried = np.arange(100 * LOWEST, 100 * HIGHEST + 1).round() / 100
    own, identity, outside = (line(tried, strengths, [measured[c][k] for c in strengths]) for k in (0, 2, 3))
    enough = tried[own >= SHARE * paper[0]]
    wanted = float(enough[0]) if len(enough) else HIGHEST
    at = tried == wanted
    return wanted if wanted <= 1 or (identity[at] >= paper[2] and outside[at] >= paper[3] - LEEWAY) else 1.0


def line(at: np.ndarray, x: list[float], y: list[float]) -> np.ndarray:
    """Straight lines through the points, the last ones continued beyond them."""
    inside = np.interp(at, x, y)
    below = y[0] + (at - x[0]) * (y[1] - y[0]) / (x[1] - x[0])
    above = y[-1] + (at - x[-1]) * (y[-1] - y[-2]) / (x[-1] - x[-2])
    return np.where(at < x[0], below, np.where(at > x[-1], above, inside))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="what `benchmarks.samplers` measured, if it is elsewhere")
    measured = rows(parser.parse_args().rows)
    paper, anchored = (sampler.name for sampler in DEFAULTS)
    for name in RECIPES:
        own = [row for row in measured if row["direction"] == name]
        asked = paper, 1.0, False
        wanted = [row["figures"] for row in own if (row["sampler"], row["strength"], row["corrected"]) == asked]
        path = preset_path(name)
        preset = presets.load(path)
        own = [row for row in own if row["sampler"] == anchored and row["corrected"] == is_corrected(preset)]
        known = {round(row["strength"] * row["gain"], 4): row["figures"] for row in own}
        if not wanted or len(known) < 2:
            continue
        found = gain(wanted[-1], known)
        print(f"{name}: {preset.direction.gain} -> {found}")
        if abs(found - preset.direction.gain) > NEAR:
            presets.save(replace(preset, direction=replace(preset.direction, gain=found)), path)


if __name__ == "__main__":
    main()

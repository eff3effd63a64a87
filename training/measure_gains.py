"""The gains of the shipped directions: what few anchored steps multiply them with to do what 40 steps as in the paper do.

    python -m benchmarks.samplers --samplers paper
    python -m benchmarks.samplers --samplers anchored --strengths 1.0 1.4   # with gains of 1
    python -m training.measure_gains                                        # writes them into the presets

Own changes at the two strengths give a line; where it reaches the paper's own change lies the gain, but no further from
1 than identity and surroundings of the picture allow.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.samplers import DEFAULTS, rows
from core import presets
from training.make_directions import RECIPES, preset_path

LOWEST, HIGHEST = 0.7, 1.5
STRENGTHS = (1.0, 1.4)


def gain(paper: float, first: float, second: float) -> float:
    """paper: the own change to reach; first, second: those at `STRENGTHS`."""
    slope = (second - first) / (STRENGTHS[1] - STRENGTHS[0])
    wanted = STRENGTHS[0] + (paper - first) / slope if slope > 0 else STRENGTHS[0]
    return round(min(max(wanted, LOWEST), HIGHEST), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, help="what `benchmarks.samplers` measured, if it is elsewhere")
    measured = {(row["direction"], row["sampler"], row["strength"]): row for row in rows(parser.parse_args().rows)}
    paper, anchored = (sampler.name for sampler in DEFAULTS)
    for name in RECIPES:
        known = [measured.get((name, paper, 1.0)), *(measured.get((name, anchored, c)) for c in STRENGTHS)]
        if any(row is None for row in known):
            continue
        own = [row["figures"][0] for row in known if row is not None]
        path = preset_path(name)
        preset = presets.load(path)
        found = gain(*own)
        presets.save(replace(preset, direction=replace(preset.direction, gain=found)), path)
        print(f"{name}: {found}")


if __name__ == "__main__":
    main()

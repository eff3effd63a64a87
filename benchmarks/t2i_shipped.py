"""The directions that come with the embedded text-to-image model, for `python -m benchmarks.t2i_hspace shipped`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from statistics import mean

from scipy.stats import spearmanr

from benchmarks.inversion import Row, heading
from benchmarks.portrait_edits import Case
from benchmarks.t2i_study import MODEL, Study
from core.models.cards import PRESETS
from core.presets import Preset
from core.recipes.reading import read_recipe
from core.recipes.recipe import Purpose
from core.studio import library

RECIPE = PRESETS / f"{MODEL}.yaml"
SHARES = (-1.0, 0.5, 1.0)  # of the suggested strength; and as far as the slider goes
MAIN = SHARES.index(1.0)


def lacks(study: Study, case: Case, purpose: Purpose) -> bool:
    """Whether a portrait is on the near side of the population's mean in the attribute."""
    known = study.probe.known[purpose.attribute]
    reading = study.readings(case.pixels)[0, study.attributes.index(purpose.attribute)]
    return bool((reading - known.mean / known.spread) * purpose.sign < 0)


def shipped_row(study: Study, case: Case, preset: Preset, purpose: Purpose) -> Row:
    """Changes of all attributes at the suggested strength, identity there and at the slider's end, and the rank
    correlation of strength and the attribute that the direction is for."""
    strengths = [*(preset.unit * share for share in SHARES), max(preset.strength_range)]
    made = study.edited(case.pixels, preset.direction, strengths)
    changes = study.readings(made) - study.readings(case.pixels)
    own = purpose.sign * changes[:, study.attributes.index(purpose.attribute)]
    rank = spearmanr([0.0, *strengths], [0.0, *own])[0]
    row = {name: float(change) for name, change in zip(study.attributes, changes[MAIN], strict=True)}
    same = study.identity(case.pixels, made)
    return row | {"identity": float(same[MAIN]), "at the end": float(same[-1]), "rank": float(rank)}


def shipped(study: Study, pool: Sequence[Case], count: int) -> None:
    """On `count` portraits of the pool that lack what a direction is for."""
    recipe = read_recipe(RECIPE)
    purposes = {one.name: one.purpose for one in recipe.directions if one.purpose is not None}
    heading(
        "direction", ("portraits", "own change", "same way", "largest other", "identity", "at the end", "rank corr.")
    )
    for preset in library.shipped(MODEL).values():
        purpose = purposes[preset.name.lower()]
        rows = []
        for case in islice((case for case in pool if lacks(study, case, purpose)), count):
            key = ("shipped", study.model.key, preset.name, preset.created, case.number)
            rows.append(study.rows.get(key, partial(shipped_row, study, case, preset, purpose)))
        own = [purpose.sign * row[purpose.attribute] for row in rows]
        rest = [name for name in study.attributes if name not in (purpose.attribute, *purpose.also)]
        most = max(rest, key=lambda name: abs(mean(row[name] for row in rows)))
        about = f"{len(rows)} | {mean(own):+.2f} {purpose.attribute} | {mean(one > 0 for one in own):.0%} | "
        about += f"{abs(mean(row[most] for row in rows)):.2f} {most} | "
        about += " | ".join(f"{mean(row[name] for row in rows):.3f}" for name in ("identity", "at the end"))
        about += f" | {mean(row['rank'] for row in rows):.2f}"
        print(f"| {preset.name.lower()} | {about} |", flush=True)
    print()

"""The shipped directions beside the same texts trained as the Asyrp paper trains, on the same pictures.

    python -m training.make_directions --recipe training/avatars_paper.yaml     # trains them: an hour on one core
    python -m benchmarks.paper_defaults
    python -m benchmarks.paper_defaults --write        # also write the table into docs/benchmarks.md

In the app's usual process, at the suggested strength against strength 0, on 32 pictures that the model makes, of which
those count that lack the attribute: the change of the own attribute and the largest change of any other that the word
does not imply, in standard deviations of the population, and identity. The paper's t_boost is in force in its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import report
from core import presets
from core.models.loader import models
from core.progress import finish
from core.recipes import kept, measured
from core.recipes.reading import read_recipe
from core.recipes.team import ALONE
from core.recipes.workshop import Workshop
from training.make_directions import FOLDER, OUTPUTS, preset_path

RECIPE = Path(__file__).parents[1] / "training" / "avatars_paper.yaml"
SETS = {"shipped": FOLDER, "paper": OUTPUTS / "avatars-paper" / "directions" / "avatars"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which directions; by default all")
    parser.add_argument("--paper", type=Path, default=SETS["paper"], help="the folder of those of the paper's defaults")
    parser.add_argument("--write", action="store_true", help=report.HELP)
    arguments = parser.parse_args()
    with report.reported("benchmarks.paper_defaults", arguments.write and not arguments.names):
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """A row for each direction: shipped, then by the paper's defaults."""
    recipe = read_recipe(RECIPE)
    shop = Workshop(recipe, models.get(recipe.model), ALONE)
    unit = measured.pictures_unit(shop)
    made = shop.folder / unit.files[0]
    if not made.is_file():
        kept_pictures = finish(measured.make_pictures(shop, unit))[unit.files[0]]
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(kept_pictures)
    pixels, _ = kept.read(made)
    print("| direction | own change | largest other change | identity | own, paper | other, paper | identity, paper |")
    print("|---|---|---|---|---|---|---|")
    for one in (one for one in recipe.texts if one.name in (arguments.names or [one.name])):
        cells = []
        for folder in (SETS["shipped"], arguments.paper):
            preset = presets.load(preset_path(one.name, folder))
            seen = finish(measured.look(shop, preset, one.purpose, pixels)).measured
            cells += [f"{seen['own_change']:+.2f}", f"{seen['largest_other_change']:.2f}", f"{seen['identity']:.3f}"]
        print(f"| {one.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""The directions that come with the app: their recipes, the portraits that they are trained on, and one command.

    python -m training.make_directions                  # portraits, then all that is missing, in outputs/avatars
    python -m training.make_directions --pictures       # the portraits only
    python -m training.make_directions --recipe training/avatars_paper.yaml
    python -m training.make_directions --recipe presets/avatars-t2i.yaml
    python -m training.make_directions --install        # what was made takes the place of what comes with the app

The recipe is `presets/avatars.yaml` unless another one is named; what is made is measured and put into a folder of its
own, and `python -m benchmarks.directions --folder FOLDER` compares. Trained ones that are installed keep the gain of
those before them, until `training.measure_gains` measures it; shifts between prompts are stored in half precision.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from core import cli, presets
from core.editing import invert
from core.models.cards import PRESETS
from core.models.loader import DiffusionModel
from core.progress import finish
from core.recipes.reading import read_recipe
from core.recipes.recipe import PromptDirection, TextDirection
from core.recipes.recipe import Recipe as RecipeFile
from training.dataset import load as load_portraits
from training.dataset import to_pixels
from training.portraits import HELD_OUT, render, sample, varied

FOLDER = PRESETS / "directions" / "avatars"
RECIPE = PRESETS / "avatars.yaml"
OUTPUTS = Path(__file__).resolve().parents[1] / "outputs"
STEPS = 20
PORTRAITS = 48  # of the training seeds

# A person to whom every shipped attribute is new.
PLAIN = {
    "smile": 0.0, "mouth_open": 0.0, "lip_red": 0.1, "eye_open": 0.7, "gaze": 0.2, "brow_angle": 0.0,
    "brow_raise": 0.0, "brow_thick": 0.4, "glasses": 0.0, "beard": 0.0, "hair_style": 1, "gray": 0.0,
    "skin": 0.2, "age": 0.0, "blush": 0.0,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a direction is for, and how its effect is measured.

    attribute: the probe's attribute it should move, upwards or (sign -1) downwards. part: the face part concerned
    (`training.portraits.PARTS`). also: attributes that the word itself implies, not counted as side effects.
    strengths: the range in which it does what it says.
    """

    name: str
    source: str
    target: str
    attribute: str
    part: str
    sign: int = 1
    also: tuple[str, ...] = ()
    strengths: tuple[float, float] = (-1.0, 2.0)


def _recipe(direction: TextDirection) -> Recipe:
    purpose = direction.purpose
    assert purpose is not None, direction.name
    return Recipe(
        direction.name,
        direction.source,
        direction.target,
        purpose.attribute,
        purpose.part,
        purpose.sign,
        purpose.also,
        direction.strength_range or (-1.0, 2.0),
    )


RECIPES: dict[str, Recipe] = {one.name: _recipe(one) for one in read_recipe(RECIPE).texts}


def preset_path(name: str, folder: Path = FOLDER) -> Path:
    return folder / presets.file_name(name)


def training_latents(model: DiffusionModel, count: int) -> torch.Tensor:
    """Inversions x_T (count, C, h, w) of rendered portraits from the training seeds."""
    images, _ = load_portraits(count)
    parts = [finish(invert(model, part, STEPS)).x_T for part in to_pixels(images).split(16)]
    return torch.cat(parts)


def write_pictures(folder: Path) -> None:
    """The portraits that the directions are trained on, and the one that their thumbnails show."""
    portraits = folder / "portraits"
    portraits.mkdir(parents=True, exist_ok=True)
    for seed in range(PORTRAITS):
        render(sample(seed)).save(portraits / f"{seed:05d}.png")
    render(varied(sample(HELD_OUT + 2559), **PLAIN)).save(folder / "plain.png")


def install(recipe: RecipeFile) -> None:
    """Put what was made of a recipe in the place of the shipped directions of the same names."""
    made, folder = (place / "directions" / recipe.model for place in (recipe.output, PRESETS))
    for one in recipe.directions:
        preset, shipped = presets.load(preset_path(one.name, made)), preset_path(one.name, folder)
        if isinstance(one, PromptDirection):
            presets.save(preset, shipped, torch.float16)
            continue
        gain = presets.load(shipped).direction.gain if shipped.is_file() else 1.0
        presets.save(replace(preset, direction=replace(preset.direction, gain=gain)), shipped)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--pictures", action="store_true", help="write the portraits and do nothing else")
    parser.add_argument("--install", action="store_true", help="make nothing; install what was made")
    arguments = parser.parse_args()
    if arguments.install:
        install(read_recipe(arguments.recipe))
        return 0
    write_pictures(OUTPUTS)
    return 0 if arguments.pictures else cli.main(["precompute", str(arguments.recipe)])


if __name__ == "__main__":
    sys.exit(main())

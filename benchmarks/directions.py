"""What the shipped directions do, on portraits no model was trained on.

    python -m benchmarks.directions                       # 100 portraits, every form: over an hour on two cores
    python -m benchmarks.directions --portraits 16 --forms implicit
    python -m benchmarks.directions --folder outputs/avatars-paper/directions/avatars     # others of the same names
    python -m benchmarks.directions --write               # also write the figures into presets and docs/benchmarks.md

Per direction and form, at strength 1 against strength 0 (both through the same sampler), on portraits that lack the
attribute: the change of its own attribute by the probe, the largest change of any other attribute (both in standard
deviations of the population; attributes that the word implies not counted), identity similarity, directional CLIP
similarity, PSNR outside the face part concerned, and the mean Spearman correlation of strength and attribute.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks import report
from core import clip, instruments, metrics, presets
from core.asyrp.loss import s_dir
from core.asyrp.prompts import templates
from core.asyrp.train import global_direction, mean_direction
from core.directions import Direction
from core.editing import EditSettings, Intervals, edit, invert
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel, load
from core.progress import finish
from training.dataset import held_out, to_pixels
from training.make_directions import FOLDER, RECIPES, Recipe, preset_path
from training.portraits import from_vector, part_mask
from training.targets import values, visible

STRENGTHS = (-1.0, 0.0, 1.0, 2.0)
POOL = 1000


@dataclass(frozen=True)
class Effect:
    """One row of the table: means over the portraits."""

    own: float
    other: float
    which: str
    identity: float
    s_dir: float
    psnr_outside: float
    monotone: float

    def as_measured(self, recipe: Recipe) -> dict[str, float]:
        """For a preset file, with the attribute that it is for under its name."""
        return {
            recipe.attribute: round(recipe.sign * self.own, 3),
            "own_change": round(self.own, 3),
            "largest_other_change": round(self.other, 3),
            "identity": round(self.identity, 3),
            "s_dir": round(self.s_dir, 3),
            "psnr_outside": round(self.psnr_outside, 2),
            "strength_correlation": round(self.monotone, 3),
        }


def lacking(recipe: Recipe, probe: instruments.Instruments, count: int) -> np.ndarray:
    """Rows of the held-out pool whose attribute lies on the near side of the population's mean and can be seen."""
    _, parameters = held_out(POOL)
    names = (recipe.attribute,)
    value, seen = values(parameters, names)[:, 0], visible(parameters, names)[:, 0]
    if recipe.part == "hair" and recipe.attribute != "curly_hair":
        seen = seen & (values(parameters, ("bald",))[:, 0] == 0)
    return np.flatnonzero(seen & ((value - probe.known[recipe.attribute].mean) * recipe.sign < 0))[:count]


def run(
    model: DiffusionModel, x_T: Tensor, unedited: Tensor, direction: Direction, intervals: Intervals, steps: int
) -> Tensor:
    """Pictures (len(STRENGTHS), N, 3, H, W) of the latents x_T (N, C, h, w) at each strength; `unedited` at 0."""
    settings, others = EditSettings(steps, intervals), [c for c in STRENGTHS if c != 0]
    made = []
    for part in x_T.split(4):
        strengths = torch.tensor(others).repeat_interleave(len(part))
        pictures = finish(edit(model, part.repeat(len(others), 1, 1, 1), [(direction, strengths)], settings))
        made.append(pictures.unflatten(0, (len(others), len(part))))
    edited = dict(zip(others, torch.cat(made, dim=1), strict=True))
    return torch.stack([edited.get(c, unedited) for c in STRENGTHS])


@torch.no_grad()
def changes(probe: instruments.Instruments, before: Tensor, after: Tensor) -> dict[str, float]:
    """Mean change of every attribute from pictures (N, 3, H, W) to others, in standard deviations of the population."""
    old, new = probe.attributes(before), probe.attributes(after)
    return {name: ((new[name] - old[name]).mean() / probe.known[name].spread).item() for name in old}


@torch.no_grad()
def effect(
    recipe: Recipe,
    pictures: Tensor,
    masks: Tensor,
    probe: instruments.Instruments,
    image_text: clip.ImageText,
    prompts: tuple[str, ...],
) -> Effect:
    """pictures: (len(STRENGTHS), N, 3, H, W); masks: (N, 1, H, W), True in the part concerned."""
    before, after = pictures[STRENGTHS.index(0.0)], pictures[STRENGTHS.index(1.0)]
    change = changes(probe, before, after)
    others = {name: abs(v) for name, v in change.items() if name not in (recipe.attribute, *recipe.also)}
    which = max(others, key=others.get)
    along = torch.stack([probe.attributes(row)[recipe.attribute] for row in pictures]) * recipe.sign
    towards = s_dir(image_text, before, after, recipe.source, recipe.target, prompts)
    correlations = [spearmanr(STRENGTHS, column.numpy()).statistic for column in along.T]
    return Effect(
        own=change[recipe.attribute] * recipe.sign,
        other=others[which],
        which=which,
        identity=(probe.identity(before) * probe.identity(after)).sum(1).mean().item(),
        s_dir=towards.mean().item(),
        psnr_outside=metrics.psnr(after, before, ~masks).mean().item(),
        monotone=float(np.mean(correlations)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which directions; by default all")
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--forms", nargs="+", default=["implicit", "mean", "global"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where the presets are; those of the app by default"
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="write the figures of the implicit form into the presets, the table of all into docs/benchmarks.md",
    )
    arguments = parser.parse_args()
    with report.reported("benchmarks.directions", arguments.write and not arguments.names):
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """A row for each direction and form."""
    model = load(MODELS["avatars"])
    image_text = clip.load_embedded(model.card.clip.folder, model.device)
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    prompts = templates(model.card)
    images, parameters = held_out(POOL)
    inverted: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # row, t_boost -> x_T and what it gives unedited
    print("| direction | form | own change | largest other change | identity | S_dir | PSNR outside | rank corr. |")
    print("|---|---|---|---|---|---|---|---|")
    began = time.time()
    for recipe in (RECIPES[name] for name in arguments.names or RECIPES):
        path = preset_path(recipe.name, arguments.folder)
        if not path.exists():
            continue
        preset = presets.load(path)
        rows = lacking(recipe, probe, arguments.portraits)
        intervals = Intervals(preset.t_edit, preset.t_boost or 0)
        boost = intervals.t_boost
        new = [row for row in rows if (row, boost) not in inverted]
        for part in np.array_split(new, max(1, len(new) // 16)) if new else []:
            latents = finish(invert(model, to_pixels(images[part]), arguments.steps)).x_T
            plain = finish(edit(model, latents, settings=EditSettings(arguments.steps, intervals)))
            both = zip(latents, plain, strict=True)
            inverted.update(zip([(row, boost) for row in part.tolist()], both, strict=True))
        chosen = [inverted[row, boost] for row in rows.tolist()]
        x_T, unedited = (torch.stack(column) for column in zip(*chosen, strict=True))
        masks = torch.stack([torch.from_numpy(part_mask(from_vector(parameters[r]), recipe.part)) for r in rows])[
            :, None
        ]
        mean = mean_direction(model, preset.direction, x_T[:20], preset.t_edit)
        forms = {"implicit": preset.direction, "mean": mean, "global": global_direction(mean)}
        for form in arguments.forms:
            pictures = run(model, x_T, unedited, forms[form], intervals, arguments.steps)
            e = effect(recipe, pictures, masks, probe, image_text, prompts)
            print(
                f"| {recipe.name} | {form} | {e.own:+.2f} {recipe.attribute} | {e.other:.2f} {e.which} | "
                f"{e.identity:.3f} | {e.s_dir:.3f} | {e.psnr_outside:.1f} dB | {e.monotone:.2f} |",
                flush=True,
            )
            if form == "implicit" and arguments.write:
                presets.save(replace(preset, measured=e.as_measured(recipe)), path, torch.float16)
    print(f"\n{arguments.portraits} portraits, {arguments.steps} steps, {time.time() - began:.0f} s")


if __name__ == "__main__":
    main()

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
from torch import Tensor

from benchmarks import report
from core import instruments, presets
from core.asyrp.forms import global_direction, mean_direction
from core.directions import Direction
from core.editing import EditSettings, Intervals, edit, invert
from core.evaluation.gauges import Gauges, gauges_of
from core.evaluation.measures import measure
from core.evaluation.results import Joined
from core.evaluation.subject import Subject
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, load
from core.progress import finish
from core.studio.reference import reference_latents
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


def effect(recipe: Recipe, preset: presets.Preset, pictures: Tensor, masks: np.ndarray, gauges: Gauges) -> Effect:
    """pictures: (len(STRENGTHS), N, 3, H, W); masks: boolean (N, H, W), True in the part concerned."""
    assert gauges.probe is not None
    subject = Subject(preset, STRENGTHS, recipe.attribute, recipe.sign, recipe.also)
    joined = Joined(subject, list(gauges.probe.known))
    unedited = pictures[subject.zero]
    for rows in torch.arange(len(unedited)).split(16):
        table, said = measure(gauges, subject, unedited[rows], pictures[:, rows].transpose(0, 1), masks[rows.numpy()])
        assert not said, said
        joined.add(table)
    found, one = joined.found((preset.t_edit or 0, 0)), STRENGTHS.index(1.0)
    assert found.rank_correlation is not None
    which, other = found.others[one]
    return Effect(
        own=float(found.means["own"][one]),
        other=other,
        which=which,
        identity=float(found.means["identity"][one]),
        s_dir=float(found.means["s_dir"][one]),
        psnr_outside=float(found.means["psnr_outside"][one]),
        monotone=found.rank_correlation[0],
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
    gauges = replace(gauges_of(model.card, model.device), features=None, parts=None)
    probe = gauges.probe
    assert probe is not None
    images, parameters = held_out(POOL)
    reference = finish(reference_latents(model, arguments.steps))  # as the app and the command line average over
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
        masks = np.stack([part_mask(from_vector(parameters[r]), recipe.part) for r in rows])
        mean = mean_direction(model, preset.direction, reference, preset.t_edit)
        forms = {"implicit": preset.direction, "mean": mean, "global": global_direction(mean)}
        for form in arguments.forms:
            pictures = run(model, x_T, unedited, forms[form], intervals, arguments.steps)
            e = effect(recipe, preset, pictures, masks, gauges)
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

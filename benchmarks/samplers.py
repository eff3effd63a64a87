"""How few steps can an edit have? The paper's process against anchored editing, by the shipped directions.

    python -m benchmarks.samplers                              # 100 portraits per direction: an hour or two
    python -m benchmarks.samplers --portraits 8 --names smiling glasses beard --samplers all
    python -m benchmarks.samplers --summary                    # the tables of what was measured before

Compared with the **original** picture, at strength 1 (in few steps: calibrated, `core.calibration`), on held-out
portraits that lack the attribute: the change of the direction's own attribute by the probe and the largest change of
any other one (both in standard deviations of the population; attributes that the word implies not counted), identity
similarity, PSNR outside the face part concerned, and network passes per row (an encoder or a decoder is a part of one,
as `core.unet` splits them; those of a path that serves all directions of a picture apart). Figures of a direction are
kept in `benchmarks/measured`, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.directions import POOL, lacking
from benchmarks.report import HELP, reported
from core import instruments, metrics, presets
from core.anchoring import Route, edit_anchored, source_path
from core.calibration import calibrated, uneven_timesteps
from core.directions import Direction, parts_of
from core.editing import EditSettings, acts, edit, invert
from core.evaluation.measures import changes, largest_other
from core.intervals import Intervals
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel, load
from core.process import USUAL_STEPS
from core.progress import finish
from training.dataset import held_out, to_pixels
from training.make_directions import RECIPES, Recipe, preset_path
from training.portraits import from_vector, part_mask

KEPT = Path(__file__).parent / "measured" / "samplers.jsonl"
IDENTITY = ("direction", "sampler", "strength", "portraits", "gain", "corrected", "file")  # of a row
DECODER = 0.73  # of a pass of the network


@dataclass(frozen=True)
class Sampler:
    """One way to edit. route: of the source's path; None for the paper's process."""

    steps: int
    route: Route | None = None

    @property
    def name(self) -> str:
        if self.route is None:
            return f"as in the paper, {self.steps}"
        return f"anchored, {self.steps}" if self.route == "inverted" else f"anchored, no inversion, {self.steps}"

    def passes(self, model: DiffusionModel, direction: Direction, t_edit: int) -> tuple[float, float]:
        """(of the first edit of a picture, of a further direction on it)."""
        timesteps = model.schedule.timesteps(self.steps)
        if self.route is not None:
            timesteps = uneven_timesteps(model.schedule, self.steps)
        acting = [
            t
            for t in timesteps
            if any(acts(part, t, EditSettings(self.steps, Intervals(t_edit, 0))) for part in parts_of(direction))
        ]
        edited = len(timesteps) + DECODER * len(acting)
        if self.route is None:
            return self.steps + 1 + edited, edited
        edited -= DECODER  # G(h) of the first step is the source's
        return edited + self.steps, edited

    def run(self, model: DiffusionModel, pixels: Tensor, direction: Direction, t_edit: int, c: float) -> Tensor:
        """Pictures (B, 3, H, W) at strength c."""
        settings, strengths = EditSettings(self.steps, Intervals(t_edit, 0)), torch.full((len(pixels),), c)
        if self.route is None:
            latent = finish(invert(model, pixels, self.steps))
            return finish(edit(model, latent, [(direction, strengths)], settings))
        timesteps = uneven_timesteps(model.schedule, self.steps)
        path = finish(source_path(model, pixels, timesteps, self.route))
        meant = calibrated(model.schedule, timesteps, direction, settings)
        return finish(edit_anchored(model, path, [(meant, strengths)], settings))


DEFAULTS = (Sampler(40), Sampler(USUAL_STEPS["anchored"], "inverted"))
SAMPLERS = (
    *DEFAULTS,
    Sampler(12),
    *(Sampler(steps, "inverted") for steps in (6, 8, 12)),
    *(Sampler(steps, "noised") for steps in (7, 12)),
)


@torch.no_grad()
def figures(
    recipe: Recipe, before: Tensor, after: Tensor, masks: Tensor, probe: instruments.Instruments
) -> list[float]:
    """[own change, largest other change, identity, PSNR outside]. masks: (N, 1, H, W), True in the part concerned."""
    change = changes(probe, before, after)
    _, other = largest_other(change, recipe.attribute, recipe.also)
    identity = (probe.identity(before) * probe.identity(after)).sum(1).mean().item()
    return [change[recipe.attribute] * recipe.sign, other, identity, metrics.psnr(after, before, ~masks).mean().item()]


def measure(names: list[str], portraits: int, strengths: list[float], samplers: Sequence[Sampler]) -> None:
    """A line in `KEPT` for each direction, sampler and strength that has none yet."""
    model = load(MODELS["avatars"])
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    images, parameters = held_out(POOL)
    known = {identity(row) for row in rows()}
    for recipe in (RECIPES[name] for name in names):
        preset = presets.load(preset_path(recipe.name))
        chosen = lacking(recipe, probe, portraits)
        pixels = to_pixels(images[chosen])
        masks = torch.stack([torch.from_numpy(part_mask(from_vector(parameters[r]), recipe.part)) for r in chosen])
        for sampler in samplers:
            gain = preset.direction.gain if sampler.route else 1.0
            for c in strengths:
                row = {"direction": recipe.name, "sampler": sampler.name, "strength": c, "portraits": portraits}
                row |= {"gain": gain, "corrected": is_corrected(preset), "file": file_hash(preset)}
                if identity(row) in known:
                    continue
                parts = [sampler.run(model, part, preset.direction, preset.t_edit, c) for part in pixels.split(16)]
                measured = figures(recipe, pixels, torch.cat(parts), masks[:, None], probe)
                first, further = sampler.passes(model, preset.direction, preset.t_edit)
                keep({**row, "figures": measured, "first": first, "further": further})
                print(recipe.name, sampler.name, c, [round(v, 3) for v in measured], flush=True)


def rows(file: Path | None = None) -> list[dict]:
    """What was measured."""
    file = file or KEPT
    lines = file.read_text().splitlines() if file.exists() else []
    return [{"corrected": False, "file": None} | json.loads(line) for line in lines]  # earlier ones do not say it


def identity(row: dict) -> tuple:
    return tuple(row[key] for key in IDENTITY)


def is_corrected(preset: presets.Preset) -> bool:
    """Whether `training.correct_directions` took out what the direction as it was trained does besides."""
    return "corrections" in preset.parameters


def file_hash(preset: presets.Preset) -> str:
    """Tells a shipped direction, which may be made anew, from those before it; whatever its gain."""
    plain = replace(preset, direction=replace(preset.direction, gain=1.0))
    return hashlib.sha256(presets.to_bytes(plain)).hexdigest()[:12]


def keep(row: dict) -> None:
    KEPT.parent.mkdir(exist_ok=True)
    with KEPT.open("a") as file:
        file.write(json.dumps(row) + "\n")


def summary(portraits: int) -> None:
    """Means over the directions that have all samplers, and the directions one by one: in the paper's process as they
    were trained, in few anchored steps as they are shipped. Of the files that are shipped; how the corrected ones were
    before is known from earlier files alone."""
    shipped = {name: presets.load(preset_path(name)) for name in RECIPES if preset_path(name).exists()}
    gains = {name: preset.direction.gain for name, preset in shipped.items()}
    files = {name: file_hash(preset) for name, preset in shipped.items()}
    wanted = {(name, True): (gains[name], is_corrected(preset), files[name]) for name, preset in shipped.items()}
    wanted |= {
        (name, False): (1.0, False, None if is_corrected(preset) else files[name]) for name, preset in shipped.items()
    }
    anchored = [sampler.name for sampler in SAMPLERS if sampler.route is not None]
    kept = [
        row
        for row in rows()
        if row["portraits"] == portraits
        and row["strength"] == 1
        and tuple(row[key] for key in IDENTITY[4:]) == wanted.get((row["direction"], row["sampler"] in anchored))
    ]
    cells: dict[tuple[str, float], dict[str, dict]] = {}
    for row in kept:
        cells.setdefault((row["sampler"], row["strength"]), {})[row["direction"]] = row
    if not cells:
        print(f"nothing was measured on {portraits} portraits yet")
        return
    shared = sorted(set.intersection(*(set(cell) for cell in cells.values())))
    print(f"{portraits} portraits of each of {len(shared)} directions\n")
    print("| sampler | strength | own change | largest other | identity | PSNR outside | passes, first and further |")
    print("|---|---|---|---|---|---|---|")
    for (sampler, strength), cell in cells.items():
        own, other, identity, outside = np.mean([cell[name]["figures"] for name in shared], axis=0)
        first, further = (np.mean([cell[name][key] for name in shared]) for key in ("first", "further"))
        print(
            f"| {sampler} | {strength:g} | {own:+.3f} | {other:.3f} | {identity:.3f} | {outside:.1f} dB | "
            f"{first:.1f}, {further:.1f} |"
        )
    print(f"\n| direction | gain | {' | '.join(sampler for sampler, _ in cells)} |")
    print("|---|---|" + "---|" * len(cells))
    for name in shared:
        values = (cell[name]["figures"] for cell in cells.values())
        shown = (f"{own:+.2f}, {other:.2f}, {identity:.3f}, {psnr:.1f} dB" for own, other, identity, psnr in values)
        print(f"| {name}{'*' * is_corrected(shipped[name])} | {gains[name]:g} | {' | '.join(shown)} |")
    if any(is_corrected(preset) for preset in shipped.values()):
        print("\n\\* Corrected by `training.correct_directions`; in the paper's process as it was before.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", nargs="+", default=[name for name in RECIPES if preset_path(name).exists()])
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--strengths", nargs="+", type=float, default=[1.0])
    parser.add_argument("--samplers", choices=["default", "paper", "anchored", "all"], default="default")
    parser.add_argument("--summary", action="store_true", help="measure nothing")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    if not arguments.summary:
        chosen = {"default": DEFAULTS, "paper": DEFAULTS[:1], "anchored": DEFAULTS[1:], "all": SAMPLERS}
        measure(arguments.names, arguments.portraits, arguments.strengths, chosen[arguments.samplers])
    with reported("benchmarks.samplers", arguments.write):
        summary(arguments.portraits)


if __name__ == "__main__":
    main()

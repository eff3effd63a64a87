"""More of what few anchored steps do beside the papers' process: discovered directions, and the order of strengths.

    python -m benchmarks.samplers_further discovered   # ten minutes on one core
    python -m benchmarks.samplers_further ranks        # half an hour
    python -m benchmarks.samplers_further --write      # both, also into docs/benchmarks.md

`discovered`: directions found in a region of one portrait (symmetric injection), applied to others. The strength of the
anchored process is set so that the region of the median portrait changes as much as it does in the papers' process at
the strength that Discover suggests; what of the picture changes elsewhere for it (ROIR), and identity, are compared.
"Same strength" is how much the region changes at the same strength, per change in the papers' process: 1 where the
calibration (`core.calibration`) is right. Of all portraits together it is that of the one that changes most, which is
often one whose eyes close or whose glasses come in one of the two processes and not yet in the other: so the median
portrait stands beside it.

`ranks`: rank correlation of strength and own attribute over seven strengths, by portrait, for the shipped directions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from benchmarks.directions import POOL, lacking
from benchmarks.report import HELP, reported
from core import instruments, presets
from core.directions import Direction, Injection
from core.editing import EDIT_ALWAYS, EditSettings
from core.intervals import Intervals
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel, load
from core.process import USUAL_STEPS, Process, edit_pictures
from core.progress import finish
from core.regions import ready_made_region
from core.studio.discover.exploration import Exploration
from core.studio.discover.search import explore
from core.studio.frames import Picture
from training.dataset import held_out, to_pixels
from training.make_directions import RECIPES, preset_path

REGIONS = ("Mouth", "Eyes", "Hair")
SEARCHED, OTHERS, EACH = 2, 9, 3  # portraits that are searched, those that are edited, directions of each region
NEAR = 0.1  # as much as the change at the same strength may differ
STRENGTHS = [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]
PORTRAITS = 12  # of each shipped direction
PROCESSES: tuple[Process, ...] = ("paper", "anchored")


def edited(
    model: DiffusionModel,
    pixels: Tensor,
    direction: Direction,
    strengths: Sequence[float],
    process: Process,
    intervals: Intervals = EDIT_ALWAYS,
    injection: Injection = "asymmetric",
) -> Tensor:
    """Pictures (B, S, 3, H, W) of pixels (B, 3, H, W) at S strengths."""
    settings = EditSettings(USUAL_STEPS[process], intervals, injection)
    weighted = [(direction, list(strengths) * len(pixels))]
    made = finish(edit_pictures(model, pixels, len(strengths), weighted, settings, process))
    return made.unflatten(0, (len(pixels), len(strengths)))


def norm(change: Tensor, mask: Tensor) -> float:
    return (change * mask).square().sum().sqrt().item()


@dataclass(frozen=True)
class Compared:
    """A direction in both processes. roir, identity: as in the paper, and anchored at the same change inside. inside:
    of the region at the same strength, per change in the papers' process. portraits: the same of each portrait, and
    persons: how much less identity is left of each."""

    roir: tuple[float, float]
    identity: tuple[float, float]
    inside: float
    portraits: np.ndarray
    persons: np.ndarray

    @property
    def cells(self) -> list[float]:
        return [*self.roir, *self.identity, self.inside, float(np.median(self.portraits))]


@torch.no_grad()
def discovered(model: DiffusionModel, probe: instruments.Instruments) -> None:
    images, _ = held_out(POOL)
    pixels = to_pixels(images[: SEARCHED + OTHERS])
    found: list[Compared] = []
    print(
        "| direction | ROIR, as in the paper | anchored | identity, as in the paper | anchored | same strength, all "
        "portraits | median portrait |"
    )
    print("|---" * 7 + "|")
    for k in range(SEARCHED):
        regions = [ready_made_region("face", label, model.card.resolution) for label in REGIONS]
        exploration = Exploration(model, Picture(pixels[k : k + 1], model.card.id), regions)
        finish(explore(exploration, refining=False))
        for region in regions:
            rows = [row for row in exploration.rows if row.region.label == region.label][:EACH]
            for number, row in enumerate(rows, start=1):
                mask = torch.from_numpy(region.mask).float()
                found.append(compare(model, probe, pixels[SEARCHED:], row.found.direction, row.strength, mask))
                cells = " | ".join(f"{value:.3f}" for value in found[-1].cells)
                print(f"| portrait {k + 1}, {region.label}, {number} | {cells} |", flush=True)
    means = np.mean([one.cells for one in found], axis=0)
    print(f"| **mean of {len(found)}** | {' | '.join(f'**{value:.3f}**' for value in means)} |")
    lost = np.array([one.persons.mean() for one in found])
    error = lost.std(ddof=1) / len(lost) ** 0.5
    medians = np.array([np.median(one.portraits) for one in found])
    within = (np.abs(medians - 1) <= NEAR).sum()
    print(
        f"\nAnchored identity is lower by {lost.mean():.4f} (standard error over the directions {error:.4f}). At the "
        f"same strength the median portrait's change is within {NEAR:.0%} of what it was for {within} of {len(found)} "
        "directions."
    )


def compare(
    model: DiffusionModel,
    probe: instruments.Instruments,
    pixels: Tensor,
    direction: Direction,
    strength: float,
    mask: Tensor,
) -> Compared:
    paper = edited(model, pixels, direction, [strength], "paper", injection="symmetric")[:, 0]
    theirs, c, same, first = [norm(one, mask) for one in paper - pixels], strength, 0.0, np.zeros(0)
    for attempt in range(4):
        anchored = edited(model, pixels, direction, [c], "anchored", injection="symmetric")[:, 0]
        portraits = np.divide([norm(one, mask) for one in anchored - pixels], theirs)
        if not attempt:
            same, first = norm(anchored - pixels, mask) / norm(paper - pixels, mask), portraits
        if abs(np.median(portraits) - 1) < 0.01:
            break
        c /= float(np.median(portraits))
    roir = tuple(norm(after - pixels, 1 - mask) / norm(after - pixels, mask) for after in (paper, anchored))
    person = probe.identity(pixels)
    identity = [(person * probe.identity(after)).sum(1).cpu().numpy() for after in (paper, anchored)]
    means = tuple(float(one.mean()) for one in identity)
    return Compared(roir, means, same, first, identity[0] - identity[1])


@torch.no_grad()
def ranks(model: DiffusionModel, probe: instruments.Instruments) -> None:
    images, _ = held_out(POOL)
    means = []
    print(f"| direction, {PORTRAITS} portraits | as in the paper | anchored |")
    print("|---|---|---|")
    for recipe in RECIPES.values():
        preset = presets.load(preset_path(recipe.name))
        pixels = to_pixels(images[lacking(recipe, probe, PORTRAITS)])
        intervals, row = Intervals(preset.t_edit or 0, 0), []
        for process in PROCESSES:
            parts = [edited(model, part, preset.direction, STRENGTHS, process, intervals) for part in pixels.split(4)]
            read = [probe.attributes(strip)[recipe.attribute].cpu().numpy() for strip in torch.cat(parts)]
            row.append(float(np.mean([recipe.sign * spearmanr(STRENGTHS, values).statistic for values in read])))
        means.append(row)
        print(f"| {recipe.name} | {row[0]:.3f} | {row[1]:.3f} |", flush=True)
    print("| **mean** | " + " | ".join(f"**{value:.3f}**" for value in np.mean(means, axis=0)) + " |")


PARTS = {"discovered": discovered, "ranks": ranks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    model = load(MODELS["avatars"])
    probe = instruments.load(PRESETS / (model.card.instruments or ""), model.device)
    with reported("benchmarks.samplers_further", arguments.write and not arguments.parts):
        for k, part in enumerate(arguments.parts or PARTS):
            print("\n" if k else "", end="")
            PARTS[part](model, probe)


if __name__ == "__main__":
    main()

"""Takes out of shipped directions what they change besides their own attribute, with the help of other shipped ones.

    python -m training.correct_directions "open mouth" tanned         # writes the presets
    python -m training.correct_directions surprised --portraits 300
    python -m training.correct_directions "red lips" --without "open mouth" surprised    # which smear closed lips
    python -m training.correct_directions --try "closed eyes"         # writes nothing

An image-text model has words that go together: a face with red lips is a smiling one. So a little of other directions
is added, with the weights that make the changes of all other attributes vanish as far as they can: the projection of
InterFaceGAN (Shen et al. 2020, section 3.3) with the responses of the pictures in place of the inner product, solved by
least squares for the few directions that serve best. The sum is then learned by one f_t (`core/asyrp/corrections.py`).
The weights that it finds stand in `presets/avatars.yaml` under `corrections`.

Everything is measured and learned on portraits of the training seeds. All directions are read before the first is
written; those that serve others serve as they were.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.samplers import DEFAULTS, figures
from core import instruments, presets
from core.asyrp.corrections import Examples, corrected, examples, in_units_of_the_first, learned
from core.directions import CompositeDirection, Direction, ImplicitDirection
from core.editing import sample_latent
from core.evaluation.measures import changes
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel, load
from core.progress import Running, finish
from training.dataset import load as load_portraits
from training.dataset import to_pixels
from training.make_directions import RECIPES, Recipe, preset_path, training_latents
from training.portraits import from_vector, part_mask
from training.targets import values, visible

POOL = 600  # portraits of the training seeds
WORTH = 0.95  # of what is left: another direction must bring it below that to be added
ENOUGH = 0.85  # of the largest other change: a correction that leaves more is not worth it
RIDGE = 0.02  # against large weights; changes are in standard deviations
STRONGEST = 0.4  # of another direction
HALF = 0.5  # the strength at which directions that serve others are measured


@dataclass(frozen=True)
class Portraits:
    """pixels: (N, 3, H, W). masks: (N, 1, H, W), True in the part concerned."""

    pixels: Tensor
    masks: Tensor


def portraits(recipe: Recipe, probe: instruments.Instruments, count: int) -> Portraits:
    """Some of the training seeds that lack what a direction is for."""
    images, parameters = load_portraits(POOL)
    names = (recipe.attribute,)
    value, seen = values(parameters, names)[:, 0], visible(parameters, names)[:, 0]
    chosen = np.flatnonzero(seen & ((value - probe.known[recipe.attribute].mean) * recipe.sign < 0))[:count]
    masks = torch.stack([torch.from_numpy(part_mask(from_vector(parameters[r]), recipe.part)) for r in chosen])
    return Portraits(to_pixels(images[chosen]), masks[:, None])


Weights = dict[str, float]  # of directions by name
Change = dict[str, float]  # in standard deviations, by attribute


class Shipped:
    """The directions as they are when the command begins."""

    def __init__(self) -> None:
        self.presets = {name: presets.load(preset_path(name)) for name in RECIPES if preset_path(name).exists()}

    def sum(self, name: str, weights: Weights) -> CompositeDirection:
        """A direction with some of others, where it acts itself."""
        own, others = self.presets[name], [(self.presets[other], weight) for other, weight in weights.items()]
        return corrected(own.direction, own.t_edit, [(one.direction, one.t_edit, weight) for one, weight in others])


class Measured:
    """What directions do to portraits in the app's usual process."""

    def __init__(self, model: DiffusionModel, probe: instruments.Instruments, recipe: Recipe, count: int) -> None:
        self.model, self.probe, self.recipe = model, probe, recipe
        self.shown = portraits(recipe, probe, count)

    @torch.no_grad()
    def __call__(self, direction: Direction, t_edit: int, strength: float = 1.0) -> tuple[Change, list[float]]:
        """(change by attribute, the figures of `benchmarks.samplers`)."""
        before, run = self.shown.pixels, DEFAULTS[1].run
        after = torch.cat([run(self.model, part, direction, t_edit, strength) for part in before.split(8)])
        return changes(self.probe, before, after), figures(self.recipe, before, after, self.shown.masks, self.probe)


def solved(change: Change, effects: dict[str, Change], names: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """Weights of the directions `names` that make the changes of the attributes `others` smallest, by ridge regression.
    effects: of one unit of each direction."""
    A = np.array([[effects[name][attribute] for name in names] for attribute in others])
    b = -np.array([change[attribute] for attribute in others])
    weights = np.linalg.solve(A.T @ A + RIDGE * np.eye(len(names)), A.T @ b)
    return weights.clip(-STRONGEST, STRONGEST)


def left(
    change: Change, effects: dict[str, Change], names: Sequence[str], weights: np.ndarray, others: Sequence[str]
) -> float:
    """What should be left of the other changes: their 4-norm, for the largest counts."""
    added = [sum(w * effects[name][a] for w, name in zip(weights, names, strict=True)) for a in others]
    return sum((change[a] + more) ** 4 for a, more in zip(others, added, strict=True)) ** 0.25


def find(measured: Measured, shipped: Shipped, effects: dict[str, Change], most: int) -> tuple[Weights, float]:
    """Weights of at most so many other directions: one more each time, that which leaves least; then solved again
    from what they do together, which is not quite the sum of what they do alone. And the largest other change without
    them."""
    recipe = measured.recipe
    t_edit = shipped.presets[recipe.name].t_edit
    change, numbers = measured(shipped.sum(recipe.name, {}), t_edit)
    say("alone", change, numbers)
    before = numbers[1]
    others = [attribute for attribute in change if attribute not in (recipe.attribute, *recipe.also)]
    chosen, least = list[str](), left(change, effects, [], np.zeros(0), others)
    while len(chosen) < most:
        tried = {}
        for name in effects.keys() - {recipe.name, *chosen}:
            names = [*chosen, name]
            tried[name] = left(change, effects, names, solved(change, effects, names, others), others)
        best = min(tried, key=tried.__getitem__)
        if tried[best] > WORTH * least:
            break
        chosen, least = [*chosen, best], tried[best]
    if not chosen:
        return {}, before
    weights, best = solved(change, effects, chosen, others), (math.inf, Weights())
    for _ in range(3):
        named = dict(zip(chosen, weights.tolist(), strict=True))
        now, numbers = measured(shipped.sum(recipe.name, named), t_edit)
        say(", ".join(f"{name} {weight:+.2f}" for name, weight in named.items()), now, numbers)
        best = min(best, (numbers[1], named), key=lambda pair: pair[0])
        weights = (weights + solved(now, effects, chosen, others)).clip(-STRONGEST, STRONGEST)
    return best[1], before


def say(what: str, change: dict[str, float], numbers: list[float]) -> None:
    most = sorted(change.items(), key=lambda item: -abs(item[1]))[:6]
    print(f"  {what}: {[round(n, 3) for n in numbers]}", ", ".join(f"{name} {v:+.2f}" for name, v in most), flush=True)


def learned_in_words(model: DiffusionModel, own: ImplicitDirection, shown: Examples) -> ImplicitDirection:
    """One f_t that does what the sum does; prints how near it comes."""
    running, recent = Running(learned(own, shown, model.device)), []
    for event in running:
        recent.append(event.loss)
        if event.step in (1, event.total // 4, event.total):
            missed = math.sqrt(np.mean(np.square(recent[-50:])))
            print(f"  step {event.step}: {missed:.3f} of the shift is missed", flush=True)
    return running.result


def measured_effects(
    model: DiffusionModel, probe: instruments.Instruments, shipped: Shipped, count: int
) -> dict[str, Change]:
    """What a unit of each direction does, from half of one, on portraits that lack what it is for."""
    effects = {}
    for name, preset in shipped.presets.items():
        change, _ = Measured(model, probe, RECIPES[name], count)(preset.direction, preset.t_edit, HALF)
        effects[name] = {attribute: value / HALF for attribute, value in change.items()}
        print(f"{name}: measured", flush=True)
    return effects


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(RECIPES))
    parser.add_argument("--portraits", type=int, default=96)
    parser.add_argument("--most", type=int, default=5, help="other directions that serve one")
    parser.add_argument("--without", nargs="*", default=[], help="directions that may not serve")
    parser.add_argument("--effects", type=Path, help="what directions do, in a file that is read if it is there")
    parser.add_argument("--try", action="store_true", help="write nothing", dest="dry")
    arguments = parser.parse_args()
    model = load(MODELS["avatars"])
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    shipped = Shipped()
    kept = arguments.effects
    if kept is None or not kept.exists():
        effects = measured_effects(model, probe, shipped, arguments.portraits // 2)
        if kept is not None:
            kept.write_text(json.dumps(effects))
    else:
        effects = json.loads(kept.read_text())
    effects = {name: change for name, change in effects.items() if name not in arguments.without}
    x_T = torch.cat([training_latents(model, 16), sample_latent(model, 5, 16).x_T])
    for recipe in (RECIPES[name] for name in arguments.names):
        began, preset = time.time(), shipped.presets[recipe.name]
        assert isinstance(preset.direction, ImplicitDirection)
        print(recipe.name, flush=True)
        measured = Measured(model, probe, recipe, arguments.portraits)
        weights, before = find(measured, shipped, effects, arguments.most)
        if not weights:
            continue
        whole = shipped.sum(recipe.name, weights)
        taught = in_units_of_the_first(model, whole, preset.t_edit)
        one = learned_in_words(model, preset.direction, finish(examples(model, taught, preset.t_edit, x_T)))
        change, numbers = measured(one, preset.t_edit)
        say("as one f_t", change, numbers)
        if numbers[1] > ENOUGH * before:
            print("  not worth it: it stays as it is")
        elif not arguments.dry:
            done = {name: round(weight, 3) for name, weight in weights.items()}
            parameters = {**preset.parameters, "corrections": done}
            path = preset_path(recipe.name)
            presets.save(replace(preset, direction=one, parameters=parameters), path, torch.float16)
        print(f"  {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

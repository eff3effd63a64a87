"""Takes out of shipped directions what they change besides their own attribute, with the help of other shipped ones.

    python -m training.correct_directions "red lips" "open mouth"     # writes the presets
    python -m training.correct_directions --try "red lips"            # writes nothing

An image-text model has words that go together: a face with red lips is a smiling one. Where a direction changes another
attribute that a second direction is for, a little of the second one is added with the opposite sign, as much as makes
that change vanish (the projection of InterFaceGAN, Shen et al. 2020, section 3.3, with the responses of the pictures in
place of the inner product). The sum is then learned by one f_t of the same size, along the trajectories that the sum
makes, so that the direction stays one network.

Everything is measured and learned on portraits of the training seeds.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.samplers import DEFAULTS, figures
from core import instruments, presets
from core.delta_block import DeltaBlock
from core.directions import CompositeDirection, ImplicitDirection
from core.editing import sample_latent
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel, load
from training.dataset import load as load_portraits
from training.dataset import to_pixels
from training.make_directions import RECIPES, Recipe, preset_path, training_latents
from training.portraits import from_vector, part_mask
from training.targets import values, visible

POOL = 600  # portraits of the training seeds
WORTH = 0.12  # sd; a smaller change of another attribute is left alone
STRONGEST = 0.5  # of another direction
STRENGTHS = (1.0, -0.7, 0.5)  # of the trajectories that f_t learns from
BATCH, STEPS, RATE = 48, 4000, 2e-3


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


@dataclass(frozen=True)
class Correction:
    """c x the direction `name`, where the direction itself acts."""

    name: str
    c: float


def corrected(direction: ImplicitDirection, t_edit: int, corrections: Sequence[Correction]) -> CompositeDirection:
    """Their sum."""
    others = [presets.load(preset_path(correction.name)) for correction in corrections]
    return CompositeDirection(
        (direction, *(other.direction for other in others)),
        (1.0, *(correction.c for correction in corrections)),
        (t_edit, *(max(t_edit, other.t_edit) for other in others)),
    )


class Measured:
    """What directions do to the portraits of one recipe in the app's usual process."""

    def __init__(self, model: DiffusionModel, probe: instruments.Instruments, recipe: Recipe, shown: Portraits) -> None:
        self.model, self.probe, self.recipe, self.shown = model, probe, recipe, shown
        self.t_edit = presets.load(preset_path(recipe.name)).t_edit

    @torch.no_grad()
    def __call__(self, direction: CompositeDirection | ImplicitDirection) -> tuple[dict[str, float], list[float]]:
        """(change by attribute in standard deviations, the figures of `benchmarks.samplers`)."""
        before, run = self.shown.pixels, DEFAULTS[1].run
        after = torch.cat([run(self.model, part, direction, self.t_edit, 1.0) for part in before.split(8)])
        old, new = self.probe.attributes(before), self.probe.attributes(after)
        change = {name: ((new[name] - old[name]).mean() / self.probe.known[name].spread).item() for name in old}
        return change, figures(self.recipe, before, after, self.shown.masks, self.probe)


def find(measured: Measured, direction: ImplicitDirection, most: int) -> list[Correction]:
    """At most so many corrections, each of the attribute that changes most among those that can be corrected."""
    recipe, found = measured.recipe, list[Correction]()
    helpers = {other.attribute: other for other in RECIPES.values() if other.sign > 0 and other.name != recipe.name}
    change, numbers = measured(corrected(direction, measured.t_edit, found))
    say("alone", change, numbers)
    for _ in range(most):
        excluded = {recipe.attribute, *recipe.also, *(RECIPES[correction.name].attribute for correction in found)}
        able = {a: abs(v) for a, v in change.items() if a in helpers and a not in excluded and abs(v) >= WORTH}
        if not able:
            break
        attribute = max(able, key=able.__getitem__)
        helper = helpers[attribute]
        tried = Correction(helper.name, -math.copysign(min(0.3, 0.4 * able[attribute]), change[attribute]))
        then, _ = measured(corrected(direction, measured.t_edit, [*found, tried]))
        slope = (then[attribute] - change[attribute]) / tried.c
        if abs(slope) < 0.2:
            break
        c = float(np.clip(-change[attribute] / slope, -STRONGEST, STRONGEST))
        change, numbers = measured(corrected(direction, measured.t_edit, [*found, Correction(helper.name, c)]))
        found.append(Correction(helper.name, c))
        say(f"{helper.name} {c:+.2f}", change, numbers)
    return found


def say(what: str, change: dict[str, float], numbers: list[float]) -> None:
    most = sorted(change.items(), key=lambda item: -abs(item[1]))[:6]
    print(f"  {what}: {[round(n, 3) for n in numbers]}", ", ".join(f"{name} {v:+.2f}" for name, v in most), flush=True)


@torch.no_grad()
def trajectories(
    model: DiffusionModel, direction: CompositeDirection, t_edit: int, x_T: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """h (M, C, h, w), emb (M, E), t (M,) and the shift (M, C, h, w) wherever the sum acts, along what it makes of the
    latents x_T (N, C, h, w) at each of `STRENGTHS`."""
    schedule, rows = model.schedule, []
    timesteps = schedule.timesteps(direction.steps)[::-1]
    for c in STRENGTHS:
        for part in x_T.split(16):
            x = part
            for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
                if t < t_edit:
                    break
                features = model.features(x, t)
                eps_P = eps = model.eps(features, x, t)
                h, emb = features.h.float(), features.emb.float().expand(len(x), -1)
                delta = direction.delta_h(h, emb, t)
                if delta.any():
                    rows.append((h.half(), emb, torch.full((len(x),), t), delta.half()))
                    eps_P = model.eps(features, x, t, c * delta)
                x = schedule.reverse_step(x, eps_P, eps, t, t_prev)
    h, emb, t, delta = (torch.cat(column) for column in zip(*rows, strict=True))
    return h, emb, t, delta


def learned(start: ImplicitDirection, examples: tuple[Tensor, Tensor, Tensor, Tensor]) -> ImplicitDirection:
    """One f_t that does what the sum does, from that of the direction itself; prints how near it comes."""
    h, emb, t, delta = examples
    f_t = DeltaBlock(start.f_t.conv1.in_channels, start.f_t.temb_proj.in_features, start.f_t.conv1.out_channels)
    f_t.load_state_dict(start.f_t.state_dict())
    f_t.train().requires_grad_(True)
    optimiser = torch.optim.Adam(f_t.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(0)
    size = delta.float().square().mean()
    recent = []
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        rows = torch.randint(len(h), (BATCH,), generator=generator)
        loss = F.mse_loss(f_t(h[rows].float(), emb[rows]), delta[rows].float()) / size
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        recent.append(loss.item())
        if step in (0, STEPS // 4, STEPS - 1):
            print(f"  step {step}: {math.sqrt(np.mean(recent[-50:])):.3f} of the shift is missed", flush=True)
    return replace(start, f_t=f_t.eval().requires_grad_(False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(RECIPES))
    parser.add_argument("--portraits", type=int, default=32)
    parser.add_argument("--most", type=int, default=2, help="corrections per direction")
    parser.add_argument("--try", action="store_true", help="write nothing", dest="dry")
    arguments = parser.parse_args()
    model = load(MODELS["avatars"])
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    x_T = torch.cat([training_latents(model, 16), sample_latent(model, 5, 16).x_T])
    for recipe in (RECIPES[name] for name in arguments.names):
        began, path = time.time(), preset_path(recipe.name)
        preset = presets.load(path)
        direction = preset.direction
        assert isinstance(direction, ImplicitDirection)
        print(recipe.name, flush=True)
        measured = Measured(model, probe, recipe, portraits(recipe, probe, arguments.portraits))
        corrections = find(measured, direction, arguments.most)
        if not corrections:
            continue
        sum_ = corrected(direction, preset.t_edit, corrections)
        one = learned(direction, trajectories(model, sum_, preset.t_edit, x_T))
        say("as one f_t", *measured(one))
        if not arguments.dry:
            done = {correction.name: round(correction.c, 3) for correction in corrections}
            parameters = {**preset.parameters, "corrections": done}
            presets.save(replace(preset, direction=one, parameters=parameters), path, torch.float16)
        print(f"  {time.time() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""Local directions of the embedded model: what they cost, and how local they are.

    python -m benchmarks.discovery speed         # products and seconds; three minutes on two cores
    python -m benchmarks.discovery locality      # 100 held-out portraits: most of an hour on two cores
    python -m benchmarks.discovery transfer      # the same directions on other portraits: as long again
    python -m benchmarks.discovery transfer --portraits 8 --directions 1 --methods contrast asyrp
    python -m benchmarks.discovery speed --write # also into docs/benchmarks.md

`speed`: one analysis and three regions, against the paper's algorithm done plainly (Local editing, Algorithm 2, r = 50
per region) until it captures the same energy; both in one run. Then the refinement, and what half precision would do.

`locality`: every method's directions of every portrait, applied to that portrait, each at the strength that gives the
same root mean square change inside the region. `transfer`: directions found on one portrait, applied to the others at
one strength each, which gives that change on average, forwards and backwards. ROIR, MSE inside and outside, identity,
perceptual distance, and the attribute that the probe sees change most (`transfer`: from backwards to forwards, since a
mouth that is open already cannot open), with the share of portraits in which it changes the same way.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import HELP, reported
from core import instruments, presets
from core.directions import CompositeDirection, Direction
from core.discovery import pca
from core.discovery.basis import Basis, krylov_basis, orthonormalise
from core.discovery.interface import DiscoverySettings
from core.discovery.jacobian_operator import Jacobian, denoise_to, nearest_timestep
from core.discovery.locality import mean_squares, measure_locality, roir, strength_for
from core.discovery.methods import METHODS, discover
from core.discovery.refinement import refine
from core.editing import EditSettings, edit, invert
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel, load
from core.progress import finish
from core.regions import Region, ready_made_region
from core.unet import SplitUNet
from training.dataset import held_out, to_pixels
from training.make_directions import RECIPES, preset_path

ASYRP = "asyrp"  # the shipped directions for that part of the face, beside the methods
TOP = 5  # directions whose energy is compared
PLAIN_RANK, PLAIN_ROUNDS = 50, 20
CALIBRATED_ON, ROUNDS, PASSES = 4, 3, 5
COUNTED = 0.2  # standard deviations: an attribute that changes less did not change
POOL = 2000  # held-out portraits, as the models' own evaluations keep them


def point(model: DiffusionModel, pixels: Tensor, steps: int) -> tuple[Tensor, int]:
    """(x_t, t) of a picture at 0.6 T."""
    t = nearest_timestep(model, steps)
    return finish(denoise_to(model, finish(invert(model, pixels, steps)).x_T, t, steps)), t


def energy(basis: Basis, region: Region) -> float:
    """Sum of the `TOP` largest squared singular values of the region's Jacobian, as far as the basis holds them."""
    return torch.linalg.eigvalsh(basis.gram(region.mask)).flip(0)[:TOP].sum().item()


# ------------------------------------------------------------------------------------------------------------- speed


def speed(model: DiffusionModel, source: int, steps: int) -> None:
    images, _ = held_out(POOL)
    x_t, t = point(model, to_pixels(images[source : source + 1]), steps)
    regions = [ready_made_region("face", label, model.card.resolution) for label in ("Eyes", "Mouth", "Hair")]

    finish(krylov_basis(Jacobian(model, x_t, t), 16))  # warms up: a process's first products take longer
    jacobian = Jacobian(model, x_t, t)
    began = time.perf_counter()
    basis = finish(krylov_basis(jacobian))
    analysis = time.perf_counter() - began
    print(f"analysis: {jacobian.forwards} forward, {jacobian.reverses} reverse, {analysis:.1f} s")
    for name in METHODS:
        if METHODS[name].prepare is not None:  # PCA asks the network for samples first
            continue
        basis._grams.clear()
        began = time.perf_counter()
        discover(basis, regions[:2], name)
        print(f"  {name}: two new regions in {time.perf_counter() - began:.3f} s")

    # Refinement to what is taken as the truth, and to the default criterion.
    refined, refining, products = {}, 0.0, 0
    for region in regions:
        before, began = jacobian.forwards + jacobian.reverses, time.perf_counter()
        refined[region.label] = energy(finish(refine(jacobian, basis, region.mask, TOP)), region)
        refining += time.perf_counter() - began
        products += jacobian.forwards + jacobian.reverses - before
    truth = {r.label: energy(finish(refine(jacobian, basis, r.mask, TOP, tolerance=3e-3)), r) for r in regions}
    for region in regions:
        quick, fine = energy(basis, region) / truth[region.label], refined[region.label] / truth[region.label]
        print(f"  {region.label}: top-{TOP} energy {quick:.4f} in the basis, {fine:.5f} refined")
    print(f"refinement of three regions: {products} products, {refining:.1f} s")

    for size in (48, 96):
        fresh = Jacobian(model, x_t, t)
        began = time.perf_counter()
        wider = finish(krylov_basis(fresh, size))
        took = time.perf_counter() - began
        shares = ", ".join(f"{r.label} {energy(wider, r) / truth[r.label]:.4f}" for r in regions)
        print(f"  with {size} vectors: {took:.1f} s, top-{TOP} energy {shares}")

    ours = 2 * len(basis), analysis
    held = {region.label: energy(basis, region) for region in regions}
    for goal, mine, extra in (("basis", held, (0, 0.0)), ("refined", refined, (products, refining))):
        total, seconds = 0, 0.0
        for region in regions:
            n, s, rounds = plain_subspace_iteration(PlainProducts(model, x_t, t), region, mine[region.label])
            total, seconds = total + n, seconds + s
            print(f"  plain, {region.label}, to the energy of the {goal}: {rounds} rounds, {n} products, {s:.1f} s")
        n, s = ours[0] + extra[0], ours[1] + extra[1]
        print(f"{goal}: plain {total} products, {seconds:.1f} s; ours {n}, {s:.1f} s: {seconds / s:.1f} times as fast")

    half = Jacobian(model, x_t, t, dtype=torch.bfloat16)
    began = time.perf_counter()
    rough = finish(krylov_basis(half))
    took = time.perf_counter() - began
    Q, P = basis.vectors.flatten(1)[:TOP].double(), rough.vectors.flatten(1)[:TOP].double()
    sine = (Q - (Q @ P.T) @ P).norm(dim=1).max().item()
    print(f"bfloat16: {took:.1f} s, largest sine between the leading {TOP} vectors and theirs {sine:.3f}")


class PlainProducts:
    """The same products made vector by vector, each with a pass of its own, as published code does: `torch.func.jvp`
    and `vjp` of the network as it is, but that forward mode passes through neither fused attention nor the group norm
    of channels-last tensors."""

    def __init__(self, model: DiffusionModel, x_t: Tensor, t: int) -> None:
        self.model, self.x_t, self.t = model, x_t.contiguous(), t
        network = copy.deepcopy(model.unet.unet).float().to(memory_format=torch.contiguous_format)
        self.network = SplitUNet(network)
        self.network.use_plain_attention()
        with torch.no_grad():
            self.features = self.network.encode(self.x_t, t)
        self.h_shape, self.products = tuple(self.features.h.shape[1:]), 0

    def image(self, delta_h: Tensor) -> Tensor:
        """P_t at h + delta_h, in pixels. delta_h: (1, C, H, W)."""
        schedule, output = self.model.schedule, self.network.decode(self.features, delta_h)[:, : self.x_t.shape[1]]
        eps = schedule.eps_from_output(output, self.x_t, self.t)
        return self.model.codec.decode(schedule.predicted_x0(self.x_t, eps, self.t))

    def forward(self, V: Tensor) -> Tensor:
        self.products += len(V)
        origin = torch.zeros_like(self.features.h)
        with torch.no_grad():
            return torch.cat([torch.func.jvp(self.image, (origin,), (v[None],))[1] for v in V])

    def reverse(self, Y: Tensor) -> Tensor:
        self.products += len(Y)
        origin = torch.zeros_like(self.features.h)
        return torch.cat([torch.func.vjp(self.image, origin)[1](y[None])[0] for y in Y])


def plain_subspace_iteration(jacobian: PlainProducts, region: Region, goal: float) -> tuple[int, float, int]:
    """Local editing, Algorithm 2, for one region: (products, seconds, rounds) until the energy of its `TOP` reaches
    0.999 of `goal`."""
    began, M = time.perf_counter(), torch.from_numpy(region.mask)
    V = torch.randn((PLAIN_RANK, *jacobian.h_shape), generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(0, *jacobian.h_shape)
    V = orthonormalise(V, nothing)
    for rounds in range(1, PLAIN_ROUNDS + 1):  # noqa: B007
        U = jacobian.forward(V) * M
        if torch.linalg.svdvals(U.flatten(1))[:TOP].square().sum().item() >= 0.999 * goal:
            break
        V = orthonormalise(jacobian.reverse(U), nothing)
    return jacobian.products, time.perf_counter() - began, rounds


# ---------------------------------------------------------------------------------------------------------- locality


@dataclass(frozen=True)
class EditMeasures:
    """What an edit does, as means over the portraits."""

    roir: float
    mse_inside: float
    mse_outside: float
    identity: float
    distance: float
    attribute: str
    same_way: float


@dataclass(frozen=True)
class Candidate:
    """A direction to compare; `linear` is its linearised ROIR on the source, `start` a first guess of its strength."""

    name: str
    direction: Direction
    linear: float | None
    start: float
    injection: Literal["symmetric", "asymmetric"] = "symmetric"


def render(model: DiffusionModel, x_T: Tensor, candidate: Candidate, strength: float, steps: int) -> Tensor:
    settings = EditSettings(steps, injection=candidate.injection)
    parts = [finish(edit(model, part, [(candidate.direction, strength)], settings)) for part in x_T.split(8)]
    return torch.cat(parts).cpu()


def calibrate(
    model: DiffusionModel,
    x_T: Tensor,
    before: Tensor,
    candidate: Candidate,
    region: Region,
    change: float,
    steps: int,
) -> float:
    """The strength whose root mean square change inside the region is `change`, step by step on a few portraits."""
    a = candidate.start
    for _ in range(ROUNDS):
        after = render(model, x_T, candidate, a, steps)
        reached = mean_squares(before, after, region.mask)[0].mean().sqrt().item()
        if abs(reached / change - 1) < 0.05:
            break
        a *= float(np.clip(change / max(reached, 1e-6), 0.2, 5))
    return a


@torch.no_grad()
def edit_measures(
    before: Tensor, after: Tensor, region: Region, probe: instruments.Instruments, backwards: Tensor | None = None
) -> EditMeasures:
    """What changes from `before` to `after`; attributes from `backwards`, the edit at the opposite strength, if given.
    Pictures (N, 3, R, R)."""
    inside, outside = mean_squares(before, after, region.mask)
    old, new = probe.attributes(before if backwards is None else backwards), probe.attributes(after)
    changes = {name: (new[name] - old[name]) / known.spread for name, known in probe.known.items()}
    most = max(changes, key=lambda name: changes[name].mean().abs().item())
    sign = changes[most].mean().sign()
    return EditMeasures(
        roir=roir(before, after, region.mask).mean().item(),
        mse_inside=inside.mean().item(),
        mse_outside=outside.mean().item(),
        identity=(probe.identity(before) * probe.identity(after)).sum(1).mean().item(),
        distance=probe.distance(before, after).mean().item(),
        attribute=f"{most} {changes[most].mean().item():+.2f}",
        same_way=((changes[most] * sign) > COUNTED).float().mean().item(),
    )


def own_directions(
    model: DiffusionModel,
    pixels: Tensor,
    regions: list[Region],
    settings: DiscoverySettings,
    names: list[str],
    change: float,
    steps: int,
) -> Iterator[tuple[tuple[str, str, int], Tensor, Tensor]]:
    """(region, method, number), the picture unedited and edited, for all that is found on a picture (1, 3, R, R)."""
    x_t, t = point(model, pixels, model.card.steps)
    jacobian = Jacobian(model, x_t, t)
    basis = finish(krylov_basis(jacobian))
    chosen = [
        (region, candidate)
        for region in regions
        for candidate in candidates(model, jacobian, basis, region, regions, names, settings, change)
    ]
    x_T = finish(invert(model, pixels, steps)).x_T
    before = finish(edit(model, x_T, settings=EditSettings(steps))).cpu()
    strengths = torch.tensor([candidate.start for _, candidate in chosen])
    after, wrong = before.repeat(len(chosen), 1, 1, 1), list(range(len(chosen)))
    for _ in range(PASSES):
        for i in range(0, len(wrong), 8):
            rows = wrong[i : i + 8]
            after[rows] = render_rows(model, x_T, [chosen[k][1] for k in rows], strengths[rows], steps)
        reached = [mean_squares(before, after[k : k + 1], chosen[k][0].mask)[0].sqrt().item() for k in wrong]
        factors = [change / max(r, 1e-6) for r in reached]
        strengths[wrong] *= torch.tensor(factors).clamp(0.25, 4)
        wrong = [k for k, factor in zip(wrong, factors, strict=True) if abs(factor - 1) > 0.05]
        if not wrong:
            break
    seen: Counter[tuple[str, str]] = Counter()
    for i, (region, candidate) in enumerate(chosen):
        seen[region.label, candidate.name] += 1
        yield (region.label, candidate.name, seen[region.label, candidate.name]), before, after[i : i + 1]


def render_rows(
    model: DiffusionModel, x_T: Tensor, candidates: list[Candidate], strengths: Tensor, steps: int
) -> Tensor:
    """One latent (1, C, h, w) with each candidate at its own strength: pixels (n, 3, R, R)."""
    parts = [
        (CompositeDirection((candidate.direction,), (1.0,), (0,), (candidate.injection,)), strength * mine)
        for candidate, strength, mine in zip(candidates, strengths, torch.eye(len(candidates)), strict=True)
    ]
    return finish(edit(model, x_T.repeat(len(candidates), 1, 1, 1), parts, EditSettings(steps))).cpu()


HEAD = "| region | method | # | {}ROIR | MSE in | MSE out | identity | distance | probe | same |"


def as_text(r: EditMeasures) -> str:
    return (
        f"{r.roir:.2f} | {r.mse_inside:.4f} | {r.mse_outside:.4f} | {r.identity:.3f} | {r.distance:.3f} | "
        f"{r.attribute} | {r.same_way:.0%} |"
    )


def locality(
    model: DiffusionModel, portraits: int, directions: int, change: float, names: list[str], steps: int
) -> None:
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    images, _ = held_out(POOL)
    regions = [ready_made_region("face", label, model.card.resolution) for label in ("Eyes", "Mouth")]
    settings = settings_of(model, names, directions, steps)
    edits: dict[tuple[str, str, int], list[tuple[Tensor, Tensor]]] = {}
    began = time.time()
    for i in range(portraits):
        pixels = to_pixels(images[i : i + 1])
        for key, before, after in own_directions(model, pixels, regions, settings, names, change, steps):
            edits.setdefault(key, []).append((before, after))
        if (i + 1) % 10 == 0:
            print(f"{i + 1} portraits, {time.time() - began:.0f} s", file=sys.stderr, flush=True)
    print(HEAD.format(""))
    print("|---" * 10 + "|")
    for (label, name, number), pairs in sorted(edits.items(), key=lambda item: (item[0][0], item[0][2])):
        region = next(region for region in regions if region.label == label)
        before, after = (torch.cat(column) for column in zip(*pairs, strict=True))
        print(f"| {label} | {name} | {number} | {as_text(edit_measures(before, after, region, probe))}")
    print(f"\n{portraits} portraits, {steps} steps, change inside {change}, {time.time() - began:.0f} s")


def settings_of(model: DiffusionModel, names: list[str], directions: int, steps: int) -> DiscoverySettings:
    prepared = None
    if pca.NAME in names:
        t = nearest_timestep(model, model.card.steps)
        job = pca.principal_components(model, [t], samples=48, components=TOP, steps=model.card.steps)
        prepared = finish(job)
    return DiscoverySettings(count=directions, prepared=prepared)


def transfer(
    model: DiffusionModel,
    source: int,
    portraits: int,
    directions: int,
    change: float,
    names: list[str],
    steps: int,
) -> None:
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    images, _ = held_out(POOL)
    x_t, t = point(model, to_pixels(images[source : source + 1]), model.card.steps)
    jacobian = Jacobian(model, x_t, t)
    basis = finish(krylov_basis(jacobian))
    regions = [ready_made_region("face", label, model.card.resolution) for label in ("Eyes", "Mouth")]
    settings = settings_of(model, names, directions, steps)

    others = [to_pixels(images[i : i + 1]) for i in range(portraits + 1) if i != source][:portraits]
    x_T = torch.cat([finish(invert(model, torch.cat(others[i : i + 8]), steps)).x_T for i in range(0, portraits, 8)])
    plain = EditSettings(steps)
    before = torch.cat([finish(edit(model, part, settings=plain)) for part in x_T.split(8)]).cpu()

    print(HEAD.format("linear | strength | "))
    print("|---" * 12 + "|")
    seen: Counter[tuple[str, str]] = Counter()
    for region in regions:
        for candidate in candidates(model, jacobian, basis, region, regions, names, settings, change):
            seen[region.label, candidate.name] += 1
            few = slice(CALIBRATED_ON)
            a = calibrate(model, x_T[few], before[few], candidate, region, change, steps)
            after, backwards = (render(model, x_T, candidate, strength, steps) for strength in (a, -a))
            measures = edit_measures(before, after, region, probe, backwards)
            linear = "" if candidate.linear is None else f"{candidate.linear:.2f}"
            number = seen[region.label, candidate.name]
            print(
                f"| {region.label} | {candidate.name} | {number} | {linear} | {a:.3g} | {as_text(measures)}", flush=True
            )
    print(f"\n{portraits} portraits, {steps} steps, change inside {change}, found on held-out portrait {source} at {t}")


def candidates(
    model: DiffusionModel,
    jacobian: Jacobian,
    basis: Basis,
    region: Region,
    regions: list[Region],
    names: list[str],
    settings: DiscoverySettings,
    change: float,
) -> list[Candidate]:
    """The directions of every method that is named for a region, then Asyrp's for that part of the face."""
    result = []
    for name in (name for name in names if name != ASYRP):
        found = discover(basis, regions, name, settings)
        mine = [direction for direction in found if direction.region == region.label]
        mine = mine or measure_locality(jacobian, [direction for direction in found if not direction.region], region)
        result += [Candidate(name, d.direction, d.ratio, strength_for(d, region, change)) for d in mine]
    for recipe in RECIPES.values() if ASYRP in names else ():
        if recipe.part == region.label.lower() and preset_path(recipe.name).exists():
            preset = presets.load(preset_path(recipe.name))
            result.append(Candidate(f"{ASYRP} {recipe.name}", preset.direction, None, 1.0, preset.injection))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "locality", "transfer"))
    parser.add_argument("--source", type=int, default=0, help="held-out portrait on which directions are found")
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--directions", type=int, default=2)
    parser.add_argument("--change", type=float, default=0.15, help="root mean square inside the region")
    parser.add_argument("--methods", nargs="+", default=[*METHODS, ASYRP], choices=[*METHODS, ASYRP])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--write", action="store_true", help=HELP)
    a = parser.parse_args()
    model = load(MODELS["avatars"])
    with reported(f"benchmarks.discovery.{a.what}", a.write):
        if a.what == "speed":
            speed(model, a.source, model.card.steps)
        elif a.what == "locality":
            locality(model, a.portraits, a.directions, a.change, a.methods, a.steps)
        else:
            transfer(model, a.source, a.portraits, a.directions, a.change, a.methods, a.steps)


if __name__ == "__main__":
    main()

"""How soon a search in Discover has its first directions, and how good these are.

    python -m benchmarks.discover_speed avatars                   # two portraits: some minutes
    python -m benchmarks.discover_speed large                     # 256x256, random weights: ten minutes
    python -m benchmarks.discover_speed large --before ../before  # against another checkout: a quarter of an hour more
    python -m benchmarks.discover_speed responses                 # what responses at a lower resolution would do

`avatars`: the share of a region's energy that the first directions hold, of that of the converged ones: the sum of
||J_m v||^2 over `TOP` orthonormal directions. J is that at the place of a 40-step inversion and descent, in float32,
and the converged directions are those there. For the place of the picture alone (directions converged there, by the
number of network calls), the first vectors alone (by their number and the size of the blocks), and all together as a
search has them; then the contrast of a search's first directions, as a share of the converged value.

`large`: seconds until a search has its first rows, on a network of google/ddpm-ema-celebahq-256's shape with random
weights, each in a process of its own; and the share of energy, at the search's own place. With --before the same search
with another checkout of this project in turn, and the ratio. Processor time is told too: on a machine that does other
work it is what can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import large_search
from benchmarks.discovery import POOL, TOP, point
from core.ascent import ascend
from core.discovery.basis import Basis, krylov_basis
from core.discovery.jacobian_operator import Jacobian, nearest_timestep, place
from core.discovery.methods import discover
from core.discovery.refinement import refine
from core.editing import predict
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, load
from core.progress import finish
from core.regions import Region, ready_made_region
from core.studio.discover import analysis
from core.studio.discover.exploration import Exploration
from core.studio.discover.search import explore
from core.studio.frames import Picture
from training.dataset import held_out, to_pixels

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("Eyes", "Mouth", "Hair")


def leading(basis: Basis, region: Region) -> Tensor:
    """The `TOP` leading singular vectors of a region in the span of a basis, (TOP, C, H, W)."""
    Y = torch.linalg.eigh(basis.gram(region.mask))[1].flip(1)[:, :TOP]
    return torch.tensordot(Y.T.to(basis.vectors), basis.vectors, dims=1)


def energy(jacobian: Jacobian, V: Tensor, region: Region) -> float:
    """Sum of ||J_m v||^2 over orthonormal rows."""
    return (jacobian.forward(V) * torch.from_numpy(region.mask)).square().sum().item()


def first_look_at(model: DiffusionModel, pixels: Tensor, region: Region, method: str) -> Exploration:
    """A search of a picture that nothing is known of yet, until it has rows."""
    analysis.ANALYSES = analysis.AnalysisCache()
    exploration = Exploration(model, Picture(pixels, model.card.id), [region], method)
    job = explore(exploration)
    for _ in job:
        if exploration.rows:
            break
    job.close()
    return exploration


# ----------------------------------------------------------------------------------------------------------- avatars


def levels_to(t: int, steps: int, power: float) -> list[int]:
    """As `jacobian_operator.place` has them."""
    return sorted({round(t * (k / (steps - 1)) ** power) for k in range(steps)})


def even_from_the_picture(t: int, steps: int) -> list[int]:
    return [round(t * (k + 1) / steps) for k in range(steps)]


def avatars(portraits: list[int]) -> None:
    model = load(MODELS["avatars"], dtype=torch.float32)
    half = load(MODELS["avatars"])
    images, _ = held_out(POOL)
    regions = [ready_made_region("face", label, model.card.resolution) for label in LABELS]
    ways: dict[str, Callable[[int], list[int]]] = {
        "place, even steps from the picture, 6": partial(even_from_the_picture, steps=5),
        "place, even steps from t = 0, 6": partial(levels_to, steps=5, power=1),
        "place, even steps from t = 0, 9": partial(levels_to, steps=8, power=1),
        "place, as in a search, 5": partial(levels_to, steps=4, power=1.5),
        "place, as in a search, 7": partial(levels_to, steps=6, power=1.5),
        "place, as in a search, 11": partial(levels_to, steps=10, power=1.5),
    }
    shares: dict[str, list[list[float]]] = {}
    gained: list[np.floating] = []
    for portrait in portraits:
        pixels = to_pixels(images[portrait : portrait + 1])
        x_t, t = point(model, pixels, model.card.steps)
        jacobian = Jacobian(model, x_t, t)
        wide = [finish(krylov_basis(jacobian, 16, 2, mask=region.mask)) for region in regions]
        true = [energy(jacobian, leading(basis, region), region) for basis, region in zip(wide, regions, strict=True)]

        def held(
            name: str, V: list[Tensor], jacobian: Jacobian = jacobian, true: list[float] = true, at: int = portrait
        ) -> None:
            rows = zip(V, regions, true, strict=True)
            shares.setdefault(name, []).append([energy(jacobian, v, region) / e for v, region, e in rows])
            print(f"  {at}: {name}: " + ", ".join(f"{share:.3f}" for share in shares[name][-1]), file=sys.stderr)

        for name, way in ways.items():
            for x, _ in ascend(model.schedule, partial(predict, model), model.codec.encode(pixels), way(t)):
                there = x
            near = Jacobian(model, there, t)
            bases = [finish(krylov_basis(near, 12, 2, mask=region.mask)) for region in regions]
            held(name, [leading(basis, region) for basis, region in zip(bases, regions, strict=True)])
        for size, block in ((12, 12), (12, 4), (12, 2), (8, 1), (11, 1)):
            bases = [finish(krylov_basis(jacobian, size, block, mask=region.mask)) for region in regions]
            V = [leading(basis, region) for basis, region in zip(bases, regions, strict=True)]
            held(f"vectors, {size} in blocks of {block}", V)
        whole = finish(krylov_basis(jacobian))
        held("vectors, 64 of the whole picture", [leading(whole, region) for region in regions])
        for one in (model, half):
            for method in ("jacobian", "contrast"):
                looks = [first_look_at(one, pixels, region, method) for region in regions]
                bases = [look.require_analysis().basis for look in looks]
                precision = str(one.dtype).removeprefix("torch.")
                V = [leading(basis, region) for basis, region in zip(bases, regions, strict=True)]
                held(f"a search's first, {method}, {precision}", V)
            for look in looks:
                region, basis = look.regions[0], look.require_analysis().basis
                fine = finish(refine(look.require_analysis().jacobian(), basis, region.mask, TOP, look.settings.mu))
                first, best = (discover(b, [region], "contrast") for b in (basis, fine))
                gained.append(np.mean([f.value / c.value for f, c in zip(first, best, strict=True)][:3]))
    print("| share of the energy | " + " | ".join(LABELS) + " | lowest |")
    print("|---|---|---|---|---|")
    for name, kept in shares.items():
        means, lowest = np.mean(kept, axis=0), np.min(kept)
        print(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + f" | {lowest:.3f} |")
    print(f"\nfirst contrast, mean of three directions: {np.mean(gained):.2f} of the converged values")


# ------------------------------------------------------------------------------------------------------------- large


def large(before: Path | None, runs: int, converge: bool) -> None:
    """A process of its own for each search, the checkouts in turn."""
    known: dict[str, list[dict[str, float]]] = {}
    for _ in range(runs if before is not None or not converge else 0):
        for name, root in {"now": ROOT, "before": before}.items():
            if root is None:
                continue
            command = [sys.executable, str(ROOT / "benchmarks" / "large_search.py")]
            environment = {**os.environ, "PYTHONPATH": str(root.resolve())}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            known.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name}: {as_words(known[name][-1])}", flush=True)
    if before is not None:
        for key in ("seconds", "processor"):
            then, now = (np.median([result[key] for result in known[name]]) for name in ("before", "now"))
            print(f"first rows, {key}: {now:.0f} against {then:.0f}, 1 / {then / now:.1f}")
    if converge:
        exploration, seconds, processor = large_search.search()
        region, basis = exploration.regions[0], exploration.analysis.basis
        jacobian = exploration.analysis.jacobian()
        first = energy(jacobian, leading(basis, region), region)
        fine = finish(refine(jacobian, basis, region.mask, TOP))
        share = first / torch.linalg.eigvalsh(fine.gram(region.mask)).flip(0)[:TOP].sum().item()
        print(as_words({"seconds": seconds, "processor": processor, "vectors": len(basis), "share": share}))


def as_words(result: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in result.items())


# --------------------------------------------------------------------------------------------------------- responses


def responses(portraits: list[int]) -> None:
    """Regional energies and heat maps from responses at half and a quarter of the resolution."""
    model = load(MODELS["avatars"], dtype=torch.float32)
    images, _ = held_out(POOL)
    side = model.card.resolution
    print("| side | energy of the leading five, of that at the full resolution | heat map, correlation |")
    print("|---|---|---|")
    for factor in (2, 4):
        shares, correlations = [], []
        for portrait in portraits:
            pixels = to_pixels(images[portrait : portrait + 1])
            t = nearest_timestep(model, model.card.steps)
            basis = finish(krylov_basis(Jacobian(model, finish(place(model, pixels, t)), t)))
            coarse = torch.nn.functional.avg_pool2d(basis.responses, factor) * factor
            for label in LABELS:
                full, small = (ready_made_region("face", label, size).mask for size in (side, side // factor))
                rows = (coarse * torch.from_numpy(small)).flatten(1).double()
                shares.append(leading_energy(rows @ rows.T) / leading_energy(basis.gram(full)))
            fine = basis.responses[0].abs().sum(0)
            blurred = torch.nn.functional.interpolate(
                coarse[:1].abs().sum(1, keepdim=True), size=side, mode="bilinear", antialias=False
            )[0, 0]
            correlations.append(torch.corrcoef(torch.stack((fine.flatten(), blurred.flatten())))[0, 1].item())
        print(
            f"| {side // factor} | {np.mean(shares):.3f}, lowest {np.min(shares):.3f} | {np.mean(correlations):.3f} |"
        )


def leading_energy(gram: Tensor) -> float:
    return torch.linalg.eigvalsh(gram).flip(0)[:TOP].sum().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["avatars", "large", "responses"])
    parser.add_argument("--portraits", nargs="+", type=int, default=[18, 40])
    parser.add_argument("--before", type=Path, help="another checkout of this project")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--no-share", action="store_true", help="seconds alone")
    a = parser.parse_args()
    if a.what == "avatars":
        avatars(a.portraits)
    elif a.what == "responses":
        responses(a.portraits)
    else:
        large(a.before, a.runs, not a.no_share)


if __name__ == "__main__":
    main()

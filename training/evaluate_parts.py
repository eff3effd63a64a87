"""How well the network of `core/parts.py` knows the parts of portraits that it has not seen.

    python -m training.evaluate_parts

Three tables of the model card: the overlap with the renderer's own part maps on rendered portraits and on the same
portraits as the diffusion model predicts them from noise, and how near the segmentation consistency (Asyrp, appendix
K.2) that it measures of changed portraits is to the exact one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from core.asyrp.segmentation import segmentation_consistency
from core.domain import denoised
from core.models.cards import MODELS, PRESETS
from core.models.loader import models
from core.parts import Parts, load
from training import dataset, part_maps
from training.portraits import Portrait, render, sample, varied

GOAL = 0.9  # of the mean overlap on rendered portraits, set before it was measured
LEVEL = 0.2  # share of T from which the diffusion model predicts pictures
DENOISED = 100  # held-out portraits that it predicts
CHANGED = 30  # held-out portraits, each changed in the ways below
TOGETHER = 20  # pictures that go through a network at once
WAYS: tuple[dict[str, float], ...] = (
    {"smile": 1.0},
    {"mouth_open": 1.0},
    {"glasses": 1.0},
    {"eye_open": 0.0},
    {"beard": 0.9},
    {"hair_colour": 4.0},
)


def overlaps(parts: Parts, images: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Intersection over union of each part, over the pixels of all pictures (N, s, s, 3) and maps (N, s, s)."""
    both, either = np.zeros(len(parts.names)), np.zeros(len(parts.names))
    for found, wanted in zip(_found(parts, images), maps, strict=True):
        for k in range(len(parts.names)):
            both[k] += ((found == k) & (wanted == k)).sum()
            either[k] += ((found == k) | (wanted == k)).sum()
    return dict(zip(parts.names, both / np.maximum(either, 1), strict=True))


def _found(parts: Parts, images: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(images), TOGETHER):
        yield from parts.label_maps(dataset.to_pixels(images[first : first + TOGETHER]))


def as_predicted(images: np.ndarray, levels: tuple[float, ...] = (LEVEL,), name: str = "held-out") -> np.ndarray:
    """Portraits (N, s, s, 3), uint8, as the diffusion model predicts them from noised ones, a batch at each of the
    levels in turn: what it draws and blurs is its own, and every part is still in its place. Kept in the cache."""

    def make(unfinished: Path) -> None:
        model, made = models.get("avatars"), []
        for n, first in enumerate(range(0, len(images), TOGETHER)):
            pixels = dataset.to_pixels(images[first : first + TOGETHER])
            with torch.no_grad():
                made.append(denoised(model, pixels, levels[n % len(levels)], seed=n).cpu())
        pictures = torch.cat(made).add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
        np.savez_compressed(unfinished, images=pictures.numpy())

    words = "-".join(f"{level:g}" for level in levels)
    path = (
        dataset.cache_folder() / f"predicted-{name}-{models.get('avatars').fingerprint[:10]}-{words}-{len(images)}.npz"
    )
    with np.load(dataset.kept(path, make)) as archive:
        return archive["images"]


def consistency_errors(parts: Parts, count: int = CHANGED) -> tuple[float, float]:
    """Segmentation consistency of held-out portraits that are changed in each of the `WAYS`: the mean of the exact one,
    by the renderer's maps, and the mean distance of the measured one from it."""
    exact, measured = [], []
    for seed in range(dataset.HELD_OUT, dataset.HELD_OUT + count):
        portraits = [sample(seed), *(varied(sample(seed), **way) for way in WAYS)]
        maps = [part_maps.part_map(portrait) for portrait in portraits]
        found = list(_found(parts, np.stack([_picture(portrait) for portrait in portraits])))
        exact += [segmentation_consistency(maps[0], changed).pixels for changed in maps[1:]]
        measured += [segmentation_consistency(found[0], changed).pixels for changed in found[1:]]
    return float(np.mean(exact)), float(np.abs(np.array(exact) - np.array(measured)).mean())


def _picture(portrait: Portrait) -> np.ndarray:
    return np.asarray(render(portrait))


def report(parts: Parts, count: int) -> str:
    """The tables of the model card, in Markdown, measured on so many held-out portraits."""
    images = dataset.held_out(count)[0]
    maps = part_maps.load(count, dataset.HELD_OUT)
    few = min(DENOISED, count)
    rendered = overlaps(parts, images, maps)
    predicted = overlaps(parts, as_predicted(images[:few]), maps[:few])
    lines = [f"| part | IoU, {count} rendered | IoU, {few} predicted by the model |", "|---|---|---|"]
    lines += [f"| {name} | {value:.3f} | {predicted[name]:.3f} |" for name, value in rendered.items()]
    means = [float(np.mean(list(one.values()))) for one in (rendered, predicted)]
    lines.append(f"| **mean** | **{means[0]:.3f}** | {means[1]:.3f} |")
    reached = "is reached" if means[0] >= GOAL else "is not reached"
    exact, error = consistency_errors(parts)
    lines += [
        "",
        f"The goal, set before it was measured, was a mean of {GOAL:g} on rendered portraits: it {reached}.",
        "",
        f"Segmentation consistency of {CHANGED * len(WAYS)} changed portraits, whose mean by the",
        f"renderer's maps is {exact:.3f}, is measured with a mean error of {error:.4f}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PRESETS / str(MODELS["avatars"].parts), help="of the network")
    parser.add_argument("--count", type=int, default=500, help="held-out portraits")
    options = parser.parse_args()
    print(report(load(options.folder), options.count))

"""Measure the embedded world's instruments on held-out portraits, and word their model card.

python -m training.evaluate_instruments
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.instruments import Instruments, load
from training import dataset, variants
from training.run import T_BOOST, auc, noised
from training.targets import values, visible

OUT = Path(__file__).parents[1] / "presets" / "models" / "avatars" / "instruments"
CALIBRATION = 200  # held-out portraits behind the scale of the distance


def _blurred(pixels: Tensor) -> Tensor:
    low = F.interpolate(pixels, scale_factor=0.5, mode="bilinear", antialias=True)
    return F.interpolate(low, size=pixels.shape[-1], mode="bicubic")


CONDITIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clean": lambda x: x,
    "noise 0.1": lambda x: x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)),
    "shift 3 px": lambda x: torch.roll(x, (3, -3), (2, 3)),
    "blur 2x": _blurred,
}
TIMES = (20, 50, 100, T_BOOST, 300, 500, 800)


def _parts(images: np.ndarray) -> list[Tensor]:
    return [dataset.to_pixels(part) for part in np.array_split(images, -(-len(images) // 100))]


@torch.no_grad()
def calibrate(instruments: Instruments, count: int = CALIBRATION) -> float:
    """The scale that makes the mean distance of held-out portraits and their x_t at t = `T_BOOST` equal to 1.2."""
    pictures = _parts(dataset.held_out(count)[0])
    raw = torch.cat([instruments.distance(x, noised(x, T_BOOST, i)) for i, x in enumerate(pictures)])
    return 1.2 * instruments.distance_scale / float(raw.mean())


def quality(instruments: Instruments, images: np.ndarray, parameters: np.ndarray, change=lambda x: x) -> dict:
    """{attribute: R^2 of a continuous, AUC of a binary one}, where the attribute can be seen."""
    with torch.no_grad():
        parts = [instruments.attributes(change(x)) for x in _parts(images)]
    names = tuple(instruments.known)
    wanted, seen, result = values(parameters, names), visible(parameters, names), {}
    for i, name in enumerate(names):
        read = torch.cat([p[name] for p in parts]).numpy()[seen[:, i]]
        true = wanted[seen[:, i], i]
        if instruments.known[name].kind == "binary":
            result[name] = auc(read, true > 0.5)
        else:
            result[name] = float(1 - ((read - true) ** 2).mean() / true.var())
    return result


@torch.no_grad()
def identities(instruments: Instruments, count: int) -> dict[str, float]:
    """Similarity of the same person (everything else redrawn), of the same person after one edit, of different people;
    the AUC of telling the first from the last, and the threshold at which both are mistaken equally often."""
    own = torch.cat([instruments.identity(x) for x in _parts(dataset.held_out(max(count, 2))[0][:count])])
    other, edited = (
        torch.cat([instruments.identity(x) for x in _parts(variants.load(kind, count, dataset.HELD_OUT)[0])])
        for kind in ("same_person", "edited")
    )
    same, different = (own * other).sum(1), (own * other.roll(1, 0)).sum(1)
    labels = np.arange(2 * count) < count
    threshold = min(same.tolist(), key=lambda least: abs((same < least).sum() - (different >= least).sum()))
    return {
        "same person": float(same.mean()),
        "after one edit": float((own * edited).sum(1).mean()),
        "different people": float(different.mean()),
        "AUC": auc(torch.cat([same, different]).numpy(), labels),
        "threshold": threshold,
        "mistaken there": float((same < threshold).float().mean()),
    }


@torch.no_grad()
def distances(instruments: Instruments, count: int = CALIBRATION) -> dict[str, float]:
    """Mean distance of held-out portraits to themselves under noise (x_t), blur, an edit, and to another portrait."""
    images = dataset.held_out(count)[0]
    edited = variants.load("edited", count, dataset.HELD_OUT)[0]

    def mean(change: Callable[[Tensor], Tensor]) -> float:
        return float(torch.cat([instruments.distance(x, change(x)) for x in _parts(images)]).mean())

    pairs = zip(_parts(images), _parts(edited), strict=True)
    return {
        **{f"x_t, t = {t}": mean(lambda x, t=t: noised(x, t, 1)) for t in TIMES},
        "blur 2x": mean(_blurred),
        "one edit": float(torch.cat([instruments.distance(x, y) for x, y in pairs]).mean()),
        "another portrait": mean(lambda x: x.roll(1, 0)),
    }


def measure(instruments: Instruments, count: int = 2_000) -> dict[str, dict]:
    """All figures on `count` held-out portraits (half as many pairs)."""
    images, parameters = dataset.held_out(count)
    return {
        "attributes": {
            condition: quality(instruments, images, parameters, change) for condition, change in CONDITIONS.items()
        },
        "identity": identities(instruments, max(2, count // 2)),
        "distance": distances(instruments, min(count, CALIBRATION)),
    }


def report(instruments: Instruments, figures: dict[str, dict]) -> str:
    """The figures as Markdown tables."""
    lines = ["| attribute | measure | " + " | ".join(CONDITIONS) + " |", "|---|---|" + "---|" * len(CONDITIONS)]
    for name, attribute in instruments.known.items():
        kind = "AUC" if attribute.kind == "binary" else "R^2"
        row = " | ".join(f"{figures['attributes'][c][name]:.3f}" for c in CONDITIONS)
        lines.append(f"| {name} | {kind} | {row} |")
    for title, key in (("identity similarity", "identity"), ("perceptual distance", "distance")):
        lines += ["", f"| {title} | mean |", "|---|---|"]
        lines += [f"| {name} | {value:.3f} |" for name, value in figures[key].items()]
    return "\n".join(lines)


CARD = """# The measuring instruments of the avatars

One small convolutional network ({parameters:.2f} M parameters, half precision on disk) that looks at 128 x 128 pixels
and serves as ground truth for tests, benchmarks and read-outs: attributes in the renderer's units, an identity
embedding of {identity} dimensions that ignores what edits may change, features for the Frechet distance, and a
perceptual distance in the form of LPIPS. It is trained from the renderer's parameters alone and shares nothing with the
image-text model. How to call it: `core/instruments.py`.

## How it was made
Data: {pairs} portraits of the renderer `training/portraits.py` (seeds from 0), as many of the same people in another
state and as many after one edit (`training/variants.py`). Nothing else.

    {command}

{steps} steps of {batch} portraits in {minutes:.0f} minutes on {where}: regression of the attributes (cross-entropy for
the binary ones) where they can be seen, contrast between pictures of the same and of different people, with shifts,
blur, noise and colour changes.

## What it measures
On {held_out} held-out portraits (seeds from 1,000,000); identity on {half} pairs: the same person with everything but
the bone structure, iris and fringe drawn anew; the same person after one edit; different people; the similarity at
which it is mistaken about as many of the first as of the last, and their share. The distance is scaled
by {scale:.4f} so that the mean over {calibration} held-out portraits of the distance between x0 and x_t at t = 167
(linear schedule 1e-4..0.02) is 1.2, where the Asyrp paper sets t_boost on CelebA-HQ with LPIPS.

{table}

To measure again: `python -m training.evaluate_instruments`.

## Limits
It knows drawings of this renderer; on anything else its readings mean nothing. Licence: that of the repository.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=OUT)
    parser.add_argument("--held-out", type=int, default=2_000)
    arguments = parser.parse_args()
    instruments = load(arguments.folder)
    print(report(instruments, measure(instruments, arguments.held_out)))


if __name__ == "__main__":
    main()

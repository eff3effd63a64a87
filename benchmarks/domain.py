"""Which measure tells pictures that the embedded model has learned from others, and where the limit lies.

    python -m benchmarks.domain --photographs FOLDER [--write]

FOLDER: photographs, of each its central square; faces should fill it. Those of the document are what packages ship:
`skimage/data`, `sklearn/datasets/images`, `gradio/media_assets/images`, and faces cut out of the test pictures of
`face_recognition` and `insightface`. Beside them: held-out portraits, training portraits, portraits with noise, after
JPEG, blurred, nearer by a sixth, as examples; and drawings that are no portraits, flat colours, portraits upside down.

Of every measure the table says how often a picture that the model should know has less of it than one that it should
not (1 is always, 0.5 is chance): the distance of `core.domain` at several levels, the squared error there, and the
likelihood of the latent, as the norm and the autocorrelation of x_T that an inversion of seven steps finds. Then the
distance by group, and what the limit of the model's card makes of them.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from benchmarks.inversion import heading
from benchmarks.report import HELP, reported
from core.anchoring import source_path
from core.domain import LEVEL, denoised
from core.imaging import to_pixels as opened
from core.models.loader import DiffusionModel, models
from core.progress import finish
from core.studio import library, measuring
from training.portraits import HELD_OUT, render, sample

FIRST = HELD_OUT + 5000
LEVELS = (0.2, 0.4, 0.6)
Pictures = list[Image.Image]


def known(count: int) -> dict[str, Pictures]:
    """Pictures that the model should know, by group."""
    rng, size = np.random.default_rng(0), 128
    portraits = [render(sample(FIRST + i)) for i in range(count)]
    half = portraits[: count // 2]

    def noisy(picture: Image.Image, sigma: float) -> Image.Image:
        values = np.asarray(picture) + rng.normal(0, sigma, (size, size, 3))
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))

    def compressed(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=60)
        return Image.open(buffer).convert("RGB")

    return {
        "held-out portraits": portraits,
        "training portraits": [render(sample(i)) for i in range(count // 2)],
        "examples": [Image.open(path).convert("RGB") for path in library.examples("avatars")],
        **{f"noise {sigma}": [noisy(p, sigma) for p in half] for sigma in (5, 15, 30)},
        "JPEG 60": [compressed(p) for p in half],
        "blurred": [p.filter(ImageFilter.GaussianBlur(1)) for p in half],
        "nearer": [p.crop((10, 10, 118, 118)).resize((size, size), Image.Resampling.LANCZOS) for p in half],
    }


def unknown(count: int, folder: Path | None) -> dict[str, Pictures]:
    """Pictures that the model should not know, by group."""
    groups = {
        "drawings": [drawing(seed) for seed in range(count)],
        "flat colours": [Image.new("RGB", (128, 128), c) for c in ("white", "black", "gray", "tan")],
        "portraits upside down": [render(sample(FIRST + i)).rotate(180) for i in range(count // 2)],
    }
    files = [] if folder is None else [path for path in sorted(folder.iterdir()) if path.is_file()]
    for name, chosen in (("faces", "face-"), ("photographs", "")):
        own = [path for path in files if path.name.startswith("face-") is bool(chosen)]
        if own:
            groups[name] = [Image.open(path).convert("RGB") for path in own]
    return groups


def drawing(seed: int) -> Image.Image:
    """Shapes in flat colours, as many as a portrait has."""
    rng, side = np.random.default_rng(seed), 384
    colour = lambda: tuple(int(v) for v in rng.integers(0, 255, 3))  # noqa: E731
    picture = Image.new("RGB", (side, side), colour())
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(2, 9))):
        x, y = (int(v) for v in rng.integers(0, side, 2))
        w, h = (int(v) for v in rng.integers(30, 250, 2))
        match int(rng.integers(3)):
            case 0:
                draw.ellipse([x, y, x + w, y + h], fill=colour())
            case 1:
                draw.rectangle([x, y, x + w, y + h], fill=colour())
            case _:
                draw.polygon([tuple(int(v) for v in rng.integers(0, side, 2)) for _ in range(3)], fill=colour())
    return picture.resize((128, 128), Image.Resampling.LANCZOS)


@torch.no_grad()
def measures(model: DiffusionModel, pixels: Tensor) -> dict[str, Tensor]:
    """Every measure of pictures (B, 3, R, R): (B,) each."""
    distance, found = measuring.distance(model.card), {}
    for level in LEVELS:
        made = denoised(model, pixels, level)
        found[f"distance at {level:g} T"] = distance(made, pixels)
        found[f"squared error at {level:g} T"] = (made - pixels).square().flatten(1).mean(1)
    x_T = finish(source_path(model, pixels, model.schedule.timesteps(7))).x[-1]
    found["norm of x_T"] = (x_T.square().flatten(1).mean(1) - 1).abs()
    right, down = x_T[..., 1:] * x_T[..., :-1], x_T[..., 1:, :] * x_T[..., :-1, :]
    found["autocorrelation of x_T"] = (right.flatten(1).mean(1) + down.flatten(1).mean(1)).abs() / 2
    return found


def measured(model: DiffusionModel, pictures: Pictures) -> dict[str, Tensor]:
    parts = []
    for first in range(0, len(pictures), 4):
        batch = [opened(picture, model.card.resolution) for picture in pictures[first : first + 4]]
        parts.append(measures(model, torch.cat(batch)))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def separation(inside: Tensor, outside: Tensor) -> float:
    """How often one of `inside` has less than one of `outside`."""
    return float((inside[:, None] < outside[None]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, default=None, metavar="FOLDER")
    parser.add_argument("--count", type=int, default=16, help="held-out portraits")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    model = models.get("avatars")
    limit, name = model.card.domain_limit, f"distance at {LEVEL:g} T"
    assert limit is not None
    groups: list[tuple[bool, dict[str, dict[str, Tensor]]]] = []
    makers: tuple[tuple[bool, Callable[[], dict[str, Pictures]]], ...] = (
        (True, lambda: known(arguments.count)),
        (False, lambda: unknown(arguments.count, arguments.photographs)),
    )
    for inside, made in makers:
        groups.append((inside, {group: measured(model, pictures) for group, pictures in made().items()}))
    with reported("benchmarks.domain", arguments.write):
        heading("measure", ("separates",))
        names = next(iter(groups[0][1].values())).keys()
        for measure in names:
            together = [torch.cat([own[measure] for own in part.values()]) for _, part in groups]
            print(f"| {measure} | {separation(*together):.3f} |")
        print()
        heading("pictures", ("number", "least", "median", "most", "taken for unknown"))
        for _, part in groups:
            for group, own in part.items():
                v = own[name]
                row = f"{v.min():.2f} | {v.median():.2f} | {v.max():.2f} | {int((v > limit).sum())}"
                print(f"| {group} | {len(v)} | {row} |")
        print(f"\nThe limit is a distance of {limit:g}.")


if __name__ == "__main__":
    main()

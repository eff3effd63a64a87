"""Measure the embedded diffusion model and write its model card.

    python -m training.evaluate_ddpm                              # the released model; about an hour on two cores
    python -m training.evaluate_ddpm --samples 200 --no-card      # a quick look
    python -m training.evaluate_ddpm --write                      # the figures also into docs/benchmarks.md

Reconstruction: PSNR of 100 held-out portraits through inversion and back. New portraits, as the app draws them
(`core/studio/sample.py`): Frechet distance of 2,000 to 2,000 fresh renders in the probe's feature space, beside that of
2,000 other renders, the floor of that number; and how much the halves of a face differ, by the probe. h-space: how much
of what the network predicts h decides, and not the skip connections.

What is measured of new portraits is kept in the cache, so that the command goes on from there when it is begun again.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.report import HELP, write_section
from core import instruments
from core.curves import measure_curves
from core.editing import EditSettings, edit, invert
from core.evaluation import statistics
from core.evaluation.statistics import FeatureSums
from core.metrics import perceptual, psnr
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel, load
from core.progress import finish
from core.sampling import draw, sample
from core.studio.sample import described, sampling_steps
from core.text_to_image import load_text_to_image, text_to_image_card
from core.unet import Features
from training.dataset import cache_folder, held_out, to_pixels
from training.dataset import load as load_portraits
from training.portraits import HELD_OUT


class Looks(NamedTuple):
    """Of N pictures: probe features (N, F), how much halves differ, stains and grain of the backdrop (N,)."""

    features: np.ndarray
    apart: np.ndarray
    stains: np.ndarray
    grain: np.ndarray


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Of two sets of features (N, F)."""
    sums = FeatureSums(), FeatureSums()
    for one, features in zip(sums, (a, b), strict=True):
        one.add(features)
    return statistics.frechet_distance(*sums)


def reconstruction(model: DiffusionModel, pixels: Tensor, steps: int) -> Tensor:
    """PSNR (N,) in dB of pictures through `steps` of inversion and as many back."""
    made = []
    for part in pixels.split(16):
        latent = finish(invert(model, part, steps))
        made.append(finish(edit(model, latent, settings=EditSettings(steps))))
    return psnr(torch.cat(made).cpu(), pixels)


@torch.no_grad()
def share_of_h(model: DiffusionModel, pixels: Tensor, t: int) -> float:
    """How far P_t of each picture goes towards that of the next when it gets the next one's h, with its own skip
    connections: 0 if h says nothing, 1 if it says all. Pictures (N, 3, H, W), all with the same noise."""
    clean = model.codec.encode(pixels)
    noise = torch.randn((1, *model.x_shape), generator=torch.Generator().manual_seed(0))
    x_t = model.schedule.noised(clean, noise, t).to(model.device)

    def predicted(features: Features, x: Tensor) -> Tensor:
        return model.codec.decode(model.schedule.predicted_x0(x, model.eps(features, x, t), t))

    along = way = 0.0
    for x in x_t.split(16):
        features = model.features(x, t)
        own, mixed = predicted(features, x), predicted(replace(features, h=features.h.roll(1, 0)), x)
        towards = own.roll(1, 0) - own
        along, way = along + ((mixed - own) * towards).sum().item(), way + towards.square().sum().item()
    return along / way


def new_portraits(
    model: DiffusionModel, probe: instruments.Instruments, count: int, steps: int, batch: int = 16
) -> Looks:
    """Of new portraits, `count` in all, those of the seeds from 0 on; kept, where another model draws them."""
    drawn, parts = model.card.drawn, []
    drawing = None if drawn is None else load_text_to_image(text_to_image_card(drawn.model))
    for first in range(0, count, batch):
        seeds = range(first, min(first + batch, count))
        if drawing is None:
            parts.append(looked_at([finish(sample(model, first, len(seeds), steps))], probe))
            continue
        path = cache_folder() / "new-portraits" / f"{drawing.fingerprint[:8]}-{steps}-{first}-{len(seeds)}.npz"
        if not path.exists():
            pictures = finish(draw(drawing, [described(drawn, seed) for seed in seeds], first, steps))
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **looked_at([pictures], probe)._asdict())
            print(f"{seeds.stop} of {count} new portraits", file=sys.stderr, flush=True)
        with np.load(path) as found:
            parts.append(Looks(*(found[name] for name in Looks._fields)))
    return Looks(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def renders(images: np.ndarray) -> Iterator[Tensor]:
    """Renders uint8 (N, H, W, 3) as pixels (n, 3, H, W)."""
    return (to_pixels(part) for part in np.array_split(images, len(images) // 50))


@torch.no_grad()
def looked_at(pictures: Iterable[Tensor], probe: instruments.Instruments) -> Looks:
    seen = [(probe.features(part), apart(part, probe), stains(part), grain(part)) for part in pictures]
    return Looks(*(torch.cat(column).numpy() for column in zip(*seen, strict=True)))


PAIRED = ("eye_open", "brow_angle", "brow_raise", "brow_thick")


def apart(pixels: Tensor, probe: instruments.Instruments) -> Tensor:
    """How much the halves of faces (N, 3, H, W) differ: root mean square (N,) over `PAIRED` of the difference between
    what the probe reads off the left half with its mirror image and off the right half with its own."""
    half, turned = pixels.shape[3] // 2, pixels.flip(3)
    left = torch.cat((pixels[..., :half], turned[..., half:]), 3)
    right = torch.cat((turned[..., :half], pixels[..., half:]), 3)
    one, other = (probe.attributes(picture) for picture in (left, right))
    return torch.stack([one[name] - other[name] for name in PAIRED]).square().mean(0).sqrt().cpu()


BLOCK = 8  # pixels: what differs between blocks of that size is a stain, what differs within one is grain


def corners(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Both upper corners (N, 3, 32, 24) of pictures (N, 3, 128, 128): backdrop, but for some heads of hair, so only the
    median over pictures means something."""
    return pixels[..., : 4 * BLOCK, : 3 * BLOCK], pixels[..., : 4 * BLOCK, -3 * BLOCK :]


def stains(pixels: Tensor) -> Tensor:
    """How much backdrops differ within a row, where a portrait's changes from top to bottom only: root mean square (N,)
    over the corners of pictures (N, 3, 128, 128) in [-1, 1], averaged over blocks."""
    blocks = torch.cat([F.avg_pool2d(corner, BLOCK) for corner in corners(pixels)], 3)
    return (blocks - blocks.mean(3, keepdim=True)).square().mean((1, 2, 3)).sqrt()


def grain(pixels: Tensor) -> Tensor:
    """What is left of backdrops less the picture of their blocks, interpolated: root mean square (N,) over the corners
    of pictures (N, 3, 128, 128) in [-1, 1], without half a block at each edge."""
    left = []
    for corner in corners(pixels):
        smooth = F.interpolate(F.avg_pool2d(corner, BLOCK), scale_factor=BLOCK, mode="bilinear")
        left.append((corner - smooth)[..., BLOCK // 2 : -BLOCK // 2, BLOCK // 2 : -BLOCK // 2])
    return torch.cat(left, 3).square().mean((1, 2, 3)).sqrt()


def per_cent(amplitudes: np.ndarray) -> float:
    """The median amplitude of pixels in [-1, 1], in per cent of their range."""
    return 100 * float(np.median(amplitudes)) / 2


ABOUT = """---
license: mit
library_name: diffusers
tags: [diffusion, ddpm, h-space, procedural]
---
# avatars: an unconditional diffusion model of drawn portraits

128 x 128 pixels as Haar coefficients with amplified details (`core/models/codec.py`), v-prediction, linear betas
1e-4..0.02, 1,000 timesteps; `UNet2DModel` with {parameters:.1f} M parameters in half precision, h-space {h_shape}. It
knows nothing but the portraits of `training/portraits.py`; no photograph of a person was used.

- **Data**: {images:,} renders of the seeds 0..{last:,}; seeds from {held_out:,} on are held out.
- **Command**: `accelerate launch -m training.train_ddpm --steps {steps} --decay {decay} --out presets/models/avatars`
- **Training**: {steps:,} steps of 16 portraits, {hours:.1f} hours on one to two cores of an AMD EPYC.{note}
- **New portraits** are drawn by `avatars-t2i` from `captions.txt` (`training/make_captions.py`); this network is made
  for editing
"""

MEASURED = """- **Measured** (`python -m training.evaluate_ddpm --portraits {portraits} --samples {samples}`):
  - reconstruction of {portraits} held-out portraits, 40-step inversion and back: {mean:.1f} dB mean,
    {worst:.1f} dB worst; at 20 steps {mean20:.1f} dB
  - given the h of another portrait, the network predicts a P_t that is {share800:.0%} of the way to that portrait's
    own P_t at t = 800, {share600:.0%} at 600, {share400:.0%} at 400
  - Frechet distance of {samples:,} new portraits ({sample_steps} steps) to {samples:,} held-out renders in the
    probe's feature space: {frechet:.3f}; of {samples:,} other renders: {floor:.3f}
  - the halves of the face agree in {agree:.0%} of the new portraits as they do in 90% of the renders, by what the probe
    reads off them
  - the backdrop of the median new portrait differs by {stained:.2f}% of the range within a row, that of a render by
    {clean:.2f}%; its grain is {grain:.2f}%, that of a render {smooth:.2f}%
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--portraits", type=int, default=100)
    parser.add_argument("--sample-steps", type=int, default=None, help="by default those of the app")
    parser.add_argument("--run", type=Path, default=cache_folder() / "ddpm", help="for the card; optional")
    parser.add_argument("--note", default="", help="words for the card about how it was trained")
    parser.add_argument("--no-card", action="store_true")
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    began = time.time()
    model = load(MODELS["avatars"])
    sample_steps = arguments.sample_steps or sampling_steps(model.card)
    probe = instruments.load(PRESETS / model.card.instruments, model.device)
    images, _ = held_out(arguments.samples)
    others, _ = load_portraits(arguments.samples)
    pixels = to_pixels(images[: arguments.portraits])

    curves = finish(measure_curves(model, pixels, perceptual(model.card)))
    at40, at20 = reconstruction(model, pixels, 40), reconstruction(model, pixels, 20)
    print(
        f"PSNR at 40 steps {at40.mean():.2f} dB (worst {at40.min():.2f}), at 20 steps {at20.mean():.2f} dB", flush=True
    )
    print(f"t_edit at similarity 0.9: {curves.t_edit(0.9)}, at 0.5: {curves.t_edit(0.5)}; t_boost {curves.t_boost()}")
    shares = {f"share{t}": share_of_h(model, pixels, t) for t in (800, 600, 400)}
    print(f"What h decides: {shares}")
    real, other = (looked_at(renders(rows), probe) for rows in (images, others))
    fresh = new_portraits(model, probe, arguments.samples, sample_steps)
    frechet, floor = (frechet_distance(real.features, seen.features) for seen in (fresh, other))
    agree = float((fresh.apart < np.quantile(real.apart, 0.9)).mean())
    stained, clean = (per_cent(seen.stains) for seen in (fresh, other))
    grained, smooth = (per_cent(seen.grain) for seen in (fresh, other))
    print(f"Frechet distance: new portraits {frechet:.3f}, other renders {floor:.3f}; halves agree in {agree:.1%}")
    print(f"Stains of the backdrop: {stained:.2f}% of the range, of renders {clean:.2f}%", end="; ")
    print(f"grain {grained:.2f}%, of renders {smooth:.2f}%")
    print(f"{time.time() - began:.0f} s")
    figures = MEASURED.format(
        portraits=arguments.portraits,
        mean=at40.mean(),
        worst=at40.min(),
        mean20=at20.mean(),
        samples=arguments.samples,
        sample_steps=sample_steps,
        frechet=frechet,
        floor=floor,
        agree=agree,
        stained=stained,
        clean=clean,
        grain=grained,
        smooth=smooth,
        **shares,
    )
    if arguments.write:
        write_section("training.evaluate_ddpm", textwrap.dedent(figures.partition("\n")[2]))
    if arguments.no_card:
        return
    curves.save(PRESETS / model.card.curves)
    path = PRESETS / model.card.source.path / "README.md"
    if (arguments.run / "checkpoint.pt").exists():
        path.write_text(about(model, arguments.run, arguments.note) + figures)
    else:  # trained elsewhere: what the card says of that stays
        path.write_text(path.read_text().split("- **Measured**")[0] + figures)


def about(model: DiffusionModel, run: Path, note: str) -> str:
    """The part of the card that says how the model was trained, from its run's checkpoint and log."""
    log = [json.loads(line) for line in (run / "log.txt").read_text().splitlines() if line.startswith("{")]
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True, mmap=True)
    return ABOUT.format(
        parameters=sum(p.numel() for p in model.unet.unet.parameters()) / 1e6,
        h_shape=" x ".join(str(n) for n in model.card.h_shape),
        images=24_000,
        last=23_999,
        held_out=HELD_OUT,
        steps=state["step"],
        decay=state.get("decay", 0),
        hours=log[-1]["minutes"] / 60,
        note=f" {note}" if note else "",
    )


if __name__ == "__main__":
    main()

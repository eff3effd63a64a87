"""Our inversion against the one that Asyrp's authors published, and latents that another precision made.

    python -m benchmarks.published [--portraits 16] [--write]

PSNR in dB of unedited portraits that were held out of the training, by S levels up and S down; the mean. "Across" is a
latent of the network in float32 that the network in bfloat16 takes down again.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from benchmarks.report import HELP, reported
from core import metrics
from core.algorithm_1 import as_published, invert_as_published
from core.editing import EditSettings, edit, invert
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, load
from core.progress import finish
from training.dataset import held_out, to_pixels

STEPS = (40,)


def psnr(model: DiffusionModel, x_T: Tensor, pixels: Tensor, steps: int) -> float:
    """Of what a model makes of latents, to the pictures that they came from."""
    return metrics.psnr(finish(edit(model, x_T, (), EditSettings(steps))).cpu(), pixels).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=int, default=16)
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    wide, half = (load(MODELS["avatars"], dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    pixels = to_pixels(held_out(arguments.portraits)[0])
    with reported("benchmarks.published", arguments.write):
        print("| steps | ours | as published | ours in bfloat16 | across |")
        print("|---|---|---|---|---|")
        for steps in STEPS:
            ours, theirs = (finish(up(wide, pixels, steps)).x_T for up in (invert, invert_as_published))
            halved = finish(invert(half, pixels, steps)).x_T
            found = [
                psnr(wide, ours, pixels, steps),
                psnr(as_published(wide), theirs, pixels, steps),
                psnr(half, halved, pixels, steps),
                psnr(half, ours, pixels, steps),
            ]
            print(f"| {steps} | {' | '.join(f'{value:.1f}' for value in found)} |")
        print(f"\nMean of {arguments.portraits} held-out portraits, in dB.")


if __name__ == "__main__":
    main()

"""Train the embedded world's measuring instruments (`core/instruments.py`) from the renderer's parameters.

    accelerate launch -m training.train_instruments --minutes 20
    accelerate launch --num_processes 2 -m training.train_instruments --steps 2000 --resume
    python -m training.evaluate_instruments

Each step takes pairs of pictures of the same person: two states of the person with everything but the identity drawn
anew, or before and after one edit. All pictures teach the attributes; the pairs teach the identity embedding, by the
contrast with the other people of the batch.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from core.instruments import Attribute, InstrumentNet, Instruments, load
from core.models.small_networks import read_weights, write_config, write_weights
from training import dataset, variants
from training.augment import augment
from training.evaluate_instruments import CALIBRATION, CARD, OUT, calibrate, measure, report
from training.run import Finished, arguments_of, card_fields, train_in_budget
from training.targets import BINARY, CONTINUOUS, STRUCTURE, values, visible

NETWORK = {"channels": [16, 32, 64, 128], "width": 192, "identity": 32, "size": 128}
NAMES = (*CONTINUOUS, *BINARY)
TARGETS = (*NAMES, *STRUCTURE)
EDITED_SHARE = 0.3  # of the pairs: the rest are two states of one person


class Learner(nn.Module):
    """The network and the temperature of the identity contrast."""

    def __init__(self) -> None:
        super().__init__()
        self.net = InstrumentNet(len(NAMES), len(STRUCTURE), **NETWORK)
        self.identity_scale = nn.Parameter(torch.tensor(math.log(8.0)))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw attributes and structure (B, K), identity (B, D), scale of the identity logits."""
        reading = self.net(pixels)
        structure = self.net.auxiliary(reading.features[:, -NETWORK["width"] :])
        return torch.cat([reading.raw, structure], 1), reading.identity, self.identity_scale.exp().clamp(max=25)


def reading_loss(raw: Tensor, wanted: Tensor, seen: Tensor) -> Tensor:
    """Squared error of the standardised values and cross-entropy of the binary ones, where they can be seen."""
    first, last = len(CONTINUOUS), len(NAMES)
    loss = (raw - wanted).square()
    binary = F.binary_cross_entropy_with_logits(raw[:, first:last], wanted[:, first:last], reduction="none")
    loss = torch.cat([loss[:, :first], binary, 0.5 * loss[:, last:]], 1)
    return loss[seen].mean()


def identity_loss(a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Symmetric contrast: a (P, D) and b (P, D) are the same people, all other pairs of rows are not."""
    logits, own = scale * a @ b.T, torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def known_attributes(parameters: np.ndarray) -> tuple[Attribute, ...]:
    """Name, kind, range, mean and spread of every attribute over a population."""
    known, numbers, seen = [], values(parameters, NAMES), visible(parameters, NAMES)
    for i, name in enumerate(NAMES):
        column = numbers[seen[:, i], i]
        kind = "binary" if name in BINARY else "continuous"
        low, high = (0.0, 1.0) if kind == "binary" else (float(column.min().round(1)), float(column.max().round(1)))
        known.append(Attribute(name, kind, low, high, round(float(column.mean()), 5), round(float(column.std()), 5)))
    return tuple(known)


def main() -> None:
    arguments = arguments_of(__doc__, "instruments", OUT).parse_args()
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    world = accelerator.num_processes
    if accelerator.is_main_process:
        dataset.load(arguments.images)
        for kind in ("same_person", "edited"):
            variants.load(kind, arguments.pairs)
    accelerator.wait_for_everyone()
    images, parameters = (array[: arguments.pairs].copy() for array in dataset.load(arguments.images))
    partners = [variants.load(kind, arguments.pairs)[:2] for kind in ("same_person", "edited")]
    known = known_attributes(parameters)
    tables = [parameters, *(p for _, p in partners)]
    wanted, seen = np.stack([values(p, TARGETS) for p in tables]), np.stack([visible(p, TARGETS) for p in tables])
    middle, width = wanted[0].mean(0), wanted[0].std(0)
    for i, attribute in enumerate(known):
        binary = attribute.kind == "binary"
        middle[i], width[i] = (0, 1) if binary else (attribute.mean, attribute.spread)
    wanted = (wanted - middle) / width

    torch.manual_seed(0)
    learner = Learner().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=arguments.rate, weight_decay=0.01, betas=(0.9, 0.98))
    pairs, device = max(2, arguments.batch // (2 * world)), accelerator.device

    def losses(model: nn.Module, _: float, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        rows = rng.permutation(len(images))[:pairs]
        kinds = (rng.random(pairs) < EDITED_SHARE).astype(int)  # 0: the same person anew, 1: after one edit
        second = np.stack([partners[k][0][i] for k, i in zip(kinds, rows, strict=True)])
        pixels = dataset.to_pixels(np.concatenate([images[rows], second])).to(device)
        pixels = augment(pixels, noise, noise=0.25).contiguous(memory_format=torch.channels_last)
        tables_of, rows_of = np.concatenate([np.zeros(pairs, int), kinds + 1]), np.tile(rows, 2)

        raw, identity, scale = model(pixels)
        target = torch.from_numpy(wanted[tables_of, rows_of]).to(device)
        return {
            "read": reading_loss(raw.float(), target, torch.from_numpy(seen[tables_of, rows_of]).to(device)),
            "identity": identity_loss(*identity.float().chunk(2), scale),
        }

    weights = {"read": 1.0, "identity": 0.15}
    finished = train_in_budget(accelerator, arguments, learner, optimiser, losses, weights)
    if accelerator.is_main_process:
        release(finished.network.net, known, arguments.out, min(CALIBRATION, arguments.held_out))
        instruments = load(arguments.out)
        figures = measure(instruments, arguments.held_out)
        write_card(arguments, instruments, figures, finished, world)
        print(report(instruments, figures))
    accelerator.wait_for_everyone()
    accelerator.end_training()


def release(net: InstrumentNet, known: tuple[Attribute, ...], folder: Path, calibration: int) -> None:
    """Write weights (half precision) and configuration, with the distance calibrated on the weights as written."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(net, folder)
    written = InstrumentNet(len(NAMES), len(STRUCTURE), **NETWORK)
    read_weights(written, folder)
    scale = calibrate(Instruments(written, known, 1.0, NETWORK["size"]), calibration)
    config = {
        "network": NETWORK,
        "auxiliary": len(STRUCTURE),
        "distance_scale": scale,
        "attributes": [asdict(attribute) for attribute in known],
    }
    write_config(config, folder)


def write_card(
    arguments: argparse.Namespace, instruments: Instruments, figures: dict, finished: Finished, world: int
) -> None:
    """The model card, from the figures just measured."""
    text = CARD.format(
        identity=NETWORK["identity"],
        scale=instruments.distance_scale,
        calibration=min(CALIBRATION, arguments.held_out),
        **card_fields(arguments, finished, world, instruments.net, report(instruments, figures)),
    )
    (arguments.out / "README.md").write_text(text)


if __name__ == "__main__":
    main()

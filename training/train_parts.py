"""Train the network that knows the parts of a face (`core/parts.py`) from the renderer's part maps.

    accelerate launch -m training.train_parts --steps 2000
    python -m training.train_parts --steps 2000 --resume

It ends with the figures of the model card, measured on held-out portraits (`training/evaluate_parts.py`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from core.models.small_networks import write_config, write_weights
from core.parts import PartNet, load
from training import dataset, part_maps
from training.evaluate_parts import as_predicted, report
from training.run import arguments_of, command, train_in_budget, where

OUT = Path(__file__).parents[1] / "presets" / "models" / "avatars" / "parts"
NETWORK = {"channels": [24, 40, 64, 96], "size": 128}
SHIFT = 6  # pixels, at most
BLENDED, MAX_BLEND = 0.2, 0.35  # share of pictures that another one shines through, and how much of it at most
PREDICTED = 400  # portraits that are there as the diffusion model predicts them, too
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25)  # shares of T from which it does
FROM_MODEL = 0.25  # share of a batch

CARD = """# The parts of the avatars' faces

A small U-Net ({parameters:.2f} M parameters, half precision on disk) that says which part of a face each pixel of a
128 x 128 portrait shows. The parts of the region board are its, and so is segmentation consistency. How to call it:
`core/parts.py`.

## How it was made
Data: {images:,} portraits of the renderer `training/portraits.py` (seeds from 0) with its own part maps
(`training/part_maps.py`), {predicted} of them also as the diffusion model `avatars` predicts them from noise.

    {command}

{steps:,} steps of {batch} portraits in {minutes:.0f} minutes on {where}: cross-entropy and soft intersection over
union, with shifts, blur, noise, colour changes and other portraits that shine through.

## How good it is
Intersection over union with the renderer's part maps on held-out portraits (seeds from 1,000,000), over all their
pixels together (`python -m training.evaluate_parts`).

{table}

## Limits
It knows drawings of this renderer and of models of them; of anything else it knows nothing. Licence: that of the
repository.
"""


def changed(pixels: Tensor, labels: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shifted, mirrored, mixed, blurred, recoloured and noisy pictures (B, 3, R, R), and their part maps (B, R, R)."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(pixels), *shape, generator=noise)

    dx, dy = (int(v) for v in torch.randint(-SHIFT, SHIFT + 1, (2,), generator=noise))
    padded = F.pad(torch.cat([pixels, labels[:, None].float()], 1), (SHIFT,) * 4, mode="replicate")
    side = pixels.shape[-1]
    moved = padded[..., SHIFT + dy : SHIFT + dy + side, SHIFT + dx : SHIFT + dx + side]
    if torch.rand((), generator=noise) < 0.5:
        moved = moved.flip(-1)
    x, y = moved[:, :3], moved[:, 3].long()
    share = uniform(0, MAX_BLEND, 1, 1, 1) * (uniform(0, 1, 1, 1, 1) < BLENDED)
    x = x + share * (x.roll(1, 0) - x)
    if torch.rand((), generator=noise) < 0.3:
        low = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
        x = F.interpolate(low, size=side, mode="bicubic", align_corners=False)
    x = x * uniform(0.9, 1.08, 1, 1, 1) + uniform(-0.06, 0.06, 1, 1, 1) + uniform(-0.04, 0.04, 3, 1, 1)
    return x + 0.15 * uniform(0, 1, 1, 1, 1) ** 2 * torch.randn(x.shape, generator=noise), y


def soft_overlap(logp: Tensor, wanted: Tensor) -> Tensor:
    """1 - the soft intersection over union of probabilities, logarithms (B, K, R, R), with maps (B, R, R): the mean
    over the parts that there are."""
    p, parts = logp.exp(), wanted.flatten()
    right = p.gather(1, wanted[:, None]).flatten()  # of each pixel's own part
    both = torch.zeros(p.shape[1]).to(p).index_add(0, parts, right)
    there = torch.bincount(parts, minlength=p.shape[1])
    return 1 - (both / (p.sum((0, 2, 3)) + there - both))[there > 0].mean()


def main() -> None:
    arguments = arguments_of(__doc__, "parts", OUT)
    arguments.set_defaults(batch=8, images=2_000, held_out=500, rate=4e-3)
    arguments = arguments.parse_args()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    images, maps = dataset.load(arguments.images)[0], part_maps.load(arguments.images)
    predicted = as_predicted(images[:PREDICTED], LEVELS, "training")
    shares = np.bincount(maps.ravel(), minlength=len(part_maps.NAMES)) / maps.size
    rarity = torch.from_numpy((shares / shares.max()) ** -0.25).float().to(accelerator.device)

    torch.manual_seed(0)
    net = PartNet(len(part_maps.NAMES), **NETWORK)
    optimiser = torch.optim.AdamW(net.parameters(), lr=arguments.rate, weight_decay=0.01, betas=(0.9, 0.98))

    def losses(model: nn.Module, _: float, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        rows = rng.permutation(len(images))[: arguments.batch]
        ours = rng.random(len(rows)) < FROM_MODEL
        rows[ours] %= len(predicted)
        seen = np.where(ours[:, None, None, None], predicted[rows % len(predicted)], images[rows])
        pixels, wanted = dataset.to_pixels(seen), torch.from_numpy(maps[rows])
        pixels, wanted = changed(pixels, wanted, noise)
        logp, wanted = model(pixels.to(accelerator.device)).log_softmax(1), wanted.to(accelerator.device)
        return {"parts": F.nll_loss(logp, wanted, rarity), "overlap": soft_overlap(logp, wanted)}

    finished = train_in_budget(accelerator, arguments, net, optimiser, losses, {"parts": 1.0, "overlap": 0.5})
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_weights(finished.network, arguments.out)
    write_config({"network": NETWORK, "parts": list(part_maps.NAMES)}, arguments.out)
    table = report(load(arguments.out), arguments.held_out)
    card = CARD.format(
        parameters=sum(p.numel() for p in net.parameters()) / 1e6,
        images=arguments.images,
        command=command(1),
        steps=finished.steps,
        batch=arguments.batch,
        minutes=finished.minutes,
        where=where(1),
        predicted=len(predicted),
        table=table,
    )
    (arguments.out / "README.md").write_text(card)
    print(table)


if __name__ == "__main__":
    main()

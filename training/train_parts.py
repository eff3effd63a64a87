"""Train the network that knows the parts of a face (`core/parts.py`) from the renderer's part maps.

    accelerate launch -m training.train_parts --steps 650
    python -m training.train_parts --steps 650 --resume

It ends with the figures of the model card, measured on held-out portraits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from core.models.small_networks import write_config, write_weights
from core.parts import PartNet, Parts, load
from training import dataset, part_maps
from training.run import arguments_of, command, train_in_budget, where

OUT = Path(__file__).parents[1] / "presets" / "models" / "avatars" / "parts"
NETWORK = {"channels": [16, 24, 40, 64], "size": 128}
SHIFT = 6  # pixels, at most

CARD = """# The parts of the avatars' faces

A small U-Net ({parameters:.2f} M parameters, half precision on disk) that says which part of a face each pixel of a
128 x 128 portrait shows. The wand of the region board selects with it. How to call it: `core/parts.py`.

## How it was made
Data: {images:,} portraits of the renderer `training/portraits.py` (seeds from 0) with its own part maps
(`training/part_maps.py`). Nothing else.

    {command}

{steps:,} steps of {batch} portraits in {minutes:.0f} minutes on {where}: cross-entropy, with shifts, blur, noise and
colour changes.

## How good it is
Intersection over union with the renderer's part maps on {held_out:,} held-out portraits (seeds from 1,000,000), over
all their pixels together.

{table}

## Limits
It knows drawings of this renderer; of anything else it knows nothing. Licence: that of the repository.
"""


def changed(pixels: Tensor, labels: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shifted, mirrored, blurred, recoloured and noisy pictures (B, 3, R, R), and their part maps (B, R, R)."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(len(pixels), *shape, generator=noise)

    dx, dy = (int(v) for v in torch.randint(-SHIFT, SHIFT + 1, (2,), generator=noise))
    padded = F.pad(torch.cat([pixels, labels[:, None].float()], 1), (SHIFT,) * 4, mode="replicate")
    side = pixels.shape[-1]
    moved = padded[..., SHIFT + dy : SHIFT + dy + side, SHIFT + dx : SHIFT + dx + side]
    if torch.rand((), generator=noise) < 0.5:
        moved = moved.flip(-1)
    x, y = moved[:, :3], moved[:, 3].long()
    if torch.rand((), generator=noise) < 0.3:
        low = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
        x = F.interpolate(low, size=side, mode="bicubic", align_corners=False)
    x = x * uniform(0.9, 1.08, 1, 1, 1) + uniform(-0.06, 0.06, 1, 1, 1) + uniform(-0.04, 0.04, 3, 1, 1)
    return x + 0.15 * uniform(0, 1, 1, 1, 1) ** 2 * torch.randn(x.shape, generator=noise), y


def overlaps(parts: Parts, images: np.ndarray, maps: np.ndarray) -> dict[str, float]:
    """Intersection over union of each part, over the pixels of all pictures together."""
    both, either = np.zeros(len(parts.names)), np.zeros(len(parts.names))
    for image, wanted in zip(images, maps, strict=True):
        found = parts.label_map(dataset.to_pixels(image[None]))
        for k in range(len(parts.names)):
            both[k] += ((found == k) & (wanted == k)).sum()
            either[k] += ((found == k) | (wanted == k)).sum()
    return dict(zip(parts.names, both / np.maximum(either, 1), strict=True))


def main() -> None:
    arguments = arguments_of(__doc__, "parts", OUT)
    arguments.set_defaults(batch=8, images=1_200, held_out=200, rate=4e-3)
    arguments = arguments.parse_args()
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    images, maps = dataset.load(arguments.images)[0], part_maps.load(arguments.images)
    shares = np.bincount(maps.ravel(), minlength=len(part_maps.NAMES)) / maps.size
    rarity = torch.from_numpy((shares / shares.max()) ** -0.4).float().to(accelerator.device)

    torch.manual_seed(0)
    net = PartNet(len(part_maps.NAMES), **NETWORK)
    optimiser = torch.optim.AdamW(net.parameters(), lr=arguments.rate, weight_decay=0.01, betas=(0.9, 0.98))

    def losses(model: nn.Module, _: float, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        rows = rng.permutation(len(images))[: arguments.batch]
        pixels, wanted = dataset.to_pixels(images[rows]), torch.from_numpy(maps[rows])
        pixels, wanted = changed(pixels, wanted, noise)
        logits = model(pixels.to(accelerator.device))
        return {"parts": F.cross_entropy(logits, wanted.to(accelerator.device), rarity)}

    finished = train_in_budget(accelerator, arguments, net, optimiser, losses, {"parts": 1.0})
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_weights(finished.network, arguments.out)
    write_config({"network": NETWORK, "parts": list(part_maps.NAMES)}, arguments.out)
    held_out = dataset.held_out(arguments.held_out)[0]
    figures = overlaps(load(arguments.out), held_out, part_maps.load(arguments.held_out, dataset.HELD_OUT))
    table = "\n".join(["| part | IoU |", "|---|---|", *(f"| {name} | {v:.3f} |" for name, v in figures.items())])
    card = CARD.format(
        parameters=sum(p.numel() for p in net.parameters()) / 1e6,
        images=arguments.images,
        command=command(1),
        steps=finished.steps,
        batch=arguments.batch,
        minutes=finished.minutes,
        where=where(1),
        held_out=arguments.held_out,
        table=table,
    )
    (arguments.out / "README.md").write_text(card)
    print(table)


if __name__ == "__main__":
    main()

"""Train the network that draws fresh portraits for `avatars` (`core/sampling.py`) on rendered portraits.

    accelerate launch -m training.train_sampler --within 8 --compile --batch 128 --images 48000   # on a GPU
    accelerate launch -m training.train_sampler --steps 20000 --decay 10000 --batch 16            # on a CPU, a night
    ... --out presets/models/avatars                                                               # to release it

An expert for one task, as in Balaji et al. 2022 ("eDiff-I"): the network of `avatars` is made for editing. Its decoder
does without the skip connections that a sharp picture of two equal eyes needs (`skips.py`). This one has them, is twice
as wide at the finest level, attends at 16 x 16 places too, where eyes see one another, and works in the same space, on
the same noise schedule. Optimised by Muon (`muon.py`); the loop and its options: `loop.py`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import UNet2DModel
from torch import Tensor, nn

from core.models.codec import Haar
from training.dataset import load, to_pixels
from training.loop import Losses, keep_run, options, train
from training.noising import focus
from training.train_ddpm import build_scheduler, v_loss

PART = "sampler"
POWER = 1.3  # timesteps are drawn as T u^1.3: what a portrait is to be is decided where there is much noise
OUTER = ("conv_in", "conv_out", "time_embedding")  # no maps between hidden states, see `muon.py`


def build_unet(channels: tuple[int, ...] = (64, 128, 192, 256)) -> UNet2DModel:
    """15.2 M parameters, 5.2 billion multiplications a picture; 12 x 64 x 64 in and out (Haar coefficients)."""
    plain = len(channels) - 2
    return UNet2DModel(
        sample_size=64,
        in_channels=12,
        out_channels=12,
        layers_per_block=1,
        block_out_channels=channels,
        norm_num_groups=16,
        attention_head_dim=32,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * 2,
        up_block_types=("AttnUpBlock2D",) * 2 + ("UpBlock2D",) * plain,
    )


def losses_of(images: Tensor, alphas: Tensor, batch: int, places: Tensor) -> Losses:
    """The loss of one step on `batch` of the images uint8 (N, H, W, 3), on the device of the training."""
    codec = Haar()

    def losses(unet: nn.Module, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        rows = torch.from_numpy(rng.integers(len(images), size=batch)).to(images.device)
        return {"loss": v_loss(unet, codec.encode(to_pixels(images[rows])), alphas, noise, places, POWER)}

    return losses


def release(average: UNet2DModel, folder: Path) -> None:
    """Write the network as diffusers does, in half precision."""
    copy.deepcopy(average).to(torch.float16).save_pretrained(folder)


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, PART, steps=20_000, batch=16, rate=6e-4)
    parser.add_argument("--channels", default="64,128,192,256")
    parser.add_argument("--out", type=Path, default=None, help="where to release, e.g. presets/models/avatars")
    arguments = parser.parse_args(argv)
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    torch.manual_seed(0)
    unet = build_unet(tuple(int(c) for c in arguments.channels.split(",")))
    unet.to(memory_format=torch.channels_last)
    if accelerator.is_main_process:  # render once, then let the other processes read
        load(arguments.images)
    accelerator.wait_for_everyone()
    images, parameters = load(arguments.images)
    alphas = build_scheduler().alphas_cumprod.to(accelerator.device)
    places = focus(parameters, unet.config.sample_size).to(accelerator.device)
    batch = arguments.batch // accelerator.num_processes
    losses = losses_of(torch.from_numpy(images).to(accelerator.device), alphas, batch, places)
    trained = train(accelerator, arguments, unet, losses, OUTER)
    if arguments.out is not None and accelerator.is_main_process:
        release(trained.average, arguments.out / PART)
        keep_run(arguments.out / PART, trained, arguments, [], accelerator.num_processes)
    accelerator.end_training()


if __name__ == "__main__":
    main()

"""Train the embedded unconditional diffusion model `avatars` on rendered portraits.

    accelerate launch -m training.train_ddpm --steps 5000 --decay 1000          # one process, CPU or GPU
    accelerate launch --num_processes 2 -m training.train_ddpm --steps 5000     # several GPUs or CPU processes

The run keeps a checkpoint and resumes from it (see `loop.py`). v-prediction (Salimans and Ho 2022), linear betas
1e-4..0.02, 1,000 timesteps, on Haar coefficients of the pixels; the released weights are the run's moving average, in
half precision. What is special about the network is in `skips.py`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor, nn

from core.models.codec import Haar
from training.dataset import load, to_pixels
from training.loop import Losses, options, train
from training.noising import focus, v_target
from training.skips import SkipDropout, cut

DETAIL = 0.25  # weight of a detail's channel in the loss; the small picture's have 1


def build_unet(channels: tuple[int, ...] = (32, 64, 128, 256)) -> UNet2DModel:
    """The network of `avatars`: 12 x 64 x 64 in and out (Haar coefficients of 128 x 128), bottleneck 256 x 8 x 8."""
    depth = len(channels)
    return UNet2DModel(
        sample_size=64,
        in_channels=12,
        out_channels=12,
        layers_per_block=1,
        block_out_channels=channels,
        norm_num_groups=16,
        attention_head_dim=32,
        down_block_types=("DownBlock2D",) * (depth - 1) + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (depth - 1),
    )


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of `avatars`; nothing is clipped, so that inversion is exact."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def v_loss(unet: nn.Module, x0: Tensor, alphas: Tensor, noise: torch.Generator, places: Tensor | None = None) -> Tensor:
    """Weighted mean squared error of v on x0 (B, 12, h, w); places: weights (1, 1, h, w), see `focus`."""
    x_t, t, v = v_target(x0, alphas, noise)
    squares = (unet(x_t.contiguous(memory_format=torch.channels_last), t).sample.float() - v).square()
    error = (squares if places is None else squares * places).mean((0, 2, 3))
    return (error[:3].sum() + DETAIL * error[3:].sum()) / (3 + DETAIL * (len(error) - 3))


def losses_of(images: np.ndarray, alphas: Tensor, batch: int, places: Tensor, dropout: SkipDropout) -> Losses:
    """The loss of one step on `batch` of the images uint8 (N, H, W, 3)."""
    codec = Haar()

    def losses(unet: nn.Module, rng: np.random.Generator, noise: torch.Generator) -> dict[str, Tensor]:
        rows = rng.integers(len(images), size=batch)
        x0 = codec.encode(to_pixels(images[rows]).to(alphas.device))
        dropout.draw(batch, noise)
        return {"loss": v_loss(unet, x0, alphas, noise, places)}

    return losses


def release(ema: UNet2DModel, folder: Path) -> None:
    """Write the network and scheduler as diffusers does, in half precision."""
    half = copy.deepcopy(ema).to(torch.float16)
    half.save_pretrained(folder / "unet")
    build_scheduler().save_pretrained(folder / "scheduler")


def main() -> None:
    parser = options(__doc__, "ddpm", steps=5000, batch=16, rate=5e-4)
    parser.add_argument("--channels", default="32,64,128,256")
    parser.add_argument("--out", type=Path, default=None, help="where to release, e.g. presets/models/avatars")
    arguments = parser.parse_args()
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    torch.manual_seed(0)
    unet = build_unet(tuple(int(c) for c in arguments.channels.split(","))).to(memory_format=torch.channels_last)
    cut(unet)
    if accelerator.is_main_process:  # render once, then let the other processes read
        load(arguments.images)
    accelerator.wait_for_everyone()
    images, parameters = load(arguments.images)
    alphas = build_scheduler().alphas_cumprod.to(accelerator.device)
    places = focus(parameters, unet.config.sample_size).to(accelerator.device)
    batch = arguments.batch // accelerator.num_processes
    losses = losses_of(images, alphas, batch, places, SkipDropout(unet))
    trained = train(accelerator, arguments, unet, losses)
    if arguments.out is not None and accelerator.is_main_process:
        release(trained.average, arguments.out)
    accelerator.end_training()


if __name__ == "__main__":
    main()

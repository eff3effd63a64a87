"""Train the embedded unconditional diffusion model `avatars` on rendered portraits.

    accelerate launch -m training.train_ddpm --steps 5000 --decay 1000          # one process, CPU or GPU
    accelerate launch --num_processes 2 -m training.train_ddpm --steps 5000     # several GPUs or CPU processes

The run keeps a checkpoint and resumes from it. The learning rate warms up, stays constant, and falls linearly over the
last `--decay` steps, so a run can be stopped in the constant part, resumed days later with a larger `--steps`, and
decayed when it is to be released. v-prediction (Salimans and Ho 2022), linear betas 1e-4..0.02, 1,000 timesteps, on
Haar coefficients of the pixels; the released weights are an exponential moving average, in half precision.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DModel

from core.group_norm import quick_group_norm
from core.models.codec import Haar
from training.dataset import cache_folder, load, to_pixels
from training.run import moving_average

DETAIL = 0.25  # weight of a detail's channel in the loss; the small picture's have 1
RELEASE = Path(__file__).parents[1] / "presets" / "models" / "avatars"


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


def learning_rate(step: int, steps: int, decay: int, peak: float, warmup: int = 200) -> float:
    """Warm-up, plateau, linear decay to zero over the last `decay` of `steps`."""
    falling = min(1.0, (steps - step) / decay) if decay else 1.0
    return peak * min(1.0, (step + 1) / warmup) * max(falling, 0.0)


def v_loss(unet: torch.nn.Module, x0: torch.Tensor, alphas: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Weighted mean squared error of v = sqrt(a) e - sqrt(1 - a) x0; x0 (B, 12, 64, 64).

    Timesteps are drawn as T u^1.7, u uniform: half of the linear schedule's steps have more noise than four times the
    picture, and a short training learns more from the others. The u of a batch are spread evenly, one random shift for
    all, which lowers the variance of the loss (Kingma et al. 2021, Appendix I.1).
    """
    u = (torch.rand(1, generator=generator) + torch.arange(len(x0)) / len(x0)) % 1
    t = (len(alphas) * u**1.7).long().clamp(max=len(alphas) - 1).to(x0.device)
    e = torch.randn(x0.shape, generator=generator).to(x0.device)
    a = alphas[t].view(-1, 1, 1, 1)
    x_t, v = a.sqrt() * x0 + (1 - a).sqrt() * e, a.sqrt() * e - (1 - a).sqrt() * x0
    error = (unet(x_t.contiguous(memory_format=torch.channels_last), t).sample.float() - v).square().mean((0, 2, 3))
    return (error[:3].sum() + DETAIL * error[3:].sum()) / (3 + DETAIL * (len(error) - 3))


def release(ema: UNet2DModel, folder: Path) -> None:
    """Write the network and scheduler as diffusers does, in half precision."""
    half = copy.deepcopy(ema).to(torch.float16)
    half.save_pretrained(folder / "unet")
    build_scheduler().save_pretrained(folder / "scheduler")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000, help="optimiser steps in all, earlier runs counted in")
    parser.add_argument("--decay", type=int, default=0, help="over how many last steps the learning rate falls to zero")
    parser.add_argument("--batch", type=int, default=16, help="portraits a step, all processes together")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--images", type=int, default=24_000)
    parser.add_argument("--channels", default="32,64,128,256")
    parser.add_argument("--run", type=Path, default=cache_folder() / "ddpm", help="checkpoints and log")
    parser.add_argument("--out", type=Path, default=None, help="where to release, e.g. presets/models/avatars")
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--minutes", type=float, default=None, help="stop (with a checkpoint) after so long")
    arguments = parser.parse_args()

    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    world, rank = accelerator.num_processes, accelerator.process_index
    if arguments.batch % world:
        parser.error(f"--batch {arguments.batch} cannot be shared equally by {world} processes")
    torch.manual_seed(0)
    unet = build_unet(tuple(int(c) for c in arguments.channels.split(","))).to(memory_format=torch.channels_last)
    ema = copy.deepcopy(unet).eval().requires_grad_(False).to(accelerator.device)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=arguments.rate, weight_decay=0.0, betas=(0.9, 0.99))
    step, seconds = 0, 0.0
    checkpoint = arguments.run / "checkpoint.pt"
    arguments.run.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        unet.load_state_dict(saved["unet"])
        ema.load_state_dict(saved["ema"])
        optimiser.load_state_dict(saved["optimiser"])
        step, seconds = saved["step"], saved["seconds"]
        accelerator.print(f"resumed at step {step}")
    unet, optimiser = accelerator.prepare(unet, optimiser)
    if accelerator.is_main_process:  # render once, then let the other processes read
        load(arguments.images)
    accelerator.wait_for_everyone()
    images, _ = load(arguments.images)
    codec = Haar()
    alphas = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0).float().to(accelerator.device)

    def save() -> None:
        if not accelerator.is_main_process:
            return
        state = {
            "unet": accelerator.unwrap_model(unet).state_dict(),
            "ema": ema.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "seconds": seconds,
            "decay": arguments.decay,
        }
        torch.save(state, checkpoint.with_suffix(".tmp"))
        os.replace(checkpoint.with_suffix(".tmp"), checkpoint)

    began, mean_loss = time.time(), None
    earlier = seconds
    while step < arguments.steps:
        if arguments.minutes is not None and time.time() - began > 60 * arguments.minutes:
            break
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, arguments.steps, arguments.decay, arguments.rate)
        generator = torch.Generator().manual_seed(step * world + rank)  # no state to save: resuming is exact
        rows = torch.randint(0, len(images), (arguments.batch // world,), generator=generator)
        x0 = codec.encode(to_pixels(images[rows.numpy()]).to(accelerator.device))
        with accelerator.autocast(), quick_group_norm(accelerator.unwrap_model(unet)):
            loss = v_loss(unet, x0, alphas, generator)
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        step += 1
        moving_average(ema, accelerator.unwrap_model(unet), step)
        mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
        seconds = earlier + time.time() - began
        if step % 50 == 0:
            record = {"step": step, "minutes": round(seconds / 60, 1), "loss": round(mean_loss, 5)}
            accelerator.print(json.dumps(record), flush=True)
        if step % arguments.every == 0:
            save()
    save()
    if arguments.out is not None and accelerator.is_main_process:
        release(ema, arguments.out)
    accelerator.end_training()


if __name__ == "__main__":
    main()

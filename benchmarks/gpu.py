"""What a GPU makes of it: full-size networks with random weights, this build beside an earlier one.

    git worktree add ../before 9a230fe
    python -m benchmarks.gpu --before ../before   # under eight minutes on a GPU
    python -m benchmarks.gpu                      # this build alone
    python -m benchmarks.gpu --small              # small networks of the same kind, to see that it runs

`visits`: google/ddpm-ema-celebahq-256's shape, 256x256, bfloat16: the paper's 40 + 40 steps, the default edit, a strip
of seven strengths, twenty first edits at once (`benchmarks.against`). `discover`: the basis of a region's directions.
`invert`: 50 steps up with a network of Stable Diffusion 1.5's shape. `prompted`: the basis of a region's directions in
that network and its autoencoder, bound to a prompt, and the memory that it takes. `passes`: one pass of either network
in float32, bfloat16, channels-last, compiled and as a CUDA graph, by rows; "-" where the platform does not allow it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from benchmarks import against
from benchmarks.against_worker import HUB_SHAPE, SMALL, large_network
from core.ascent import ascend
from core.conditional_unet import Prompt, PromptedUNet
from core.discovery.basis import krylov_basis
from core.discovery.jacobian_operator import Jacobian
from core.models.loader import DiffusionModel
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.progress import finish
from core.prompted import listed_h_space
from core.schedule import Schedule
from core.text_to_image import Autoencoder

ROUNDS, WARM_UP = 3, 1
STABLE_DIFFUSION: dict[str, Any] = {  # 1.5
    "sample_size": 64,
    "cross_attention_dim": 768,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
}
SMALL_STABLE_DIFFUSION = {
    "sample_size": 16,
    "cross_attention_dim": 32,
    "block_out_channels": (16, 32, 32, 32),
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
VISITS = {
    "large_paper": "40 + 40 steps, as in the paper",
    "large": "the default edit",
    "large_strip": "a strip of seven strengths",
    "large_twenty": "twenty first edits at once",
}


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seconds(work: Callable[[], object], runs: int = ROUNDS) -> float:
    """Median, after what warms up."""
    measured = []
    for _ in range(WARM_UP + runs):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        measured.append(time.perf_counter() - began)
    return median(measured[WARM_UP:])


def visits(before: Path | None) -> None:
    """A row for each task of `VISITS`: seconds of both builds."""
    builds = [against.Build(root) for root in (before, against.ROOT) if root is not None]
    print("| 256x256 | " + "before | " * (len(builds) - 1) + "now |")
    print("|---|" + "---|" * len(builds))
    try:
        numbers = range(WARM_UP + ROUNDS)
        for task, about in VISITS.items():
            rounds = [[build.measure(task, number)["seconds"] for build in builds] for number in numbers]
            cells = (f"{median(one[k] for one in rounds[WARM_UP:]):.3f} s" for k in range(len(builds)))
            print(f"| {about} | {' | '.join(cells)} |", flush=True)
    finally:
        for build in builds:
            build.close()


def discover() -> None:
    """The Krylov basis of 64 vectors at t = 600, and its first 8."""
    model = large_network()
    x = torch.randn(1, *model.x_shape, device=model.device)
    jacobian = Jacobian(model, x, 600)
    for size in (8, 64):
        print(f"| basis of {size} vectors | {seconds(lambda n=size: finish(krylov_basis(jacobian, n)), 1):.3f} s |")


def stable_diffusion(small: bool) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**STABLE_DIFFUSION | (SMALL_STABLE_DIFFUSION if small else {}))
    nn.Module.to(unet, device(), torch.bfloat16, memory_format=torch.channels_last)
    return unet.eval().requires_grad_(False)


@torch.no_grad()
def invert(small: bool) -> None:
    """DDIM inversion with a prompt at guidance 1."""
    unet, schedule = stable_diffusion(small), Schedule.from_scheduler(DDIMScheduler())
    x = torch.randn(1, 4, unet.config.sample_size, unet.config.sample_size, device=device())
    text = torch.randn(1, 77, unet.config.cross_attention_dim, device=device(), dtype=torch.bfloat16)

    def eps(x: Tensor, t: int) -> Tensor:
        return unet(x.bfloat16(), t, text).sample.float()

    timesteps = schedule.timesteps(50)
    print(
        f"| 50 steps up, Stable Diffusion 1.5 | {seconds(lambda: list(ascend(schedule, eps, x, timesteps)), 1):.3f} s |"
    )


def prompted(small: bool) -> None:
    """The Krylov basis of Stable Diffusion 1.5's h-space with a prompt, through the autoencoder's derivative; on a GPU
    also the memory that it takes beyond the networks."""
    model = prompted_model(small)
    x = torch.randn(1, *model.x_shape, device=model.device)
    before = 0
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    jacobian = Jacobian(model, x, 600)
    mask = np.zeros((model.card.resolution,) * 2, bool)
    mask[len(mask) // 2 :, len(mask) // 4 : -len(mask) // 4] = True
    for size in (8, 64):
        took = seconds(lambda n=size: finish(krylov_basis(jacobian, n, mask=mask)), 1)
        print(f"| basis of {size} vectors, Stable Diffusion 1.5 | {took:.3f} s |")
    if torch.cuda.is_available():
        print(f"| memory of it | {(torch.cuda.max_memory_allocated() - before) / 2**30:.2f} GiB |")


def prompted_model(small: bool) -> DiffusionModel:
    """Stable Diffusion 1.5's shape with random weights, bound to a prompt that is random too."""
    unet, sides = stable_diffusion(small), (16, 16, 32, 32) if small else (128, 256, 512, 512)
    torch.manual_seed(0)
    vae = AutoencoderKL(
        sample_size=8 * unet.config.sample_size,
        block_out_channels=sides,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=16 if small else 32,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    nn.Module.to(vae.eval().requires_grad_(False), device(), torch.bfloat16)
    text = torch.randn(2, 77, unet.config.cross_attention_dim, device=device())
    network = PromptedUNet(unet, Prompt(text[:1], text[1:], words="a picture"))
    card = listed_h_space(TEXT_TO_IMAGE["stable-diffusion-1-5"])
    side = unet.config.sample_size // 8
    card = replace(card, resolution=vae.config.sample_size, h_shape=(unet.config.block_out_channels[-1], side, side))
    schedule = Schedule.from_scheduler(DDIMScheduler())
    return DiffusionModel(card, network, schedule, Autoencoder(vae), device(), torch.bfloat16, "0" * 16)


@torch.no_grad()
def passes(small: bool) -> None:
    """Milliseconds of one pass of the 256x256 network by rows, in every way to run it."""
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    network = UNet2DModel(**HUB_SHAPE | (SMALL if small else {})).eval().requires_grad_(False)
    side = network.config.sample_size
    ways: dict[str, Callable[[nn.Module], nn.Module]] = {
        "float32": lambda unet: nn.Module.to(unet, device(), torch.float32),
        "bfloat16": lambda unet: nn.Module.to(unet, device(), torch.bfloat16),
        "bfloat16, channels-last": _channels_last,
        "the same, compiled": lambda unet: torch.compile(_channels_last(unet)),
        "the same, a CUDA graph": lambda unet: torch.compile(_channels_last(unet), mode="reduce-overhead"),
    }
    counts = (1, 8, 20) if not small else (1, 2)
    print("| one pass | " + " | ".join(f"{n} rows" for n in counts) + " |")
    print("|---|" + "---|" * len(counts))
    for name, way in ways.items():
        cells = []
        for n in counts:
            try:
                ready = way(network)
                dtype = torch.float32 if name == "float32" else torch.bfloat16
                x = torch.randn(n, 3, side, side, device=device(), dtype=dtype)
                t = torch.full((n,), 500, device=device())
                cells.append(f"{1000 * seconds(partial(ready, x, t)):.1f} ms")
            except Exception:  # a platform without a compiler, or without memory for so many rows
                cells.append("-")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _channels_last(unet: nn.Module) -> nn.Module:
    return nn.Module.to(unet, device(), torch.bfloat16, memory_format=torch.channels_last)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="some of: visits, discover, invert, prompted, passes")
    parser.add_argument("--before", type=Path, help="a checkout of the earlier build")
    parser.add_argument("--small", action="store_true", help="small networks of the same kind")
    arguments = parser.parse_args(given)
    if arguments.small:
        os.environ["HSPACE_SMALL"] = "1"  # the workers are told, too
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"{where}, torch {torch.__version__}\n")
    parts: dict[str, Callable[[], None]] = {
        "visits": lambda: visits(arguments.before),
        "discover": discover,
        "invert": lambda: invert(arguments.small),
        "prompted": lambda: prompted(arguments.small),
        "passes": lambda: passes(arguments.small),
    }
    for part in arguments.parts or parts:
        parts[part]()
        print(flush=True)


if __name__ == "__main__":
    main()

"""What a GPU makes of it: full-size networks with random weights, this build beside an earlier one.

    git worktree add ../before 9a230fe
    python -m benchmarks.gpu --before ../before   # under eight minutes on a GPU
    python -m benchmarks.gpu                      # this build alone
    python -m benchmarks.gpu --small              # small networks of the same kind, to see that it runs

`visits`: google/ddpm-ema-celebahq-256's shape, 256x256, bfloat16: the paper's 40 + 40 steps, the default edit, a strip
of seven strengths, twenty first edits at once (`benchmarks.against`). `discover`: the basis of a region's directions.
`invert`: 50 steps up with a network of Stable Diffusion 1.5's shape. `passes`: one pass of either network in float32,
bfloat16, channels-last, compiled and as a CUDA graph, by rows; "-" where the platform does not allow it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from benchmarks import against
from benchmarks.against_worker import HUB_SHAPE, SMALL, large_network
from core.ascent import ascend
from core.discovery.basis import krylov_basis
from core.discovery.jacobian_operator import Jacobian
from core.progress import finish
from core.schedule import Schedule

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
    parser.add_argument("parts", nargs="*", help="some of: visits, discover, invert, passes")
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
        "passes": lambda: passes(arguments.small),
    }
    for part in arguments.parts or parts:
        parts[part]()
        print(flush=True)


if __name__ == "__main__":
    main()

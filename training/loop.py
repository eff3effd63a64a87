"""The training loop with a plateau: learning rate, moving average, log, checkpoint, exact resuming.

The learning rate warms up, stays constant, and falls linearly over the last `--decay` steps, so a run can be stopped in
the constant part, resumed days later with a larger `--steps`, and decayed when it is to be released. A run that must
end at a certain time, on a borrowed machine, say, has `--within` minutes instead, and decays in the second half.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from core.group_norm import quick_group_norm
from training.dataset import cache_folder
from training.muon import muon_and_adamw
from training.run import generator, moving_average, where, write

# losses(model, rng, noise): named losses of one step; their sum is descended. The two sources of randomness are the
# step's own, so that there is no state to save.
Losses = Callable[[nn.Module, np.random.Generator, torch.Generator], dict[str, Tensor]]


def learning_rate(step: int, steps: int, decay: int, peak: float, warmup: int = 200) -> float:
    """Warm-up, plateau, linear decay to zero over the last `decay` of `steps`."""
    falling = min(1.0, (steps - step) / decay) if decay else 1.0
    return peak * min(1.0, (step + 1) / warmup) * max(falling, 0.0)


def learning_rate_within(step: int, share: float, peak: float, warmup: int = 200) -> float:
    """Warm-up, plateau, linear decay to zero over the second half of a run's time, of which `share` is over."""
    return peak * min(1.0, (step + 1) / warmup) * max(0.0, min(1.0, 2 * (1 - share)))


@dataclass(frozen=True)
class Trained:
    """What a run leaves: the averaged model, and how long it took."""

    average: nn.Module
    steps: int
    minutes: float


STARTED = time.monotonic()  # of the program, for `--within`
Run = dict[str, float | str]
RUNS = "training.json"  # beside released weights: the runs that made them, first to last


def runs_of(part: Path) -> list[Run]:
    """What `keep_run` wrote beside the weights in a folder: "steps", "decay", "batch", "images", "hours" of each run,
    and what it ran "on"."""
    path = part / RUNS
    return json.loads(path.read_text()) if path.exists() else []


def keep_run(part: Path, trained: Trained, arguments: argparse.Namespace, earlier: list[Run], world: int = 1) -> None:
    """Write beside the weights in a folder how they were made; earlier: the runs that this one went on from; world: by
    how many processes."""
    run: Run = {
        "steps": trained.steps,
        "decay": arguments.decay if arguments.within is None else trained.steps // 2,
        "batch": arguments.batch,
        "images": arguments.images,
        "hours": round(trained.minutes / 60, 2),
        "on": where(world),
    }
    (part / RUNS).write_text(json.dumps([*earlier, run], indent=2) + "\n")


def options(description: str, name: str, steps: int, batch: int, rate: float) -> argparse.ArgumentParser:
    """The options of every run of this loop."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps in all, earlier runs counted in")
    parser.add_argument("--decay", type=int, default=0, help="over how many last steps the learning rate falls to zero")
    parser.add_argument("--batch", type=int, default=batch, help="portraits a step, all processes together")
    parser.add_argument("--rate", type=float, default=rate, help="learning rate of the plateau")
    parser.add_argument("--images", type=int, default=24_000, help="training portraits")
    parser.add_argument("--run", type=Path, default=cache_folder() / name, help="folder of the checkpoint")
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--minutes", type=float, default=None, help="stop (with a checkpoint) after so long")
    parser.add_argument("--within", type=float, default=None, help="finish, decay and all, in so many minutes in all")
    parser.add_argument("--compile", action="store_true", help="compile the U-Net's blocks; pays on a GPU")
    return parser


def compile_blocks(model: nn.Module) -> None:
    """Compile the down and up blocks of the U-Nets in a model. (Compiling block by block is quick, and the middle block
    may have hooks, which would compile it anew at every step.)"""
    for name, block in model.named_modules():
        if re.search(r"(down|up)_blocks\.\d+$", name):
            block.compile(dynamic=False)


def train(
    accelerator: Accelerator,
    arguments: argparse.Namespace,
    model: nn.Module,
    losses: Losses,
    outer: Collection[str] | None = None,
) -> Trained:
    """Train what wants a gradient in `model` as `arguments` (see `options`) say, going on from the checkpoint in
    `arguments.run` if any. By AdamW or, if it is said which parameters are `outer` ones, by Muon (`muon.py`)."""
    world, rank = accelerator.num_processes, accelerator.process_index
    if arguments.batch % world:
        raise SystemExit(f"--batch {arguments.batch} cannot be shared equally by {world} processes")
    average = copy.deepcopy(model).eval().requires_grad_(False).to(accelerator.device)
    model.to(accelerator.device)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if outer is None:
        optimisers = [torch.optim.AdamW(learning, lr=arguments.rate, weight_decay=0.0, betas=(0.9, 0.99))]
    else:
        optimisers = muon_and_adamw(model, arguments.rate, outer)
    step, earlier, mean = 0, 0.0, None
    checkpoint = arguments.run / "checkpoint.pt"
    arguments.run.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        step, earlier = saved["step"], saved["seconds"]
        accelerator.print(f"resumed at step {step}")
    if arguments.compile:
        torch.backends.cudnn.benchmark = True
        compile_blocks(model)
    model, *optimisers = accelerator.prepare(model, *optimisers)
    bare = accelerator.unwrap_model(model)
    device = accelerator.device
    began = time.monotonic()

    def seconds() -> float:
        return earlier + time.monotonic() - began

    def state() -> dict:
        return {
            "model": bare.state_dict(),
            "average": average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            "step": step,
            "seconds": seconds(),
            "decay": arguments.decay,
            "batch": arguments.batch,
        }

    while step < arguments.steps or arguments.within is not None:
        if arguments.minutes is not None and time.monotonic() - began > 60 * arguments.minutes:
            break
        if arguments.within is None:
            rate = learning_rate(step, arguments.steps, arguments.decay, arguments.rate)
        elif (share := (time.monotonic() - STARTED) / (60 * arguments.within)) < 1:
            rate = learning_rate_within(step, share, arguments.rate)
        else:
            break
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = rate
        with accelerator.autocast(), quick_group_norm(bare) if device.type == "cpu" else nullcontext():
            parts = losses(model, *generator(step, rank, world, device))
        accelerator.backward(sum(parts.values()))
        accelerator.clip_grad_norm_(learning, 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        moving_average(average, bare, step)
        now = torch.stack([part.detach().float() for part in parts.values()])
        mean = now if mean is None else mean.lerp_(now, 0.02)
        if step % 50 == 0:
            record = {"step": step, "minutes": round(seconds() / 60, 1)}
            record |= {name: round(value, 5) for name, value in zip(parts, mean.tolist(), strict=True)}
            accelerator.print(json.dumps(record), flush=True)
        if step % arguments.every == 0 and accelerator.is_main_process:
            write(checkpoint, state())
    if accelerator.is_main_process:
        write(checkpoint, state())
    return Trained(average, step, seconds() / 60)

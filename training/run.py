"""What the training scripts of the two instruments share: budget, learning rate, checkpoints, figures."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from diffusers import DDIMScheduler
from torch import Tensor, nn

from core.schedule import Schedule
from training.dataset import cache_folder

T_BOOST = 167  # the Asyrp paper's t_boost on CelebA-HQ, where LPIPS(x0, x_t) is 1.2


def arguments_of(description: str, name: str, out: Path) -> argparse.ArgumentParser:
    """The options that both scripts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=None, help="train for so long, earlier runs counted in")
    budget.add_argument("--steps", type=int, default=None, help="train for so many optimiser steps in all")
    parser.add_argument("--batch", type=int, default=128, help="portraits a step, all processes together")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--pairs", type=int, default=12_000, help="pairs of training portraits")
    parser.add_argument("--images", type=int, default=24_000, help="portraits in the shared cache of renders")
    parser.add_argument("--held-out", type=int, default=2_000, help="portraits that the figures are measured on")
    parser.add_argument("--run", type=Path, default=cache_folder() / name, help="folder of the checkpoint")
    parser.add_argument("--every", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --run")
    parser.add_argument("--out", type=Path, default=out, help="where the finished model goes")
    return parser


class Budget:
    """Steps or minutes, whichever was given; all processes agree because the first one decides."""

    def __init__(self, accelerator: Accelerator, steps: int | None, minutes: float | None, spent: float) -> None:
        self.accelerator = accelerator
        self.steps, self.minutes = steps, minutes
        self.began = time.monotonic() - spent

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def fraction(self, step: int) -> float:
        """How much of the budget is used after `step` steps, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, step / max(1, self.steps))
        used = torch.tensor([self.seconds / (60 * (self.minutes or 20.0))], device=self.accelerator.device)
        return min(1.0, float(broadcast(used)))


def one_cycle(fraction: float, peak: float, warmup: float = 0.06) -> float:
    """Linear rise to `peak` in the first part of the budget, cosine fall to 1 % of it at the end."""
    if fraction < warmup:
        return peak * (0.02 + 0.98 * fraction / warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (fraction - warmup) / (1 - warmup))))


def generator(
    step: int, rank: int, world: int, device: torch.device | str = "cpu"
) -> tuple[np.random.Generator, torch.Generator]:
    """The randomness of one step of one process. It depends on nothing else, so that resuming is exact."""
    seed = step * world + rank
    return np.random.default_rng([7, seed]), torch.Generator(device).manual_seed(seed)


def write(path: Path, state: dict[str, Any]) -> None:
    """A checkpoint in one go: a killed run leaves the previous one intact."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


def save_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, step: int, seconds: float) -> None:
    """Write the whole state of a run."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "seconds": seconds}
    write(path, state)


def load_checkpoint(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    """Restore what `save_checkpoint` wrote; returns the step and the seconds spent so far."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["seconds"]


# losses(model, fraction, rng, noise): named losses of one step; `fraction` of the budget is used, and both sources of
# randomness are the step's own.
Losses = Callable[[nn.Module, float, np.random.Generator, torch.Generator], dict[str, Tensor]]


@dataclass(frozen=True)
class Finished:
    """What a run leaves: the network, and what it took."""

    network: nn.Module
    steps: int
    minutes: float


def train_in_budget(
    accelerator: Accelerator,
    arguments: argparse.Namespace,
    learner: nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: Losses,
    weights: Mapping[str, float],
) -> Finished:
    """Descend the weighted sum of losses until the budget of `arguments` (see `arguments_of`) is used, with one cycle
    of the learning rate, going on from the checkpoint if that is asked for, and writing one as asked and at the end."""
    world, rank = accelerator.num_processes, accelerator.process_index
    checkpoint, step, spent = arguments.run / "checkpoint.pt", 0, 0.0
    if arguments.resume and checkpoint.exists():
        step, spent = load_checkpoint(checkpoint, learner, optimiser)
        accelerator.print(f"resumed at step {step}")
    model, optimiser = accelerator.prepare(learner, optimiser)
    budget = Budget(accelerator, arguments.steps, arguments.minutes, spent)

    def keep() -> None:
        if accelerator.is_main_process:
            save_checkpoint(checkpoint, accelerator.unwrap_model(model), optimiser, step, budget.seconds)

    while (fraction := budget.fraction(step)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = one_cycle(fraction, arguments.rate)
        parts = losses(model, fraction, *generator(step, rank, world))
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(sum(weight * parts[name] for name, weight in weights.items()))
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 20 == 0:
            words = "  ".join(f"{name} {float(loss.detach()):.3f}" for name, loss in parts.items())
            accelerator.print(f"step {step}  {budget.seconds / 60:.1f} min  {words}", flush=True)
        if step % arguments.every == 0:
            keep()
    keep()
    return Finished(accelerator.unwrap_model(model), step, budget.seconds / 60)


def card_fields(
    arguments: argparse.Namespace, finished: Finished, world: int, network: nn.Module, table: str
) -> dict[str, Any]:
    """What the cards of both instruments say alike: how they were made, and the table of their figures."""
    return {
        "parameters": sum(p.numel() for p in network.parameters()) / 1e6,
        "pairs": f"{arguments.pairs:,}",
        "command": command(world),
        "steps": f"{finished.steps:,}",
        "batch": arguments.batch,
        "minutes": finished.minutes,
        "where": where(world),
        "held_out": f"{arguments.held_out:,}",
        "half": f"{arguments.held_out // 2:,}",
        "table": table,
    }


@torch.no_grad()
def moving_average(average: nn.Module, model: nn.Module, step: int) -> None:
    """Move `average` towards `model` after the `step`-th step (from 1): a power-function average over about the last
    17th of the run (Karras et al. 2024)."""
    kept = (1 - 1 / step) ** 17
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - kept)


def command(world: int) -> str:
    """The command line that makes the same model in one go."""
    launcher = "accelerate launch" + (f" --num_processes {world}" if world > 1 else "")
    module = Path(sys.argv[0]).stem
    options = [option for option in sys.argv[1:] if option != "--resume"]
    return " ".join([launcher, "-m", f"training.{module}", *options])


def where(world: int) -> str:
    """The hardware in words."""
    if torch.cuda.is_available():
        return f"{world} x {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"{world} CPU process{'es' if world > 1 else ''} of {threads} thread{'s' if threads > 1 else ''}"


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve (0.5 = chance) of scores (N,) for boolean labels (N,); nan with only one class."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    order = scores.argsort()
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def noised(pixels: Tensor, t: int, seed: int = 0) -> Tensor:
    """x_t of pictures on the linear schedule 1e-4..0.02 with 1,000 timesteps."""
    e = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    return Schedule.from_scheduler(DDIMScheduler()).noised(pixels, e.to(pixels), t)

"""Trainings as units: what they depend on, their checkpoints, and what comes out of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import tensor_file
from ..asyrp.loss import similarity
from ..asyrp.prompts import coefficients, templates
from ..asyrp.sources import Sources
from ..asyrp.train import Training, TrainingSettings
from ..directions import Direction, from_state
from ..errors import ResourceError
from ..progress import Job, Progress, Running
from . import kept
from .recipe import TextDirection
from .sources import Start, start_of
from .team import HIDDEN
from .units import Unit, unfinished_file
from .workshop import Workshop

SAVED_EVERY = 20.0  # seconds; a checkpoint is written after a batch


@dataclass(frozen=True)
class Planned:
    """A training with nothing left open. settings: with the paper's coefficients and t_edit where the recipe has none.
    key: of what it depends on; directions that differ in their form or their corrections alone share one training."""

    source: str
    target: str
    settings: TrainingSettings
    start: Start
    key: str

    @property
    def t_edit(self) -> int:
        assert self.settings.t_edit is not None  # it is planned
        return self.settings.t_edit

    @property
    def file(self) -> str:
        return f"{HIDDEN}/{self.key}.safetensors"

    def unit(self, shop: Workshop, name: str) -> Unit:
        timesteps = shop.model.schedule.timesteps(self.settings.steps)
        first = self.settings.t_start if self.settings.t_start is not None else max(timesteps)
        acting = sum(self.t_edit <= t <= first for t in timesteps)
        # A step is a pass there and one there and back, for each latent.
        return Unit(self.key, (self.file,), name, 4.0 * acting * self.settings.epochs * len(self.start.rows))


def plan(shop: Workshop, direction: TextDirection) -> Planned:
    """Raises ModelUnavailable: CLIP is not here."""
    source, target = direction.source, direction.target
    paper, alike = coefficients(source, target), similarity(shop.image_text, source, target)
    given, start = direction.training, start_of(shop, direction)
    settings = replace(
        given,
        samples=len(start.rows),
        l_clip=paper.l_clip if given.l_clip is None else given.l_clip,
        l_recon=_recon(given, paper.l_recon, alike),
        t_edit=shop.intervals().t_edit(alike) if given.t_edit is None else given.t_edit,
    )
    words = (source, target, templates(shop.card), asdict(shop.card)["clip"])
    content = {name: value for name, value in asdict(settings).items() if name != "first_seed"}
    return Planned(source, target, settings, start, shop.key("trained", words, content, start.rows))


def _recon(given: TrainingSettings, table: float | None, alike: float) -> float:
    """l_recon as `Training` takes it."""
    if given.l_recon is not None:
        return given.l_recon
    return table if table is not None else 3 * max(alike, 0.0)


def train(shop: Workshop, planned: Planned, sources: Sources, unit: Unit) -> Job[Mapping[str, bytes]]:
    """The work of a training's unit: it goes on from its checkpoint, if there is one."""
    training = Training(shop.model, shop.image_text, planned.source, planned.target, planned.settings, sources=sources)
    file, seconds = unfinished_file(shop.folder, unit), 0.0
    if file.is_file():
        seconds = restore(training, file)
    began = saved = time.monotonic()
    for event in Running(training.run()):
        now = time.monotonic()
        if event.kept and event.loss is not None and event.step < event.total and now - saved >= SAVED_EVERY:
            tensor_file.write(file, checkpoint(training, seconds + now - began), "checkpoint")
            saved = now
        loss = (
            f"training, loss {sum(training.losses[-50:]) / len(training.losses[-50:]):.3f}" if training.losses else ""
        )
        yield Progress(event.step, event.total, loss) if loss else Progress(0, 1, event.note)
    last = training.losses[-len(training.timesteps) * 4 :]
    about = {
        "similarity": training.similarity,
        "loss": sum(last) / len(last),
        "optimiser_steps": len(training.losses),
        "seconds": round(seconds + time.monotonic() - began),
    }
    return {unit.files[0]: direction_bytes(training.direction(), about)}


# --------------------------------------------------------------------------------------------------------- checkpoints


def checkpoint(training: Training, seconds: float) -> bytes:
    """The state of a training after a batch, as tensors and plain numbers."""
    state = training.state_dict()
    tensors = {f"parameter.{i}": value for i, value in enumerate(state["parameters"])}
    moments = state["optimiser"]["state"]
    for i, values in moments.items():
        tensors |= {f"optimiser.{i}.{name}": torch.as_tensor(value) for name, value in values.items()}
    about = {
        "step": state["step"],
        "losses": state["losses"],
        "groups": state["optimiser"]["param_groups"],
        "wide": training.wide,
        "seconds": seconds,
    }
    return kept.to_bytes(tensors, about)


def restore(training: Training, file: Path) -> float:
    """Put a training where its checkpoint has it. Returns the seconds that it took until then; a checkpoint that is
    damaged is no longer there, and the training begins anew."""
    try:
        tensors, about = kept.read(file)
    except ResourceError:
        return 0.0
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        kind, number, *rest = name.split(".", 2)
        if kind == "optimiser":
            moments.setdefault(int(number), {})[rest[0]] = value
    count = sum(name.startswith("parameter.") for name in tensors)
    training.load_state_dict(
        {
            "step": about["step"],
            "losses": about["losses"],
            "parameters": [tensors[f"parameter.{i}"] for i in range(count)],
            "optimiser": {"state": moments, "param_groups": about["groups"]},
        }
    )
    training.wide = about["wide"]
    return float(about["seconds"])


# ---------------------------------------------------------------------------------------------------------- directions


def direction_bytes(direction: Direction, about: Mapping[str, Any]) -> bytes:
    """A direction on its way to a preset, with what is known of how it came about."""
    tensors, state = direction.state()
    return kept.to_bytes(tensors, {"direction": state, **about})


def read_direction(file: Path) -> tuple[Direction, dict[str, Any]]:
    """What `direction_bytes` wrote.

    Raises:
        ResourceError: it is not there, because its unit failed, or damaged.
    """
    tensors, about = kept.read(file)
    return from_state(tensors, json.loads(json.dumps(about.pop("direction")))), about

"""The unedited trajectories that trainings start from, computed once for all directions, in chunks that are units.

A chunk's file has the latents x_T (n, C, h, w), the predicted pictures P (K, n, 3, H, W) in half precision, and the
mean squares of h (K, n), for the first K timesteps from T down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..asyrp.prompts import coefficients
from ..asyrp.sources import CHUNK, Part, Sources, joined_sources, source_trajectories
from ..editing import invert, sample_latent
from ..errors import ResourceError
from ..progress import Job, Progress, Running, stage
from . import kept
from .pictures import load_pictures
from .recipe import TextDirection
from .team import HIDDEN
from .units import Unit
from .workshop import Workshop


@dataclass(frozen=True)
class Start:
    """What a training starts from: latents of the seeds first .. first + count - 1, or those that pictures are inverted
    to. rows: what tells the latents apart."""

    steps: int
    first: int = 0
    count: int = 0
    files: tuple[Path, ...] = ()
    digests: tuple[str, ...] = ()

    @property
    def rows(self) -> list[str]:
        return list(self.digests) if self.files else [f"seed {self.first + n}" for n in range(self.count)]

    @property
    def family(self) -> tuple[object, ...]:
        """Starts of one family share their chunks, because each has the first rows of the longest one."""
        return self.steps, self.first, bool(self.files), self.files[:1]


def start_of(shop: Workshop, direction: TextDirection) -> Start:
    """Inverted pictures if there are any, unless the recipe or Table 3 says random noise."""
    training, source = direction.training, direction.pictures or shop.recipe.pictures
    random = coefficients(direction.source, direction.target).from_random
    latents = direction.latents or ("random" if random or source is None else "pictures")
    if latents == "random" or source is None:
        return Start(training.steps, training.first_seed, training.samples)
    found = shop.pictures[source]
    return Start(training.steps, 0, 0, found.files[: training.samples], found.digests[: training.samples])


@dataclass(frozen=True)
class Chunk:
    """Some rows of the longest start of a family, down to timestep number K."""

    start: Start
    first: int
    count: int
    K: int

    def key(self, shop: Workshop) -> str:
        rows = self.start.rows[self.first : self.first + self.count]
        return shop.key("sources", self.start.steps, shop.card.resolution, rows)

    def name(self, shop: Workshop) -> str:
        """Of its file; one that is there and goes on further down serves as well."""
        key = self.key(shop)
        deep = (int(path.stem.rpartition("-")[2]) for path in shop.hidden.glob(f"{key}-*.safetensors"))
        K = min((K for K in deep if K >= self.K), default=self.K)
        return f"{HIDDEN}/{key}-{K}.safetensors"

    def unit(self, shop: Workshop) -> Unit:
        label = f"source trajectories {self.first + 1} to {self.first + self.count}"
        work = self.count * (self.K + (self.start.steps if self.start.files else 0))
        return Unit(f"{self.key(shop)}-{self.K}", (self.name(shop),), label, work)


def chunks(shop: Workshop, everything: Sequence[Start], needed: Sequence[tuple[Start, int]]) -> list[Chunk]:
    """The chunks that hold some starts of a recipe. everything: all starts of it, which decide what the chunks are.
    needed: those that are asked for, each with the timestep down to which it is."""
    longest: dict[tuple[object, ...], Start] = {}
    for start in everything:
        if start.family not in longest or len(start.rows) > len(longest[start.family].rows):
            longest[start.family] = start
    made = []
    for family, whole in longest.items():
        asked = [(start, t_edit) for start, t_edit in needed if start.family == family]
        rows = max((len(start.rows) for start, _ in asked), default=0)
        lowest = min((t_edit for _, t_edit in asked), default=0)
        K = sum(t >= lowest for t in shop.model.schedule.timesteps(whole.steps))
        N = len(whole.rows)
        made += [Chunk(whole, first, min(CHUNK, N - first), K) for first in range(0, rows, CHUNK)]
    return made


def trajectories(shop: Workshop, chunk: Chunk, unit: Unit) -> Job[Mapping[str, bytes]]:
    """The work of a chunk's unit."""
    start, rows = chunk.start, slice(chunk.first, chunk.first + chunk.count)
    total = chunk.K + (start.steps if start.files else 0)
    if start.files:
        pixels = load_pictures(start.files[rows], shop.card.resolution)
        x_T = (yield from stage(invert(shop.model, pixels, start.steps), total=total)).x_T
    else:
        x_T = sample_latent(shop.model, start.first + chunk.first, chunk.count).x_T
    t_edit = shop.model.schedule.timesteps(start.steps)[-chunk.K]
    running = Running(source_trajectories(shop.model, x_T, start.steps, t_edit, chunk.count, begun := list[Part]()))
    for n, event in enumerate(running, start=total - chunk.K + 1):
        yield Progress(min(n, total), total, event.note)
    [(P, squares)] = begun
    return {unit.files[0]: kept.to_bytes({"x_T": x_T, "P": P, "squares": squares}, {})}


def load_sources(shop: Workshop, everything: Sequence[Start], start: Start, t_edit: int) -> Sources:
    """The trajectories of a start down to t_edit. everything: all starts of the recipe.

    Raises:
        ResourceError: they are not there, because their units failed, or damaged.
    """
    timesteps = [t for t in reversed(shop.model.schedule.timesteps(start.steps)) if t >= t_edit]
    N, x_T, parts = len(start.rows), [], list[Part]()
    for chunk in chunks(shop, everything, [(start, t_edit)]):
        wanted = min(chunk.count, N - chunk.first)
        path = shop.folder / chunk.name(shop)
        if not path.is_file():
            raise ResourceError("Its source trajectories are not there.")
        tensors, _ = kept.read(path)
        x_T.append(tensors["x_T"][:wanted])
        parts.append((tensors["P"][: len(timesteps), :wanted], tensors["squares"][:, :wanted]))
    return joined_sources(torch.cat(x_T).to(shop.model.device), start.steps, timesteps, parts)

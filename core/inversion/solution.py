"""What every inversion method takes and gives: a task with its settings, and a solution that the sampler decodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ..errors import RequestError
from ..progress import Job, Previews, Progress
from ..text_to_image import Evaluations, TextToImage
from .decoding import Decoder, PlainStep

RANGES = {  # of settings, and of what a solution has of them
    "guidance": (1, 30),
    "iterations": (0, 500),
    "starts": (1, 200),
    "rate": (0, 10),
    "noise_rate": (0, 10),
    "start_scale": (0, 10),
    "tolerance": (0, 1),
    "gaussian": (0, 1000),
    "late": (0, 1),
    "prior_iterations": (0, 50),
    "solver_iterations": (1, 50),
    "depth": (0, 10),
    "solver_tolerance": (0, 1),
    "mixing": (0.5, 1),
    "eta": (0, 1),
    "skip": (0, 0.95),
}


@dataclass(frozen=True)
class InversionSettings:
    """Settings of all methods; None is what the method's paper has.

    steps: S. guidance: G, the working guidance. source_guidance: of the methods that keep noise maps. seed: of whatever
    is random. budget: seconds after which nothing more is optimised and the best so far is finished.

    Optimisation (null-text, latent-TOP, teacher-forced). iterations: m, per step. late: share of the steps, the last,
    in which latent-TOP has m of them; before it has one, 1 is the paper. optimiser, rate: of the text bias;
    noise_rate: of the noise bias. tolerance: mean squared error of a step at which its optimisation stops. starts,
    start_scale: sampled biases and their standard deviation. start: what they are sampled around, the empty prompt or
    the source prompt. gaussian: weight of the penalty that keeps x_T + z_T Gaussian. shared: one text bias for all
    steps. prior_iterations: network evaluations per step of the prior trajectory, predicted and iterated; 0 is plain
    DDIM inversion, the paper's, with one.

    Fixed point. solver_iterations: network evaluations per step, at most. depth: of Anderson acceleration, 0 for none.
    solver_tolerance: relative residual at which a step is solved.

    mixing: p of EDICT. eta: of CycleDiffusion. skip: share of the reverse steps that an edit leaves out, of
    edit-friendly DDPM and anchored sources.

    Raises:
        RequestError: a setting is out of range.
    """

    steps: int = 50
    guidance: float = 7.5
    source_guidance: float | None = None
    seed: int = 0
    budget: float | None = None
    iterations: int = 10
    optimiser: Literal["adam", "lbfgs"] = "adam"
    rate: float | None = None
    noise_rate: float = 1e-2
    tolerance: float = 1e-5
    starts: int = 20
    start_scale: float = 0.1
    start: Literal["empty", "source"] = "empty"
    gaussian: float = 0.0
    shared: bool = False
    late: float = 0.2
    prior_iterations: int = 1
    solver_iterations: int = 3
    depth: int = 2
    solver_tolerance: float = 1e-4
    mixing: float = 0.93
    eta: float = 0.1
    skip: float = 0.36

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise RequestError(f"{name.replace('_', ' ')} must lie between {low} and {high}, not {value}.")
        if self.optimiser not in ("adam", "lbfgs"):
            raise RequestError(f"There is no optimiser {self.optimiser!r}. Choose adam or lbfgs.")
        if self.start not in ("empty", "source"):
            raise RequestError(f"There is no start {self.start!r}. Choose empty or source.")
        if self.source_guidance is not None and not 1 <= self.source_guidance <= 30:
            raise RequestError(f"source guidance must lie between 1 and 30, not {self.source_guidance}.")

    def rate_or(self, default: float) -> float:
        """The rate, or a method's own."""
        return default if self.rate is None else self.rate


DEFAULTS = InversionSettings()


@dataclass(frozen=True)
class Solution:
    """An inverted picture: everything the sampler needs to make it again, and to make something else of it.

    Steps are numbered by the level they lead to: step i goes from level i + 1 to level i of [-1, *timesteps].

    trajectory: (S + 1, C, h, w), the latents that the source is meant to pass, by level; the last is x_T with its
    correction. guidance: at which the source prompt gives the picture again. unconditional: (S, L, E) per step, or
    (1, L, E). decoder: makes the steps.
    """

    trajectory: Tensor
    guidance: float
    unconditional: Tensor
    decoder: Decoder = PlainStep()

    @property
    def steps(self) -> int:
        return len(self.trajectory) - 1

    @property
    def x_T(self) -> Tensor:
        """The latent (1, C, h, w)."""
        return self.trajectory[-1:]

    def to(self, device: torch.device | str) -> Solution:
        """The same on another device."""
        return replace(
            self,
            trajectory=self.trajectory.to(device),
            unconditional=self.unconditional.to(device),
            decoder=self.decoder.to(device),
        )

    def steps_left(self, skip: float) -> int:
        """How many reverse steps there are, at least one, if this share of them is left out."""
        return max(1, self.steps - round(skip * self.steps))

    def guidance_beside(self, guidance: float) -> float:
        """Of the source, while targets have `guidance`."""
        return self.decoder.guidance_beside(self.guidance, guidance)

    def unconditional_at(self, i: int) -> Tensor:
        """(1, L, E) of step i."""
        return self.unconditional[i : i + 1] if len(self.unconditional) > 1 else self.unconditional


@dataclass
class Checkpoint:
    """What a job has computed so far, kept by whoever started it; the same job begun again goes on from there.

    key: of the work that it belongs to; other work starts afresh. seconds, evaluations: that it has taken.
    """

    key: tuple[Any, ...] = ()
    parts: dict[str, list[Any]] = field(default_factory=dict)
    seconds: float = 0.0
    evaluations: Evaluations = field(default_factory=Evaluations)

    def of(self, key: tuple[Any, ...]) -> Checkpoint:
        """This checkpoint, emptied if it is of other work."""
        if key != self.key:
            self.key, self.parts, self.seconds, self.evaluations = key, {}, 0.0, Evaluations()
        return self

    def to(self, device: torch.device | str) -> Checkpoint:
        """The same checkpoint, its tensors on another device: it may have been stopped somewhere else."""
        self.parts = {name: [_moved(entry, device) for entry in entries] for name, entries in self.parts.items()}
        return self

    def part(self, name: str) -> list[Any]:
        """A list that the job appends to: one entry for each finished step."""
        return self.parts.setdefault(name, [])


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        parts = [_moved(part, device) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


@dataclass(frozen=True)
class Task:
    """One picture to invert. x0: (1, C, h, w), its latents. text, empty: (1, L, E), embeddings of source and ""."""

    model: TextToImage
    x0: Tensor
    text: Tensor
    empty: Tensor
    settings: InversionSettings = DEFAULTS
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    clock: Callable[[], float] = time.monotonic
    started: float = -float("inf")
    previews: Previews = field(default_factory=Previews)

    @property
    def levels(self) -> list[int]:
        """-1, the clean image, and the timesteps upwards."""
        return [-1, *self.model.schedule.timesteps(self.settings.steps)]

    def out_of_time(self) -> bool:
        """Whether the budget is used up."""
        return self.settings.budget is not None and self.clock() - self.started > self.settings.budget

    def generator(self) -> torch.Generator:
        """Random numbers that are the same on every device."""
        return torch.Generator().manual_seed(self.settings.seed)

    def event(self, done: int, total: int, note: str, x0: Tensor, loss: float | None = None) -> Progress:
        """Progress within a phase; now and then x0 (1, C, h, w) is shown."""
        shown = self.previews.after(done, total, partial(self.model.decode, x0))
        return Progress(done, total, note, shown, loss=loss)


@dataclass(frozen=True)
class InversionMethod:
    """A method as it declares itself at the end of its file; `core.inversion.methods` lists it.

    name: in files, in links and for programs, never changed. label: on the page. help: a sentence there on what it
    does. invert: the job, whose events count the steps of each of its phases. decoder: the kind that its solutions
    have.
    """

    name: str
    label: str
    help: str
    invert: Callable[[Task], Job[Solution]]
    decoder: type[Decoder] = PlainStep

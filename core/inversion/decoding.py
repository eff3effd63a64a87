"""How an inverted picture is decoded: by a small object that its method chooses, one reverse step of a batch at a time.

The sampler (`core.inversion.sampler`) knows none of them. Most methods need `PlainStep`; one that needs something else
has it in its own file, as `anchored.AnchoredStep` and `edict.CoupledStep` are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..schedule import Schedule

# A batch on its way down: x (B, C, h, w) first, then whatever else of that shape its decoder carries along.
State = tuple[Tensor, ...]


@dataclass(frozen=True)
class ReverseStep:
    """Step i of a batch of B rows: from level i + 1, timestep t, down to level i, timestep t_prev. Row 0 is the source.

    eps: z (B, C, h, w) -> the guided predictions of all rows at (z, t). trajectory: (S + 1, C, h, w), the solution's,
    by level. strength: (B, 1, 1, 1), how far each row goes from the source (0) to its own text (1).
    """

    schedule: Schedule
    eps: Callable[[Tensor], Tensor]
    i: int
    t: int
    t_prev: int
    trajectory: Tensor
    strength: Tensor

    def ddim(self, x: Tensor, eta: float = 0.0) -> tuple[Tensor, Tensor]:
        """The mean of x_{t-1} (DDIM with eta, its noise left out) and the predicted x_0, both (B, C, h, w)."""
        eps = self.eps(x)
        x_prev = self.schedule.reverse_step(x, eps, eps, self.t, self.t_prev, eta, noise=x.new_zeros(()))
        return x_prev, self.schedule.predicted_x0(x, eps, self.t)


class Decoder(ABC):
    """What a solution needs beside its trajectory to be decoded. Subclasses are frozen dataclasses.

    kind: its name in files, never changed. numbers: those of its fields that a file keeps as numbers, with their
    ranges; tensors: those that it keeps as tensors, which have the trajectory's shape. These are all of its fields.

    holds_source: whether the source ends exactly where the trajectory does, so that nothing has to be computed to make
    it again. skip: share of the reverse steps, the first, that an edit leaves out unless it says otherwise.
    """

    kind: ClassVar[str]
    numbers: ClassVar[Mapping[str, tuple[float, float]]] = {}
    tensors: ClassVar[tuple[str, ...]] = ()
    holds_source: ClassVar[bool] = False

    @property
    def skip(self) -> float:
        return 0.0

    def start(self, trajectory: Tensor, level: int) -> State:
        """The state of one row at a level, each part (1, C, h, w)."""
        return (trajectory[level : level + 1],)

    @abstractmethod
    def step(self, step: ReverseStep, state: State) -> tuple[State, Tensor]:
        """The state after a step, and the predicted x_0 (B, C, h, w) on the way."""

    def guidance_beside(self, own: float, guidance: float) -> float:
        """Of the source, while targets have `guidance`. own: what it has by itself."""
        return own

    def with_carry(self, carry: float) -> Decoder:
        """The same with targets that get `carry` times what holds the source, where there is such a thing."""
        return self

    def to(self, device: torch.device | str) -> Decoder:
        """The same on another device."""
        return self


@dataclass(frozen=True)
class PlainStep(Decoder):
    """DDIM with eta = 0, of the source as of its targets."""

    kind = "plain"

    def step(self, step: ReverseStep, state: State) -> tuple[State, Tensor]:
        (x,) = state
        x_prev, x0 = step.ddim(x)
        return (x_prev,), x0

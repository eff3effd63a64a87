"""The one sampler: from a solution's latent down to pictures, for the source prompt and for others in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention_control import StepControl
from ..row_shifts import RowShifts
from ..text_to_image import TextToImage
from .decoding import ReverseStep, State
from .solution import Solution


@dataclass(frozen=True)
class Conditioning:
    """What the B rows of a batch are to show; the first is the source.

    text: (B, L, E). guidance: (B, 1, 1, 1). strength: (B, 1, 1, 1), how far predictions go from those with the
    source's text to those with the row's own. control: of attention at step i of the S that are done, counted down.
    mask: (1, 1, h, w) in [0, 1], outside which every row is the first. blend: the same for each row (B, 1, h, w), after
    `done` of S steps; None: nowhere. shifts: of h at a timestep, of all rows; None: of none.
    """

    text: Tensor
    guidance: Tensor
    strength: Tensor
    control: Callable[[int, int], StepControl | None] = lambda i, S: None
    mask: Tensor | None = None
    blend: Callable[[int, int], Tensor | None] = lambda done, S: None
    shifts: Callable[[int], RowShifts | None] = lambda t: None


def denoise_batch(
    model: TextToImage, solution: Solution, rows: Conditioning, skip: float = 0.0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Reverse steps from the level that `skip` leaves: (i, predicted x_0, x at level i), both (B, C, h, w)."""
    solution = solution.to(model.device)
    first = solution.steps_left(skip)
    start = solution.decoder.start(solution.trajectory, first)
    state: State = tuple(part.expand(len(rows.text), -1, -1, -1) for part in start)
    for i in range(first - 1, -1, -1):
        state, x0 = _step(model, solution, rows, rows.control(i, first), i, state)
        for mask in (rows.mask, rows.blend(first - i, first)):
            if mask is not None:
                state = tuple(part[:1] + mask.to(part) * (part - part[:1]) for part in state)
        yield i, x0, state[0]


@torch.no_grad()
def _step(
    model: TextToImage, solution: Solution, rows: Conditioning, control: StepControl | None, i: int, state: State
) -> tuple[State, Tensor]:
    levels = [-1, *model.schedule.timesteps(solution.steps)]
    t, t_prev = levels[i + 1], levels[i]

    def eps(z: Tensor) -> Tensor:
        unconditional, guidance = solution.unconditional_at(i), rows.guidance.to(z.dtype)
        return model.guided(z, t, rows.text, unconditional, guidance, control, rows.strength, rows.shifts(t))

    step = ReverseStep(model.schedule, eps, i, t, t_prev, solution.trajectory, rows.strength)
    return solution.decoder.step(step, state)

"""The one sampler: from a solution's latent down to pictures, for the source prompt and for others in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..attention_control import StepControl
from ..text_to_image import TextToImage
from . import edict
from .solution import Solution


@dataclass(frozen=True)
class Rows:
    """What the rows of a batch are made of; the first is the source.

    text: (B, L, E). guidance: (B, 1, 1, 1). strength: (B, 1, 1, 1), how far predictions go from those with the
    source's text to those with the row's own. carry: (B - 1, 1, 1, 1), how much each target gets of what holds the
    source. control: of attention at step i of the S that are done, counted down. mask: (1, 1, h, w) in [0, 1],
    outside which every row is the first.
    """

    text: Tensor
    guidance: Tensor
    strength: Tensor
    carry: Tensor
    control: Callable[[int, int], StepControl | None] = lambda i, S: None
    mask: Tensor | None = None


def descend(
    model: TextToImage, solution: Solution, rows: Rows, skip: float = 0.0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Reverse steps from the level that `skip` leaves: (i, predicted x0, x at level i), both (B, C, h, w)."""
    solution = solution.to(model.device)
    levels = [-1, *model.schedule.timesteps(solution.steps)]
    first = solution.steps - round(skip * solution.steps)
    x = solution.trajectory[first].expand(len(rows.text), -1, -1, -1)
    y = x if solution.partner is None else solution.partner[first].expand_as(x)
    for i in range(first - 1, -1, -1):
        x, y, x0 = _step(model, solution, rows, rows.control(i, first), i, levels[i + 1], levels[i], x, y)
        yield i, x0, x


@torch.no_grad()
def _step(
    model: TextToImage,
    solution: Solution,
    rows: Rows,
    control: StepControl | None,
    i: int,
    t: int,
    t_prev: int,
    x: Tensor,
    y: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    schedule = model.schedule

    def eps(z: Tensor) -> Tensor:
        unconditional, guidance = solution.unconditional_at(i), rows.guidance.to(z.dtype)
        return model.guided(z, t, rows.text, unconditional, guidance, control, rows.strength)

    if solution.partner is not None:
        x_t = x
        x, y = edict.denoise(schedule, x, y, t, t_prev, eps, solution.mixing, x_first=i % 2 == 0)
        x0 = x if t_prev < 0 else schedule.predicted_x0(x_t, schedule.eps_between(x_t, x, t, t_prev), t)
    else:
        e = eps(x)
        x0 = schedule.predicted_x0(x, e, t)
        x = schedule.reverse_step(x, e, e, t, t_prev, solution.eta, noise=x.new_zeros(()))
        if solution.anchored:
            held = solution.trajectory[i : i + 1]
            x = torch.cat((held, x[1:] + rows.carry.to(x) * (held - x[:1])))
    if rows.mask is not None:
        x, y = (z[:1] + rows.mask.to(z) * (z - z[:1]) for z in (x, y))
    return x, y, x0

"""A direction with a little of others, learned by one f_t of the same size.

An image-text model has words that go together: a face with red lips is a smiling one. A sum with others takes out what
a direction changes besides; so that it stays one network, f_t learns the sum along the trajectories that the sum makes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..calibration import calibrated, uneven_timesteps
from ..delta_block import DeltaBlock
from ..directions import CompositeDirection, Direction, ImplicitDirection
from ..editing import EditSettings
from ..intervals import Intervals
from ..models.loader import DiffusionModel
from ..process import USUAL_STEPS
from ..progress import Job, Progress

STRENGTHS = (1.0, -0.7, 0.5)  # of the trajectories that f_t learns from
BATCH, STEPS, RATE = 48, 1500, 2e-3
CHUNK = 16  # latents at once

Examples = tuple[Tensor, Tensor, Tensor]


def corrected(own: Direction, t_edit: int, others: Sequence[tuple[Direction, int, float]]) -> CompositeDirection:
    """The sum of a direction with (direction, t_edit, weight) of others, where it acts itself."""
    return CompositeDirection(
        (own, *(_begun_at(other, own.t_start) for other, _, _ in others)),
        (1.0, *(weight for _, _, weight in others)),
        (t_edit, *(max(t_edit, other) for _, other, _ in others)),
    )


def _begun_at(direction: Direction, t_start: int | None) -> Direction:
    """The same from a timestep on, if it begins before."""
    starts = [start for start in (direction.t_start, t_start) if start is not None]
    return replace(direction, t_start=min(starts, default=None))  # type: ignore[type-var]


def in_units_of_the_first(model: DiffusionModel, whole: CompositeDirection, t_edit: int) -> CompositeDirection:
    """The sum as one direction has to make it: in the app each part counts by its own interval and gain, and as one
    direction all of it by those of the first."""
    steps = USUAL_STEPS["anchored"]
    settings = EditSettings(steps, Intervals(t_edit, 0))
    counted = calibrated(model.schedule, uneven_timesteps(model.schedule, steps), whole, settings).weights
    return replace(whole, weights=tuple(weight / counted[0] for weight in counted))


def examples(model: DiffusionModel, direction: CompositeDirection, t_edit: int, x_T: Tensor) -> Job[Examples]:
    """h (M, C, h, w), emb (M, E) and the shift (M, C, h, w) wherever the sum acts, along what it makes of the latents
    x_T (N, C, h, w) at each of `STRENGTHS`."""
    schedule, rows = model.schedule, []
    timesteps = schedule.timesteps(direction.steps)[::-1]
    there = direction.to(model.device)
    pieces = [(c, part) for c in STRENGTHS for part in x_T.split(CHUNK)]
    for done, (c, part) in enumerate(pieces):
        yield Progress(done, len(pieces), "following the sum")
        x = part.to(model.device)
        for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
            if t < t_edit:
                break
            with torch.no_grad():
                features = model.features(x, t)
                eps_P = eps = model.eps(features, x, t)
                h, emb = features.h.float(), features.emb.float().expand(len(x), -1)
                delta = there.delta_h(h, emb, t)
                if delta.any():
                    rows.append((h.half().cpu(), emb.cpu(), delta.half().cpu()))
                    eps_P = model.eps(features, x, t, c * delta)
                x = schedule.reverse_step(x, eps_P, eps, t, t_prev)
    h, emb, delta = (torch.cat(column) for column in zip(*rows, strict=True))
    return h, emb, delta


def learned(
    start: ImplicitDirection, shown: Examples, device: torch.device, steps: int = STEPS
) -> Job[ImplicitDirection]:
    """One f_t that does what the sum does, from that of the direction itself.

    The loss of events is the share of the shift that is missed: root mean square, next to that of the shift.
    """
    h, emb, delta = shown
    f_t = DeltaBlock(start.f_t.conv1.in_channels, start.f_t.temb_proj.in_features, start.f_t.conv1.out_channels)
    f_t.load_state_dict(start.f_t.state_dict())
    f_t.to(device).train().requires_grad_(True)
    optimiser = torch.optim.Adam(f_t.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(0)
    size = delta.float().square().mean().to(device)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(len(h), (BATCH,), generator=generator)
        loss = F.mse_loss(f_t(h[rows].to(device).float(), emb[rows].to(device)), delta[rows].to(device).float()) / size
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield Progress(step + 1, steps, "learning the sum", loss=math.sqrt(loss.item()))
    return replace(start, f_t=f_t.cpu().eval().requires_grad_(False))

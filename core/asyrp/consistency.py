"""How delta h depends on the timestep and on the picture (Asyrp, section 5.3, figure 10 and appendix L.1).

The paper finds delta h roughly the same for all pictures and timesteps, and its distance from the global direction
growing along the process. Here both are numbers, for any direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..directions import Direction
from ..models.loader import DiffusionModel
from ..precision import in_float64
from ..progress import Job, Progress
from .forms import acting_timesteps, along_edit


@dataclass(frozen=True)
class AtTimestep:
    """What a direction's shifts are at one timestep, over N pictures.

    size: mean of ||delta_h||. share: size per ||h||, mean. across: mean cosine of each picture's shift and the mean of
    all, 1 if it is the same for every picture. along: cosine of that mean and the global direction. distance:
    ||mean - global|| per ||global||.
    """

    t: int
    size: float
    share: float
    across: float
    along: float
    distance: float


def consistency(model: DiffusionModel, direction: Direction, x_T: Tensor, t_edit: int) -> Job[list[AtTimestep]]:
    """Along the edited trajectories of the latents x_T (N, C, h, w) at the direction's S, the noisiest timestep first.

    Raises:
        RequestError: the direction does nothing at noise levels from t_edit up.
    """
    total = len(acting_timesteps(model, direction, t_edit))
    timesteps, shifts, sizes = [], [], []
    for step in along_edit(model, direction, x_T, t_edit):
        timesteps.append(step.t)
        shifts.append(step.delta_h.flatten(1).cpu())
        sizes.append(step.features.h.float().flatten(1).norm(dim=1).cpu())
        yield Progress(len(timesteps), total, "measuring")
    return compared(timesteps, torch.stack(shifts), torch.stack(sizes))


def compared(timesteps: list[int], shifts: Tensor, sizes: Tensor) -> list[AtTimestep]:
    """shifts: delta_h of each picture at each timestep (K, N, D). sizes: ||h|| of the same (K, N)."""
    shifts = in_float64(shifts)
    means = shifts.mean(1)
    whole = means.mean(0)
    lengths = shifts.norm(dim=2)
    cosine = torch.nn.functional.cosine_similarity
    across = cosine(shifts, means[:, None], dim=2).mean(1)
    along, away = cosine(means, whole[None], dim=1), (means - whole).norm(dim=1) / whole.norm().clamp(min=1e-30)
    share = (lengths / in_float64(sizes).clamp(min=1e-30)).mean(1)
    columns = (lengths.mean(1), share, across, along, away)
    return [AtTimestep(t, *values) for t, *values in zip(timesteps, *(c.tolist() for c in columns), strict=True)]

"""Random shifts of the size of a direction's own (Asyrp, section 5.3 "Robustness", figure 9, appendix D.2).

In h-space a random direction of equal size changes little, or something else that still is a picture; in eps-space it
destroys the picture. A direction in eps is one of the model that `core.layers.at_layer(model, "eps")` gives.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..directions import Direction, PerTimestepDirection
from ..models.loader import DiffusionModel
from .forms import along_edit

Space = Literal["h", "eps"]


def random_like(direction: PerTimestepDirection, seed: int = 0) -> PerTimestepDirection:
    """At each timestep a random direction, uniform over all, with the Euclidean norm of the shift in its place.

    Of an f_t take `mean_direction` of one latent first, as figure 9 does: the size is that of an example.
    """
    z = torch.randn(direction.deltas.shape, generator=torch.Generator().manual_seed(seed))
    return PerTimestepDirection(
        direction.timesteps, of_norms(z, norms(direction.deltas)), direction.steps, direction.t_start, direction.gain
    )


def random_of_equal_share(
    model: DiffusionModel, direction: Direction, x_T: Tensor, t_edit: int, space: Space, seed: int = 0
) -> PerTimestepDirection:
    """At each timestep at which a direction edits the latents x_T (N, C, h, w) a random shift of h, or of eps, that is
    as large a share of what it shifts as delta_h is of h: ||delta|| / ||h|| or ||delta|| / ||eps||, mean over N. So
    both spaces are disturbed equally.

    Raises:
        RequestError: the direction does nothing at noise levels from t_edit up.
    """
    steps = list(along_edit(model, direction, x_T, t_edit))[::-1]
    sizes = []
    for step in steps:
        h = step.features.h.float()
        share = (norms(step.delta_h) / norms(h)).mean()
        sizes.append((share * norms(h if space == "h" else step.eps).mean()).cpu())
    shape = model.card.h_shape if space == "h" else model.x_shape
    z = torch.randn((len(steps), *shape), generator=torch.Generator().manual_seed(seed))
    timesteps = torch.tensor([step.t for step in steps])
    return PerTimestepDirection(timesteps, of_norms(z, torch.stack(sizes)), direction.steps, direction.t_start)


def gaussian(
    shape: tuple[int, ...], timesteps: Tensor, steps: int, sigma: float, seed: int = 0
) -> PerTimestepDirection:
    """z ~ N(0, sigma^2 I) at each of the ascending timesteps (K,), for the curve of damage against its size (figure 13
    e). shape: (C, H, W). steps: S, the number of steps of the process that these are all or some of."""
    z = torch.randn((len(timesteps), *shape), generator=torch.Generator().manual_seed(seed))
    return PerTimestepDirection(timesteps, sigma * z, steps)


def norms(deltas: Tensor) -> Tensor:
    """Euclidean norms (K,) of shifts (K, C, H, W)."""
    return deltas.flatten(1).norm(dim=1)


def of_norms(deltas: Tensor, lengths: Tensor) -> Tensor:
    """Shifts (K, C, H, W) in the same directions with other norms (K,)."""
    return deltas * (lengths / norms(deltas).clamp(min=1e-30))[:, None, None, None].to(deltas)

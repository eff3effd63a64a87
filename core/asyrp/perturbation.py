"""Random shifts of the size of a direction's own (Asyrp, section 5.3 "Robustness", figure 9, appendix D.2).

In h-space a random direction of equal size changes little, or something else that still is a picture; in eps-space it
destroys the picture. A direction in eps is one of the model that `core.layers.at_layer(model, "eps")` gives.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..directions import PerTimestepDirection


def random_like(direction: PerTimestepDirection, seed: int = 0) -> PerTimestepDirection:
    """At each timestep a random direction, uniform over all, with the Euclidean norm of the shift in its place.

    Of an f_t take `mean_direction` of one latent first, as figure 9 does: the size is that of an example.
    """
    z = torch.randn(direction.deltas.shape, generator=torch.Generator().manual_seed(seed))
    return PerTimestepDirection(
        direction.timesteps, of_norms(z, norms(direction.deltas)), direction.steps, direction.t_start, direction.gain
    )


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

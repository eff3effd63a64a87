"""PCA of h over random samples, per timestep (Haas et al. 2024, section 3): of the model, not of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..directions import GlobalDirection, PerTimestepDirection
from ..editing import sample_latent
from ..errors import RequestError
from ..memory import explain_memory_errors
from ..models.loader import DiffusionModel
from ..progress import Job, Progress
from ..regions import Region
from .basis import Basis
from .interface import DiscoveryMethod, DiscoverySettings, FoundDirection

NAME = "pca"
SAMPLES, COMPONENTS = 64, 10


@dataclass(frozen=True)
class PrincipalComponents:
    """Principal components of h over samples, per timestep.

    timesteps: (T,), ascending. components: float32 (T, n, C, H, W), unit norm, the largest first. deviations: (T, n),
    standard deviations along them. steps: of the trajectories.
    """

    timesteps: tuple[int, ...]
    components: Tensor
    deviations: Tensor
    steps: int

    @property
    def nbytes(self) -> int:
        return self.components.nbytes + self.deviations.nbytes


def principal_components(
    model: DiffusionModel,
    timesteps: Sequence[int],
    samples: int = SAMPLES,
    components: int = COMPONENTS,
    steps: int | None = None,
    seed: int = 0,
) -> Job[PrincipalComponents]:
    """Principal components of h at some timesteps of a DDIM trajectory, over samples of the model.

    steps: of the trajectory, by default the model's own. seed: of the first sample; sample i has the noise of seed + i.

    Raises:
        RequestError: fewer samples than components + 1, or timesteps that the trajectory does not visit.
        ResourceError: out of memory.
    """
    steps = steps or model.card.steps
    wanted, trajectory = sorted(set(timesteps)), model.schedule.timesteps(steps)
    if not wanted or not set(wanted) <= set(trajectory):
        raise RequestError(f"Timesteps must be among those of {steps} steps.")
    if not 1 <= components < samples <= 10_000:
        raise RequestError("PCA needs more samples than components.")
    downward = [t for t in trajectory[::-1] if t >= wanted[0]]
    sampled: dict[int, list[Tensor]] = {t: [] for t in wanted}
    size, total = min(samples, model.rows_per_call()), samples * len(downward)
    for first in range(0, samples, size):
        x = sample_latent(model, seed + first, min(size, samples - first)).x_T
        for k, t in enumerate(downward):
            with explain_memory_errors():
                x, h = _step(model, x, t, downward[k + 1] if k + 1 < len(downward) else None)
            if t in sampled:
                sampled[t].append(h.float().cpu())
            yield Progress(first * len(downward) + (k + 1) * len(x), total, "sampling the model")
    per_timestep = [_principal(torch.cat(sampled[t]), components) for t in wanted]
    for (earlier, _), (later, _) in zip(per_timestep, per_timestep[1:], strict=False):
        # The sign of a component means nothing: keep it along t.
        later *= torch.where((earlier * later).sum((1, 2, 3)) < 0, -1.0, 1.0)[:, None, None, None]
    axes, deviations = (torch.stack(parts) for parts in zip(*per_timestep, strict=True))
    return PrincipalComponents(tuple(wanted), axes, deviations, steps)


@torch.no_grad()
def _step(model: DiffusionModel, x: Tensor, t: int, t_prev: int | None) -> tuple[Tensor, Tensor]:
    """(x at t_prev, h at t); without t_prev, x itself."""
    features = model.features(x, t)
    if t_prev is None:
        return x, features.h
    eps = model.eps(features, x, t)
    return model.schedule.reverse_step(x, eps, eps, t, t_prev), features.h


def _principal(h: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(n, C, H, W) unit axes and (n,) standard deviations of the rows of h (N, C, H, W)."""
    _, s, Vh = torch.linalg.svd((h - h.mean(0)).flatten(1), full_matrices=False)
    return Vh[:n].unflatten(1, h.shape[1:]).contiguous(), s[:n] / (len(h) - 1) ** 0.5


def prepare(model: DiffusionModel, t: int, count: int) -> Job[PrincipalComponents]:
    """The components that a search needs: `count` of them at timestep t. Raises as `principal_components`."""
    return principal_components(model, [t], components=count)


def directions(basis: Basis, regions: Sequence[Region], settings: DiscoverySettings) -> list[FoundDirection]:
    """Leading components, whatever the image and the region. One timestep makes a global direction, several one per
    timestep. Their effect on the image is not in the basis: see `locality.measure_locality`.

    Raises:
        RequestError: `settings.prepared` holds no principal components, or those of another model.
    """
    principal = settings.prepared
    if not isinstance(principal, PrincipalComponents):
        raise RequestError("PCA needs samples of the model first.")
    if principal.components.shape[2:] != basis.vectors.shape[1:]:
        raise RequestError("The principal components belong to another model.")
    timesteps, steps = principal.timesteps, basis.steps
    nearest = min(range(len(timesteps)), key=lambda i: abs(timesteps[i] - basis.t))
    found = []
    for j in range(min(settings.count, principal.components.shape[1])):
        axes = basis.unit * principal.components[:, j]
        direction = (
            GlobalDirection(axes, steps)
            if len(timesteps) == 1
            else PerTimestepDirection(torch.tensor(timesteps), axes, steps)
        )
        found.append(FoundDirection(direction, principal.deviations[nearest, j].item() / basis.unit, NAME, ""))
    return found


METHOD = DiscoveryMethod(
    name=NAME,
    label="PCA: what varies most among pictures",
    find=directions,
    value_name="deviation",
    value_help="Standard deviation of h along this direction among the model's pictures.",
    needs_region=False,
    per_region=False,
    prepare=prepare,
)

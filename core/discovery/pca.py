"""PCA of h over random samples, per timestep (Haas et al. 2024, section 3): of the model, not of an image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..directions import GlobalDirection, PerTimestepDirection
from ..editing import sample_latent
from ..errors import RequestError, ResourceError
from ..models.loader import DiffusionModel
from ..progress import Job, Progress
from ..regions import Region
from .basis import Basis
from .found import Found, PrincipalComponents, Settings

NAME = "pca"
SAMPLES, COMPONENTS = 64, 10


def collect(
    model: DiffusionModel,
    timesteps: Sequence[int],
    samples: int = SAMPLES,
    components: int = COMPONENTS,
    steps: int | None = None,
    seed: int = 0,
) -> Job:
    """Principal components of h at some timesteps of a DDIM trajectory. Result: `PrincipalComponents`.

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
    seen: dict[int, list[Tensor]] = {t: [] for t in wanted}
    size = min(samples, model.rows_per_call())
    for first in range(0, samples, size):
        x = sample_latent(model, seed + first, min(size, samples - first)).x_T
        for k, t in enumerate(downward):
            try:
                x, h = _step(model, x, t, downward[k + 1] if k + 1 < len(downward) else None)
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise ResourceError("The machine ran out of memory. Choose a smaller model.") from error
            if t in seen:
                seen[t].append(h.float().cpu())
            done = first * len(downward) + (k + 1) * len(x)
            if done < samples * len(downward):
                yield Progress(done, samples * len(downward), "sampling")
    found = [_principal(torch.cat(seen[t]), components) for t in wanted]
    for (earlier, _), (later, _) in zip(found, found[1:], strict=False):  # a sign means nothing: keep it along t
        later *= torch.where((earlier * later).sum((1, 2, 3)) < 0, -1.0, 1.0)[:, None, None, None]
    axes, deviations = (torch.stack(parts) for parts in zip(*found, strict=True))
    total = samples * len(downward)
    yield Progress(total, total, "sampling", result=PrincipalComponents(tuple(wanted), axes, deviations, steps))


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


def directions(basis: Basis, regions: Sequence[Region], settings: Settings) -> list[Found]:
    """Leading components, whatever the image and the region. One timestep makes a global direction, several one per
    timestep. Their effect on the image is not in the basis: see `locality.measure`.

    Raises:
        RequestError: `settings.components` is missing, or belongs to another model.
    """
    known = settings.components
    if known is None:
        raise RequestError("PCA needs samples of the model first.")
    if known.components.shape[2:] != basis.vectors.shape[1:]:
        raise RequestError("The principal components belong to another model.")
    found = []
    for j in range(min(settings.count, known.components.shape[1])):
        axes = known.components[:, j]
        nearest = min(range(len(known.timesteps)), key=lambda i: abs(known.timesteps[i] - basis.t))
        one = len(known.timesteps) == 1
        steps = basis.steps
        direction = (
            GlobalDirection(axes, steps) if one else PerTimestepDirection(torch.tensor(known.timesteps), axes, steps)
        )
        found.append(Found(direction, known.deviations[nearest, j].item(), NAME, ""))
    return found

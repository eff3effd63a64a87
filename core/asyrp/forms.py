"""Other forms of a direction: its mean over pictures, the mean of that over time (Asyrp, appendix L.1), and the shift
of eps that it comes to. All are of the shifts that it makes along edited trajectories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..directions import Direction, GlobalDirection, PerTimestepDirection
from ..errors import RequestError
from ..models.loader import DiffusionModel
from ..unet import Features


@dataclass(frozen=True)
class Shifted:
    """A step of an edit at which a direction acts. delta_h: (B, C, H, W), float32. eps, eps_P: without and with it."""

    t: int
    features: Features
    delta_h: Tensor
    eps: Tensor
    eps_P: Tensor


def acting_timesteps(model: DiffusionModel, direction: Direction, t_edit: int) -> list[int]:
    """Timesteps >= t_edit of the direction's S at which it acts, descending.

    Raises:
        RequestError: there are none.
    """
    known = [t for t in reversed(model.schedule.timesteps(direction.steps)) if t >= t_edit and direction.acts_at(t)]
    if not known:
        raise RequestError(
            f"This direction does nothing at noise levels from {t_edit} up. Let it act further down: a smaller end of "
            "the editing interval (t_edit)."
        )
    return known


def along_edit(model: DiffusionModel, direction: Direction, x_T: Tensor, t_edit: int) -> Iterator[Shifted]:
    """The asymmetric steps of an edit of the latents x_T (B, C, h, w) in the direction's S, where it acts, down to the
    last of those. Raises as `acting_timesteps`."""
    schedule, there, known = model.schedule, direction.to(model.device), acting_timesteps(model, direction, t_edit)
    timesteps = [t for t in reversed(schedule.timesteps(direction.steps)) if t >= known[-1]]
    x = x_T.to(model.device)
    for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        with torch.no_grad():
            features = model.features(x, t)
            eps_P = eps = model.eps(features, x, t)
            if t in known:
                h = features.h.float()
                delta_h = there.delta_h(h, features.emb.float(), t).expand_as(h)
                eps_P = model.eps(features, x, t, delta_h)
            x = schedule.reverse_step(x, eps_P, eps, t, t_prev)
        if t in known:
            yield Shifted(t, features, delta_h, eps, eps_P)


def mean_direction(model: DiffusionModel, direction: Direction, x_T: Tensor, t_edit: int) -> PerTimestepDirection:
    """dh_mean (Appendix L.1): the mean of delta_h_t over the latents x_T (N, C, h, w) along their edited trajectories,
    at every timestep of the direction's S >= t_edit. 20 latents suffice according to the paper.

    Raises:
        RequestError: the direction does nothing at noise levels from t_edit up.
    """
    known = acting_timesteps(model, direction, t_edit)
    sums = torch.zeros(len(known), *model.card.h_shape)
    for part in x_T.split(model.rows_per_call()):
        for k, step in enumerate(along_edit(model, direction, part, t_edit)):
            sums[k] += step.delta_h.sum(0).cpu()
    means = sums.flip(0) / len(x_T)
    return PerTimestepDirection(torch.tensor(known[::-1]), means, direction.steps, direction.t_start)


def global_direction(mean: PerTimestepDirection) -> GlobalDirection:
    """dh_global (Appendix L.1): the mean of dh_mean over the timesteps of the editing interval."""
    return GlobalDirection(mean.deltas.mean(0, keepdim=True), mean.steps, mean.t_start)


def in_eps(model: DiffusionModel, direction: Direction, x_T: Tensor, t_edit: int) -> PerTimestepDirection:
    """The shift of eps that a shift of h comes to, eps(h + delta_h) - eps(h): as `mean_direction`, for the same model
    seen in eps (`core.layers.at_layer(model, "eps")`), where that of one latent makes the same edit of it."""
    steps = list(along_edit(model, direction, x_T, t_edit))
    shifts = torch.stack([(step.eps_P - step.eps).mean(0).cpu() for step in reversed(steps)])
    timesteps = torch.tensor([step.t for step in reversed(steps)])
    return PerTimestepDirection(timesteps, shifts, direction.steps, direction.t_start)

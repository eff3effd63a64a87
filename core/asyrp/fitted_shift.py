"""The shift of h that does what a change of words does: a direction by least squares, without an image-text model.

A change of words changes the prediction of a picture by

    d_t = m (eps(x_t, t, target) - eps(x_t, t, source)),

kept to where it acts most: m = e^2 / (e^2 + (FOCUS max e)^2), with e the energy of the change at a place, over all
noise levels. The words act through the cross-attention of all blocks, and the mean shift of h
(`core.asyrp.prompt_shift`) is little of it. What a decoder makes of h + dh can be fitted to it:

    dh_t = argmin  sum |G(h(x_t) + dh) - eps(x_t, t) - d_t|^2 / sum |d_t|^2  +  RIDGE |dh|^2 / mean |h(x_t)|^2,
             dh

one shift for all x_t: those of one picture, or of pictures that the model draws from the source prompt. G and eps read
the prompt that edited pictures are bound to. Started from the shift at the noise level above, by L-BFGS.

Ours. G, h and the shift for every timestep are those of Asyrp (Kwon et al. 2023), section 3 and Appendix L; its loss
takes an image-text model's word for what the words mean, this one the network's own. That the difference of two
predictions says where words act is DiffEdit's (Couairon et al. 2023, section 3.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..anchoring import source_path
from ..directions import PerTimestepDirection
from ..editing import predict, sample_latent
from ..memory import explain_memory_errors
from ..models.loader import DiffusionModel
from ..progress import Job, Progress, stage
from ..unet import Features
from .prompt_shift import require_one_model, require_samples

SAMPLES, STEPS = 16, 10
HELD_OUT = 2  # further samples, that the fit is measured on
ITERATIONS, ITERATIONS_OF_PICTURE = 8, 16
FOCUS = 0.2
RIDGE = 0.1
FIRST_STEP = 0.05  # of the root mean square of h: about the size of the first step along the gradient
FITTING = "fitting the words"
KEPT_ROWS = 4  # rows of a call without gradients per row of one with them


@dataclass(frozen=True)
class Level:
    """Pictures at a noise level, x (N, C, h, w), and what the words change of their predictions."""

    t: int
    x: Tensor
    change: Tensor


@dataclass
class Fitting:
    """How far a fit is. deltas: (C, h, w) of the noise levels that are done, from above. missed, whole: of what the
    words do to the prediction there, on pictures that it is not fitted to, what is not explained, and all of it."""

    deltas: list[Tensor] = field(default_factory=list)
    missed: float = 0.0
    whole: float = 0.0


@dataclass(frozen=True)
class FittedShift:
    """direction: dh_t for every timestep. explained: share of what the words do to the prediction, in squares, on
    pictures that it was not fitted to, or on the one that it was: 1 is all of it."""

    direction: PerTimestepDirection
    explained: float


def fitted_shift(
    source: DiffusionModel,
    target: DiffusionModel,
    samples: int = SAMPLES,
    steps: int = STEPS,
    seed: int = 0,
    iterations: int | None = None,
    so_far: Fitting | None = None,
    picture: Tensor | None = None,
    bound: DiffusionModel | None = None,
) -> Job[FittedShift]:
    """dh_t at every timestep of a trajectory of `steps` steps.

    source, target: one text-to-image model with two prompts (`core.prompted.with_prompt`). bound: the same with the
    prompt that pictures are bound to when they are edited, by default the source prompt. picture: (1, 3, R, R) in
    [-1, 1], that the shift is fitted to; by default it is fitted to `samples` of the model under the source prompt, the
    noise of row i that of seed + i. The direction counts as made with the model's own number of steps: at a strength of
    1, added to both terms of every one of them, it stands for the words. In float32, whatever the model has: a line
    search goes by small differences. so_far: is filled in, and taken on from where it is.

    Raises:
        RequestError: these are two models, no samples are asked for, or the step count is out of range.
        ResourceError: out of memory.
    """
    bound = bound or source
    require_one_model(source, target)
    require_one_model(source, bound)
    require_samples(samples)
    source, target, bound = (
        replace(model, unet=model.unet.in_float32(), dtype=torch.float32) for model in (source, target, bound)
    )
    fitted, unseen = (1, slice(None)) if picture is not None else (samples, slice(samples, None))
    iterations = iterations or (ITERATIONS if picture is None else ITERATIONS_OF_PICTURE)
    so_far = so_far or Fitting()
    timesteps = source.schedule.timesteps(steps)
    total = steps * (1 + iterations)
    with explain_memory_errors("Take fewer samples."):
        if picture is None:
            x_T = sample_latent(source, seed, samples + HELD_OUT).x_T.float()
            job = drawn_levels(source, target, x_T, timesteps)
        else:
            job = levels_of_picture(source, target, bound, picture, timesteps)
        levels = yield from stage(job, "comparing the words", total=total)
        m = focus([level.change for level in levels])
        for k, level in enumerate(levels):
            is_new = k >= len(so_far.deltas)
            if is_new:
                x, t = level.x, level.t
                features, eps = _prediction(bound, x, t)
                above = so_far.deltas[-1][None] if so_far.deltas else torch.zeros(1, *source.card.h_shape)
                search = fit(bound, features, x, t, eps + m * level.change, eps, fitted, above.to(x), iterations)
                delta = yield from stage(search, first=steps + k * iterations, total=total)
                missed = _shifted(bound, features, x, t, delta, unseen) - (eps + level.change)[unseen]
                so_far.deltas.append(delta[0].cpu())
                so_far.missed += missed.square().sum().item()
                so_far.whole += level.change[unseen].square().sum().item()
            yield Progress(steps + (k + 1) * iterations, total, FITTING, kept=is_new)
    deltas = torch.stack(so_far.deltas[::-1])
    direction = PerTimestepDirection(torch.tensor(timesteps), deltas, source.card.steps)
    return FittedShift(direction, 1 - so_far.missed / so_far.whole if so_far.whole else 0.0)


def drawn_levels(
    source: DiffusionModel, target: DiffusionModel, x: Tensor, timesteps: Sequence[int]
) -> Job[list[Level]]:
    """Pictures that the model draws from the source prompt, from the highest level down. timesteps: ascending."""
    levels, down = [], timesteps[::-1]
    for k, (t, t_prev) in enumerate(zip(down, [*down[1:], -1], strict=True)):
        eps = predict(source, x, t)
        levels.append(Level(t, x, predict(target, x, t) - eps))
        x = source.schedule.reverse_step(x, eps, eps, t, t_prev)
        yield Progress(k + 1, len(down))
    return levels


def levels_of_picture(
    source: DiffusionModel, target: DiffusionModel, bound: DiffusionModel, picture: Tensor, timesteps: Sequence[int]
) -> Job[list[Level]]:
    """A picture on the path on which it is edited (`core.anchoring`), from the highest level down."""
    path = yield from stage(source_path(bound, picture, timesteps), total=len(timesteps), previews=False)
    levels = []
    for t, x in zip(timesteps, path.x[1:].float(), strict=True):
        levels.append(Level(t, x, predict(target, x, t) - predict(source, x, t)))
    return levels[::-1]


def focus(changes: Sequence[Tensor]) -> Tensor:
    """m (N, 1, h, w), near 1 where the words change the predictions of a picture most and near 0 elsewhere. changes:
    (N, C, h, w) of every noise level, all of which count alike."""
    energies = torch.stack([change.square().sum(1, keepdim=True) for change in changes])
    tiny = torch.finfo(energies.dtype).tiny
    shares = energies / energies.amax((3, 4), keepdim=True).clamp(min=tiny)
    e = F.avg_pool2d(F.pad(shares.mean(0), (1, 1, 1, 1), mode="replicate"), 3, 1)
    return e.square() / (e.square() + (FOCUS * e.amax((2, 3), keepdim=True)).square()).clamp(min=tiny)


@torch.no_grad()
def _prediction(model: DiffusionModel, x: Tensor, t: int) -> tuple[Features, Tensor]:
    """(features, eps)."""
    features = model.features(x, t)
    return features, model.eps(features, x, t)


def _shifted(model: DiffusionModel, features: Features, x: Tensor, t: int, delta: Tensor, rows: slice) -> Tensor:
    """eps of some rows at h + delta."""
    with torch.set_grad_enabled(delta.requires_grad):
        part = features.select(rows)
        return model.eps(part, x[rows], t, delta.expand(len(part.h), -1, -1, -1))


def fit(
    model: DiffusionModel,
    features: Features,
    x: Tensor,
    t: int,
    wanted: Tensor,
    eps: Tensor,
    samples: int,
    start: Tensor,
    iterations: int = ITERATIONS,
) -> Job[Tensor]:
    """The shift (1, C, h, w) with which the model's predictions of the first `samples` rows of x come nearest to the
    wanted ones. features: the model's, at (x, t). eps: its predictions without a shift; where these are the wanted ones
    there is nothing to fit, and the shift is zero."""
    goal = (wanted - eps)[:samples].square().sum()
    rms = features.h[:samples].float().square().mean().sqrt()
    if goal <= 1e-12 * eps[:samples].square().sum():
        return torch.zeros_like(start)
    evaluated: list[tuple[Tensor, Tensor, Tensor]] = []  # u, its value, its gradient
    scale = FIRST_STEP * start.numel() * rms  # L-BFGS begins with a step of L1 norm 1
    u = (start / scale).detach().requires_grad_()
    size = max(1, model.rows_per_call() // KEPT_ROWS)
    pieces = [slice(first, min(first + size, samples)) for first in range(0, samples, size)]

    def losses() -> Iterator[Tensor]:
        yield RIDGE * (u * scale / rms).square().mean()
        for rows in pieces:
            yield (_shifted(model, features, x, t, u * scale, rows) - wanted[rows]).square().sum() / goal

    def closure() -> Tensor:
        for known, value, gradient in evaluated:  # an iteration begins where the one before has ended
            if torch.equal(known, u):
                u.grad = gradient.clone()
                return value
        u.grad, value = torch.zeros_like(u), u.new_zeros(())
        for part in losses():  # one graph at a time
            u.grad += torch.autograd.grad(part, u)[0]
            value += part.detach()
        evaluated.append((u.detach().clone(), value, u.grad.clone()))
        return value

    search = torch.optim.LBFGS(
        [u],
        max_iter=1,  # of a call: in between, others have their turn
        history_size=iterations,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    for k in range(iterations):
        left = 2 * iterations - len(evaluated)
        if left <= 0:
            break
        search.param_groups[0]["max_eval"] = left + 1  # it counts where it begins
        search.step(closure)
        yield Progress(k + 1, iterations, FITTING)
    return (u * scale).detach()

"""The shift of h that does what a change of words does: a direction by least squares, without an image-text model.

Let x_T, ..., x_0 be the path of a picture (`core.anchoring`). A change of words takes it along another one, which is
anchored to it:

    w_{t-1} = step(w_t, eps(w_t, t, target)) + x_{t-1} - step(x_t, eps(x_t, t, source)),        w_T = x_T.

Of this is wanted what it does where it acts most, y_t = x_t + m (w_t - x_t), with m = e^2 / (e^2 + (FOCUS max e)^2) and
e the energy of the difference of the two predictions of x_t at a place, over all noise levels. The words act through
the cross-attention of all blocks, and the mean shift of h (`core.asyrp.prompt_shift`) is little of it. A shift of h is
fitted that takes the edited picture along y, and at a strength s along y_t(s) = x_t + s (y_t - x_t):

    x'_{t-1} = step(x'_t, G(h(x'_t) + s dh_t)) + x_{t-1} - step(x_t, G(h(x_t))),                x'_T = x_T,

    dh_t = argmin  sum |x'_{t-1} - y_{t-1}(s)|^2 / s^2 / (that without dh_t)  +  RIDGE |dh_t|^2 / mean |h(x'_t)|^2,

one shift for all x_t and s: for one picture at all STRENGTHS, or for pictures that the model draws from the source
prompt, at one of them each. What the shift at one level leaves undone is made up for at the next. G reads the prompt
that edited pictures are bound to, without guidance; eps has it. Started from the shift at the noise level above, by
L-BFGS.

Ours. G, h and the shift for every timestep are those of Asyrp (Kwon et al. 2023), section 3 and Appendix L; its loss
takes an image-text model's word for what the words mean, this one the network's own. That the difference of two
predictions says where words act is DiffEdit's (Couairon et al. 2023, section 3.2), the path of the words that of direct
inversion (Ju et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..anchoring import source_path
from ..calibration import calibrated, uneven_timesteps
from ..conditional_unet import PromptedUNet
from ..directions import PerTimestepDirection
from ..editing import EditSettings, predict, sample_latent
from ..memory import explain_memory_errors
from ..models.loader import DiffusionModel
from ..progress import Job, Progress, stage
from ..schedule import Schedule
from ..unet import Features
from .prompt_shift import require_one_model, require_samples

SAMPLES, STEPS = 8, 14  # these are the levels of the usual edit, seven steps and twice as many of a symmetric shift
HELD_OUT = 2  # further samples, that the fit is measured on
ITERATIONS = 8  # more of them fit what only the path needs, and strengths beyond 1 suffer
FOCUS = 0.2
RIDGE = 0.1
STRENGTHS = (1.0, 0.5, 1.5)  # a shift that is fitted at 1 alone soon breaks pictures beyond it
GUIDANCE = 5.0
FIRST_STEP = 0.05  # of the root mean square of h: about the size of the first step along the gradient
FITTING = "fitting the words"
KEPT_ROWS = 4  # rows of a call without gradients per row of one with them


@dataclass
class Fitting:
    """How far a fit is. deltas: (C, h, w) of the noise levels that are done, from above."""

    deltas: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class FittedShift:
    """direction: dh_t for every timestep. explained: share of what is wanted of the words, in squares of the clean
    latents, on pictures that it was not fitted to, or on the one that it was: 1 is all of it."""

    direction: PerTimestepDirection
    explained: float


def fitted_shift(
    source: DiffusionModel,
    target: DiffusionModel,
    samples: int = SAMPLES,
    steps: int = STEPS,
    seed: int = 0,
    iterations: int = ITERATIONS,
    so_far: Fitting | None = None,
    picture: Tensor | None = None,
    bound: DiffusionModel | None = None,
    guidance: float = GUIDANCE,
) -> Job[FittedShift]:
    """dh_t at the timesteps of an edit in `steps` steps.

    source, target: one text-to-image model with two prompts (`core.prompted.with_prompt`). bound: the same as it is
    when pictures are edited, by default with the source prompt. guidance: of the words. picture: (1, 3, R, R) in
    [-1, 1], that the shift is fitted to; by default it is fitted to `samples` of the model under the source prompt, the
    noise of row i that of seed + i. At a strength of 1, added to both terms, the direction stands for the words. In
    float32, whatever the model has: a line search goes by small differences. so_far: is filled in, and taken on from
    where it is.

    Raises:
        RequestError: these are two models, no samples are asked for, or the step count is out of range.
        ResourceError: out of memory.
    """
    bound = bound or source
    require_one_model(source, target)
    require_one_model(source, bound)
    require_samples(samples)
    network = bound.unet.in_float32().unet
    bound, drawing = _with(network, bound), _with(network, source)
    source, target = _with(network, source, guidance), _with(network, target, guidance)
    so_far = so_far or Fitting()
    schedule, timesteps = source.schedule, uneven_timesteps(source.schedule, steps)
    total = steps * (2 + iterations)
    with explain_memory_errors("Take fewer samples."):
        if picture is None:
            x = yield from stage(drawn_path(drawing, timesteps, seed, samples + HELD_OUT), total=total)
            strengths = [*islice(cycle(STRENGTHS), samples), *[1.0] * HELD_OUT]
            fitted, judged, predictions = samples, slice(samples, None), None
        else:
            job = source_path(bound, picture, timesteps)
            path = yield from stage(job, "reading the picture", total=total, previews=False)
            x, predictions, strengths = path.x.float(), path.eps.float(), [*STRENGTHS]
            fitted, judged = len(strengths), slice(strengths.index(1.0), strengths.index(1.0) + 1)
        y = yield from stage(path_of_words(source, target, x, timesteps), first=steps, total=total)
        s = x.new_tensor(strengths)[:, None, None, None]
        y = x + s * (y - x)
        edited = x[-1].expand_as(y[-1])
        for k in reversed(range(steps)):  # level k + 1 to level k
            t, t_prev, done = timesteps[k], timesteps[k - 1] if k else -1, steps - 1 - k
            features, eps = _prediction(bound, edited, t)
            of_source = predict(bound, x[k + 1], t) if predictions is None else predictions[k]
            anchor = x[k] - _step(schedule, x[k + 1], of_source, t, t_prev)
            unshifted = _step(schedule, edited, eps, t, t_prev)
            slope = (_step(schedule, edited, eps + 1, t, t_prev) - unshifted).mean()  # the step is affine in eps
            is_new = done >= len(so_far.deltas)
            if is_new:
                wanted = eps + (y[k] - anchor - unshifted) / slope
                above = so_far.deltas[-1][None] if so_far.deltas else torch.zeros(1, *source.card.h_shape)
                search = fit(bound, features, edited, t, wanted, eps, s[:fitted], above.to(edited), iterations)
                delta = yield from stage(search, first=2 * steps + done * iterations, total=total)
                so_far.deltas.append(delta[0].cpu())
            delta = so_far.deltas[done][None].to(edited)
            edited = _step(schedule, edited, _shifted(bound, features, edited, t, s * delta), t, t_prev) + anchor
            yield Progress(2 * steps + (done + 1) * iterations, total, FITTING, kept=is_new)
    missed, whole = ((one - y[0])[judged].square().sum().item() for one in (edited, x[0]))
    deltas = torch.stack(so_far.deltas[::-1])
    direction = PerTimestepDirection(torch.tensor(timesteps), deltas, source.card.steps)
    # An edit at these levels adds it once per step at a strength of 1.
    [weight] = calibrated(schedule, timesteps, direction, EditSettings(steps, injection="symmetric")).weights
    direction = replace(direction, gain=steps / (source.card.steps * weight))
    return FittedShift(direction, 1 - missed / whole if whole else 0.0)


def _with(network: nn.Module, model: DiffusionModel, guidance: float | None = None) -> DiffusionModel:
    """The model with a float32 network in place of its own, and guidance in place of its own."""
    assert isinstance(model.unet, PromptedUNet)
    prompt = model.unet.prompt if guidance is None else replace(model.unet.prompt, guidance=guidance)
    return replace(model, unet=PromptedUNet(network, prompt), dtype=torch.float32)


def drawn_path(model: DiffusionModel, timesteps: Sequence[int], seed: int, count: int) -> Job[Tensor]:
    """Pictures that the model draws, by level as `SourcePath.x`: (S + 1, N, C, h, w), the clean ones first."""
    path = [sample_latent(model, seed, count).x_T.float()]
    for k in reversed(range(len(timesteps))):
        t, t_prev = timesteps[k], timesteps[k - 1] if k else -1
        path.append(_step(model.schedule, path[-1], predict(model, path[-1], t), t, t_prev))
        yield Progress(len(timesteps) - k, len(timesteps), "drawing pictures")
    return torch.stack(path[::-1])


def path_of_words(source: DiffusionModel, target: DiffusionModel, x: Tensor, timesteps: Sequence[int]) -> Job[Tensor]:
    """y, where the words take pictures on a path x (S + 1, N, C, h, w), where they act most."""
    schedule, w, changes = source.schedule, [x[-1]], []
    for k in reversed(range(len(timesteps))):
        t, t_prev = timesteps[k], timesteps[k - 1] if k else -1
        eps, there = predict(source, x[k + 1], t), predict(target, x[k + 1], t)
        changes.append(there - eps)
        moved = there if k + 1 == len(timesteps) else predict(target, w[-1], t)
        anchor = x[k] - _step(schedule, x[k + 1], eps, t, t_prev)
        w.append(_step(schedule, w[-1], moved, t, t_prev) + anchor)
        yield Progress(len(timesteps) - k, len(timesteps), "comparing the words")
    return x + focus(changes) * (torch.stack(w[::-1]) - x)


def _step(schedule: Schedule, x: Tensor, eps: Tensor, t: int, t_prev: int) -> Tensor:
    return schedule.reverse_step(x, eps, eps, t, t_prev)


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


def _shifted(
    model: DiffusionModel, features: Features, x: Tensor, t: int, delta: Tensor, rows: slice = slice(None)
) -> Tensor:
    """eps of some rows at h + delta, of which there is one (C, h, w) for each of them."""
    with torch.set_grad_enabled(delta.requires_grad):
        return model.eps(features.select(rows), x[rows], t, delta)


def fit(
    model: DiffusionModel,
    features: Features,
    x: Tensor,
    t: int,
    wanted: Tensor,
    eps: Tensor,
    s: Tensor,
    start: Tensor,
    iterations: int = ITERATIONS,
) -> Job[Tensor]:
    """The shift (1, C, h, w) with which, at strengths s (n, 1, 1, 1), the model's predictions of the first n rows of x
    come nearest to the wanted ones. features: the model's, at (x, t). eps: its predictions without a shift; where these
    are the wanted ones there is nothing to fit, and the shift is zero."""
    samples = len(s)
    goal = ((wanted - eps)[:samples] / s).square().sum()
    rms = features.h[:samples].float().square().mean().sqrt()
    if goal <= 1e-9 * eps[:samples].square().sum():
        return torch.zeros_like(start)
    evaluated: list[tuple[Tensor, Tensor, Tensor]] = []  # u, its value, its gradient
    scale = FIRST_STEP * start.numel() * rms  # L-BFGS begins with a step of L1 norm 1
    u = (start / scale).detach().requires_grad_()
    size = max(1, model.rows_per_call() // KEPT_ROWS)
    pieces = [slice(first, min(first + size, samples)) for first in range(0, samples, size)]

    def losses() -> Iterator[Tensor]:
        yield RIDGE * (u * scale / rms).square().mean()
        for rows in pieces:
            made = _shifted(model, features, x, t, s[rows] * scale * u, rows)
            yield ((made - wanted[rows]) / s[rows]).square().sum() / goal

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

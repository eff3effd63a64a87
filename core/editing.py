"""The one editing loop: latents and weighted directions in, pictures out. Inversion beside it.

Asyrp section 4.3, Eq. 9 and Algorithm 1: edit for t >= t_edit, denoise, then boost the quality with eta = 1 below
t_boost. Every job is a generator of `Progress`; gradients are off only while the network runs, never across a yield.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from core.directions import Direction, Injection, Part, parts_of, weighted_delta
from core.errors import RequestError, ResourceError
from core.intervals import Intervals
from core.latents import Latent, LatentCache, latent_key
from core.models.loader import DiffusionModel
from core.progress import Job, Progress
from core.schedule import extrapolate

PREVIEWS = 10  # per job
EDIT_ALWAYS = Intervals(t_edit=0, t_boost=0)


@dataclass(frozen=True)
class EditSettings:
    """How to edit.

    steps: S~, the number of DDIM steps. injection: where the shift acts, "asymmetric" in P_t only (Asyrp Eq. 6) or
    "symmetric" in P_t and D_t. seed: of the boosting noise. eta_boost: eta below t_boost. The parts of a composite may
    say for themselves where they act, within the interval given here.
    """

    steps: int = 40
    intervals: Intervals = EDIT_ALWAYS
    injection: Injection = "asymmetric"
    seed: int = 0
    eta_boost: float = 1.0


def invert(
    model: DiffusionModel,
    pixels: Tensor,
    steps: int = 40,
    chunk: int | None = None,
    cache: LatentCache | None = None,
    iterations: int = 1,
) -> Job:
    """DDIM inversion: pixels (B, 3, H, W) in [-1, 1] up to x_T. Result: a `Latent`, from the cache if it is there.

    chunk: pictures per network call, by default what fits. iterations: see `ascend`.

    Raises:
        RequestError: steps or iterations out of range. ResourceError: out of memory.
    """
    if not 0 <= iterations <= 20:
        raise RequestError(f"The number of iterations must lie between 0 and 20, not {iterations}.")
    key = latent_key(pixels, model.card.id, steps, iterations)
    known = cache.get(key) if cache is not None else None
    if known is not None:
        yield Progress(steps, steps, "inverting", pixels, known)
        return

    timesteps = model.schedule.timesteps(steps)
    clean = model.codec.encode(pixels.to(model.device, torch.float32))
    for k, (x, eps) in enumerate(ascend(model, clean, timesteps, iterations, chunk)):
        x0 = model.schedule.predicted_x0(x, eps, timesteps[k])
        if k + 1 < steps:
            yield Progress(k + 1, steps, "inverting", preview(model, x0, k, steps))

    latent = Latent(x, steps, model.card.id, key)
    if cache is not None:
        cache.keep(latent)
    yield Progress(steps, steps, "inverting", pixels, latent)


def ascend(
    model: DiffusionModel, x: Tensor, timesteps: Sequence[int], iterations: int = 1, chunk: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The steps of an inversion from a clean x upwards: for every timestep x_t and the eps that leads there.

    The inverse of a reverse step needs eps at the x_t that is sought: x_t = g(x_t), g(x) = invert_step(x_{t-1},
    eps(x, t)). iterations = 0 takes g(x_{t-1}), plain DDIM inversion as in diffusers. Else x_t is predicted from the
    eps of the two steps before, and g applied that many times (fixed-point inversion: Pan et al. 2023, AIDI, section
    3.2, which starts from x_{t-1}). With 1 it evaluates the network as often as plain inversion, and once more in the
    first step, which has nothing to be predicted from.
    """
    levels, done = [-1, *timesteps], []
    for k, (t_prev, t) in enumerate(pairwise(levels)):
        x_t, evaluations = x, max(1, iterations)
        if iterations and k == 0:
            evaluations += 1
        elif iterations:
            x_t = model.schedule.invert_step(x, extrapolate(done[0], done[-1], levels[k - 1], t_prev, t), t_prev, t)
        for _ in range(evaluations):
            eps = predict(model, x_t, t, chunk)
            x_t = model.schedule.invert_step(x, eps, t_prev, t)
        yield x_t, eps
        x, done = x_t, [*done[-1:], eps]


def sample_latent(model: DiffusionModel, seed: int, count: int = 1) -> Latent:
    """x_T ~ N(0, I), the same on every device. Row i has the noise of seed + i, so it does not depend on `count`."""
    key = (f"seeds {seed}..{seed + count - 1}", model.card.id, 0, 0)
    return Latent(seeded_noise(model.x_shape, seed, count).to(model.device), 0, model.card.id, key)


def seeded_noise(shape: tuple[int, ...], seed: int, count: int) -> Tensor:
    """N(0, I) (count, *shape) on the CPU; row i is that of seed + i."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)]
    return torch.stack(rows)


def edit(
    model: DiffusionModel,
    latent: Latent | Tensor,
    weighted: Sequence[tuple[Direction, Tensor | Sequence[float] | float]] = (),
    settings: EditSettings = EditSettings(),
    chunk: int | None = None,
) -> Job:
    """From x_T (B, C, H, W) down to pixels (B, 3, H, W) in [-1, 1], the job's result.

    weighted: directions with their strengths, one for all rows or one per row (B,): a strip is the same latent
    repeated, with different strengths. Without directions it is plain DDIM. All rows get the same boosting noise, so
    strengths are comparable; equal rows are computed once, and rows of strength 0 are decoded once per step.
    chunk: rows per network call, by default what fits in memory.

    Raises:
        RequestError: steps out of range, or strengths that do not match the rows. ResourceError: out of memory.
    """
    schedule, t_edit, t_boost = model.schedule, settings.intervals.t_edit, settings.intervals.t_boost
    x_T = (latent.x_T if isinstance(latent, Latent) else latent).to(model.device, torch.float32)
    timesteps = schedule.timesteps(settings.steps)[::-1]
    sums = [parts_of(direction.to(model.device)) for direction, _ in weighted]
    strengths = _strength_table([strength for _, strength in weighted], len(x_T))

    # Different latents are the states at the start, different (latent, strengths) pairs those after the first edit:
    # row r is x[state_of[pair_of[r]]] throughout.
    states, latent_of = torch.unique(x_T.flatten(1), dim=0, return_inverse=True)
    pairs, pair_of = torch.unique(torch.column_stack((latent_of.cpu(), strengths)), dim=0, return_inverse=True)
    x, state_of, strengths = states.view(-1, *x_T.shape[1:]), pairs[:, 0].long(), pairs[:, 1:]
    parts = [(part, c * part.weight) for sum_, c in zip(sums, strengths.T, strict=True) for part in sum_]

    last = min((max(t_edit, part.t_edit) for part, c in parts if c.any()), default=schedule.T)
    noise = torch.Generator().manual_seed(settings.seed)
    for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
        # Editing: a shift acts on P_t alone, or on both terms.
        acting = [
            (part, c) for part, c in parts if t >= max(t_edit, part.t_edit) and part.direction.acts_at(t) and c.any()
        ]
        if acting:
            eps_P, eps_D = _predict_edited(model, x, state_of, t, acting, settings, chunk)
            x, state_of = x[state_of], torch.arange(len(state_of))
        else:
            eps_P = eps_D = predict(model, x, t, chunk)

        # Quality boosting: DDPM noise, the same for every row.
        eta = settings.eta_boost if t < t_boost else 0.0
        z = torch.randn((1, *x.shape[1:]), generator=noise).to(x.device) if eta > 0 else None
        x0 = schedule.predicted_x0(x, eps_P, t)
        x = schedule.reverse_step(x, eps_P, eps_D, t, t_prev, eta, z)
        if k + 1 < settings.steps:
            phase = "editing" if t >= last else "boosting" if eta > 0 else "denoising"
            yield Progress(k + 1, settings.steps, phase, preview(model, x0, k, settings.steps, state_of[pair_of]))

    pixels = model.codec.decode(x[state_of[pair_of]]).clamp(-1, 1)
    yield Progress(settings.steps, settings.steps, "done", pixels, pixels)


@torch.no_grad()
def predict(model: DiffusionModel, x: Tensor, t: int, chunk: int | None = None) -> Tensor:
    """eps(x, t), in pieces that fit in memory."""
    with running_out():
        return torch.cat([model.eps(model.features(part, t), part, t) for part in x.split(rows_for(model, chunk))])


@torch.no_grad()
def _predict_edited(
    model: DiffusionModel,
    x: Tensor,
    state_of: Tensor,
    t: int,
    weighted: Sequence[tuple[Part, Tensor]],
    settings: EditSettings,
    chunk: int | None,
) -> tuple[Tensor, Tensor]:
    """(eps_P, eps_D) for the rows x[state_of], the encoder once per different state and piece.

    With parts of both modes, eps_D = G(h + S) and eps_P = G(h + S + A), S the symmetric parts' shift and A the
    asymmetric ones': Asyrp Eq. 6 where S = 0, the local-editing paper's Eq. 3 where A = 0.
    """
    directions = [part.direction for part, _ in weighted]
    in_both = torch.tensor([(part.injection or settings.injection) == "symmetric" for part, _ in weighted])
    strengths = torch.stack([c for _, c in weighted], dim=1)
    size = rows_for(model, chunk) if in_both.all() else max(1, rows_for(model, chunk) // 2)
    eps_P, eps_D = [], []
    with running_out():
        for rows in torch.arange(len(state_of)).split(size):
            used, of = state_of[rows].unique(return_inverse=True)
            x_used = x[used]
            features = model.features(x_used, t)
            # One decoder call for every different G(h + S) and, in rows with an asymmetric part, G(h + S + A)
            # (measured: in bfloat16 a sixth faster than two calls).
            c = strengths[rows]
            both, both_of = torch.unique(torch.column_stack((of, c * in_both)), dim=0, return_inverse=True)
            further = (c * ~in_both).any(dim=1).nonzero()[:, 0]
            source = torch.cat((both[:, 0].long(), of[further]))
            decoded = features.select(source)
            columns = torch.cat((both[:, 1:], c[further])).T
            delta_h = weighted_delta(list(zip(directions, columns, strict=True)), decoded, settings.steps)
            eps = model.eps(decoded, x_used[source], t, delta_h)

            n = len(both)
            eps_D.append(eps[:n][both_of])
            eps_P.append(eps_D[-1].index_copy(0, further.to(eps.device), eps[n:]))
    return torch.cat(eps_P), torch.cat(eps_D)


def _strength_table(strengths: Sequence[Tensor | Sequence[float] | float], rows: int) -> Tensor:
    """(rows, M), one column per direction."""
    columns = []
    for strength in strengths:
        column = torch.as_tensor(strength, dtype=torch.float32).cpu()
        if column.ndim > 1 or (column.ndim == 1 and len(column) != rows) or not column.isfinite().all():
            raise RequestError(f"Each direction needs one finite strength, or one for each of the {rows} pictures.")
        columns.append(column.expand(rows))
    return torch.stack(columns, dim=1) if columns else torch.zeros(rows, 0)


def preview(model: DiffusionModel, x0: Tensor, k: int, steps: int, rows: Tensor | None = None) -> Tensor | None:
    """The predicted x0 as pixels, about `PREVIEWS` times per job."""
    if not preview_due(k, steps):
        return None
    return model.codec.decode(x0 if rows is None else x0[rows]).clamp(-1, 1)


def preview_due(k: int, steps: int) -> bool:
    """Whether step k, from 0, is one that shows a preview."""
    return (k + 1) % max(1, steps // PREVIEWS) == 0


def rows_for(model: DiffusionModel, chunk: int | None) -> int:
    """How many pictures one call of the network takes: `chunk`, or as many as fit."""
    return chunk or model.rows_per_call()


@contextmanager
def running_out() -> Iterator[None]:
    """Turns running out of memory into words."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ResourceError(
            "The machine ran out of memory. Edit fewer pictures at once, or choose a smaller model."
        ) from error

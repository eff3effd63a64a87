"""The one editing loop: latents and weighted directions in, pictures out. Inversion beside it.

Asyrp section 4.3, Eq. 9 and Algorithm 1: edit for t >= t_edit, denoise, then boost the quality with eta = 1 below
t_boost. Every job is a generator of `Progress`; gradients are off only while the network runs, never across a yield.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .ascent import ascend
from .directions import Direction, Injection, Part, parts_of, weighted_delta
from .errors import RequestError
from .intervals import Intervals
from .latents import Latent, LatentCache, latent_key
from .memory import explain_memory_errors
from .models.codec import pictures, previews_of
from .models.loader import DiffusionModel
from .progress import Job, Progress
from .queries import Query

EDIT_ALWAYS = Intervals(t_edit=0, t_boost=0)
FEWER_PICTURES = "Edit fewer pictures at once, or choose a smaller model."

Weighted = Sequence[tuple[Direction, Tensor | Sequence[float] | float]]
Weight = tuple[Part, Tensor]  # a part of a sum of directions, with its strength for every row


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
) -> Job[Latent]:
    """DDIM inversion: pixels (B, 3, H, W) in [-1, 1] up to x_T, from the cache if it is there.

    chunk: pictures per network call, by default what fits. iterations: see `core.ascent`.

    Raises:
        RequestError: steps or iterations out of range. ResourceError: out of memory.
    """
    if not 0 <= iterations <= 20:
        raise RequestError(f"The number of iterations must lie between 0 and 20, not {iterations}.")
    key = latent_key(pixels, model.key, steps, iterations)
    known = cache.get(key) if cache is not None else None
    if known is not None:
        yield Progress(steps, steps, "inverting", pixels)
        return known

    timesteps, previews = model.schedule.timesteps(steps), previews_of(model.codec)
    clean = model.codec.encode(pixels.to(model.device, torch.float32))
    predicted = partial(predict, model, chunk=chunk)
    for k, (x, eps) in enumerate(ascend(model.schedule, predicted, clean, timesteps, iterations)):
        x0 = model.schedule.predicted_x0(x, eps, timesteps[k])
        shown: Tensor | None = pixels
        if k + 1 < steps:
            shown = previews.after(k + 1, steps, partial(pictures, model.codec, x0))
        yield Progress(k + 1, steps, "inverting", shown)

    latent = Latent(x, steps, model.card.id, key)
    if cache is not None:
        cache.keep(latent)
    return latent


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
    weighted: Weighted = (),
    settings: EditSettings = EditSettings(),
    chunk: int | None = None,
) -> Job[Tensor]:
    """From x_T (B, C, h, w) down to pixels (B, 3, H, W) in [-1, 1].

    weighted: directions with their strengths, one for all rows or one per row (B,): a strip is the same latent
    repeated, with different strengths. Without directions it is plain DDIM. All rows get the same boosting noise, so
    strengths are comparable; equal rows are computed once, and rows of strength 0 are decoded once per step.
    chunk: rows per network call, by default what fits in memory.

    Raises:
        RequestError: steps out of range, or strengths that do not match the rows. ResourceError: out of memory.
    """
    schedule, steps = model.schedule, settings.steps
    timesteps, t_boost = schedule.timesteps(steps)[::-1], settings.intervals.t_boost
    x_T = (latent.x_T if isinstance(latent, Latent) else latent).to(model.device, torch.float32)
    rows = _Rows(model, x_T, weighted, settings, chunk)
    noise, previews = torch.Generator().manual_seed(settings.seed), previews_of(model.codec)

    def seen(x: Tensor) -> Tensor:
        return pictures(model.codec, rows.all_of(x))

    for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
        # Editing, t >= t_edit: a shift of h acts on P_t alone, or on both terms (lines 5 to 7).
        eps_P, eps_D = rows.predict(t)

        # Denoising, and for t < t_boost quality boosting with eta = 1: the same DDPM noise for every row (lines 8, 9).
        eta = settings.eta_boost if t < t_boost else 0.0
        z = torch.randn((1, *x_T.shape[1:]), generator=noise).to(x_T.device) if eta > 0 else None
        P_t = schedule.predicted_x0(rows.x, eps_P, t)
        rows.x = schedule.reverse_step(rows.x, eps_P, eps_D, t, t_prev, eta, z)

        phase = "editing" if t >= rows.last_edited else "boosting" if eta > 0 else "denoising"
        if k + 1 < steps:
            shown = previews.after(k + 1, steps, partial(seen, P_t))
            yield Progress(k + 1, steps, phase, shown)
    pixels = seen(rows.x)
    yield Progress(steps, steps, "done", pixels)
    return pixels


def predict(model: DiffusionModel, x: Tensor, t: int | Sequence[int], chunk: int | None = None) -> Tensor:
    """eps(x, t), in pieces that fit in memory. t: one timestep, or one for each row."""
    size = rows_per_call(model, chunk)
    parts = [slice(first, first + size) for first in range(0, len(x), size)]
    with explain_memory_errors(FEWER_PICTURES):
        queries = (Query(x[part], t if isinstance(t, int) else t[part]) for part in parts)
        return torch.cat([model.answer([query])[0] for query in queries])


def rows_per_call(model: DiffusionModel, chunk: int | None) -> int:
    """How many pictures one call of the network takes: `chunk`, or as many as fit."""
    return chunk or model.rows_per_call()


class _Rows:
    """The rows of a batch on their way down, equal ones computed once.

    Different latents are the states at the start, different (latent, strengths) pairs those after the first edit: row r
    of the batch is x[state_of[pair_of[r]]] throughout.

    x: (states, C, h, w). last_edited: the lowest t at which a direction acts.
    """

    def __init__(
        self, model: DiffusionModel, x_T: Tensor, weighted: Weighted, settings: EditSettings, chunk: int | None
    ) -> None:
        self.model, self.settings, self.chunk = model, settings, chunk
        sums = [parts_of(direction.to(model.device)) for direction, _ in weighted]
        strengths = strength_table([strength for _, strength in weighted], len(x_T))
        states, latent_of = torch.unique(x_T.flatten(1), dim=0, return_inverse=True)
        pairs, self.pair_of = torch.unique(torch.column_stack((latent_of.cpu(), strengths)), dim=0, return_inverse=True)
        self.x, self.state_of = states.view(-1, *x_T.shape[1:]), pairs[:, 0].long()
        self.parts = [(part, c * part.weight) for sum_, c in zip(sums, pairs[:, 1:].T, strict=True) for part in sum_]
        t_edit = settings.intervals.t_edit
        acting = (max(t_edit, part.t_edit) for part, c in self.parts if c.any())
        self.last_edited = min(acting, default=model.schedule.T)

    def all_of(self, states: Tensor) -> Tensor:
        """The whole batch (B, ...) from one value for each state."""
        return states[self.state_of[self.pair_of]]

    def predict(self, t: int) -> tuple[Tensor, Tensor]:
        """(eps_P, eps_D) at t for the states, which become those of the pairs where a direction acts."""
        acting = acting_at(self.parts, t, self.settings)
        if not acting:
            eps = predict(self.model, self.x, t, self.chunk)
            return eps, eps
        eps_P, eps_D = predict_edited(self.model, self.x, self.state_of, t, acting, self.settings, self.chunk)
        self.x, self.state_of = self.x[self.state_of], torch.arange(len(self.state_of))
        return eps_P, eps_D


def acts(part: Part, t: int, settings: EditSettings) -> bool:
    """Whether a part of a direction acts at timestep t."""
    return t >= max(settings.intervals.t_edit, part.t_edit) and part.direction.acts_at(t)


def injection_of(part: Part, settings: EditSettings) -> Injection:
    """Where a part of a direction acts."""
    return part.injection or settings.injection


def acting_at(parts: Sequence[Weight], t: int, settings: EditSettings) -> list[Weight]:
    """Those of the parts that act at timestep t with some strength."""
    return [(part, c) for part, c in parts if acts(part, t, settings) and c.any()]


def predict_edited(
    model: DiffusionModel,
    x: Tensor,
    state_of: Tensor,
    t: int,
    acting: Sequence[Weight],
    settings: EditSettings,
    chunk: int | None = None,
    unshifted: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(eps_P, eps_D) for the rows x[state_of], the encoder once per different state and piece.

    With parts of both modes, eps_D = G(h + S) and eps_P = G(h + S + A), S the symmetric parts' shift and A the
    asymmetric ones': Asyrp Eq. 6 where S = 0, the local-editing paper's Eq. 3 where A = 0.

    unshifted: G(h) of the states, where it is known: then only shifted rows are decoded.
    """
    directions = [part.direction for part, _ in acting]
    in_both = torch.tensor([injection_of(part, settings) == "symmetric" for part, _ in acting])
    strengths = torch.stack([c for _, c in acting], dim=1)
    size = rows_per_call(model, chunk)
    size = size if in_both.all() else max(1, size // 2)
    eps_P, eps_D = [], []
    with explain_memory_errors(FEWER_PICTURES):
        for rows in torch.arange(len(state_of)).split(size):
            used, of = state_of[rows].unique(return_inverse=True)
            # One decoder call for every different G(h + S) and, in rows with an asymmetric part, G(h + S + A)
            # (measured: in bfloat16 a sixth faster than two calls).
            c = strengths[rows]
            both, both_of = torch.unique(torch.column_stack((of, c * in_both)), dim=0, return_inverse=True)
            known = torch.zeros(len(both), dtype=torch.bool)
            if unshifted is not None:
                known = ~both[:, 1:].any(dim=1)
            further = (c * ~in_both).any(dim=1).nonzero()[:, 0]
            source = torch.cat((both[~known, 0].long(), of[further]))
            columns = torch.cat((both[~known, 1:], c[further])).T
            weighted = list(zip(directions, columns, strict=True))
            shift = partial(weighted_delta, weighted, steps=settings.steps)
            [eps] = model.answer([Query(x[used], t, source, shift)])

            n = int((~known).sum())
            eps_both = eps[:n]
            if unshifted is not None:
                eps_both = unshifted[used[both[:, 0].long()]].to(eps)
                eps_both[~known] = eps[:n]
            eps_D.append(eps_both[both_of])
            eps_P.append(eps_D[-1].index_copy(0, further.to(eps.device), eps[n:]))
    return torch.cat(eps_P), torch.cat(eps_D)


def strength_table(strengths: Sequence[Tensor | Sequence[float] | float], rows: int) -> Tensor:
    """(rows, M), one column per direction."""
    columns = []
    for strength in strengths:
        column = torch.as_tensor(strength, dtype=torch.float32).cpu()
        if column.ndim > 1 or (column.ndim == 1 and len(column) != rows) or not column.isfinite().all():
            raise RequestError(f"Each direction needs one finite strength, or one for each of the {rows} pictures.")
        columns.append(column.expand(rows))
    return torch.stack(columns, dim=1) if columns else torch.zeros(rows, 0)

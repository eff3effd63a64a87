"""Anchored editing: the source is put back on its path at every step, and its targets get what that takes.

Let x_T, ..., x_0 be a path of a picture through the noise levels and eps_t the network's prediction at (x_t, t). A DDIM
step of the source misses x_{t-1} by

    r_t = x_{t-1} - step(x_t, eps_t),

which is added to a target as well:

    x'_{t-1} = step(x'_t, eps'_P, eps'_D) + r_t.

A target of strength 0 is then the picture itself at any number of steps, and what discretisation does to source and
target alike cancels: fewer steps do. With noise (eta > 0 below t_boost) both get the same, which cancels too.

The path does not depend on a direction, nor do the source's predictions: they are computed once per picture and kept.
The points of the path need not be those of an exact inversion, since the anchor makes up for what they miss: they are
those at which the inversion asks the network, each predicted from the steps before, so that path and predictions
together cost one evaluation per level.

Sources: direct inversion (Ju et al. 2023) holds the source so, edit-friendly DDPM (Huberman-Spiegelglas et al. 2023)
gives what that takes to targets; a path without inversion is the consistent sampling of InfEdit (Xu et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .ascent import G, Step, ascend
from .cache import Cache
from .directions import parts_of
from .editing import (
    EditSettings,
    Weighted,
    acting_at,
    predict,
    predict_edited,
    seeded_noise,
    strength_table,
)
from .latents import latent_key
from .memory import MAX_PATHS
from .models.codec import pictures, previews_of
from .models.loader import DiffusionModel
from .progress import Job, Progress

Route = Literal["inverted", "noised"]
PLAIN = EditSettings()


@dataclass(frozen=True)
class SourcePath:
    """Pictures on their way through the noise levels, S steps up.

    x: float32 (S + 1, B, C, h, w) in network space, by level; the first is the clean picture. eps: (S, B, C, h, w), the
    prediction at (x[k + 1], timesteps[k]). pixels: (B, 3, H, W) in [-1, 1], the pictures. lost: what an autoencoder
    loses of them; None where nothing is lost.
    """

    x: Tensor
    eps: Tensor
    timesteps: tuple[int, ...]
    pixels: Tensor
    lost: Tensor | None
    key: tuple[object, ...]

    @property
    def nbytes(self) -> int:
        parts = [part for part in (self.x, self.eps, self.pixels, self.lost) if part is not None]
        return sum(part.numel() * part.element_size() for part in parts)

    def to(self, device: torch.device | str) -> SourcePath:
        """The same on another device; itself if it is there."""
        if self.x.device == torch.device(device):
            return self
        lost = None if self.lost is None else self.lost.to(device)
        return replace(self, x=self.x.to(device), eps=self.eps.to(device), pixels=self.pixels.to(device), lost=lost)

    def repeat(self, n: int) -> SourcePath:
        """Every picture n times in a row, for a strip of n strengths."""
        x, eps = (part.repeat_interleave(n, dim=1) for part in (self.x, self.eps))
        lost = None if self.lost is None else self.lost.repeat_interleave(n, dim=0)
        return replace(self, x=x, eps=eps, pixels=self.pixels.repeat_interleave(n, dim=0), lost=lost)


class PathCache(Cache[SourcePath]):
    """Paths by their keys."""

    def __init__(self, capacity: int = MAX_PATHS) -> None:
        super().__init__(capacity, "source paths")


def source_path(
    model: DiffusionModel,
    pixels: Tensor,
    timesteps: Sequence[int],
    route: Route = "inverted",
    seed: int = 0,
    chunk: int | None = None,
    cache: PathCache | None = None,
) -> Job[SourcePath]:
    """The path of pictures (B, 3, H, W) in [-1, 1], with the source's predictions; from the cache if it is there.

    timesteps: ascending. route: "inverted" by DDIM inversion (`core.ascent`), one network call per step; or "noised"
    without any, x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) n with one noise n, of `seed`, for all levels and all pictures, and
    the predictions of all levels in one call.

    Raises:
        ResourceError: out of memory.
    """
    schedule, steps, content = model.schedule, len(timesteps), latent_key(pixels, model.key, len(timesteps))
    key = (content, tuple(timesteps), model.fingerprint, route, seed if route == "noised" else 0)
    total = steps if route == "inverted" else 1
    kept = cache.get(key) if cache is not None else None
    if kept is not None:
        yield Progress(total, total, "inverting", pixels)
        return kept.to(model.device)

    clean = model.codec.encode(pixels.to(model.device, torch.float32))
    path = [clean]
    if route == "noised":
        n = seeded_noise(tuple(clean.shape[1:]), seed, 1).to(clean)
        path += [schedule.noised(clean, n, t) for t in timesteps]
    else:
        previews, predictions = previews_of(model.codec), []

        def asked_once(g: G, x: Tensor, evaluations: int) -> Step:
            path.append(x)
            return g(x)

        steps_up = ascend(schedule, partial(predict, model, chunk=chunk), clean, timesteps, solve=asked_once)
        for k, (_, eps) in enumerate(steps_up):
            predictions.append(eps)
            if k + 1 < steps:
                x0 = schedule.predicted_x0(path[-1], eps, timesteps[k])
                shown = previews.after(k + 1, steps, partial(pictures, model.codec, x0))
                yield Progress(k + 1, total, "inverting", shown)

    x = torch.stack(path)
    if route == "noised":
        of_rows = [t for t in timesteps for _ in clean]
        eps = predict(model, x[1:].flatten(0, 1), of_rows, chunk).view_as(x[1:])
    else:
        eps = torch.stack(predictions)
    given = pixels.to(clean)
    lost = None if model.codec.lossless else given - model.codec.decode(clean).to(given)
    made = SourcePath(x, eps, tuple(timesteps), given, lost, key)
    if cache is not None and made.nbytes <= cache.capacity:
        cache.put(key, made)
    yield Progress(total, total, "inverting", pixels)
    return made


def edit_anchored(
    model: DiffusionModel,
    path: SourcePath,
    weighted: Weighted = (),
    settings: EditSettings = PLAIN,
    chunk: int | None = None,
) -> Job[Tensor]:
    """Edited pictures (B, 3, H, W) in [-1, 1], a row for each picture of the path. `settings.steps` is the path's S.

    weighted: directions with their strengths, one for all rows or one per row (B,). Rows of strength 0 are the pictures
    themselves; equal rows are computed once, and nothing is computed before a direction acts. What an autoencoder loses
    of a picture is given back to its edits, so that they come from the picture itself as the strength goes up from 0.
    chunk: rows per network call, by default what fits in memory.

    Raises:
        RequestError: strengths that do not match the rows. ResourceError: out of memory.
        ValueError: the settings have another number of steps than the path.
    """
    steps, timesteps, schedule = len(path.timesteps), path.timesteps, model.schedule
    if settings.steps != steps:
        raise ValueError(f"a path of {steps} steps cannot be edited in {settings.steps}")
    t_boost = settings.intervals.t_boost
    sums = [parts_of(direction.to(model.device)) for direction, _ in weighted]
    strengths = strength_table([strength for _, strength in weighted], path.x.shape[1])

    # Targets: the different pairs of a picture and its strengths, of those that are not zero.
    edited = strengths.any(dim=1).nonzero()[:, 0]
    if not len(edited):
        yield Progress(steps, steps, "done", path.pixels)
        return path.pixels
    _, picture_of = torch.unique(path.x[0].flatten(1), dim=0, return_inverse=True)
    pairs, target_of = torch.unique(
        torch.column_stack((picture_of.cpu(), strengths))[edited], dim=0, return_inverse=True
    )
    rows = edited.new_zeros(len(pairs)).index_copy(0, target_of.flip(0), edited.flip(0))  # the first row of each
    parts = [(part, c[rows] * part.weight) for sum_, c in zip(sums, strengths.T, strict=True) for part in sum_]

    x_path, eps_path = path.x[:, rows], path.eps[:, rows]
    x, moved, previews = x_path[-1], False, previews_of(model.codec)
    lost = 0.0 if path.lost is None else path.lost[rows]

    def decoded(x: Tensor) -> Tensor:
        """All rows, of the targets at hand."""
        made = path.pixels.clone()
        made[edited] = (model.codec.decode(x).to(made) + lost).clamp(-1, 1)[target_of]
        return made

    for k in range(steps - 1, -1, -1):
        t, t_prev = timesteps[k], timesteps[k - 1] if k else -1
        acting = acting_at(parts, t, settings)
        if acting:
            known = None if moved else eps_path[k]
            states = torch.arange(len(rows))
            eps_P, eps_D = predict_edited(model, x, states, t, acting, settings, chunk, known)
            moved = True
        elif moved:
            eps_P = eps_D = predict(model, x, t, chunk)
        if moved:
            eta = settings.eta_boost if t < t_boost else 0.0
            source, nothing = eps_path[k], x.new_zeros(())
            r = x_path[k] - schedule.reverse_step(x_path[k + 1], source, source, t, t_prev, eta, nothing)
            P_t = schedule.predicted_x0(x, eps_P, t)
            x = schedule.reverse_step(x, eps_P, eps_D, t, t_prev, eta, nothing) + r
        else:
            P_t, x = schedule.predicted_x0(x, eps_path[k], t), x_path[k]
        done = steps - k
        if k:
            note = "editing" if acting or not moved else "denoising"
            yield Progress(done, steps, note, previews.after(done, steps, partial(decoded, P_t)))
    pixels = decoded(x)
    yield Progress(steps, steps, "done", pixels)
    return pixels

"""What directions have in common: their inner products at a picture.

Two inner products of directions u and v:

- in h-space, <u, v> = sum_t <u_t, v_t> over the timesteps at which they act on the picture's way back from noise.
  Implicit directions are evaluated at the h of each timestep, so their likeness is that of the shifts they make;
- of their responses, <J u, J v>, with J the Jacobian of the predicted image with respect to h at 0.6 T: what they do to
  the picture, to first order. Two directions that are orthogonal in h-space can still move the same pixels.

Removing from d what it shares with e_1..e_k is d - sum_j b_j e_j with b the least-squares solution G b = g, where
G_ij = <e_i, e_j> and g_j = <e_j, d>. `steps` counts: a direction made with S steps is the vector S delta, whose sum
over a process does not depend on its length.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...directions import Direction
from ...discovery.basis import Basis
from ...discovery.linear import Jacobian, descend, nearest_timestep
from ...latents import Latent
from ...models.loader import DiffusionModel
from ...presets import Preset
from ...progress import Job, Progress
from ...unet import Features
from ..device import DEVICE, exclusively
from ..discover.analysis import Analysis
from ..edit import intervals_for
from ..frames import EditOptions, Picture
from .applying import latent_of

LOOKS = 10  # timesteps of a trajectory at which directions are compared
CUTOFF = 1e-8  # of the largest eigenvalue of G
HELD = 1e-3  # a direction with no more than this share of its length outside a basis is held by it


# ------------------------------------------------------------------------------------------------------------- vectors


def trajectory(model: DiffusionModel, x_T: Tensor, steps: int = LOOKS) -> Job:
    """The features of a latent (1, C, h, w) along plain DDIM. Result: a list of `Features`, from T down."""
    timesteps = model.schedule.timesteps(steps)[::-1]
    x, seen = x_T.to(model.device, torch.float32), []
    for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
        with torch.no_grad():
            features = model.features(x, t)
            seen.append(features)
            eps = model.eps(features, x, t)
        x = model.schedule.reverse_step(x, eps, eps, t, t_prev)
        yield Progress(k + 1, steps, "Comparing", result=seen if k + 1 == steps else None)


@torch.no_grad()
def shift(direction: Direction, features: Features) -> Tensor:
    """S delta_h at the given features: float32 (C, H, W), on the features' device."""
    h, emb = features.h.float(), features.emb.float()
    return direction.steps * direction.to(h.device).delta_h(h, emb, features.t).expand_as(h)[0]


def shifts(directions: Sequence[tuple[Direction, int]], seen: Sequence[Features]) -> Tensor:
    """Of every direction along a trajectory, zero below its t_edit: float64 (n, T, C H W)."""
    rows = [
        torch.stack([shift(d, features).flatten() * (features.t >= t_edit) for features in seen])
        for d, t_edit in directions
    ]
    return torch.stack(rows).double().cpu()


def gram(vectors: Tensor) -> Tensor:
    """<u_i, u_j> of vectors (n, ...): float64 (n, n)."""
    rows = vectors.flatten(1).double().cpu()
    return rows @ rows.T


def responses(vectors: Tensor, model: DiffusionModel, x_t: Tensor, t: int, basis: Basis | None = None) -> Tensor:
    """J u of vectors (n, C, H, W): float32 (n, 3, R, R). J is linear: with a basis Q of the same point it is
    (J Q) Q^T u + J (u - Q Q^T u), whose second part needs a product only for what the basis does not hold."""
    if basis is None:
        return Jacobian(model, x_t, t).forward(vectors)
    Q, rows = basis.vectors.flatten(1), vectors.flatten(1).to(basis.vectors)
    coordinates = rows @ Q.T
    outside = rows - coordinates @ Q
    made = torch.tensordot(coordinates.to(basis.responses.device), basis.responses.float(), dims=1)
    beyond = outside.norm(dim=1) > HELD * rows.norm(dim=1)
    if beyond.any():
        product = Jacobian(model, x_t, t).forward(outside[beyond].view(-1, *vectors.shape[1:]))
        made[beyond.to(made.device)] += product.to(made)
    return made


# ------------------------------------------------------------------------------------------------------------ algebra


def cosines(G: Tensor) -> Tensor:
    """Cosine of the angle between every two vectors of Gram matrix G (n, n); 0 for a vector that is zero."""
    lengths = G.diagonal().clamp(min=0).sqrt()
    return (G / torch.outer(lengths, lengths).clamp(min=1e-300)).clamp(-1, 1)


def shared(G: Tensor) -> tuple[Tensor, float]:
    """Of Gram matrix G (1 + k, 1 + k), the direction first: the coefficients b (k,) of what it shares with the others,
    and the share of its length that is left without it."""
    values, vectors = torch.linalg.eigh(G[1:, 1:])
    inverse = torch.where(values > CUTOFF * values.max(), 1 / values, 0.0)
    b = vectors @ (inverse * (vectors.T @ G[1:, 0]))
    left = (G[0, 0] - b @ G[1:, 0]).clamp(min=0) / G[0, 0].clamp(min=1e-300)
    return b, left.sqrt().item()


# ------------------------------------------------------------------------------------------------------------ at work


def in_h_space(model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], t_edit: int | None = None) -> Job:
    """Gram matrix, float64 (n, n), of presets at a picture in h-space, as the result. t_edit: of all of them; None: of
    each its own.

    Raises:
        ModelUnavailable, ResourceError.
    """
    own = [intervals_for(model.card, preset, EditOptions()).t_edit for preset in chosen]
    starts = own if t_edit is None else [t_edit] * len(chosen)
    seen = yield from _along(model, picture)
    with DEVICE:
        G = gram(shifts([(p.direction, start) for p, start in zip(chosen, starts, strict=True)], seen))
    yield Progress(1, 1, "Comparing", result=G)


def of_responses(
    model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], analysed: Analysis | None = None
) -> Job:
    """Gram matrix, float64 (n, n), of presets' responses at a picture, as the result. analysed: of this picture, where
    it was; the response is that there.

    Raises:
        ModelUnavailable, ResourceError.
    """
    x_t, t, basis = yield from _where(model, picture, analysed)
    with DEVICE, torch.no_grad():
        features = model.features(x_t, t)
        vectors = torch.stack([shift(p.direction, features) for p in chosen])
    with DEVICE:
        G = gram(responses(vectors, model, x_t, t, basis))
    yield Progress(1, 1, "Comparing", result=G)


def _along(model: DiffusionModel, picture: Picture) -> Generator[Progress, None, list[Features]]:
    """What the network sees on a picture's way back from noise."""
    latent = yield from _read(model, picture)
    for event in exclusively(trajectory(model, latent.x_T)):
        seen = event.result
        yield replace(event, result=None)
    return seen


def _where(
    model: DiffusionModel, picture: Picture, analysed: Analysis | None
) -> Generator[Progress, None, tuple[Tensor, int, Basis | None]]:
    """(x_t, t, basis): where a picture was analysed, else its x_t at 0.6 T, and no basis."""
    if analysed is not None:
        return analysed.x_t, analysed.t, analysed.basis
    latent = yield from _read(model, picture)
    t = nearest_timestep(model, model.card.steps)
    for event in exclusively(descend(model, latent.x_T, t, model.card.steps)):
        x_t = event.result
        yield replace(event, note="Comparing", result=None)
    return x_t, t, None


def _read(model: DiffusionModel, picture: Picture) -> Generator[Progress, None, Latent]:
    for event in latent_of(model, picture, model.card.steps):
        latent = event.result
        yield replace(event, result=None)
    return latent

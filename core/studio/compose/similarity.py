"""What directions have in common: their inner products at a picture.

Two inner products of directions u and v:

- in h-space, <u, v> = sum_t <u_t, v_t> over the timesteps at which they act on the picture's way back from noise.
  Implicit directions are evaluated at the h of each timestep, so their similarity is that of the shifts they make;
- of their responses, <J u, J v>, with J the Jacobian of the predicted image with respect to h at 0.6 T: what they do to
  the picture, to first order. Two directions that are orthogonal in h-space can still move the same pixels.

Removing from d what it shares with e_1..e_k is d - sum_j b_j e_j with b the least-squares solution G b = g, where
G_ij = <e_i, e_j> and g_j = <e_j, d>. `steps` counts: a direction made with S steps is the vector S delta, whose sum
over a process does not depend on its length.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...directions import Direction
from ...discovery.basis import Basis
from ...discovery.jacobian_operator import Jacobian, denoise_to, nearest_timestep
from ...models.loader import DiffusionModel
from ...presets import Preset
from ...progress import Job, Progress, stage
from ...unet import Features
from ..device import DEVICE, exclusively
from ..discover.analysis import Analysis
from ..edit import intervals_for
from ..frames import EditOptions, Picture
from ..latents import latent_of

TRAJECTORY_STEPS = 10  # timesteps at which directions are compared in h-space
EIGENVALUE_CUTOFF = 1e-8  # of the largest eigenvalue of G; smaller ones count as 0
BASIS_TOLERANCE = 1e-3  # fraction of a direction's length outside a basis that is neglected


# ------------------------------------------------------------------------------------------------------------- vectors


def trajectory(model: DiffusionModel, x_T: Tensor, steps: int = TRAJECTORY_STEPS) -> Job[list[Features]]:
    """Returns the features of a latent (1, C, h, w) along plain DDIM, from T down."""
    timesteps = model.schedule.timesteps(steps)[::-1]
    x, visited = x_T.to(model.device, torch.float32), []
    for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
        with torch.no_grad():
            features = model.features(x, t)
            visited.append(features)
            eps = model.eps(features, x, t)
        x = model.schedule.reverse_step(x, eps, eps, t, t_prev)
        yield Progress(k + 1, steps, "Comparing")
    return visited


@torch.no_grad()
def shift(direction: Direction, features: Features) -> Tensor:
    """S delta_h at the given features: float32 (C, H, W), on the features' device."""
    h, emb = features.h.float(), features.emb.float()
    return direction.steps * direction.to(h.device).delta_h(h, emb, features.t).expand_as(h)[0]


def shifts(directions: Sequence[tuple[Direction, int]], visited: Sequence[Features]) -> Tensor:
    """Shifts of n directions along a trajectory of T steps, zero below each one's t_edit: float64 (n, T, C H W).

    directions: with their t_edit.
    """
    rows = [
        torch.stack([shift(d, features).flatten() * (features.t >= t_edit) for features in visited])
        for d, t_edit in directions
    ]
    return torch.stack(rows).cpu().double()


def gram(vectors: Tensor) -> Tensor:
    """<u_i, u_j> of vectors (n, ...): float64 (n, n)."""
    rows = vectors.flatten(1).cpu().double()
    return rows @ rows.T


def responses(vectors: Tensor, model: DiffusionModel, x_t: Tensor, t: int, basis: Basis | None = None) -> Tensor:
    """J u of vectors (n, C, H, W): float32 (n, 3, R, R). J is linear: with a basis Q of the same point it is
    (J Q) Q^T u + J (u - Q Q^T u), whose second part needs a product only for what lies outside the basis."""
    if basis is None:
        return Jacobian(model, x_t, t).forward(vectors)
    Q, rows = basis.vectors.flatten(1), vectors.flatten(1).to(basis.vectors)
    coordinates = rows @ Q.T
    outside = rows - coordinates @ Q
    result = torch.tensordot(coordinates.to(basis.responses.device), basis.responses.float(), dims=1)
    beyond = outside.norm(dim=1) > BASIS_TOLERANCE * rows.norm(dim=1)
    if beyond.any():
        product = Jacobian(model, x_t, t).forward(outside[beyond].view(-1, *vectors.shape[1:]))
        result[beyond.to(result.device)] += product.to(result)
    return result


# ------------------------------------------------------------------------------------------------------------ algebra


def cosines(G: Tensor) -> Tensor:
    """Cosine of the angle between every two vectors of Gram matrix G (n, n); 0 for a vector that is zero."""
    lengths = G.diagonal().clamp(min=0).sqrt()
    return (G / torch.outer(lengths, lengths).clamp(min=1e-300)).clamp(-1, 1)


def project_out(G: Tensor) -> tuple[Tensor, float]:
    """What a direction shares with others, from their Gram matrix G (1 + k, 1 + k), the direction in question first.

    Returns (b, kept): the least-squares coefficients b (k,) of the others, which are subtracted; and the fraction of
    its length that the direction keeps.
    """
    values, vectors = torch.linalg.eigh(G[1:, 1:])
    inverse = torch.where(values > EIGENVALUE_CUTOFF * values.max(), 1 / values, 0.0)
    b = vectors @ (inverse * (vectors.T @ G[1:, 0]))
    kept = (G[0, 0] - b @ G[1:, 0]).clamp(min=0) / G[0, 0].clamp(min=1e-300)
    return b, kept.sqrt().item()


# --------------------------------------------------------------------------------------------------------------- jobs


def gram_in_h_space(
    model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], t_edit: int | None = None
) -> Job[Tensor]:
    """Returns the Gram matrix, float64 (n, n), of presets' shifts of h at a picture.

    t_edit: of all of them; None: of each its own.

    Raises:
        ModelUnavailable, ResourceError.
    """
    own = [intervals_for(model.card, preset, EditOptions()).t_edit for preset in chosen]
    starts = own if t_edit is None else [t_edit] * len(chosen)
    latent = yield from latent_of(model, picture.pixels, model.card.steps)
    visited = yield from exclusively(trajectory(model, latent.x_T))
    with DEVICE.turn():
        return gram(shifts([(p.direction, start) for p, start in zip(chosen, starts, strict=True)], visited))


def gram_of_responses(
    model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], analysis: Analysis | None = None
) -> Job[Tensor]:
    """Returns the Gram matrix, float64 (n, n), of presets' responses at a picture.

    analysis: of this picture, if there is one; then the responses are those at its timestep, else those at 0.6 T.

    Raises:
        ModelUnavailable, ResourceError.
    """
    if analysis is not None:
        x_t, t, basis = analysis.x_t, analysis.t, analysis.basis
    else:
        steps = model.card.steps
        t, basis = nearest_timestep(model, steps), None
        latent = yield from latent_of(model, picture.pixels, steps)
        x_t = yield from stage(exclusively(denoise_to(model, latent.x_T, t, steps)), "Comparing")
    with DEVICE.turn(), torch.no_grad():
        features = model.features(x_t, t)
        vectors = torch.stack([shift(p.direction, features) for p in chosen])
    with DEVICE.turn():
        return gram(responses(vectors, model, x_t, t, basis))

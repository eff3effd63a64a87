"""What directions share, and how to take it out of one of them.

Two inner products of directions u and v, both at one picture:

- in h-space, <u, v> = sum_t <u_t, v_t> over the timesteps at which they act on the picture's way back from noise.
  Implicit directions are evaluated at the h of each timestep, so their likeness is that of the shifts they make;
- of their responses, <J u, J v>, with J the Jacobian of the predicted image with respect to h at 0.6 T: what they do to
  the picture, to first order. Two directions that are orthogonal in h-space can still move the same pixels.

Removing from d what it shares with e_1..e_k is d - sum_j b_j e_j with b the least-squares solution G b = g, where
G_ij = <e_i, e_j> and g_j = <e_j, d>: a composite, which every preset can carry. `steps` counts: a direction made with S
steps is the vector S delta, whose sum over a process does not depend on its length.

An inner product counts everything that two directions have in common; what e is for may be none of that, and then
d - b e does the opposite of e where d did nothing. So there is a third comparison, which is not symmetric: the effects
E_ij of e_j at strength 1 on what e_i is for. That is an attribute, where the model has a probe, else the direction of
the words of e_i in the image-text model. Solving E b = g, with g_j the effect of d on what e_j is for, leaves a d that
does none of what the others are for (an oblique projection, along the e_j).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from core import studio
from core.asyrp.loss import text_direction
from core.asyrp.prompts import templates
from core.clip import ImageText
from core.composing.applying import apply, latent_of
from core.directions import CompositeDirection, Direction
from core.discovery.basis import Basis
from core.discovery.linear import Jacobian, descend, nearest_timestep
from core.errors import RequestError
from core.exploring.analysis import Analysis
from core.latents import Latent
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.progress import Job, Progress
from core.unet import Features
from core.visit import DEVICE, EditOptions, Picture, exclusively

Metric = Literal["h-space", "response", "effect"]
METRICS: tuple[Metric, ...] = get_args(Metric)
LOOKS = 10  # timesteps of a trajectory at which directions are compared
SAME = 1e-2  # a direction with no more than this share left is made of the others
WEAK = 0.05  # of the largest effect: a direction that does less of what it is for does nothing here
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


def effective(E: Tensor) -> Tensor:
    """Of effects (n, n), which directions do what they are for: boolean (n,)."""
    return E.diagonal().abs() > WEAK * E.abs().max()


def relative(E: Tensor) -> Tensor:
    """Effects (n, n) in shares of what each direction does of what it is for itself; 0 where that is nothing."""
    own, able = E.diagonal(), effective(E)
    return torch.where(able[:, None], E / torch.where(able, own, 1.0)[:, None], 0.0)


def compensated(E: Tensor) -> tuple[Tensor, float]:
    """Of effects E (1 + k, 1 + k), the direction first: the coefficients b (k,), at most 1, with which the others take
    back what it does of what they are for; and the share that is left of what it is for itself. Others that do nothing
    here take nothing back."""
    b = torch.zeros(len(E) - 1, dtype=E.dtype)
    able = effective(E)[1:]
    if able.any():
        b[able] = torch.linalg.lstsq(E[1:, 1:][able][:, able], E[1:, 0][able]).solution.clamp(-1, 1)
    own = E[0, 0]
    return b, 1.0 if own == 0 else ((own - E[0, 1:] @ b) / own).item()


def shared(G: Tensor) -> tuple[Tensor, float]:
    """Of Gram matrix G (1 + k, 1 + k), the direction first: the coefficients b (k,) of what it shares with the others,
    and the share of its length that is left without it."""
    values, vectors = torch.linalg.eigh(G[1:, 1:])
    inverse = torch.where(values > CUTOFF * values.max(), 1 / values, 0.0)
    b = vectors @ (inverse * (vectors.T @ G[1:, 0]))
    left = (G[0, 0] - b @ G[1:, 0]).clamp(min=0) / G[0, 0].clamp(min=1e-300)
    return b, left.sqrt().item()


# ------------------------------------------------------------------------------------------------------------ at work


def likeness(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric = "h-space",
    t_edit: int | None = None,
    analysed: Analysis | None = None,
) -> Job:
    """Gram matrix of presets at a picture, or their effects on what each is for; float64 (n, n), as the result.

    t_edit: of all of them; None: of each its own. analysed: of this picture, where it was; the response is that there.

    Raises:
        RequestError: unknown metric. ModelUnavailable: there is no image-text model to tell what directions are for.
    """
    if metric not in METRICS:
        raise RequestError(f"There is no metric {metric!r}: use {', '.join(METRICS[:-1])} or {METRICS[-1]}.")
    if metric == "effect":
        G = yield from _effects(model, picture, chosen, t_edit)
    elif metric == "h-space":
        own = [studio.intervals_for(model.card, preset, EditOptions()).t_edit for preset in chosen]
        starts = own if t_edit is None else [t_edit] * len(chosen)
        seen = yield from _along(model, picture)
        with DEVICE:
            G = gram(shifts([(p.direction, start) for p, start in zip(chosen, starts, strict=True)], seen))
    else:
        x_t, t, basis = yield from _where(model, picture, analysed)
        with DEVICE, torch.no_grad():
            features = model.features(x_t, t)
            vectors = torch.stack([shift(p.direction, features) for p in chosen])
        with DEVICE:
            G = gram(responses(vectors, model, x_t, t, basis))
    yield Progress(1, 1, "Comparing", result=G)


def _effects(
    model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], t_edit: int | None
) -> Generator[Progress, None, Tensor]:
    """E_ij (n, n): what preset j at strength 1 does to what preset i is for."""
    probed = studio.probe(model.card) is not None
    image_text = None if probed else studio.image_text(model.card)
    alone = torch.cat([torch.zeros(1, len(chosen)), torch.eye(len(chosen))])
    weighted = [(preset, column.tolist()) for preset, column in zip(chosen, alone.T, strict=True)]
    for event in apply(model, picture, weighted, EditOptions(model.card.steps, t_edit=t_edit, t_boost=0)):
        frames = event.result
        yield replace(event, note="Comparing", result=None)
    if probed:
        names = sorted(reading.name for reading in frames[0].measures.attributes)
        read = [{reading.name: reading.change for reading in frame.measures.attributes} for frame in frames]
        values = torch.tensor([[row[name] for name in names] for row in read], dtype=torch.float64)
        changes = values[1:] - values[0]
        return torch.stack([changes[:, _attribute(p, names, own)] for p, own in zip(chosen, changes, strict=True)])
    with DEVICE, torch.no_grad():
        seen = image_text.embed_images(torch.stack([frame.pixels for frame in frames]).to(model.device)).double().cpu()
    changes = seen[1:] - seen[0]
    with DEVICE:
        axes = [_axis(model, image_text, p, own) for p, own in zip(chosen, changes, strict=True)]
    return torch.stack(axes) @ changes.T


def _attribute(preset: Preset, names: Sequence[str], changes: Tensor) -> int:
    """What a preset is for, as the number of an attribute: the one that it says it changes most, or else the one that
    it changes most here. changes: (A,)."""
    said = [abs(preset.measured.get(name, 0.0)) for name in names]
    return said.index(max(said)) if any(said) else int(changes.abs().argmax())


def _axis(model: DiffusionModel, image_text: ImageText, preset: Preset, own: Tensor) -> Tensor:
    """What a preset is for, as a unit vector (D,) of embeddings: from its source text to its target text, or else what
    it changes here (D,)."""
    if not (preset.source_text and preset.target_text):
        return own / own.norm().clamp(min=1e-12)
    words = text_direction(image_text, preset.source_text, preset.target_text, templates(model.card))
    return words.double().cpu()


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


def orthogonalise(
    model: DiffusionModel,
    picture: Picture,
    preset: Preset,
    others: Sequence[Preset],
    metric: Metric = "h-space",
    analysed: Analysis | None = None,
) -> Job:
    """The preset without what it shares with others at a picture, in its own interval. Result: a `Preset`.

    Raises:
        RequestError: there are no others, or nothing of the preset is left without them.
    """
    for event in keep_apart(model, picture, [preset, *others], metric, analysed, count=1):
        yield event if event.result is None else replace(event, result=event.result[0])


def keep_apart(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric = "h-space",
    analysed: Analysis | None = None,
    count: int | None = None,
) -> Job:
    """Each of the first `count` presets, by default of all, without what it shares with all the others at a picture, in
    its own interval. Result: a list of `Preset`.

    Raises:
        RequestError: there are fewer than two, or nothing of one is left without the others.
    """
    if len(chosen) < 2:
        raise RequestError("Choose at least one other direction that this one should have nothing in common with.")
    compared: dict[int | None, Tensor] = {}
    made: list[Preset] = []
    for i, preset in enumerate(chosen[:count]):
        t_edit = studio.intervals_for(model.card, preset, EditOptions()).t_edit
        key = None if metric == "response" else t_edit  # the response is that at one t
        if key not in compared:
            for event in likeness(model, picture, chosen, metric, t_edit, analysed):
                compared[key] = event.result
                yield replace(event, result=None)
        order = [i, *(k for k in range(len(chosen)) if k != i)]
        others = [chosen[k] for k in order[1:]]
        made.append(without(preset, others, compared[key][order][:, order], metric, t_edit))
    yield Progress(1, 1, "Done", result=made)


def without(preset: Preset, others: Sequence[Preset], G: Tensor, metric: Metric, t_edit: int) -> Preset:
    """The preset without what it shares with others, for t >= t_edit. G: `likeness` of all (1 + k, 1 + k), it first.

    Raises:
        RequestError: nothing of the preset is left.
    """
    b, left = compensated(G) if metric == "effect" else shared(G)
    names = ", ".join(other.name for other in others)
    apart = f"without {names}" if len(others) == 1 else f"apart from {len(others)} others"
    if left < SAME:
        raise RequestError(f"Without what it shares with {names}, nothing of “{preset.name}” is left.")
    direction = CompositeDirection((preset.direction, *(other.direction for other in others)), (1.0, *(-b).tolist()))
    return replace(
        preset,
        direction=direction,
        name=f"{preset.name[:50]} {apart}"[:80],
        description=f"“{preset.name}” without what it shares with {names} ({metric}); {100 * left:.0f}% of it is left.",
        method="orthogonalised",
        parameters={"metric": metric, "removed": dict(zip([o.name for o in others], b.tolist(), strict=True))},
        measured={"left": left},
        t_edit=t_edit,
    )

"""What directions do to one another's intended effects, and how to compensate for it.

An inner product (`similarity.py`) counts everything that two directions have in common; the intended effect of e may be
none of that, and then d - b e does the opposite of e where d did nothing. So this comparison is not symmetric: the
effect E_ij of e_j at strength 1 along what e_i is for. That is an attribute, where the model has a probe, else the
direction of the words of e_i in the image-text model. Solving E b = g, with g_j the effect of d along what e_j is for,
leaves a d without any effect along what the others are for, to first order (an oblique projection, along the e_j).

Edits are not linear: removing a beard that is there changes more than a hint of a beard that d adds. So
d - s sum_j b_j e_j is tried at some scales s, and the one with the smallest side effects in proportion to its own
effect is kept. s = 0 is among them, so no direction gets worse at the picture it was compared at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...asyrp.loss import text_direction
from ...asyrp.prompts import templates
from ...clip import ImageText
from ...models.loader import DiffusionModel
from ...presets import Preset
from ...progress import Job, stage
from .. import measuring
from ..device import DEVICE
from ..frames import EditOptions, Picture
from .applying import MAX_PICTURES, apply

MIN_OWN_EFFECT = 0.05  # of the largest effect: a direction whose own effect is smaller counts as ineffective here
SCALES = (0.25, 0.5, 0.75, 1.0)  # of the first-order compensation, that are tried


@dataclass(frozen=True)
class Effects:
    """Effects of n presets on one picture, all float64.

    E: (n, n), E[i, j] of preset j at strength 1 along what preset i is for. axes: (n, A), what the presets are for, as
    unit vectors of readings. baseline: (A,), readings of the unedited picture.
    """

    E: Tensor
    axes: Tensor
    baseline: Tensor

    def from_readings(self, readings: Tensor) -> Tensor:
        """Effects (n, m) along what every preset is for, of m edited pictures with these readings (m, A)."""
        return self.axes @ (readings - self.baseline).T

    def subset(self, indices: Sequence[int]) -> Effects:
        """Those of some of the presets, in the order of `indices`."""
        rows = list(indices)
        return Effects(self.E[rows][:, rows], self.axes[rows], self.baseline)


# ------------------------------------------------------------------------------------------------------------ algebra


def effective(E: Tensor) -> Tensor:
    """Which directions have their own effect, of effects E (n, n): boolean (n,)."""
    return E.diagonal().abs() > MIN_OWN_EFFECT * E.abs().max()


def relative_effects(E: Tensor) -> Tensor:
    """Effects E (n, n) with each row divided by the row's own effect E_ii; 0 in rows of ineffective directions."""
    own, able = E.diagonal(), effective(E)
    return torch.where(able[:, None], E / torch.where(able, own, 1.0)[:, None], 0.0)


def first_order_compensation(E: Tensor) -> tuple[Tensor, float]:
    """How the other directions compensate for the side effects of the first one, to first order.

    E: effects (1 + k, 1 + k), the direction in question first. Ineffective others are left out.

    Returns (b, kept): the coefficients b (k,) of the others, clipped to [-1, 1]; and the fraction of its own effect
    that the direction keeps, 1 if it is ineffective itself.
    """
    b, able = torch.zeros(len(E) - 1, dtype=E.dtype), effective(E)
    others = able[1:]
    if others.any():
        b[others] = torch.linalg.lstsq(E[1:, 1:][others][:, others], E[1:, 0][others]).solution.clamp(-1, 1)
    return b, ((E[0, 0] - E[0, 1:] @ b) / E[0, 0]).item() if able[0] else 1.0


def smallest_side_effects(E: Tensor, attempts: Tensor, min_kept: float) -> tuple[int, float]:
    """The attempt at a direction with the smallest side effects in proportion to its own effect.

    E: effects (1 + k, 1 + k), the direction in question first. attempts: effects (1 + k, m) of m attempts at it. Those
    that keep less than `min_kept` of its own effect do not count, nor do side effects along ineffective directions.

    Returns (index of the attempt, the first of equal ones; fraction of its own effect kept).
    """
    able, own = effective(E), E.diagonal()
    kept = attempts[0] / own[0] if able[0] else torch.ones(attempts.shape[1], dtype=E.dtype)
    side_effects = (attempts[1:][able[1:]] / own[1:][able[1:], None]).norm(dim=0)
    k = int(torch.where(kept < min_kept, torch.inf, side_effects / kept).argmin())
    return k, kept[k].item()


# --------------------------------------------------------------------------------------------------------------- jobs


def measure_effects(
    model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], t_edit: int | None = None
) -> Job[Effects]:
    """Returns the effects of presets on a picture, each applied alone at strength 1.

    t_edit: of all of them; None: of each its own.

    Raises:
        ModelUnavailable: there is no image-text model to tell what directions are for. ResourceError.
    """
    alone = torch.cat([torch.zeros(1, len(chosen)), torch.eye(len(chosen))])
    readings = yield from _readings(model, picture, chosen, alone, t_edit)
    baseline, changes, probe = readings[0], readings[1:] - readings[0], measuring.probe(model.card)
    with DEVICE.turn():
        if probe is not None:
            names = sorted(probe.known)
            axes = [_attribute_axis(preset, names, own) for preset, own in zip(chosen, changes, strict=True)]
        else:
            image_text = measuring.image_text(model.card)
            axes = [_text_axis(model, image_text, preset, own) for preset, own in zip(chosen, changes, strict=True)]
    rows = torch.stack(axes)
    return Effects(rows @ changes.T, rows, baseline)


def compensation(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    effects: Effects,
    t_edit: int,
    min_kept: float = 0.0,
) -> Job[tuple[Tensor, float]]:
    """How the other presets compensate for the side effects of the first one, for t >= t_edit.

    effects: of the presets at that t_edit.

    Returns (b, kept): the coefficients b (n - 1,) of the others, which are subtracted; and the fraction of its own
    effect kept; below `min_kept` if no solution keeps enough.

    Raises:
        ResourceError.
    """
    b, kept = first_order_compensation(effects.E)
    if kept < min_kept or not b.any():
        return b, kept
    strengths = torch.cat([torch.ones(len(SCALES), 1), -torch.outer(torch.tensor(SCALES), b)], 1)
    readings = yield from _readings(model, picture, chosen, strengths, t_edit)
    attempts = torch.cat([effects.E[:, :1], effects.from_readings(readings)], 1)
    k, kept = smallest_side_effects(effects.E, attempts, min_kept)
    return (0.0, *SCALES)[k] * b, kept


def _readings(
    model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], strengths: Tensor, t_edit: int | None
) -> Job[Tensor]:
    """Returns readings, float64 (m, A), of a picture edited with each row of `strengths` (m, n): its attributes, in the
    order of their names, where the model has a probe; else its embedding."""
    options, rows = EditOptions(t_edit=t_edit, t_boost=0), []
    for part in strengths.split(MAX_PICTURES):
        columns = [(preset, column.tolist()) for preset, column in zip(chosen, part.T, strict=True)]
        frames = yield from stage(apply(model, picture, columns, options), "Comparing")
        if measuring.probe(model.card) is not None:
            for frame in frames:
                changes = {reading.name: reading.change for reading in frame.measures.attributes}
                rows.append(torch.tensor([changes[name] for name in sorted(changes)], dtype=torch.float64))
        else:
            with DEVICE.turn(), torch.no_grad():
                pixels = torch.stack([frame.pixels for frame in frames]).to(model.device)
                rows += [*measuring.image_text(model.card).embed_images(pixels).cpu().double()]
    return torch.stack(rows)


def _attribute_axis(preset: Preset, names: Sequence[str], own: Tensor) -> Tensor:
    """What a preset is for, as a unit vector (A,): the attribute that its own measurements say it changes most, else
    the one that it changes most here. own: (A,), what it changes here."""
    measured = [abs(preset.measured.get(name, 0.0)) for name in names]
    index = measured.index(max(measured)) if any(measured) else int(own.abs().argmax())
    return torch.eye(len(names), dtype=torch.float64)[index]


def _text_axis(model: DiffusionModel, image_text: ImageText, preset: Preset, own: Tensor) -> Tensor:
    """What a preset is for, as a unit vector (D,) of embeddings: from its source text to its target text, else what it
    changes here. own: (D,), what it changes here."""
    if not (preset.source_text and preset.target_text):
        return own / own.norm().clamp(min=1e-12)
    axis = text_direction(image_text, preset.source_text, preset.target_text, templates(model.card))
    return axis.cpu().double()

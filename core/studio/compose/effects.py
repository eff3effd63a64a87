"""What directions do of what the others are for, and how to take that back.

An inner product (`likeness.py`) counts everything that two directions have in common; what e is for may be none of
that, and then d - b e does the opposite of e where d did nothing. So this comparison is not symmetric: the effects E_ij
of e_j at strength 1 on what e_i is for. That is an attribute, where the model has a probe, else the direction of the
words of e_i in the image-text model. Solving E b = g, with g_j the effect of d on what e_j is for, leaves a d that does
none of what the others are for, to first order (an oblique projection, along the e_j).

Edits are not linear: taking away a beard that is there does more than a hint of a beard that d adds. So d - s sum_j b_j
e_j is tried at some shares s, and the one is kept that does least of what the others are for, for what it does of its
own. s = 0 is among them, so no direction is left worse at the picture it was compared at.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...asyrp.loss import text_direction
from ...asyrp.prompts import templates
from ...clip import ImageText
from ...models.loader import DiffusionModel
from ...presets import Preset
from ...progress import Job, Progress
from .. import measuring
from ..device import DEVICE
from ..frames import EditOptions, Frame, Picture
from .applying import MAX_CELLS, apply

WEAK = 0.05  # of the largest effect: a direction that does less of what it is for does nothing here
SHARES = (0.25, 0.5, 0.75, 1.0)  # that are tried, of what takes an effect back to first order


@dataclass(frozen=True)
class Effects:
    """E (n, n): of every preset (column) at strength 1 on what every preset (row) is for. axes (n, A): what they are
    for, in readings of a picture; plain (A,): the picture's own readings. All float64."""

    E: Tensor
    axes: Tensor
    plain: Tensor

    def of(self, readings: Tensor) -> Tensor:
        """Of pictures' readings (m, A): their effects (n, m) on what every preset is for."""
        return self.axes @ (readings - self.plain).T

    def among(self, which: Sequence[int]) -> Effects:
        """Those of some of the presets, by their numbers."""
        rows = list(which)
        return Effects(self.E[rows][:, rows], self.axes[rows], self.plain)


# ------------------------------------------------------------------------------------------------------------ algebra


def effective(E: Tensor) -> Tensor:
    """Of effects (n, n), which directions do what they are for: boolean (n,)."""
    return E.diagonal().abs() > WEAK * E.abs().max()


def relative(E: Tensor) -> Tensor:
    """Effects (n, n) in shares of what each direction does of what it is for itself; 0 where that is nothing."""
    own, able = E.diagonal(), effective(E)
    return torch.where(able[:, None], E / torch.where(able, own, 1.0)[:, None], 0.0)


def compensated(E: Tensor) -> tuple[Tensor, float]:
    """Of effects E (1 + k, 1 + k), the direction first: the coefficients b (k,), at most 1, with which the others take
    back what it does of what they are for, to first order; and the share that is left of what it is for itself. Others
    that do nothing here take nothing back; of a direction that does nothing here, all is left."""
    b, able = torch.zeros(len(E) - 1, dtype=E.dtype), effective(E)
    others = able[1:]
    if others.any():
        b[others] = torch.linalg.lstsq(E[1:, 1:][others][:, others], E[1:, 0][others]).solution.clamp(-1, 1)
    return b, ((E[0, 0] - E[0, 1:] @ b) / E[0, 0]).item() if able[0] else 1.0


def least_dragging(E: Tensor, tried: Tensor, least: float) -> tuple[int, float]:
    """Of effects E (1 + k, 1 + k), the direction first, and those of m attempts at it, (1 + k, m): the number of the
    attempt that does least of what the others are for, for what it does of its own, the first of equals; and the share
    of its own that is left. Attempts that leave less than `least` do not count."""
    able, diagonal = effective(E), E.diagonal()
    own = tried[0] / diagonal[0] if able[0] else torch.ones(tried.shape[1], dtype=E.dtype)
    dragged = (tried[1:][able[1:]] / diagonal[1:][able[1:], None]).norm(dim=0)
    k = int(torch.where(own < least, torch.inf, dragged / own).argmin())
    return k, own[k].item()


# ------------------------------------------------------------------------------------------------------------ at work


def effects(model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], t_edit: int | None = None) -> Job:
    """Of presets at a picture. Result: `Effects`. t_edit: of all of them; None: of each its own.

    Raises:
        ModelUnavailable: there is no image-text model to tell what directions are for. ResourceError.
    """
    alone = torch.cat([torch.zeros(1, len(chosen)), torch.eye(len(chosen))])
    read = yield from _readings(model, picture, chosen, alone, t_edit)
    changes, probe = read[1:] - read[0], measuring.probe(model.card)
    with DEVICE:
        if probe is not None:
            names = sorted(probe.known)
            axes = [_attribute(p, names, own) for p, own in zip(chosen, changes, strict=True)]
        else:
            image_text = measuring.image_text(model.card)
            axes = [_words(model, image_text, p, own) for p, own in zip(chosen, changes, strict=True)]
    rows = torch.stack(axes)
    yield Progress(1, 1, "Comparing", result=Effects(rows @ changes.T, rows, read[0]))


def taken_back(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    found: Effects,
    t_edit: int,
    least: float = 0.0,
) -> Job:
    """What the others take back of the first of the presets, for t >= t_edit. Result: (b, left), the coefficients
    (n - 1,) of the others, and the share that is left of what it is for; less than `least` if nothing takes back what
    it does of the others and leaves more. found: `effects` of the presets at that t_edit.

    Raises:
        ResourceError.
    """
    b, left = compensated(found.E)
    if left >= least and b.any():
        attempts = torch.cat([torch.ones(len(SHARES), 1), -torch.outer(torch.tensor(SHARES), b)], 1)
        read = yield from _readings(model, picture, chosen, attempts, t_edit)
        k, left = least_dragging(found.E, torch.cat([found.E[:, :1], found.of(read)], 1), least)
        b = (0.0, *SHARES)[k] * b
    yield Progress(1, 1, "Comparing", result=(b, left))


def _readings(
    model: DiffusionModel, picture: Picture, chosen: Sequence[Preset], table: Tensor, t_edit: int | None
) -> Generator[Progress, None, Tensor]:
    """What tells effects, float64 (m, A), of a picture under the strengths in the rows of a table (m, n): its
    attributes, in the order of their names, where the model has a probe; else its embedding."""
    options, rows = EditOptions(model.card.steps, t_edit=t_edit, t_boost=0), []
    for part in table.split(MAX_CELLS):
        weighted = [(preset, column.tolist()) for preset, column in zip(chosen, part.T, strict=True)]
        for event in apply(model, picture, weighted, options):
            frames: list[Frame] = event.result
            yield replace(event, note="Comparing", result=None)
        if measuring.probe(model.card) is not None:
            read = [{reading.name: reading.change for reading in frame.measures.attributes} for frame in frames]
            rows += [torch.tensor([row[name] for name in sorted(row)], dtype=torch.float64) for row in read]
        else:
            with DEVICE, torch.no_grad():
                pixels = torch.stack([frame.pixels for frame in frames]).to(model.device)
                rows += [*measuring.image_text(model.card).embed_images(pixels).double().cpu()]
    return torch.stack(rows)


def _attribute(preset: Preset, names: Sequence[str], changes: Tensor) -> Tensor:
    """What a preset is for, as a unit vector (A,): the attribute that it says it changes most, or else the one that it
    changes most here. changes: (A,)."""
    said = [abs(preset.measured.get(name, 0.0)) for name in names]
    number = said.index(max(said)) if any(said) else int(changes.abs().argmax())
    return torch.eye(len(names), dtype=torch.float64)[number]


def _words(model: DiffusionModel, image_text: ImageText, preset: Preset, own: Tensor) -> Tensor:
    """What a preset is for, as a unit vector (D,) of embeddings: from its source text to its target text, or else what
    it changes here (D,)."""
    if not (preset.source_text and preset.target_text):
        return own / own.norm().clamp(min=1e-12)
    words = text_direction(image_text, preset.source_text, preset.target_text, templates(model.card))
    return words.double().cpu()

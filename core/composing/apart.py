"""Keeping directions apart: each without what it shares with the others, as a composite, which every preset can carry.

What two directions share is told in one of three ways: by their inner products in h-space or of their responses
(`likeness.py`), or by what each does of what the other is for (`effects.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from torch import Tensor

from core import studio
from core.composing.effects import Effects, effects, relative, taken_back
from core.composing.likeness import cosines, in_h_space, of_responses, shared
from core.directions import CompositeDirection
from core.errors import RequestError
from core.exploring.analysis import Analysis
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.progress import Job, Progress
from core.visit import EditOptions, Picture

Metric = Literal["h-space", "response", "effect"]
METRICS: tuple[Metric, ...] = get_args(Metric)
SAME = 1e-2  # a direction with no more than this share left is made of the others


def compared(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric,
    t_edit: int | None,
    analysed: Analysis | None = None,
) -> Job:
    """Of presets at a picture, the Gram matrix, float64 (n, n), or their `Effects`, as the result. t_edit: of all of
    them; None: of each its own. analysed: of this picture, where it was; the response is that there.

    Raises:
        RequestError: unknown metric. ModelUnavailable: there is no image-text model to tell what directions are for.
    """
    if metric not in METRICS:
        raise RequestError(f"There is no metric {metric!r}: use {', '.join(METRICS[:-1])} or {METRICS[-1]}.")
    if metric == "effect":
        yield from effects(model, picture, chosen, t_edit)
    elif metric == "h-space":
        yield from in_h_space(model, picture, chosen, t_edit)
    else:
        yield from of_responses(model, picture, chosen, analysed)


def similarities(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric = "h-space",
    analysed: Analysis | None = None,
) -> Job:
    """What presets share at a picture, each in its own interval. Result: float64 (n, n), cosines, or what each (column)
    does of what each (row) is for. analysed: as in `compared`.

    Raises:
        RequestError: unknown metric. ModelUnavailable: there is no image-text model to tell what directions are for.
    """
    for event in compared(model, picture, chosen, metric, None, analysed):
        found = event.result
        if found is not None:
            found = relative(found.E) if isinstance(found, Effects) else cosines(found)
        yield replace(event, result=found)


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
        RequestError: unknown metric, fewer than two presets, or nothing of one is left without the others.
    """
    if len(chosen) < 2:
        raise RequestError("Choose at least one other direction that this one should have nothing in common with.")
    seen: dict[int | None, Tensor | Effects] = {}
    made: list[Preset] = []
    for i, preset in enumerate(chosen[:count]):
        t_edit = studio.intervals_for(model.card, preset, EditOptions()).t_edit
        key = None if metric == "response" else t_edit  # the response is that at one t
        if key not in seen:
            for event in compared(model, picture, chosen, metric, t_edit, analysed):
                seen[key] = event.result
                yield replace(event, result=None)
        for event in without(model, picture, chosen, seen[key], i, t_edit, metric):
            one = event.result
            yield replace(event, result=None)
        made.append(one)
    yield Progress(1, 1, "Done", result=made)


def without(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    found: Tensor | Effects,
    i: int,
    t_edit: int,
    metric: Metric,
) -> Job:
    """Number i of the presets without what it shares with the others at a picture, for t >= t_edit. found: what was
    found there, the Gram matrix (n, n) or the `Effects` of all. Result: a `Preset`.

    Raises:
        RequestError: nothing of it is left.
    """
    preset, others = chosen[i], [*chosen[:i], *chosen[i + 1 :]]
    if isinstance(found, Effects):
        for event in taken_back(model, picture, chosen, found, i, t_edit, SAME):
            result = event.result
            yield replace(event, result=None)
        b, left = result
    else:
        order = [i, *(k for k in range(len(chosen)) if k != i)]
        b, left = shared(found[order][:, order])
    names = ", ".join(other.name for other in others)
    apart = f"without {names}" if len(others) == 1 else f"apart from {len(others)} others"
    if left < SAME:
        raise RequestError(f"Without what it shares with {names}, nothing of “{preset.name}” is left.")
    direction = CompositeDirection((preset.direction, *(other.direction for other in others)), (1.0, *(-b).tolist()))
    made = replace(
        preset,
        direction=direction,
        name=f"{preset.name[:50]} {apart}"[:80],
        description=f"“{preset.name}” without what it shares with {names} ({metric}); {100 * left:.0f}% of it is left.",
        method="orthogonalised",
        parameters={"metric": metric, "removed": dict(zip([o.name for o in others], b.tolist(), strict=True))},
        measured={"left": left},
        t_edit=t_edit,
    )
    yield Progress(1, 1, "Comparing", result=made)

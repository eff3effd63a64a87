"""Keeping directions apart: each without what it shares with the others, as a composite, which every preset can carry.

What two directions share is told in one of three ways: by their inner products in h-space or of their responses
(`likeness.py`), or by what each does of what the other is for (`effects.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from torch import Tensor

from ...directions import CompositeDirection
from ...errors import RequestError
from ...models.loader import DiffusionModel
from ...presets import Preset
from ...progress import Job, Progress
from ..discover.analysis import Analysis
from ..edit import intervals_for
from ..frames import EditOptions, Picture
from .effects import Effects, effects, relative, taken_back
from .similarity import cosines, in_h_space, of_responses, shared

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
    for event in orthogonalise_all(model, picture, [preset, *others], metric, analysed, count=1):
        yield event if event.result is None else replace(event, result=event.result[0])


def orthogonalise_all(
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
    comparison, made = Comparison(model, picture, chosen, metric, analysed), []
    for i in range(len(chosen))[:count]:
        for event in comparison.without([i, *(k for k in range(len(chosen)) if k != i)]):
            one = event.result
            yield replace(event, result=None)
        made.append(one)
    yield Progress(1, 1, "Done", result=made)


class Comparison:
    """What presets share at a picture, looked at once, of all of them, for every t_edit. Arguments as of `compared`."""

    def __init__(
        self,
        model: DiffusionModel,
        picture: Picture,
        chosen: Sequence[Preset],
        metric: Metric,
        analysed: Analysis | None = None,
    ) -> None:
        self.model, self.picture, self.chosen, self.metric = model, picture, list(chosen), metric
        self._analysed = analysed
        self._seen: dict[int | None, Tensor | Effects] = {}

    def among(self, numbers: Sequence[int], t_edit: int) -> Job:
        """What some of the presets share for t >= t_edit. Result: as of `compared`, in the order of their numbers."""
        key = None if self.metric == "response" else t_edit  # the response is that at one t
        if key not in self._seen:
            for event in compared(self.model, self.picture, self.chosen, self.metric, t_edit, self._analysed):
                self._seen[key] = event.result
                yield replace(event, result=None)
        found, which = self._seen[key], list(numbers)
        some = found.among(which) if isinstance(found, Effects) else found[which][:, which]
        yield Progress(1, 1, "Comparing", result=some)

    def without(self, numbers: Sequence[int]) -> Job:
        """The first of some of the presets without what it shares with the others, in its own interval. Result: a
        `Preset`.

        Raises:
            RequestError: unknown metric, or nothing of it is left.
        """
        preset, *others = (self.chosen[k] for k in numbers)
        t_edit = intervals_for(self.model.card, preset, EditOptions()).t_edit
        for event in self.among(numbers, t_edit):
            found = event.result
            yield replace(event, result=None)
        if isinstance(found, Effects):
            for event in taken_back(self.model, self.picture, [preset, *others], found, t_edit, SAME):
                result = event.result
                yield replace(event, result=None)
            b, left = result
        else:
            b, left = shared(found)
        names = ", ".join(other.name for other in others)
        if left < SAME:
            raise RequestError(f"Without what it shares with {names}, nothing of “{preset.name}” is left.")
        apart = f"without {names}" if len(others) == 1 else f"apart from {len(others)} others"
        left_words = f"{100 * left:.0f}% of it is left."
        direction = CompositeDirection(
            (preset.direction, *(other.direction for other in others)), (1.0, *(-b).tolist())
        )
        made = replace(
            preset,
            direction=direction,
            name=f"{preset.name[:50]} {apart}"[:80],
            description=f"“{preset.name}” without what it shares with {names} ({self.metric}); {left_words}",
            method="orthogonalised",
            parameters={"metric": self.metric, "removed": dict(zip([o.name for o in others], b.tolist(), strict=True))},
            measured={"left": left},
            t_edit=t_edit,
        )
        yield Progress(1, 1, "Comparing", result=made)

"""Directions without what they share with others, as composites, which every preset can carry.

What two directions share is measured in one of three ways: by their inner products in h-space or of their responses
(`similarity.py`), or by the effect of each along what the other is for (`effects.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

from torch import Tensor

from ...directions import CompositeDirection
from ...errors import RequestError
from ...models.loader import DiffusionModel
from ...presets import Preset
from ...progress import Job
from ..discover.analysis import Analysis
from ..edit import intervals_for
from ..frames import EditOptions, Picture
from ..jobs import Work, device_job
from .common_start import ENOUGH, coefficients, comparison_words, imported, without_common_start
from .effects import Effects, compensation, measure_effects, relative_effects
from .similarity import cosines, gram_in_h_space, gram_of_responses, project_out

Metric = Literal["h-space", "response", "effect"]
METRICS: tuple[Metric, ...] = get_args(Metric)
MIN_KEPT = 1e-2  # of a direction; if less of it is kept, it consists of the others
NO_OTHERS = "Choose at least one other direction that this one should have nothing in common with."

Shared: TypeAlias = Tensor | Effects  # what n presets share: Gram matrix, float64 (n, n), or effects


def compare(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric,
    t_edit: int | None = None,
    analysis: Analysis | None = None,
) -> Job[Shared]:
    """Returns what presets share at a picture: their Gram matrix, without the random start that the Asyrp authors'
    directions have in common (`common_start`), or their effects for the metric "effect".

    t_edit: of all presets; None: of each its own. analysis: of this picture, if there is one; then the responses are
    those at its timestep, else those at 0.6 T.

    Raises:
        RequestError: unknown metric. ModelUnavailable: there is no image-text model to tell what directions are for.
    """
    if metric not in METRICS:
        raise RequestError(f"There is no metric {metric!r}: use {', '.join(METRICS[:-1])} or {METRICS[-1]}.")
    if metric == "effect":
        return (yield from measure_effects(model, picture, chosen, t_edit))
    if metric == "h-space":
        G = yield from gram_in_h_space(model, picture, chosen, t_edit)
    else:
        G = yield from gram_of_responses(model, picture, chosen, analysis)
    return without_common_start(G, imported(chosen))


def comparison_work(chosen: Sequence[Preset], metric: Metric, times: int = 1) -> Work:
    """Of a comparison of presets, done for so many editing intervals."""
    count = len(chosen)
    if metric == "effect":
        steps = EditOptions().steps_taken([preset.injection for preset in chosen])
        return Work(4 * steps * times, 2 * steps * (2 * count + 8) * times)
    return Work(120.0 * times, (120.0 + 2 * count) * times)


def similarities_work(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric = "h-space",
    analysis: Analysis | None = None,
) -> Work:
    """Of `similarities`."""
    return comparison_work(chosen, metric)


def orthogonalise_work(
    model: DiffusionModel,
    picture: Picture,
    preset: Preset,
    others: Sequence[Preset],
    metric: Metric = "h-space",
    analysis: Analysis | None = None,
) -> Work:
    """Of `orthogonalise`."""
    return comparison_work([preset, *others], metric)


def orthogonalise_all_work(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric = "h-space",
    analysis: Analysis | None = None,
) -> Work:
    """Of `orthogonalise_all`."""
    return comparison_work(chosen, metric, len(chosen))


@device_job(similarities_work)
def similarities(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric = "h-space",
    analysis: Analysis | None = None,
) -> Job[Tensor]:
    """Returns how similar presets are at a picture, each in its own interval: float64 (n, n), the cosines; or for the
    metric "effect", the effect of each (column) along what each (row) is for, relative to the row's own effect.

    Arguments and errors as of `compare`.
    """
    shared = yield from compare(model, picture, chosen, metric, None, analysis)
    return relative_effects(shared.E) if isinstance(shared, Effects) else cosines(shared)


@device_job(orthogonalise_work)
def orthogonalise(
    model: DiffusionModel,
    picture: Picture,
    preset: Preset,
    others: Sequence[Preset],
    metric: Metric = "h-space",
    analysis: Analysis | None = None,
) -> Job[Preset]:
    """Returns the preset without what it shares with others at a picture, in its own interval.

    Raises:
        RequestError: there are no others, or nothing of the preset is left without them.
    """
    comparison = Comparison(model, picture, [preset, *others], metric, analysis)
    return (yield from comparison.orthogonalise(range(1 + len(others))))


@device_job(orthogonalise_all_work)
def orthogonalise_all(
    model: DiffusionModel,
    picture: Picture,
    chosen: Sequence[Preset],
    metric: Metric = "h-space",
    analysis: Analysis | None = None,
) -> Job[list[Preset]]:
    """Returns each of the presets without what it shares with all the others at a picture, in its own interval.

    Raises:
        RequestError: unknown metric, fewer than two presets, or nothing of one is left without the others.
    """
    if len(chosen) < 2:
        raise RequestError(NO_OTHERS)
    comparison, result = Comparison(model, picture, chosen, metric, analysis), []
    for i in range(len(chosen)):
        others = (k for k in range(len(chosen)) if k != i)
        result.append((yield from comparison.orthogonalise([i, *others])))
    return result


class Comparison:
    """Presets at a picture, compared once for every t_edit, however many of them are orthogonalised.

    Arguments as of `compare`. Presets are named by their indices in `chosen`.
    """

    def __init__(
        self,
        model: DiffusionModel,
        picture: Picture,
        chosen: Sequence[Preset],
        metric: Metric,
        analysis: Analysis | None = None,
    ) -> None:
        self.model, self.picture, self.chosen, self.metric = model, picture, list(chosen), metric
        self._analysis = analysis
        self._shared: dict[int | None, Shared] = {}  # by t_edit

    def compare(self, indices: Sequence[int], t_edit: int) -> Job[Shared]:
        """Returns what some of the presets share for t >= t_edit, in the order of their indices."""
        key = None if self.metric == "response" else t_edit  # responses are those at one timestep
        if key not in self._shared:
            job = compare(self.model, self.picture, self.chosen, self.metric, t_edit, self._analysis)
            self._shared[key] = yield from job
        shared, which = self._shared[key], list(indices)
        return shared.subset(which) if isinstance(shared, Effects) else shared[which][:, which]

    def solve(self, indices: Sequence[int], t_edit: int) -> Job[tuple[Tensor, float]]:
        """Returns (b, kept) for t >= t_edit: the coefficients b (k,) with which the first of some presets loses what it
        shares with the k others, d - sum_j b_j e_j, and the fraction of it that is kept; below `MIN_KEPT` if it
        consists of the others."""
        shared = yield from self.compare(indices, t_edit)
        if isinstance(shared, Effects):
            presets = [self.chosen[i] for i in indices]
            return (yield from compensation(self.model, self.picture, presets, shared, t_edit, MIN_KEPT))
        return project_out(shared)

    def orthogonalise(self, indices: Sequence[int]) -> Job[Preset]:
        """Returns the first of some presets without what it shares with the others, in its own interval.

        Raises:
            RequestError: unknown metric, there are no others, or nothing of it is left without them.
        """
        preset, *others = (self.chosen[i] for i in indices)
        if not others:
            raise RequestError(NO_OTHERS)
        if self.metric == "h-space" and 2 <= len(imported([preset, *others])) < ENOUGH:
            raise RequestError(f"{comparison_words([preset, *others], self.metric)}")
        t_edit = intervals_for(self.model.card, preset, EditOptions()).t_edit
        b, kept = yield from self.solve(indices, t_edit)
        if kept < MIN_KEPT:
            raise RequestError(f"Without what it shares with {_names(others)}, nothing of “{preset.name}” is left.")
        return subtract(preset, others, b.tolist(), kept, t_edit, self.metric)


def subtract(
    preset: Preset, others: Sequence[Preset], b: Sequence[float], kept: float, t_edit: int, metric: Metric
) -> Preset:
    """The preset d - sum_j b_j e_j for t >= t_edit, with a name and a description that say so. kept: fraction of d."""
    directions = (preset.direction, *(other.direction for other in others))
    names = _names(others)
    weights = [1.0, *(-weight for weight in b)]
    if metric != "effect":
        weights = coefficients(b, imported([preset, *others]))
    suffix = f"without {names}" if len(others) == 1 else f"orthogonal to {len(others)} others"
    return replace(
        preset,
        direction=CompositeDirection(directions, tuple(weights)),
        name=f"{preset.name[:50]} {suffix}"[:80],
        description=f"“{preset.name}” without what it shares with {names} ({metric}); {100 * kept:.0f}% of it is left.",
        method="orthogonalised",
        parameters={"metric": metric, "removed": dict(zip([other.name for other in others], b, strict=True))},
        measured={"left": kept},
        t_edit=t_edit,
    )


def _names(presets: Sequence[Preset]) -> str:
    return ", ".join(preset.name for preset in presets)

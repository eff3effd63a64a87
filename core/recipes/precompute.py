"""A whole recipe: everything that is missing is computed by all processes, and the main one joins it.

The order is that of what depends on what: trajectories, searches and pictures; trainings; averages and corrections;
presets with their measures; the folder that is published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ..asyrp.train import Sources
from ..errors import RequestError, ResourceError
from ..models.loader import models
from ..models.opening import open_model
from ..progress import Job, stage
from . import found, joined, kept, made, measured, shaped, sources, trained
from .pictures import readable_pictures
from .recipe import AnyDirection, PictureSource, Recipe, TextDirection
from .team import ALONE, Team
from .units import Outcome, Unit, run_units
from .workshop import Workshop

Plans = Mapping[str, trained.Planned]  # by the names of the directions
Task = Callable[[Unit], Job[Mapping[str, bytes]]]
Tasks = dict[Unit, Task]


@dataclass(frozen=True)
class Precomputed:
    """outcome: of all units. presets: paths relative to the output folder, in the order of the recipe; empty in all
    processes but the main one, and where this was one share of several. notes: what whoever reads should know."""

    outcome: Outcome
    presets: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def precompute(recipe: Recipe, team: Team = ALONE, token: str | None = None) -> Job[Precomputed]:
    """Compute what is missing of a recipe, in all processes of the team, and join it.

    token: of the Hub, for models and data sets that are not public.

    Raises:
        RecipeError: something that the recipe names is not there. ModelUnavailable: the model cannot be had.
        ResourceError: another process has ended, or the folder cannot be written.
    """
    shop = yield from open_workshop(recipe, team, token)
    plans = {one.name: trained.plan(shop, one) for one in recipe.texts}
    pictures = measured.pictures_unit(shop)
    outcome = yield from _stage(shop, _first(shop, plans, pictures), 0)
    outcome += yield from _stage(shop, _trainings(shop, plans), 1)
    outcome += yield from _stage(shop, _shapes(shop, plans), 2)
    outcome += yield from _stage(shop, _presets(shop, plans, pictures), 3)
    notes = tuple(readable.words for readable in shop.pictures.values() if readable.words)
    if team.share is not None or not team.main:
        return Precomputed(outcome, (), notes)
    entries = [(one, made.unit(shop, one, plans, pictures)) for one in recipe.directions]
    paths = joined.join(shop, [(one, unit) for one, unit in entries if unit.is_done(shop.folder)])
    return Precomputed(outcome, tuple(paths), notes)


STAGES = 4


def _stage(shop: Workshop, tasks: Tasks, number: int) -> Job[Outcome]:
    units = list(tasks)

    def work(unit: Unit) -> Job[Mapping[str, bytes]]:
        return tasks[unit](unit)

    job = run_units(units, work, shop.folder, shop.team)
    words = ("Preparing", "Training", "Shaping", "Measuring")[number]
    return (yield from stage(job, lambda note: f"{words}: {note}"))


def open_workshop(recipe: Recipe, team: Team, token: str | None = None) -> Job[Workshop]:
    """The model and the pictures, the main process first, so that what is downloaded is there for the others."""
    shop = None
    if team.main:
        shop = yield from _open(recipe, team, token)
    team.first(None)
    if shop is None:
        shop = yield from _open(recipe, team, token)
    told = team.gather([readable.digests for readable in shop.pictures.values()])
    if any(one != told[0] for one in told):
        raise ResourceError("The processes of this run see different pictures. Put them where all can read them.")
    return shop


def _open(recipe: Recipe, team: Team, token: str | None) -> Job[Workshop]:
    card = yield from open_model(recipe.model, recipe.shows, token=token)
    shop = Workshop(recipe, models.get(card.id), team)
    for source in _sources(recipe):
        try:
            shop.pictures[source] = yield from readable_pictures(source, card.resolution, token)
        except RequestError as error:
            raise recipe.wrong(_place_of(recipe, source), error.message) from error
    return shop


def _place_of(recipe: Recipe, source: PictureSource) -> str:
    """The field that names a source of pictures."""
    if source == recipe.pictures:
        return "pictures"
    own = next((one.name for one in recipe.texts if one.pictures == source), None)
    return "measure.pictures" if own is None else f"directions.{own}.pictures"


def _sources(recipe: Recipe) -> list[PictureSource]:
    named = [recipe.pictures, *(one.pictures for one in recipe.texts)]
    named += [recipe.measure.pictures] if recipe.measure is not None else []
    return list(dict.fromkeys(source for source in named if source is not None))


def _first(shop: Workshop, plans: Plans, pictures: Unit) -> Tasks:
    """What depends on nothing of the recipe. Trajectories only for trainings that are still to be done."""
    tasks: Tasks = {}
    for one in shop.recipe.regions:
        unit = found.unit(shop, one)
        if unit.key not in {other.key for other in tasks}:  # the same under another name
            tasks[unit] = partial(found.find, shop, one)
    for chunk in _chunks(shop, plans):
        tasks[chunk.unit(shop)] = partial(sources.trajectories, shop, chunk)
    tasks[pictures] = partial(measured.make_pictures, shop)
    return tasks


def _trainings(shop: Workshop, plans: Plans) -> Tasks:
    tasks: Tasks = {}
    for name, planned in plans.items():
        if planned.key not in {unit.key for unit in tasks}:  # directions of other forms share it
            tasks[planned.unit(shop, name)] = partial(_train, shop, plans, planned)
    return tasks


def _train(shop: Workshop, plans: Plans, planned: trained.Planned, unit: Unit) -> Job[Mapping[str, bytes]]:
    return (yield from trained.train(shop, planned, _trajectories(shop, plans, planned), unit))


def _shapes(shop: Workshop, plans: Plans) -> Tasks:
    tasks: Tasks = {}
    for one in shop.recipe.texts:
        unit = shaped.unit(shop, one, plans)
        if unit is not None and unit.key not in {other.key for other in tasks}:
            tasks[unit] = partial(_shape, shop, plans, one)
    return tasks


def _shape(shop: Workshop, plans: Plans, one: TextDirection, unit: Unit) -> Job[Mapping[str, bytes]]:
    return (yield from shaped.shape(shop, one, plans, _trajectories(shop, plans, plans[one.name]), unit))


def _presets(shop: Workshop, plans: Plans, pictures: Unit) -> Tasks:
    return {
        made.unit(shop, one, plans, pictures): partial(_make, shop, plans, one, pictures)
        for one in shop.recipe.directions
    }


def _make(shop: Workshop, plans: Plans, one: AnyDirection, pictures: Unit, unit: Unit) -> Job[Mapping[str, bytes]]:
    if not pictures.is_done(shop.folder):
        raise ResourceError("The pictures to measure on are not there.")
    pixels, _ = kept.read(shop.folder / pictures.files[0])
    return (yield from made.make(shop, one, plans, pixels, unit))


# -------------------------------------------------------------------------------------------------------- trajectories


def _needed(shop: Workshop, plans: Plans) -> list[tuple[sources.Start, int]]:
    """Starts of what is still to be trained or shaped, with the timesteps down to which they are needed."""
    needed = []
    for one in shop.recipe.texts:
        planned, files = plans[one.name], [plans[one.name].file, shaped.final_file(shop, one, plans)]
        if not all((shop.folder / file).is_file() for file in files):
            needed.append((planned.start, planned.t_edit))
    return needed


def _chunks(shop: Workshop, plans: Plans) -> list[sources.Chunk]:
    return sources.chunks(shop, [one.start for one in plans.values()], _needed(shop, plans))


def _trajectories(shop: Workshop, plans: Plans, planned: trained.Planned) -> Sources:
    everything = [one.start for one in plans.values()]
    return sources.load_sources(shop, everything, planned.start, planned.t_edit)

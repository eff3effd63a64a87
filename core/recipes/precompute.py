"""A whole recipe: everything that is missing is computed by all processes, and the main one joins it.

The order is that of what depends on what: trajectories, searches and pictures; trainings; averages and corrections;
presets with their measures; the folder that is published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ..asyrp.sources import Sources
from ..errors import RequestError, ResourceError
from ..models.loader import models
from ..models.opening import open_model
from ..progress import Job, Progress, stage
from ..studio.known_models import bound_model, takes_prompt
from . import compared, found, joined, kept, made, measured, shaped, sources, trained
from .pictures import readable_pictures
from .recipe import AnyDirection, Composition, PictureSource, PromptDirection, Recipe, RegionDirection, TextDirection
from .team import ALONE, Team
from .units import Outcome, Unit, run_units
from .workshop import Workshop

Plans = Mapping[str, trained.Planned]  # by the names of the directions
Wanted = Sequence[AnyDirection]
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
    wanted = recipe.directions if team.share is None else team.hand([one for one in recipe.directions if _alone(one)])
    outcome = yield from _stage(shop, _first(shop, wanted, plans, pictures), "Preparing")
    outcome += yield from _stage(shop, _trainings(shop, wanted, plans), "Training")
    outcome += yield from _stage(shop, _shapes(shop, wanted, plans), "Shaping")
    outcome += yield from _stage(shop, _presets(shop, wanted, plans, pictures), "Measuring")
    notes = tuple(readable.words for readable in shop.pictures.values() if readable.words)
    if team.share is not None or not team.main:
        return Precomputed(outcome, (), notes)
    entries = [made.unit(shop, one, plans, pictures) for one in recipe.directions]
    try:
        paths = joined.join(shop, [unit for unit in entries if unit.is_done(shop.folder)])
    except ResourceError as error:
        return Precomputed(outcome + Outcome(failed={JOINED: error.message}), (), notes)
    return Precomputed(outcome, tuple(paths), notes)


JOINED = Unit("joined", ("README.md",), "the folder")


def _alone(direction: AnyDirection) -> bool:
    """Whether a direction can be made without another one of the recipe: by a run that is one share of several, which
    knows nothing of what the others have."""
    return not isinstance(direction, Composition) and not (
        isinstance(direction, TextDirection) and direction.corrections
    )


def _stage(shop: Workshop, tasks: Tasks, words: str) -> Job[Outcome]:
    units = list(tasks)

    def work(unit: Unit) -> Job[Mapping[str, bytes]]:
        return tasks[unit](unit)

    job = run_units(units, work, shop.folder, shop.team, dealt=shop.team.share is None)
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
    if takes_prompt(recipe.model):
        yield Progress(0, 1, f"Loading {recipe.model}")
        model = bound_model(recipe.model, recipe.prompt)
    else:
        model = models.get((yield from open_model(recipe.model, recipe.shows, token=token)).id)
    shop, card = Workshop(recipe, model, team), model.card
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


def _first(shop: Workshop, wanted: Wanted, plans: Plans, pictures: Unit) -> Tasks:
    """What depends on nothing of the recipe. Trajectories only for trainings that are still to be done."""
    by_key: dict[str, tuple[Unit, Task]] = {}  # once, whatever names it has
    for one in wanted:
        if isinstance(one, RegionDirection):
            unit = found.unit(shop, one)
            by_key.setdefault(unit.key, (unit, partial(found.find, shop, one)))
        elif isinstance(one, PromptDirection):
            unit = compared.unit(shop, one)
            by_key.setdefault(unit.key, (unit, partial(compared.compare, shop, one)))
    tasks: Tasks = dict(by_key.values())
    for chunk in _chunks(shop, wanted, plans):
        tasks[chunk.unit(shop)] = partial(sources.trajectories, shop, chunk)
    tasks[pictures] = partial(measured.make_pictures, shop)
    return tasks


def _trainings(shop: Workshop, wanted: Wanted, plans: Plans) -> Tasks:
    tasks: Tasks = {}
    for name in (one.name for one in wanted if isinstance(one, TextDirection)):
        planned = plans[name]
        if planned.key not in {unit.key for unit in tasks}:  # directions of other forms share it
            tasks[planned.unit(shop, name)] = partial(_train, shop, plans, planned)
    return tasks


def _train(shop: Workshop, plans: Plans, planned: trained.Planned, unit: Unit) -> Job[Mapping[str, bytes]]:
    return (yield from trained.train(shop, planned, _trajectories(shop, plans, planned), unit))


def _shapes(shop: Workshop, wanted: Wanted, plans: Plans) -> Tasks:
    tasks: Tasks = {}
    for one in (one for one in wanted if isinstance(one, TextDirection)):
        unit = shaped.unit(shop, one, plans)
        if unit is not None and unit.key not in {other.key for other in tasks}:
            tasks[unit] = partial(_shape, shop, plans, one)
    return tasks


def _shape(shop: Workshop, plans: Plans, one: TextDirection, unit: Unit) -> Job[Mapping[str, bytes]]:
    return (yield from shaped.shape(shop, one, plans, _trajectories(shop, plans, plans[one.name]), unit))


def _presets(shop: Workshop, wanted: Wanted, plans: Plans, pictures: Unit) -> Tasks:
    return {made.unit(shop, one, plans, pictures): partial(_make, shop, plans, one, pictures) for one in wanted}


def _make(shop: Workshop, plans: Plans, one: AnyDirection, pictures: Unit, unit: Unit) -> Job[Mapping[str, bytes]]:
    if not pictures.is_done(shop.folder):
        raise ResourceError("The pictures to measure on are not there.")
    pixels, _ = kept.read(shop.folder / pictures.files[0])
    return (yield from made.make(shop, one, plans, pixels, unit))


# -------------------------------------------------------------------------------------------------------- trajectories


def _needed(shop: Workshop, wanted: Wanted, plans: Plans) -> list[tuple[sources.Start, int]]:
    """Starts of what is still to be trained or shaped, with the timesteps down to which they are needed."""
    needed = []
    for one in (one for one in wanted if isinstance(one, TextDirection)):
        planned, files = plans[one.name], [plans[one.name].file, shaped.final_file(shop, one, plans)]
        if not all((shop.folder / file).is_file() for file in files):
            needed.append((planned.start, planned.t_edit))
    return needed


def _chunks(shop: Workshop, wanted: Wanted, plans: Plans) -> list[sources.Chunk]:
    return sources.chunks(shop, [one.start for one in plans.values()], _needed(shop, wanted, plans))


def _trajectories(shop: Workshop, plans: Plans, planned: trained.Planned) -> Sources:
    everything = [one.start for one in plans.values()]
    return sources.load_sources(shop, everything, planned.start, planned.t_edit)

"""What directions do to many pictures, and a model's perceptual curves."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import ModelUnavailable, RequestError, VisitorError
from .choosing import model_of, several_presets
from .output import PROMPT, WHICH_PRESET, Commands, command, login, print_note, print_table
from .recipes import tell

if TYPE_CHECKING:
    from ..evaluation.gauges import Gauges
    from ..evaluation.results import Evaluation
    from ..evaluation.subject import Subject
    from ..presets import Preset
    from ..recipes.pictures import Readable
    from ..recipes.recipe import PictureSource, Purpose, Recipe
    from ..recipes.team import Team

T = TypeVar("T")

PICTURES = "a folder of pictures, or a data set on the Hub (OWNER/NAME[@REVISION]) that holds picture files"


def add_to(commands: Commands) -> None:
    curves = command(
        commands, "curves", measure_curves, "Measure a model's perceptual curves, and where edits begin and end."
    )
    curves.add_argument("model", metavar="MODEL", help="its id, a repository on the Hub, or a folder")
    curves.add_argument("--prompt", help=PROMPT)
    curves.add_argument("--pictures", metavar="FOLDER", help=f"{PICTURES}; if left out, the model makes some")
    curves.add_argument("--count", type=int, default=100, help="pictures (100, as the paper)")
    curves.add_argument("--texts", type=Path, metavar="FILE", help="pairs of texts, a line each: face -> smiling face")
    curves.add_argument("--steps", type=int, default=100, help="noise levels (100)")
    curves.add_argument("--out", type=Path, metavar="FOLDER", help="for the results (curves-MODEL)")
    _add_team(curves)

    evaluate = command(
        commands,
        "evaluate",
        evaluate_directions,
        "Measure what directions do to many pictures: tables, and a page of pictures and plots.",
    )
    evaluate.add_argument("presets", nargs="+", metavar="PRESET", help=f"{WHICH_PRESET}; a folder; or one recipe file")
    evaluate.add_argument("--pictures", metavar="FOLDER", help=f"{PICTURES}; those of the recipe if left out")
    evaluate.add_argument("--count", type=int, help="the first so many of them; all if left out")
    evaluate.add_argument("--out", type=Path, default=Path("evaluation"), metavar="FOLDER", help="(evaluation)")
    evaluate.add_argument("--model", help="a repository on the Hub or a folder; the one they were made for if left out")
    evaluate.add_argument("--prompt", help=f"{PROMPT}; as the first preset or the recipe says if left out")
    evaluate.add_argument(
        "--strengths", type=float, nargs="+", metavar="C", help="0 is added; over each direction's range if left out"
    )
    evaluate.add_argument(
        "--process", choices=["anchored", "paper"], default="anchored", help="as the app, or the paper"
    )
    evaluate.add_argument("--steps", type=int, help="of the process (7, or 40 as in the paper)")
    evaluate.add_argument(
        "--injection", choices=["asymmetric", "symmetric"], help="as each preset suggests if left out"
    )
    evaluate.add_argument("--t-edit", type=int, help="end of the editing interval")
    evaluate.add_argument("--t-boost", type=int, help="start of the boosting interval")
    evaluate.add_argument("--seed", type=int, default=0, help="of the boosting noise")
    evaluate.add_argument("--attribute", help="that all of the directions are for, as the probe calls it")
    evaluate.add_argument("--part", help="of the pictures outside which nothing should change, such as Mouth")
    evaluate.add_argument(
        "--lacking", action="store_true", help="of each direction only on pictures that lack what it is for"
    )
    evaluate.add_argument("--identity", type=Path, metavar="FILE.onnx", help="a face embedding to compare people by")
    evaluate.add_argument("--batch", type=int, default=8, help="pictures that are edited together (8)")
    evaluate.set_defaults(shares=None)
    _add_team(evaluate)


def _add_team(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--share", metavar="K/N", help="only the K-th of N shares of the work, for job arrays")


def measure_curves(options: argparse.Namespace) -> None:
    with _said_once():
        _measure_curves(options)


def evaluate_directions(options: argparse.Namespace) -> None:
    with _said_once():
        _evaluate_directions(options)


@contextmanager
def _said_once() -> Iterator[None]:
    """What is wrong is wrong in all processes that were launched together: the first one says it."""
    from ..recipes.team import launched_rank

    try:
        yield
    except VisitorError:
        if launched_rank() > 0:
            raise SystemExit(1) from None
        raise


def _measure_curves(options: argparse.Namespace) -> None:
    from .. import metrics
    from ..api import load_model
    from ..evaluation.curves import curves_plot, curves_together, editing_ends, ends_as_csv, papers_texts, read_texts
    from ..intervals import PublishedTable
    from ..presets import file_name
    from ..recipes.team import folder_lock, join_team, read_share
    from ..studio import measuring
    from ..tensor_file import write

    _require_positive("--count", options.count)
    texts = papers_texts() if options.texts is None else read_texts(options.texts)
    team = join_team(read_share(options.share))
    model = load_model(options.model, prompt=options.prompt)
    out = options.out or Path(f"curves-{file_name(model.card.id).removesuffix('.safetensors')}")
    pictures = None
    if options.pictures is not None:
        pictures = _found(_source(options.pictures, options.count), model.card.resolution, team)
    distance = metrics.perceptual(model.card, model.device)
    with folder_lock(out, team):
        job = curves_together(model, pictures, distance, out, options.count, options.steps, team)
        measured = tell(job, team.main)
        if measured is None:
            _print_wait(team)
            return
        try:
            image_text = measuring.image_text(model.card)
        except ModelUnavailable as error:
            print_note(f"t_edit of texts is not known. {error.message}")
            image_text = None
        ends = editing_ends(measured.curves, texts, image_text)
        write(out / "t_edit.csv", ends_as_csv(ends).encode(), "file t_edit.csv")
        write(out / "curves.svg", curves_plot(measured, model.card.title).encode(), "file curves.svg")
    rows = [["source", "target", "similarity", "t_edit"]]
    rows += [[e.source, e.target, f"{e.similarity:.3f}", str(e.t_edit)] for e in ends if e.similarity is not None]
    if len(rows) > 1:
        print_table(rows)
    print(f"t_boost {measured.curves.t_boost()}, over {measured.count} pictures")
    own = model.card.curves
    if isinstance(own, PublishedTable):
        print_note("The app goes on by the table that the paper prints for this model.")
    elif model.card.id == "avatars":
        print_note(f"The app goes on by the curves that come with it ({own}).")
    for name in ("curves.json", "curves.svg", "t_edit.csv"):
        print(out / name)


def _evaluate_directions(options: argparse.Namespace) -> None:
    from ..evaluation.evaluate import evaluate
    from ..evaluation.from_recipe import pictures_of, presets_of
    from ..evaluation.gauges import gauges_of
    from ..evaluation.measures import require_known
    from ..recipes.team import folder_lock, join_team, read_share
    from ..studio.frames import EditOptions

    _require_positive("--batch", options.batch)
    given = ("process", "steps", "injection", "t_edit", "t_boost", "seed")
    how = EditOptions(**{key: getattr(options, key) for key in given})
    team = join_team(read_share(options.share))
    recipe = _recipe(options.presets)
    if recipe is None:
        model, presets = model_of(several_presets(options.presets), options.model, options.prompt)
        if options.pictures is None:
            raise RequestError("Say with --pictures which pictures to measure on: a folder, or a data set on the Hub.")
        asked: list[tuple[Preset, Purpose | None]] = [(preset, None) for preset in presets]
    else:
        made = presets_of(recipe)
        prompt = options.prompt or recipe.prompt or None
        model, presets = model_of([preset for preset, _ in made.presets], options.model or recipe.model, prompt)
        asked = [(preset, purpose) for preset, (_, purpose) in zip(presets, made.presets, strict=True)]
        for words in (*made.unusable, *(f"{name} is not made yet" for name in made.missing)):
            print_note(f"left out: {words}")
        if options.strengths is None and recipe.measure is not None:
            options.shares = recipe.measure.strengths
    if options.pictures is not None:
        source = _source(options.pictures, options.count)
    else:
        assert recipe is not None  # refused above
        source = pictures_of(recipe)
        source = source if options.count is None else replace(source, count=options.count)
    gauges = gauges_of(model.card, model.device, options.identity)
    subjects = [_subject(preset, purpose, options, gauges) for preset, purpose in asked]
    for subject in subjects:
        require_known(gauges, subject)
    pictures = _found(source, model.card.resolution, team)
    with folder_lock(options.out, team):
        job = evaluate(model, subjects, pictures, str(source), options.out, gauges, how, team, options.batch)
        evaluation = tell(job, team.main)
    if evaluation is None:
        _print_wait(team)
        return
    for words in evaluation.missing:
        print_note(words)
    _print_summary(evaluation)
    for ending in ("html", "csv", "json"):
        print(options.out / f"evaluation.{ending}")


def _recipe(sources: list[str]) -> Recipe | None:
    """The recipe, if one is given in place of presets. Raises RequestError: with others. RecipeError."""
    from ..recipes.reading import read_recipe

    if not any(source.lower().endswith((".yaml", ".yml")) for source in sources):
        return None
    if len(sources) > 1:
        raise RequestError("Give one recipe, or presets, not both.")
    return read_recipe(sources[0])


def _subject(preset: Preset, purpose: Purpose | None, options: argparse.Namespace, gauges: Gauges) -> Subject:
    """Its strengths and what it is for: as the command says, else the recipe, else the preset itself."""
    from ..evaluation.evaluate import usual_strengths
    from ..evaluation.subject import Subject, part_called, purpose_of, with_zero

    attribute, sign, part = purpose_of(preset, {} if gauges.probe is None else gauges.probe.known, gauges.parts)
    also: tuple[str, ...] = ()
    if purpose is not None:
        attribute, sign, also = purpose.attribute, purpose.sign, purpose.also
        wanted = part_called(purpose.part, gauges.parts)
        if gauges.parts is not None and wanted in gauges.parts.names:
            part = wanted
        elif wanted:
            print_note(f"{preset.name}: nothing here knows the part “{wanted}” of a picture.")
    if options.attribute and options.attribute != attribute:
        attribute, sign, also = options.attribute, 1, ()
    if attribute and gauges.probe is None:
        print_note(f"{preset.name}: nothing here reads attributes off these pictures; “{attribute}” is not measured.")
        attribute, sign, also = "", 1, ()
    if options.strengths is not None:
        strengths = with_zero(options.strengths)
    elif options.shares is not None:
        strengths = with_zero([share * preset.unit for share in options.shares])
    else:
        strengths = usual_strengths(preset)
    part = part_called(options.part or part, gauges.parts)
    return Subject(preset, strengths, attribute, sign, also, part, options.lacking)


def _source(text: str, count: int | None) -> PictureSource:
    """A folder, or a data set on the Hub by its name. Raises RequestError: the count is none."""
    from ..recipes.recipe import PictureSource

    if count is not None:
        _require_positive("--count", count)
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", text, re.ASCII)
    folder = Path(text).expanduser()
    if found is None or folder.is_dir():
        return PictureSource(folder, count=count)
    return PictureSource(dataset=found[1], revision=found[2] or "main", count=count)


def _found(source: PictureSource, resolution: int, team: Team) -> Readable:
    """The pictures that can be read; the main process says which cannot."""
    from ..recipes.pictures import readable_pictures

    found = tell(readable_pictures(source, resolution, login()), team.main)
    for name, why in found.left_out if team.main else ():
        print_note(f"left out: {name}: {why}")
    return found


def _print_summary(evaluation: Evaluation) -> None:
    from ..evaluation.page import COLUMNS, shown

    rows = [found.main_row() for found in evaluation.found]
    keys = [key for key in COLUMNS if any(row[key] is not None for row in rows)]
    table = [["direction", "strength", *(COLUMNS[key] for key in keys)]]
    for row in rows:
        table.append([row["direction"], f"{row['strength']:g}", *(shown(row, key) for key in keys)])
    print_table(table)
    print_note(f"{evaluation.count} pictures, {evaluation.process} process of {evaluation.steps} steps")


def _print_wait(team: Team) -> None:
    """After a share of the work, while others are not done."""
    if team.share is not None:
        print_note("This share is done. Whichever ends last writes the tables.")


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise RequestError(f"{name} must be at least 1, not {value}.")

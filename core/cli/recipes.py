"""A whole recipe: computed, and put on the Hub."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import RecipeError
from .output import Commands, command, follow, login, print_note

if TYPE_CHECKING:
    from ..progress import Job

T = TypeVar("T")

SAY_EVERY = 15.0  # seconds, where nobody watches a terminal


def add_to(commands: Commands) -> None:
    precompute = command(
        commands,
        "precompute",
        precompute_recipe,
        "Train, search and measure what is missing of a recipe. Several processes share it under accelerate launch.",
    )
    precompute.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="docs/recipes.md says what it can say")
    precompute.add_argument(
        "--share", metavar="K/N", help="only the K-th of N shares, for a job array; without it the shares are joined"
    )


def precompute_recipe(options: argparse.Namespace) -> None:
    from ..recipes.precompute import precompute
    from ..recipes.reading import read_recipe
    from ..recipes.team import folder_lock, join_team, launched_rank, read_share

    try:
        recipe = read_recipe(options.recipe)
    except RecipeError:
        if launched_rank() > 0:  # one process says it
            raise SystemExit(1) from None
        raise
    team = join_team(read_share(options.share))
    with folder_lock(recipe.output, team):
        done = tell(precompute(recipe, team, login()), team.main)
    if team.main:
        for note in done.notes:
            print_note(note)
        for path in done.presets:
            print(recipe.output / path)
        done.outcome.require_complete()
    elif not done.outcome.complete:
        raise SystemExit(1)


def tell(job: Job[T], aloud: bool) -> T:
    """Run a job to its end; where there is no terminal, its progress is said now and then."""
    from ..progress import Running, finish

    if not aloud:
        return finish(job)
    if sys.stderr.isatty():
        return follow(job)
    running, said = Running(job), -SAY_EVERY
    for event in running:
        if time.monotonic() - said >= SAY_EVERY:
            print_note(f"{event.step / max(1, event.total):4.0%} {event.note}")
            sys.stderr.flush()
            said = time.monotonic()
    return running.result

"""One search of a picture: what was asked, and what has been found so far."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...discovery import basis as krylov
from ...discovery import contrast
from ...discovery.found import DEFAULTS, Settings
from ...discovery.methods import METHODS
from ...errors import RequestError
from ...models.loader import DiffusionModel
from ...regions import Region
from ..frames import Frame, Picture, require_range
from ..turns import Turns
from .analysis import Analysis, nearest
from .rows import Row

MAX_COUNT = 12  # directions per region


@dataclass
class Exploration:
    """One search of a picture. `rows` and `analysis` change while `explore` runs, and `version` tells that they did.

    timestep: nearest on the trajectory is taken; None is 0.6 T. size: of the basis. opened: the row that is on the
    stage, frames: what is there of its strip. number: tells explorations apart.

    Raises:
        RequestError: a setting is out of range.
    """

    model: DiffusionModel
    picture: Picture
    regions: Sequence[Region]
    method: str = contrast.NAME
    settings: Settings = DEFAULTS
    timestep: int | None = None
    size: int = krylov.SIZE
    injection: Literal["symmetric", "asymmetric"] = "symmetric"
    analysis: Analysis | None = None
    rows: list[Row] = field(default_factory=list)
    refined: bool = False
    version: int = 0
    opened: int | None = None
    frames: list[Frame] = field(default_factory=list)
    number: int = field(default_factory=itertools.count(1).__next__)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise RequestError(f"There is no method {self.method!r}. Choose one of: {', '.join(METHODS)}.")
        if self.injection not in ("symmetric", "asymmetric"):
            raise RequestError(f"There is no injection {self.injection!r}: use asymmetric or symmetric.")
        require_range("count", self.settings.count, 1, MAX_COUNT)
        require_range("basis size", self.size, 8, krylov.MAX_SIZE)
        nearest(self.model, self.timestep)

    def touch(self, index: Any, name: str | None = None) -> Row:
        """The visitor opens a row, or names it. Raises RequestError: there is no such row, or the name is empty."""
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.rows):
            raise RequestError("This direction is no longer here. Choose another one.")
        row = replace(self.rows[index], touched=True)
        if name is not None:
            row = replace(row, name=_plain(name))
        self.rows[index] = row
        return row


@dataclass
class DiscoverState:
    """What Discover keeps of a visit. exploration: the search that is shown. searches: what was asked for. stopped: the
    number after the last time that the visitor stopped one."""

    exploration: Exploration | None = None
    searches: Turns = field(default_factory=Turns)
    stopped: int = -1

    def forget(self) -> None:
        """Another model or picture: what was found is out of date."""
        self.searches.begin()
        self.exploration = None


def _plain(name: str) -> str:
    """A name on one line. Raises RequestError for an empty one."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name[:400]).split())[:80]
    if not name:
        raise RequestError("A direction needs a name.")
    return name

"""One search of a picture: what was asked, and what has been found so far."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...directions import Injection
from ...discovery.basis import BASIS_SIZE
from ...discovery.interface import DEFAULT_SETTINGS, DiscoverySettings
from ...discovery.methods import DEFAULT_METHOD, find_method
from ...errors import RequestError
from ...models.loader import DiffusionModel
from ...regions import Named, Region, parse_regions, with_mask
from ..frames import Picture, require_range
from ..strips import Strip
from ..turns import Turns
from .analysis import Analysis, require_basis_size, trajectory_timestep
from .rows import DirectionRow, keep_pinned

MAX_COUNT = 12  # directions per region
MAX_KEPT = 3  # searches of a visit's other pictures


@dataclass
class Exploration:
    """One search of a picture. `rows` and `analysis` change while `explore` runs; each change of the rows raises
    `version`.

    timestep: the nearest one of the trajectory is taken; None is 0.6 T. size: of the basis. acts_from, acts_to: the
    timesteps at which directions act, the noisier first; None: as the method has it, as a rule from T to 0. strength:
    of all directions, as the papers count a; None: of each as much as makes a visible change. opened: index of the row
    that is on the stage. strips: of rows that were on it. number: tells explorations apart.

    Raises:
        RequestError: a setting is out of range.
    """

    model: DiffusionModel
    picture: Picture
    regions: Sequence[Region]
    method: str = DEFAULT_METHOD
    settings: DiscoverySettings = DEFAULT_SETTINGS
    timestep: int | None = None
    size: int = BASIS_SIZE
    injection: Injection = "symmetric"
    acts_from: int | None = None
    acts_to: int | None = None
    strength: float | None = None
    analysis: Analysis | None = None
    rows: list[DirectionRow] = field(default_factory=list)
    refined: bool = False
    version: int = 0
    opened: int | None = None
    strips: dict[int, Strip] = field(default_factory=dict)
    number: int = field(default_factory=itertools.count(1).__next__)

    def __post_init__(self) -> None:
        find_method(self.method)
        if self.injection not in ("symmetric", "asymmetric"):
            raise RequestError(f"There is no injection {self.injection!r}: use asymmetric or symmetric.")
        require_range("count", self.settings.count, 1, MAX_COUNT)
        require_basis_size(self.size)
        t, last = trajectory_timestep(self.model, self.timestep), self.model.card.last_timestep
        for name, level in (("from", self.acts_from), ("down to", self.acts_to)):
            if level is not None:
                require_range(f"The noise level {name} which directions act", level, 0, last)
        start, end = self._interval(t)
        if start < end:
            raise RequestError(
                f"Directions act from noise to picture: from a higher level down to a lower one, not from {start} to "
                f"{end}."
            )
        if self.strength is not None:
            require_range("strength", self.strength, 0.1, 100)

    @property
    def interval(self) -> tuple[int, int]:
        """Where directions act, the noisier timestep first."""
        return self._interval(trajectory_timestep(self.model, self.timestep))

    def _interval(self, t: int) -> tuple[int, int]:
        one_step = find_method(self.method).one_step and self.acts_from is None and self.acts_to is None
        if one_step:
            return t, t
        start = self.model.card.last_timestep if self.acts_from is None else self.acts_from
        return start, 0 if self.acts_to is None else self.acts_to

    def require_analysis(self) -> Analysis:
        """The analysis of the picture. Raises RequestError: there is none yet."""
        if self.analysis is None:
            raise RequestError("This picture is not analysed yet. Wait a moment, then try again.")
        return self.analysis

    @property
    def strip(self) -> Strip | None:
        """That of the row on the stage."""
        return None if self.opened is None else self.strips.get(self.opened)

    def pin(self, index: Any) -> DirectionRow:
        """Keep a row as it is, because the visitor has opened it. Raises RequestError: there is no such row."""
        return self._change(index)

    def rename(self, index: Any, name: str) -> DirectionRow:
        """Give a row the visitor's own name, and pin it.

        Raises:
            RequestError: there is no such row, or the name is empty.
        """
        return self._change(index, name)

    def receive(self, filled_in: Exploration) -> None:
        """What `explore` has found so far in another process, where it does not know what the visitor has pinned or
        named here meanwhile."""
        self.settings, self.analysis, self.refined = filled_in.settings, filled_in.analysis, filled_in.refined
        self.rows, self.version = keep_pinned(self.rows, filled_in.rows), filled_in.version

    def _change(self, index: Any, name: str | None = None) -> DirectionRow:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(self.rows):
            raise RequestError("This direction is no longer here. Choose another one.")
        row = self.rows[index]
        self.rows[index] = replace(row, pinned=True, name=row.name if name is None else _one_line(name))
        return self.rows[index]


def requested_regions(
    value: Any, method: str, resolution: int, mask: np.ndarray | None = None, named: Named | None = None
) -> list[Region]:
    """Regions from JSON, see `parse_regions`, and one more from a mask file; there may be none for a method that looks
    at the whole picture. named: gives parts of the picture by name.

    Raises:
        RequestError: there is no such method, or the regions are missing or cannot be used.
    """
    needed = find_method(method).needs_region and mask is None
    if not value and not needed:
        return with_mask([], mask, "mask", resolution)
    return with_mask(parse_regions([] if value is None else value, resolution, named), mask, "mask", resolution)


@dataclass
class DiscoverState:
    """What Discover keeps of a visit. exploration: the search that is shown. kept: the last few of other pictures.
    searches: requests for a search or for an end of it, of which the newest replaces all others. drawn: the regions, as
    the page has them; lost: it was loaded anew and has them no more. compared: requests to see
    methods side by side."""

    exploration: Exploration | None = None
    kept: list[Exploration] = field(default_factory=list)
    searches: Turns = field(default_factory=Turns)
    drawn: list[Any] = field(default_factory=list)
    lost: bool = False
    compared: Turns = field(default_factory=Turns)

    def stop(self) -> None:
        """End the search that is running."""
        self.searches.begin("stop")

    @property
    def stopped(self) -> bool:
        """Whether the visitor's last request was to stop."""
        return self.searches.last.get("stop") == self.searches.number

    @property
    def all(self) -> list[Exploration]:
        """The one that is shown, and the others."""
        return [*self.kept, *([] if self.exploration is None else [self.exploration])]

    def show(self, picture: Picture | None) -> None:
        """Another picture: what was found in the one before is put away, and what was found in this one is there
        again."""
        self.searches.begin()
        found, wanted = [one for one in self.all if one.rows], None
        if picture is not None:
            wanted = next((one for one in reversed(found) if _of(one, picture)), None)
        self.exploration = wanted
        self.kept = [one for one in found if one is not wanted][-MAX_KEPT:]


def _of(exploration: Exploration, picture: Picture) -> bool:
    """Whether a search looked at this picture."""
    other = exploration.picture
    return other.key == picture.key


def _one_line(name: str) -> str:
    """A name on one line. Raises RequestError for an empty one."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name[:400]).split())[:80]
    if not name:
        raise RequestError("A direction needs a name.")
    return name

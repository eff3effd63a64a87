"""What every method is given and gives back, and what it declares of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..cache import Sized
from ..directions import Direction
from ..errors import RequestError
from ..models.loader import DiffusionModel
from ..progress import Job
from ..regions import Region, rest
from .basis import Basis
from .jacobian_operator import Jacobian


@dataclass(frozen=True)
class DiscoverySettings:
    """Settings of all methods.

    count: directions per region. rank: r, singular vectors kept of each region (JIVE). joint_rank, individual_rank:
    r_C and r_A; the paper's are `PAPER_RANKS`, which ask more of a basis of 64 vectors than it holds (`PAPER_BASIS`).
    projection_rank: vectors of the outside that are projected out; 1 is the printed equation. mu: ridge of contrast, as
    a share of the largest eigenvalue inside the region. prepared: what the method's `prepare` returned, if it has one.

    Raises:
        RequestError: a number is out of range.
    """

    count: int = 5
    rank: int = 40
    joint_rank: int = 20
    individual_rank: int = 5
    projection_rank: int = 10
    mu: float = 0.05
    prepared: Sized | None = None

    def __post_init__(self) -> None:
        for name, highest in (
            ("count", 50),
            ("rank", 512),
            ("joint_rank", 512),
            ("individual_rank", 512),
            ("projection_rank", 512),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= highest:
                raise RequestError(f"{name.replace('_', ' ')} must be a whole number from 1 to {highest}, not {value}.")
        if not 1e-6 <= self.mu <= 10:
            raise RequestError(f"mu must lie between 0.000001 and 10, not {self.mu}.")


DEFAULT_SETTINGS = DiscoverySettings()

# Local editing, supplement A.1: r, r_C and r_A. Of the basis: r of each of two regions and as many again to spare.
PAPER_RANKS = (50, 30, 5)
PAPER_BASIS = 128


@dataclass(frozen=True)
class FoundDirection:
    """A direction of unit norm, and what is known of it.

    value: what the method ranks by (a singular value, a standard deviation, or the square root of a ratio of energies).
    inside: ||J_m v||, linearised change inside the region per unit, in pixel units. ratio: linearised ROIR,
    ||J_u v|| / ||J_m v||; the smaller the more local. region: "" where none was asked for. y: coordinates in the basis.
    The last three are None where the direction lies outside the basis (PCA); `locality.measure_locality` gives inside
    and ratio.
    """

    direction: Direction
    value: float
    method: str
    region: str
    inside: float | None = None
    ratio: float | None = None
    y: Tensor | None = None


Find = Callable[[Basis, Sequence[Region], DiscoverySettings], list[FoundDirection]]
Refine = Callable[[Jacobian, Basis, Region, DiscoverySettings], Job[Basis]]
Prepare = Callable[[DiffusionModel, int, int], Job[Sized]]


@dataclass(frozen=True)
class DiscoveryMethod:
    """A way to find directions, with all that a search, the page and the endpoints need to know of it.

    name: in requests and presets. label: on the page. find: the method itself; per region the best direction first.
    value_name, value_help: what the page calls the `value` of its directions, and what it means. needs_region: without
    one the method is refused. per_region: it finds directions for each region, under its label; otherwise for all of
    them together, or for the whole picture. refine: a job that extends the basis until the method's directions of one
    region are converged; None if there is nothing to converge. aim: a job that adds to the region's leading singular
    vectors, by few products, what a first answer of the method needs beside them; None if they suffice. prepare: a job
    of the model, the timestep and the largest number of directions, for what `find` needs beside the basis; its result
    is kept for all pictures and handed over as `settings.prepared`. one_step: its directions act at the timestep that
    they were found at, and nowhere else, unless the visitor chooses where.
    """

    name: str
    label: str
    find: Find
    value_name: str = "σ"
    value_help: str = "Singular value, by which the rows are ordered: change of the picture per unit of h."
    needs_region: bool = True
    per_region: bool = True
    refine: Refine | None = None
    aim: Refine | None = None
    prepare: Prepare | None = None
    one_step: bool = False


def require_regions(regions: Sequence[Region]) -> None:
    """Raises RequestError if there are none."""
    if not regions:
        raise RequestError("Draw a region first: this method looks for directions of a region.")


def with_rest(regions: Sequence[Region]) -> list[Region]:
    """The regions and what they leave of the picture.

    Raises:
        RequestError: there are no regions, or only one that leaves nothing.
    """
    require_regions(regions)
    outside = rest(regions)
    covering = [*regions, outside] if outside is not None else list(regions)
    if len(covering) < 2:
        raise RequestError("The region covers the whole picture. Leave something outside it.")
    return covering

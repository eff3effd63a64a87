"""What a recipe says, checked; `reading` makes it from a file, and `docs/recipes.md` has all fields in a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from ..asyrp.train import TrainingSettings
from ..directions import Injection
from ..discovery.basis import BASIS_SIZE
from ..discovery.interface import DEFAULT_SETTINGS, DiscoverySettings
from ..discovery.methods import DEFAULT_METHOD, METHODS
from ..errors import RecipeError
from ..regions import Box

# implicit: f_t. per_timestep, global: its mean over samples, and over the timesteps too (Asyrp, Appendix L.1).
# trained_global: one delta_h, optimised directly.
Form = Literal["implicit", "per_timestep", "global", "trained_global"]
Latents = Literal["random", "pictures"]
# Of two prompts: the shift of h fitted to what the words do, or the mean one (`core.studio.between_prompts.WAYS`).
PromptForm = Literal["fitted", "prompts"]


@dataclass(frozen=True)
class PictureSource:
    """Pictures of a folder, or of a data set on the Hub. count: the first so many of them by name; None: all.

    dataset: OWNER/NAME. files: those of the data set whose path matches this pattern, such as train/*.
    """

    folder: Path | None = None
    dataset: str = ""
    revision: str = "main"
    files: str = "*"
    count: int | None = None

    def __str__(self) -> str:
        return str(self.folder) if self.folder is not None else f"{self.dataset}@{self.revision}"


@dataclass(frozen=True)
class Purpose:
    """What a direction is for, as the instruments of the model know it: its own change is that of `attribute`, upwards
    or (sign -1) downwards. also: attributes that the words imply, not counted as side effects. part: of the picture,
    a name of the model's parts, outside which nothing should change."""

    attribute: str
    sign: int = 1
    also: tuple[str, ...] = ()
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class _Common:
    """What all directions have. name: of the preset, and by which others of the recipe mean it. strength,
    strength_range: suggested; None: by the kind of direction. t_boost: None: by the model's curves. note: why it is
    made this way, for whoever reads the recipe."""

    name: str
    description: str = ""
    note: str = ""
    strength: float | None = None
    strength_range: tuple[float, float] | None = None
    t_boost: int | None = None
    purpose: Purpose | None = None
    author: str | None = None
    licence: str | None = None


@dataclass(frozen=True, kw_only=True)
class TextDirection(_Common):
    """A direction that is trained from two texts (Asyrp).

    training: all of Algorithm 2's settings; coefficients and t_edit that are None are the paper's. latents: what it is
    trained on; None: `pictures` if the recipe or the direction names any and Table 3 does not say "from random noise"
    for this pair, else random. mean_over: latents that the averaged forms are averaged over. corrections: other
    directions that are added with these weights, by name in the recipe; the sum is learned by one f_t.
    """

    source: str
    target: str
    form: Form = "implicit"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    latents: Latents | None = None
    pictures: PictureSource | None = None
    mean_over: int = 20
    corrections: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PromptDirection(_Common):
    """What two prompts of a text-to-image model differ in, by the model's own reading. samples, steps: of the pictures
    that are drawn for it, from `seed` on; None: the form's own."""

    source: str
    target: str
    form: PromptForm = "fitted"
    samples: int | None = None
    steps: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class RegionShape:
    """A region by its boxes (fractions of the picture's sides: left, top, right, bottom), or by a name: of a part that
    the model's pictures have, or of a ready-made place. exact: a part it must be, and no place."""

    label: str
    boxes: tuple[Box, ...] = ()
    part: str = ""
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class RegionDirection(_Common):
    """Directions that are found in one picture, `discovery.count` for each region.

    regions: none for methods that look at the whole picture. timestep: in thousandths of T, 1000 for noise; None: where
    the method's paper has it, 0.6 T. size: basis vectors. picture: the file that is analysed; None: the picture that
    the model makes of `seed`. names: of the directions, region by region; those beyond the list are named by what they
    change.
    """

    regions: tuple[RegionShape, ...] = ()
    method: str = DEFAULT_METHOD
    discovery: DiscoverySettings = DEFAULT_SETTINGS
    timestep: float | None = None
    size: int = BASIS_SIZE
    refine: bool = True
    picture: Path | None = None
    seed: int = 0
    names: tuple[str, ...] = ()
    injection: Injection = "symmetric"

    @property
    def count(self) -> int:
        """How many directions there will be at most."""
        return self.discovery.count * (max(1, len(self.regions)) if METHODS[self.method].per_region else 1)

    @property
    def preset_names(self) -> list[str]:
        """Names of the directions that will be found, best first within a region: those that are given, then the
        entry's own with a number; the entry's alone if there can be only one."""
        if self.count == 1 and not self.names:
            return [self.name]
        return [*self.names, *(f"{self.name} {n}" for n in range(len(self.names) + 1, self.count + 1))]


@dataclass(frozen=True, kw_only=True)
class Composition(_Common):
    """A weighted sum. parts: (name of a direction of the recipe, or a preset: a file, or
    OWNER/NAME/PATH.safetensors[@REVISION] on the Hub; weight)."""

    parts: tuple[tuple[str, float], ...]


AnyDirection: TypeAlias = TextDirection | PromptDirection | RegionDirection | Composition


@dataclass(frozen=True)
class Measuring:
    """What every direction is measured on. pictures: inverted ones; None: pictures that the model makes of the seeds
    from `seed` on. count: how many. strengths: besides 0, times the suggested one."""

    pictures: PictureSource | None = None
    count: int = 16
    seed: int = 1_000_000
    strengths: tuple[float, ...] = (-1.0, 0.5, 1.0)


@dataclass(frozen=True)
class Publishing:
    """Where everything goes on the Hub."""

    repository: str
    private: bool = False


@dataclass(frozen=True)
class Recipe:
    """All that a recipe file says.

    file: it. model: id of a listed one, OWNER/NAME[@REVISION] on the Hub, or a folder. shows: what its pictures show,
    one or two words; "": as its files say. prompt: of a text-to-image model, which is bound to it; "": the usual one,
    "a face". output: the folder of results. pictures: for the directions from texts that
    say none. shown: the picture that thumbnails show edited; None: one that the model makes. measure: None: nothing is.
    lines: of the file, by the places of its fields.
    """

    file: Path
    model: str
    output: Path
    directions: tuple[AnyDirection, ...]
    shows: str = ""
    prompt: str = ""
    pictures: PictureSource | None = None
    shown: Path | None = None
    measure: Measuring | None = field(default_factory=Measuring)
    publish: Publishing | None = None
    author: str = ""
    licence: str = "mit"
    lines: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def texts(self) -> tuple[TextDirection, ...]:
        return tuple(one for one in self.directions if isinstance(one, TextDirection))

    @property
    def regions(self) -> tuple[RegionDirection, ...]:
        return tuple(one for one in self.directions if isinstance(one, RegionDirection))

    @property
    def compositions(self) -> tuple[Composition, ...]:
        return tuple(one for one in self.directions if isinstance(one, Composition))

    def wrong(self, place: str, words: str) -> RecipeError:
        """The error for something in the recipe that turns out to be wrong only when it is used."""
        where = place
        while where not in self.lines and "." in where:
            where = where.rpartition(".")[0]
        return RecipeError(f"{self.file.name}, line {self.lines.get(where, 1)}, {place}: {words}")

    def direction(self, name: str) -> AnyDirection:
        """The direction of a name. Raises KeyError: there is none."""
        return {one.name: one for one in self.directions}[name]

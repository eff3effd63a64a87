"""A visit: what the page knows of one visitor, what an edit is made of, and how visitors take turns on the device."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from core import presets
from core.asyrp.train import Sources
from core.composing.composition import Composition
from core.composing.history import History
from core.directions import Direction
from core.errors import RequestError, ResourceError
from core.imaging import Crop
from core.presets import Preset
from core.progress import Job

if TYPE_CHECKING:
    from core.exploring.exploration import Exploration
    from core.inverting.bench import Bench

DEVICE = threading.Lock()

Form = Literal["trained", "per_timestep", "global"]


def within(name: str, value: float, low: float, high: float) -> None:
    """Raises RequestError for anything but a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"{name} must lie between {low} and {high}, not {value}.")


@dataclass(frozen=True)
class Picture:
    """A picture as its model sees it: pixels (1, 3, R, R). seed: of the sample that it is, example: the name of the
    example that it is, if it is one; prompt: the words that it was drawn from, if there were any."""

    pixels: Tensor
    model_id: str
    seed: int | None = None
    example: str | None = None
    prompt: str = ""


@dataclass(frozen=True)
class EditOptions:
    """How to apply a direction; None: as the preset or the model's curves say.

    Raises:
        RequestError: a number is out of range.
    """

    steps: int = 40
    form: Form = "trained"
    injection: Literal["asymmetric", "symmetric"] | None = None
    t_edit: int | None = None
    t_boost: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        within("steps", self.steps, 4, 1000)
        within("seed", self.seed, 0, 2**31 - 1)
        for name in ("t_edit", "t_boost"):
            if getattr(self, name) is not None:
                within(name, getattr(self, name), 0, 1000)
        if self.form not in ("trained", "per_timestep", "global"):
            raise RequestError(f"There is no form {self.form!r} of a direction: use trained, per_timestep or global.")
        if self.injection not in (None, "asymmetric", "symmetric"):
            raise RequestError(f"There is no injection {self.injection!r}: use asymmetric or symmetric.")


@dataclass(frozen=True)
class Reading:
    """One attribute as the probe reads it, before and after, on its scale from `low` to `high`.

    change: in standard deviations of the attribute among the model's pictures.
    """

    name: str
    before: float
    after: float
    low: float
    high: float
    change: float


@dataclass(frozen=True)
class Measures:
    """What an edit did; None where a measure is not to be had. s_dir: Asyrp Eq. 17, in [-1, 1]. distance: perceptual,
    0 for no change. identity: 1 for the same person. attributes: the most changed first."""

    s_dir: float | None = None
    distance: float | None = None
    identity: float | None = None
    attributes: tuple[Reading, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Frame:
    """An edited picture (3, R, R) at one strength."""

    strength: float
    pixels: Tensor
    measures: Measures


@dataclass
class Session:
    """One visitor's visit. `ticket` rises with every request, so that a job can tell when it is out of date. `seen` is
    the picture that each tab shows, `search` does for directions that are looked for what `ticket` does. `stopped`
    is its number after the last time that the visitor stopped one. `restored`: steps and seed of the link by which
    the visitor came, until they choose their own. `composed`: what Compose shows, once all of it is there. `bench`:
    what the visit has inverted into text-to-image models.
    """

    model_id: str = "avatars"
    picture: Picture | None = None
    upload: Any = None
    crop: Crop = Crop()
    seen: dict[str, Picture | None] = field(default_factory=dict)
    own: dict[str, Preset] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    forms: dict[tuple[Any, ...], Direction] = field(default_factory=dict)
    sources: dict[tuple[Any, ...], Sources] = field(default_factory=dict)
    composition: Composition = Composition()
    history: History = field(default_factory=History)
    restored: tuple[int, int] | None = None
    composed: tuple[Any, ...] | None = None
    exploration: Exploration | None = None
    bench: Bench | None = None
    search: int = 0
    stopped: int = -1
    stop_training: bool = False
    ticket: int = 0
    folder: tempfile.TemporaryDirectory | None = None

    def begin(self) -> int:
        """A new request: every older one of this visitor is out of date from here on."""
        self.ticket += 1
        return self.ticket

    def begin_search(self) -> int:
        """A new search of directions, or none any more: every older one is out of date."""
        self.search += 1
        return self.search

    def change_model(self, model_id: str) -> None:
        """Another model: what belongs to the one before is out of date. Nothing happens if it is the same."""
        if model_id != self.model_id:
            self.begin()
            self.begin_search()
            self.model_id, self.picture, self.frames, self.upload = model_id, None, [], None
            self.composition, self.history = Composition(), History()
            self.exploration = None

    def keep(self, preset: Preset) -> str:
        """Add a preset of the visitor's own and return its id."""
        key = f"own-{len(self.own) + 1}"
        self.own[key] = preset
        return key

    def write(self, preset: Preset) -> Path:
        """A preset as a file of this visit. Raises ResourceError."""
        return presets.save(preset, self._place(presets.file_name(preset.name)))

    def file(self, name: str, data: bytes) -> Path:
        """Something to take away, as a file of this visit. name: the program's, never a visitor's.

        Raises:
            ResourceError: the disk is full.
        """
        path = self._place(name)
        try:
            path.write_bytes(data)
        except OSError as error:
            raise ResourceError(f"The file could not be written ({error.strerror}). Free some space.") from error
        return path

    def _place(self, name: str) -> Path:
        if self.folder is None:
            self.folder = tempfile.TemporaryDirectory(prefix="visit-")
        return Path(self.folder.name) / name

    def end(self) -> None:
        """The visit is over: its work stops, its files go."""
        self.begin()
        self.begin_search()
        if self.bench is not None:
            self.bench.begin()
        self.stop_training = True
        if self.folder is not None:
            self.folder.cleanup()


def exclusively(job: Job) -> Job:
    """The same job, each of its steps alone on the device; between steps others get their turn."""
    try:
        while True:
            with DEVICE:
                event = next(job, None)
            if event is None:
                return
            yield event
    finally:
        job.close()

"""Pictures on their way through the app: what is edited, how, and what came of it with its measures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import Tensor

from ..calibration import steps_taken
from ..directions import Injection
from ..errors import RequestError
from ..imaging import content_hash
from ..models.t2i_cards import TEXT_TO_IMAGE
from ..photo.placement import Placement
from ..process import USUAL_STEPS, Process

Form = Literal["trained", "per_timestep", "global"]
IntervalSource = Literal["preset", "curves"]


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raises RequestError for anything but a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RequestError(f"{name} must lie between {low} and {high}, not {value}.")


def in_units(strength: float, unit: float) -> str:
    """A strength in words, as a multiple of what its direction suggests: +1, −0.5."""
    share = round(strength / (unit or 1.0), 3)
    return f"{'−' if share < 0 else '+'}{abs(share):g}"


@dataclass(frozen=True)
class Picture:
    """A picture as its model sees it: pixels (1, 3, R, R). seed: of the sample that it is, example: the name of the
    example that it is, if it is one; prompt: the words that it was drawn from, if there were any, and in a
    text-to-image model what it shows. photo, placement: the photograph that it was cut out of, uint8 (H, W, 3), and
    where."""

    pixels: Tensor
    model_id: str
    seed: int | None = None
    example: str | None = None
    prompt: str = ""
    photo: Tensor | None = None
    placement: Placement | None = None

    @property
    def conditioning(self) -> str:
        """What a text-to-image model is bound to for it; "" in any other model."""
        return self.prompt if self.model_id in TEXT_TO_IMAGE else ""

    @property
    def key(self) -> tuple[str, str, str]:
        """Tells apart what is computed of it: by its pixels, its model, and what that is bound to."""
        return content_hash(self.pixels), self.model_id, self.conditioning


@dataclass(frozen=True)
class EditOptions:
    """How to apply a direction; None: as `source` says. steps: None is what the process needs. source: where intervals
    that are None come from: the preset where it has any, or the model's curves in any case. boost: t_boost is that of
    the model's curves whatever a preset says.

    Raises:
        RequestError: a number is out of range.
    """

    steps: int | None = None
    form: Form = "trained"
    injection: Injection | None = None
    t_edit: int | None = None
    t_boost: int | None = None
    seed: int = 0
    process: Process = "anchored"
    source: IntervalSource = "preset"
    boost: bool = False

    def __post_init__(self) -> None:
        if self.process not in USUAL_STEPS:
            raise RequestError(f"There is no process {self.process!r}: use {', '.join(USUAL_STEPS)}.")
        require_range("steps", self.step_count, 4, 1000)
        require_range("seed", self.seed, 0, 2**31 - 1)
        for words, level in (
            ("down to which it is edited (t_edit)", self.t_edit),
            ("below which it is boosted (t_boost)", self.t_boost),
        ):
            if level is not None:
                require_range(f"The noise level {words}", level, 0, 1000)
        if self.form not in ("trained", "per_timestep", "global"):
            raise RequestError(f"There is no form {self.form!r} of a direction: use trained, per_timestep or global.")
        if self.source not in ("preset", "curves"):
            raise RequestError(f"There are no intervals from {self.source!r}: use preset or curves.")
        if self.injection not in (None, "asymmetric", "symmetric"):
            raise RequestError(f"There is no injection {self.injection!r}: use asymmetric or symmetric.")

    def in_words(self) -> list[str]:
        """What differs from the usual."""
        said = []
        if self.process != "anchored":
            said.append("as in the paper" if self.process == "paper" else "as published")
        if self.step_count != USUAL_STEPS[self.process]:
            said.append(f"{self.step_count} steps")
        if self.form != "trained":
            said.append(f"averaged {'for each timestep' if self.form == 'per_timestep' else 'over all timesteps'}")
        said += [f"{self.injection} injection"] if self.injection else []
        said += ["intervals from the curves"] if self.source == "curves" else []
        said += [f"down to t = {self.t_edit}"] if self.t_edit is not None else []
        said += [f"boosted below t = {self.t_boost}"] if self.t_boost is not None else []
        said += ["boosted all the same"] if self.boost else []
        return [*said, f"seed {self.seed}"] if self.seed else said

    @property
    def step_count(self) -> int:
        """Steps of the process."""
        return USUAL_STEPS[self.process] if self.steps is None else self.steps

    def steps_taken(self, suggested: Collection[Injection]) -> int:
        """Steps that an edit takes with directions that suggest these injections."""
        injections = suggested if self.injection is None else [self.injection]
        return steps_taken(self.step_count, injections) if self.process == "anchored" else self.step_count


@dataclass(frozen=True)
class AttributeReading:
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
    0 for no change. identity: 1 for the same person. segmentation: the share of the picture that shows the same part of
    the face (Asyrp, appendix K.2). attributes: the most changed first. missing: in words, what could
    not be had or was assumed. in_domain: whether the model knows pictures like the one that was edited."""

    s_dir: float | None = None
    distance: float | None = None
    identity: float | None = None
    attributes: tuple[AttributeReading, ...] = ()
    missing: tuple[str, ...] = ()
    in_domain: bool | None = None
    segmentation: float | None = None

    def lacking(self, *words: str) -> Measures:
        """The same with more that is missing."""
        return replace(self, missing=(*self.missing, *words))

    def as_json(self) -> dict[str, Any]:
        """All of them; segmentation only for models whose parts are known."""
        made = asdict(self)
        if self.segmentation is None:
            del made["segmentation"]
        return made


@dataclass(frozen=True)
class Frame:
    """An edited picture (3, R, R) at one strength."""

    strength: float
    pixels: Tensor
    measures: Measures

"""What the figures are drawn with: a model, held-out pictures, its directions and what measures them."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..directions import Direction
from ..editing import EditSettings, edit, invert
from ..errors import RequestError
from ..evaluation.evaluate import edited_at
from ..evaluation.gauges import Gauges, gauges_of
from ..evaluation.measures import Table, lacking, measure
from ..evaluation.statistics import FeatureSums, frechet_distance
from ..evaluation.subject import Subject, purpose_of, with_zero
from ..imaging import open_picture, to_pixels
from ..models.cards import PRESETS
from ..models.loader import DiffusionModel
from ..presets import Preset
from ..process import Kept
from ..progress import Job, stage
from ..recipes.reading import read_recipe
from ..studio import library
from ..studio.edit import intervals_for
from ..studio.frames import EditOptions
from ..studio.reference import reference_pictures
from ..text_to_image import TextToImage, load_text_to_image, text_to_image_card

T = TypeVar("T")

STEPS = 20  # of the papers' process in the figures: as many as the shipped directions were trained with
ROWS = 8  # pictures edited together
HELD_OUT = "held_out"  # folder of the pictures that no network of a model was trained on
TILE = 128
PLAIN = EditSettings(STEPS)


@dataclass(frozen=True)
class Held:
    """Pictures that no network was trained on. pixels: (N, 3, R, R). prompts: of those that have one, by number: what
    it shows, the same with one word changed, and the attribute and the way (+1 or -1) that this means."""

    pixels: Tensor
    prompts: dict[int, tuple[str, str, str, int]] = field(default_factory=dict)


@dataclass
class Bench:
    """small: a quick look, with fewer and smaller everything."""

    model: DiffusionModel
    small: bool = False
    kept: Kept = field(default_factory=Kept)
    memory: dict[Hashable, Any] = field(default_factory=dict)

    def count(self, full: int, small: int = 2) -> int:
        """How many of something: of pictures, steps, strengths."""
        return min(full, small) if self.small else full

    @cached_property
    def gauges(self) -> Gauges:
        """What measures pictures of the model."""
        return gauges_of(self.model.card, self.model.device)

    @cached_property
    def held(self) -> Held | None:
        """The held-out pictures that come with the model, if any do."""
        return read_held_out(self.model.card.id)

    @cached_property
    def painter(self) -> TextToImage:
        """The text-to-image model whose pictures are of the same kind.

        Raises:
            RequestError: there is none.
        """
        if self.model.card.drawn is None:
            raise RequestError(f"There is no text-to-image model for pictures like those of {self.model.card.id}.")
        return load_text_to_image(text_to_image_card(self.model.card.drawn.model))

    def once(self, key: Hashable, make: Callable[[], Job[T]]) -> Job[T]:
        """The result of a job, which several figures share."""
        if key not in self.memory:
            self.memory[key] = yield from make()
        value: T = self.memory[key]
        return value

    def portraits(self, count: int) -> Job[Tensor]:
        """Pixels (count, 3, R, R): held-out ones; of a model that comes with none, its reference pictures."""
        if self.held is None:
            return (yield from reference_pictures(self.model, count))
        if count > len(self.held.pixels):
            raise RequestError(f"{self.model.card.id} comes with {len(self.held.pixels)} held-out pictures.")
        return self.held.pixels[:count]

    def latents(self, count: int, steps: int = STEPS) -> Job[Tensor]:
        """x_T (count, C, h, w) of the portraits, inverted. The first of more are those of fewer."""
        pixels, found = (yield from self.portraits(count)), self.memory.get(("latents", steps), torch.zeros(0))
        while len(found) < count:
            part = pixels[len(found) : len(found) + ROWS]
            made = yield from stage(invert(self.model, part, steps), "Inverting", previews=False)
            found = torch.cat((found, made.x_T.cpu())) if len(found) else made.x_T.cpu()
            self.memory["latents", steps] = found
        return found[:count]

    def rebuilt(self, count: int, steps: int = STEPS) -> Job[Tensor]:
        """What the papers' process makes of the portraits without an edit: pixels (count, 3, R, R)."""
        x_T, found = (yield from self.latents(count, steps)), self.memory.get(("rebuilt", steps), torch.zeros(0))
        while len(found) < count:
            part = x_T[len(found) : len(found) + ROWS]
            made = yield from self.decoded(part, settings=EditSettings(steps))
            found = torch.cat((found, made)) if len(found) else made
            self.memory["rebuilt", steps] = found
        return found[:count]

    def decoded(
        self,
        x_T: Tensor,
        weighted: Sequence[tuple[Direction, float]] = (),
        settings: EditSettings = PLAIN,
        model: DiffusionModel | None = None,
    ) -> Job[Tensor]:
        """The papers' process down: pixels (N, 3, R, R). model: with another place for h."""
        found = []
        for part in x_T.split(ROWS):
            job = edit(model or self.model, part, weighted, settings)
            found.append((yield from stage(job, "Decoding", previews=False)).cpu())
        return torch.cat(found)

    @cached_property
    def purposes(self) -> dict[str, Any]:
        """What the recipe that comes with the model says of its directions, by their names."""
        file = PRESETS / f"{self.model.card.id}.yaml"
        if not file.is_file():
            return {}
        return {one.name.lower(): one.purpose for one in read_recipe(file).texts}

    def directions(self) -> list[str]:
        """Names of the directions that come with the model.

        Raises:
            RequestError: there are none.
        """
        found = [preset.name for preset in library.shipped(self.model.card.id).values()]
        if not found:
            raise RequestError(f"No directions come with {self.model.card.id}: {self._help}")
        return found

    def preset(self, name: str) -> Preset:
        """Raises RequestError: no such direction comes with the model."""
        try:
            return library.named_preset(self.model.card.id, name)
        except RequestError as error:
            words = f"No direction “{name}” comes with {self.model.card.id}: {self._help}"
            raise RequestError(words) from error

    @property
    def _help(self) -> str:
        folder = f"presets/directions/{self.model.card.id}"
        return f"put presets into {folder}, or choose figures that need none (local, region)."

    def subject(self, name: str, strengths: Sequence[float] = (1.0,), direction: Direction | None = None) -> Subject:
        """A direction that comes with the model, and what it is for. direction: in place of its own."""
        preset, probe = self.preset(name), self.gauges.probe
        attribute, sign, part = purpose_of(preset, {} if probe is None else probe.known, self.gauges.parts)
        purpose = self.purposes.get(preset.name.lower())
        preset = preset if direction is None else replace(preset, direction=direction)
        also = () if purpose is None else purpose.also
        return Subject(preset, with_zero(strengths), attribute, sign, also, part, lacking=True)

    def t_edit(self, name: str) -> int:
        """The end of a direction's editing interval."""
        return intervals_for(self.model.card, self.preset(name), EditOptions()).t_edit

    def edited(self, subject: Subject, pixels: Tensor, options: EditOptions = EditOptions()) -> Job[Tensor]:
        """Pictures (N, 3, R, R) at each of the subject's strengths, as the app edits: (N, K, 3, R, R)."""
        found = []
        for part in pixels.split(ROWS):
            job = edited_at(self.model, subject, part, options, self.kept)
            found.append((yield from stage(job, f"Editing: {subject.preset.name}")))
        return torch.cat(found)

    def without(self, subject: Subject, pixels: Tensor) -> Tensor:
        """Those of the pictures that lack what a direction is for."""
        return pixels[lacking(self.gauges, subject, pixels)]

    def measured(self, subject: Subject, pixels: Tensor, edited: Tensor, masks: np.ndarray | None = None) -> Table:
        """See `core.evaluation.measures.measure`."""
        return measure(self.gauges, subject, pixels, edited, masks)[0]

    def others(self, table: Table, subject: Subject) -> tuple[str, float]:
        """The attribute that changes most besides a direction's own at the last strength, and how much on average."""
        if self.gauges.probe is None or "attributes" not in table:
            return "", float("nan")
        change = table["attributes"][:, -1].mean(0)
        named = dict(zip(self.gauges.probe.known, np.abs(change), strict=True))
        left = {name: value for name, value in named.items() if name not in (subject.attribute, *subject.also)}
        most = max(left, key=left.__getitem__)
        return most, float(left[most])

    @torch.no_grad()
    def features(self, pixels: Tensor) -> np.ndarray:
        """(N, F) for the Frechet distance. Raises RequestError: nothing here computes any."""
        if self.gauges.features is None:
            raise RequestError(" ".join(self.gauges.missing) or "The Frechet distance cannot be measured.")
        of = self.gauges.features
        return torch.cat([of(part).cpu().float() for part in pixels.split(16)]).numpy()

    def frechet(self, a: Tensor, b: Tensor) -> float:
        """Frechet distance of two sets of pictures. Of as few as here it says no more than which of two is nearer."""
        return frechet(self.features(a), self.features(b))


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Of two sets of features (N, F)."""
    sums = FeatureSums(), FeatureSums()
    for one, features in zip(sums, (a, b), strict=True):
        one.add(features)
    return frechet_distance(*sums)


def read_held_out(model_id: str) -> Held | None:
    """The held-out pictures that come with a model: a sheet of tiles, and what is known of them."""
    sheet = PRESETS / HELD_OUT / f"{model_id}.webp"
    if not sheet.is_file():
        return None
    about = json.loads(sheet.with_suffix(".json").read_text(encoding="utf-8"))
    picture, across = open_picture(sheet), about["across"]
    tiles = []
    for n in range(about["count"]):
        x, y = TILE * (n % across), TILE * (n // across)
        tiles.append(to_pixels(picture.crop((x, y, x + TILE, y + TILE)), TILE))
    prompts = {row["number"]: (row["prompt"], row["target"], row["attribute"], row["sign"]) for row in about["prompts"]}
    return Held(torch.cat(tiles), prompts)


def pairs(before: Tensor, after: Tensor) -> Tensor:
    """Pictures (N, 3, R, R) before and after, as `Bench.measured` takes them: (N, 2, 3, R, R)."""
    return torch.stack((before, after), 1)

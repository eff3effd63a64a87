"""What the studies of directions of h-space in the embedded text-to-image model have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from torch import Tensor

from benchmarks.inversion import Rows
from core import instruments
from core.conditional_unet import ShiftedBranch
from core.directions import Direction
from core.discovery.basis import Basis, krylov_basis
from core.discovery.jacobian_operator import Jacobian, nearest_timestep, place
from core.editing import EditSettings
from core.models.cards import PRESETS
from core.models.loader import DiffusionModel
from core.process import USUAL_STEPS, Kept, edit_pictures
from core.progress import finish
from core.prompted import with_prompt
from core.regions import Region, ready_made_region
from core.text_to_image import load_text_to_image, text_to_image_card

MODEL, PROMPT = "avatars-t2i", "a face"
REGIONS = ("Eyes", "Mouth")
RECOGNISED = 0.5  # standard deviations: less is no change of its own


@dataclass
class Study:
    """The model bound to a prompt, the probe, and what is measured already."""

    rows: Rows
    prompt: str = PROMPT
    guidance: float = 1.0
    shifted: ShiftedBranch = "both"
    kept: Kept = field(default_factory=Kept)

    @cached_property
    def text_model(self):
        return load_text_to_image(text_to_image_card(MODEL))

    @cached_property
    def model(self) -> DiffusionModel:
        return with_prompt(self.text_model, self.prompt, self.guidance, self.shifted)

    @cached_property
    def probe(self) -> instruments.Instruments:
        folder = text_to_image_card(MODEL).instruments
        assert folder is not None
        return instruments.load(PRESETS / folder)

    def regions(self) -> list[Region]:
        return [ready_made_region("face", label, self.model.card.resolution) for label in REGIONS]

    def analysed(self, pixels: Tensor, model: DiffusionModel | None = None) -> Basis:
        model = model or self.model
        t = nearest_timestep(model, model.card.steps)
        return finish(krylov_basis(Jacobian(model, finish(place(model, pixels, t)), t)))

    def edited(self, pixels: Tensor, direction: Direction, strengths: Sequence[float]) -> Tensor:
        """(n, 3, R, R) of one picture, or of n pictures at one strength each."""
        settings = EditSettings(USUAL_STEPS["anchored"], injection="symmetric")
        rows = len(strengths) // len(pixels)
        return finish(
            edit_pictures(self.model, pixels, rows, [(direction, list(strengths))], settings, kept=self.kept)
        ).cpu()

    def readings(self, pixels: Tensor) -> np.ndarray:
        """(n, attributes), in standard deviations of the population."""
        read = self.probe.attributes(pixels)
        return np.stack([read[name].numpy() / known.spread for name, known in self.probe.known.items()], axis=1)

    def identity(self, before: Tensor, after: Tensor) -> np.ndarray:
        return (self.probe.identity(before) * self.probe.identity(after)).sum(1).numpy()

    @property
    def attributes(self) -> list[str]:
        return list(self.probe.known)


def crossing(values: Sequence[float], goal: float) -> tuple[int, float] | None:
    """The first place k + share at which a sequence that begins at 0 reaches a goal; None: nowhere."""
    for k, (low, high) in enumerate(pairwise([0.0, *values])):
        if low < goal <= high:
            return k, (goal - low) / (high - low)
    return None


def between(values: np.ndarray, start: float, place_of: tuple[int, float]) -> float:
    """The value at such a place; at strength 0 it is `start`."""
    k, share = place_of
    low = start if k == 0 else values[k - 1]
    return float(low + share * (values[k] - low))

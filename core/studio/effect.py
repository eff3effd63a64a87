"""What a direction does to a model's pictures, by CLIP: the only proof that it belongs to the weights at hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional as F

from ..asyrp.loss import text_direction
from ..asyrp.prompts import templates
from ..editing import EditSettings
from ..errors import RequestError
from ..models.loader import DiffusionModel
from ..presets import MONOTONE, OWN_CHANGE, WORKS, Preset, require_model
from ..progress import Job, stage
from ..sampling import sample
from . import measuring
from .device import exclusively
from .edit import intervals_for
from .frames import EditOptions
from .latents import edit_together

STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # times the suggested one
PICTURES = 4
MIN_CHANGE = 0.01  # of a unit embedding along the texts' direction: less is what any change of a picture does
MIN_RISE = 2.0  # standard errors over the pictures


@dataclass(frozen=True)
class Effect:
    """What was seen.

    strengths: ascending. change: of the pictures' embeddings from strength 0, along the direction from the source to
    the target text, the mean over the pictures at each strength. error: the standard error of the last one.
    """

    strengths: tuple[float, ...]
    change: tuple[float, ...]
    error: float

    @property
    def monotone(self) -> bool:
        """Whether more strength always made more of the change."""
        return all(a < b for a, b in zip(self.change, self.change[1:], strict=False))

    @property
    def trusted(self) -> bool:
        """Whether the direction does what its texts say, on these weights."""
        return self.monotone and self.change[-1] > max(MIN_CHANGE, MIN_RISE * self.error)

    @property
    def words(self) -> str:
        what = ", ".join(f"{c:+.3f} at {s:g}" for s, c in zip(self.strengths, self.change, strict=True))
        if self.trusted:
            return f"Its own change by CLIP rises with its strength: {what}. It works with these weights."
        why = "does not rise with its strength" if not self.monotone else "is too small to be told from chance"
        return f"Its own change by CLIP {why}: {what}. It was probably made for other weights."


def measure_effect(model: DiffusionModel, preset: Preset, count: int = PICTURES, seed: int = 0) -> Job[Effect]:
    """Edit pictures that the model makes itself at rising strengths, and see whether they change as the texts do.

    Raises:
        RequestError: the preset has no texts. PresetError: its shape is not the model's. ModelUnavailable: CLIP is not
            here and cannot be fetched. ResourceError: out of memory.
    """
    if not (preset.source_text and preset.target_text):
        raise RequestError("The effect is measured against the direction's two texts: give both of them.")
    require_model(replace(preset, model=model.card.id, fingerprint=model.fingerprint), model)
    image_text = measuring.image_text(model.card)
    pixels = yield from stage(exclusively(sample(model, seed, count)), "Making pictures to edit")
    options = EditOptions()
    intervals = intervals_for(model.card, preset, options)
    settings = EditSettings(options.step_count, intervals, preset.injection)
    strengths = [preset.strength * s for s in STRENGTHS]
    weighted = [(preset.direction, strengths * count)]
    job = edit_together(model, pixels, len(strengths), weighted, settings, options.process)
    edited = yield from stage(job, "Measuring the effect")
    with torch.no_grad():
        axis = F.normalize(
            text_direction(image_text, preset.source_text, preset.target_text, templates(model.card)), dim=-1
        )
        along = (image_text.embed_images(edited) @ axis).cpu().view(count, len(strengths)).numpy().astype(float)
    change = along - along[:, [STRENGTHS.index(0.0)]]
    order = np.argsort(strengths)
    error = float(change[:, order[-1]].std(ddof=1) / np.sqrt(count)) if count > 1 else float("inf")
    means = change.mean(0)[order]
    return Effect(tuple(sorted(strengths)), tuple(float(value) for value in means), error)


def with_effect(preset: Preset, effect: Effect) -> Preset:
    """The preset with what was measured of it. What does not work was not made for these weights, whoever claims it."""
    measured = {OWN_CHANGE: effect.change[-1], MONOTONE: float(effect.monotone), WORKS: float(effect.trusted)}
    certainty = preset.certainty if effect.trusted else "unknown"
    return replace(preset, measured={**preset.measured, **measured}, certainty=certainty)

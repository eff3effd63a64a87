"""Asyrp's analyses of a direction, on the page and for programs: random shifts of equal size in h and in eps (figure
9), delta h against the noise level (appendix L.1), editing intervals of several lengths (figure 22), and new pictures
made with it from noise (appendix M)."""

from __future__ import annotations

from typing import get_args

from torch import Tensor

from .. import presets
from ..asyrp.consistency import AtTimestep, consistency
from ..asyrp.perturbation import Space, random_of_equal_share
from ..editing import EditSettings, edit, invert, sample_latent
from ..errors import RequestError
from ..intervals import EDIT_THRESHOLD, Intervals
from ..layers import EPS, at_layer
from ..models.cards import ModelCard
from ..models.loader import DiffusionModel
from ..presets import Preset
from ..progress import Job, stage
from . import measuring, reference
from .device import DEVICE, exclusively
from .edit import MAX_STRENGTH, intervals_for
from .frames import EditOptions, Frame, Picture, require_range
from .jobs import Work, device_job
from .latents import KEPT

STEPS = 40  # of the paper's process, in which all of these are
MAX_SAMPLES = 8
THRESHOLDS = (0.1, 0.2, 0.33, 0.45, 0.6)  # of the distance of P_t to the picture; the paper's is 0.33


def perturb_work(
    model: DiffusionModel, picture: Picture, preset: Preset, strength: float, space: Space, seed: int = 0
) -> Work:
    """Of `perturbed`."""
    return Work(6 * STEPS, 6 * STEPS)


@device_job(perturb_work)
def perturbed(
    model: DiffusionModel, picture: Picture, preset: Preset, strength: float, space: Space, seed: int = 0
) -> Job[Frame]:
    """A picture with a random shift in place of a direction's own, of the same size at every timestep.

    In h the size is that of delta_h of this very picture; in eps it is the same share of eps as that is of h.

    Raises:
        PresetError: the preset is for another model. RequestError: the strength is out of range, there is no such
        space, or the direction does nothing here.
    """
    require_range("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
    require_range("seed", seed, 0, 2**31 - 1)
    if space not in get_args(Space):
        raise RequestError(f"There is no space {space!r}: use {' or '.join(get_args(Space))}.")
    presets.require_model(preset, model)
    t_edit = _t_edit(model, preset)
    job = exclusively(invert(model, picture.pixels, STEPS, cache=KEPT.latents))
    x_T = (yield from stage(job, "Reading the picture", total=2 * STEPS)).x_T
    with DEVICE.turn():
        random = random_of_equal_share(model, preset.direction, x_T, t_edit, space, seed)
    seen = model if space == "h" else at_layer(model, EPS)
    settings = EditSettings(STEPS, Intervals(t_edit, 0), preset.injection)
    changed = edit(seen, x_T, [(random, strength)], settings)
    pixels = yield from stage(exclusively(changed), "Editing", first=STEPS, total=2 * STEPS)
    with DEVICE.turn():
        [measures] = measuring.measure(model.card, picture.pixels, pixels, preset.source_text, preset.target_text)
    return Frame(float(strength), pixels[0].cpu(), measures)


def against_work(model: DiffusionModel, preset: Preset, count: int = reference.COUNT) -> Work:
    """Of `against_timesteps`."""
    steps = preset.direction.steps
    return reference.latents_work(model, steps, count) + Work(2 * steps, 2 * steps * count)


@device_job(against_work)
def against_timesteps(model: DiffusionModel, preset: Preset, count: int = reference.COUNT) -> Job[list[AtTimestep]]:
    """What a direction's shifts are at each timestep at which it edits, over the reference pictures.

    Raises:
        PresetError: the preset is for another model. RequestError: the direction does nothing, or a number is out of
        range.
    """
    require_range("pictures", count, 2, 100)
    presets.require_model(preset, model)
    x_T = yield from reference.reference_latents(model, preset.direction.steps, count)
    return (yield from exclusively(consistency(model, preset.direction, x_T, _t_edit(model, preset))))


def editing_ends(card: ModelCard) -> list[tuple[float, int]]:
    """Where the editing interval ends by each of `THRESHOLDS` (Asyrp, figures 18 and 22): (threshold, t_edit). A
    lower threshold makes a longer interval."""
    source = card.known_or_typical()
    return [(level, source.t_edit(level / EDIT_THRESHOLD)) for level in THRESHOLDS]


def imagine_work(model: DiffusionModel, preset: Preset, strength: float, seed: int, count: int = 1) -> Work:
    """Of `imagined`."""
    return Work(2 * STEPS, 4 * STEPS * count)


@device_job(imagine_work)
def imagined(
    model: DiffusionModel, preset: Preset, strength: float, seed: int, count: int = 1
) -> Job[tuple[Tensor, Tensor]]:
    """New pictures from noise without and with a direction: pixels (count, 3, R, R) each. Picture i is that of the
    noise of seed + i.

    Raises:
        PresetError: the preset is for another model. RequestError: a number is out of range.
    """
    require_range("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
    require_range("seed", seed, 0, 2**31 - 1)
    require_range("count", count, 1, MAX_SAMPLES)
    presets.require_model(preset, model)
    intervals = intervals_for(model.card, preset, EditOptions())
    x_T = sample_latent(model, seed, count).x_T
    rows, strengths = x_T.repeat(2, 1, 1, 1), [0.0] * count + [float(strength)] * count
    settings = EditSettings(STEPS, intervals, preset.injection, seed)
    pixels = yield from stage(exclusively(edit(model, rows, [(preset.direction, strengths)], settings)), "Imagining")
    return pixels[:count].cpu(), pixels[count:].cpu()


def _t_edit(model: DiffusionModel, preset: Preset) -> int:
    return intervals_for(model.card, preset, EditOptions()).t_edit

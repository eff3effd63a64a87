"""What two prompts of a text-to-image model differ in, as units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .. import presets
from ..presets import Preset
from ..progress import Job, stage
from ..studio.between_prompts import WAYS, Way, shift_between, shift_preset, two_prompts
from . import kept
from .recipe import PromptDirection
from .team import HIDDEN
from .units import Unit
from .workshop import Workshop

PASSES = {"fitted": 50.0, "prompts": 2.0}  # of the network, for every picture and step


def unit(shop: Workshop, direction: PromptDirection) -> Unit:
    way, samples, steps = _settings(direction)
    key = shop.key("compared", way.form, direction.source, direction.target, samples, steps, direction.seed)
    return Unit(key, (f"{HIDDEN}/{key}.safetensors",), direction.name, PASSES[way.form] * samples * steps)


def compare(shop: Workshop, direction: PromptDirection, made: Unit) -> Job[Mapping[str, bytes]]:
    """The work of `unit`.

    Raises:
        RequestError: the prompts are the same to the model. ResourceError: out of memory.
    """
    way, samples, steps = _settings(direction)
    source, target = two_prompts(shop.recipe.model, direction.source, direction.target)
    job = shift_between(source, target, way, samples, steps, direction.seed, bound=shop.model)
    shift = yield from stage(job, "comparing")
    preset = shift_preset(source, target, shift, way, samples, steps, direction.seed, bound=shop.model)
    return {made.files[0]: presets.to_bytes(preset)}


def read_compared(shop: Workshop, direction: PromptDirection, made: Unit) -> Preset:
    """The preset, under the recipe's name. Raises ResourceError: it is not there, because its unit failed."""
    path = shop.folder / made.files[0]
    kept.require(path)
    preset = presets.load(path)
    return replace(preset, name=direction.name)


def _settings(direction: PromptDirection) -> tuple[Way, int, int]:
    """The way, and how many pictures and steps."""
    way = WAYS[direction.form]
    return way, direction.samples or way.samples, direction.steps or way.steps

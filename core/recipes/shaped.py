"""What a trained f_t becomes besides itself: its averages, and its sum with corrections; units of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..asyrp.corrections import corrected, examples, in_units_of_the_first, learned
from ..asyrp.forms import global_direction, mean_direction
from ..asyrp.sources import Sources
from ..directions import Direction, ImplicitDirection
from ..editing import sample_latent
from ..progress import Job, Progress, stage
from .recipe import TextDirection
from .team import HIDDEN
from .trained import Planned, direction_bytes, read_direction
from .units import Unit
from .workshop import Workshop

LEARNED_FROM, RANDOM_SEED = 16, 5  # latents of the training, and as many random ones


def shaped_key(shop: Workshop, direction: TextDirection, plans: Mapping[str, Planned]) -> str | None:
    """Of the unit that shapes a direction; None: it is what was trained."""
    if direction.corrections:
        others = [(plans[name].key, plans[name].t_edit, weight) for name, weight in direction.corrections.items()]
        return shop.key("corrected", plans[direction.name].key, others)
    if direction.form in ("per_timestep", "global"):
        return shop.key("averaged", plans[direction.name].key, direction.form, direction.mean_over)
    return None


def final_file(shop: Workshop, direction: TextDirection, plans: Mapping[str, Planned]) -> str:
    """The file of a direction as its preset has it, relative to the output folder."""
    key = shaped_key(shop, direction, plans)
    return plans[direction.name].file if key is None else f"{HIDDEN}/{key}.safetensors"


def unit(shop: Workshop, direction: TextDirection, plans: Mapping[str, Planned]) -> Unit | None:
    key = shaped_key(shop, direction, plans)
    cost = 2000.0 if direction.corrections else 20.0 * direction.mean_over
    label = f"{direction.name}, {'corrected' if direction.corrections else 'averaged'}"
    return None if key is None else Unit(key, (final_file(shop, direction, plans),), label, cost)


def shape(
    shop: Workshop, direction: TextDirection, plans: Mapping[str, Planned], sources: Sources, made: Unit
) -> Job[Mapping[str, bytes]]:
    """The work of `unit`. sources: the trajectories of its training.

    Raises: ResourceError: what it is made of is not there.
    """
    planned = plans[direction.name]
    own, about = read_direction(shop.folder / planned.file)
    if not direction.corrections:
        assert isinstance(own, ImplicitDirection)
        yield Progress(0, 1, "averaging")
        mean = mean_direction(shop.model, own, sources.x_T[: direction.mean_over], planned.t_edit)
        averaged: Direction = global_direction(mean) if direction.form == "global" else mean
        return {made.files[0]: direction_bytes(averaged, about)}
    others = []
    for name, weight in direction.corrections.items():
        other, _ = read_direction(shop.folder / plans[name].file)
        others.append((other, plans[name].t_edit, weight))
    whole = in_units_of_the_first(shop.model, corrected(own, planned.t_edit, others), planned.t_edit)
    x_T = torch.cat([sources.x_T[:LEARNED_FROM], sample_latent(shop.model, RANDOM_SEED, LEARNED_FROM).x_T])
    shown = yield from stage(examples(shop.model, whole, planned.t_edit, x_T))
    assert isinstance(own, ImplicitDirection)
    one = yield from learned(own, shown, shop.model.device)
    return {made.files[0]: direction_bytes(one, about | {"corrections": dict(direction.corrections)})}

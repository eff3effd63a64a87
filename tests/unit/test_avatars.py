"""The embedded model and the directions that come with it, measured on portraits that nothing was trained on."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from core import instruments, presets
from core.directions import ImplicitDirection
from core.editing import EditSettings, Intervals, edit, invert
from core.metrics import psnr
from core.models.cards import MODELS, PRESETS
from core.models.loader import models
from core.progress import finish
from core.sampling import sample
from training.dataset import to_pixels
from training.make_directions import PLAIN, RECIPES, preset_path
from training.portraits import HELD_OUT, render, varied
from training.portraits import sample as person

STEPS = 20
SHIPPED = [name for name in RECIPES if preset_path(name).exists()]


def pictures(count: int, **changes: float) -> Tensor:
    portraits = [varied(person(HELD_OUT + 3000 + k), **changes) for k in range(count)]
    return to_pixels(np.stack([np.asarray(render(p)) for p in portraits]))


@cache
def probe() -> instruments.Instruments:
    return instruments.load(PRESETS / MODELS["avatars"].instruments)


@cache
def latents() -> Tensor:
    return finish(invert(models.get("avatars"), pictures(4, **PLAIN), STEPS)).x_T


def run(direction: ImplicitDirection, strengths: list[float], t_edit: int) -> Tensor:
    """(len(strengths), 4, 3, H, W)."""
    x_T = latents()
    rows = torch.tensor(strengths).repeat_interleave(len(x_T))
    settings = EditSettings(STEPS, Intervals(t_edit, 0))
    made = finish(edit(models.get("avatars"), x_T.repeat(len(strengths), 1, 1, 1), [(direction, rows)], settings))
    return made.unflatten(0, (len(strengths), len(x_T)))


@cache
def unedited() -> dict[str, Tensor]:
    """What the probe reads where nothing is edited, which is the same for every direction."""
    return probe().attributes(finish(edit(models.get("avatars"), latents(), settings=EditSettings(STEPS))))


@pytest.mark.slow
def test_portraits_come_back_from_their_inversion() -> None:
    model, pixels = models.get("avatars"), pictures(3)
    latent = finish(invert(model, pixels, 40))
    assert psnr(finish(edit(model, latent, settings=EditSettings(40))), pixels).mean() > 34


@pytest.mark.slow
def test_samples_look_like_portraits_to_the_probe() -> None:
    model = models.get("avatars")
    made = finish(sample(model, 0, 12))
    features = probe().features(made)
    real = probe().features(pictures(60))
    noise = probe().features(torch.randn(12, 3, 128, 128).clamp(-1, 1))
    spread = real.std(0) + 1e-3
    far = ((features - real.mean(0)) / spread).square().mean().sqrt()
    assert far < 2.0
    assert ((noise - real.mean(0)) / spread).square().mean().sqrt() > 2 * far


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_direction_moves_its_attribute_most_and_backwards_at_negative_strength(name: str) -> None:
    recipe, preset = RECIPES[name], presets.load(preset_path(name))
    presets.require_model(preset, models.get("avatars"))
    assert isinstance(preset.direction, ImplicitDirection)
    # What a plain face lacks entirely (a beard, glasses) cannot become less.
    both_ways = recipe.attribute in ("smile", "eye_open", "gaze", "brow_angle", "brow_thick", "skin")
    strengths = [1.0, -1.0] if both_ways and preset.strength_range[0] < 0 else [1.0]
    read = [probe().attributes(row) for row in run(preset.direction, strengths, preset.t_edit)]
    known = probe().known

    def change(attribute: str, row: int) -> float:
        return ((read[row][attribute] - unedited()[attribute]).mean() / known[attribute].spread).item()

    own = change(recipe.attribute, 0) * recipe.sign
    assert own > 0.7
    others = {a: abs(change(a, 0)) for a in known if a not in (recipe.attribute, *recipe.also)}
    assert own > max(others.values()), f"{max(others, key=others.get)} moves more"
    if len(strengths) > 1:
        assert change(recipe.attribute, 1) * recipe.sign < -0.2

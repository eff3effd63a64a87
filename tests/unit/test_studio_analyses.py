"""Asyrp's analyses as the app has them, against the loop and the directions written out."""

from pathlib import Path

import pytest
import torch
from small_models import trained_block
from test_studio import model, picture, preset  # noqa: F401

from core.asyrp.perturbation import random_of_equal_share
from core.directions import GlobalDirection, ImplicitDirection
from core.editing import EditSettings, edit, invert, sample_latent
from core.errors import RequestError
from core.intervals import PUBLISHED, Curves, Intervals, first_reaching
from core.layers import EPS, at_layer
from core.models.cards import MODELS, PRESETS
from core.models.loader import DiffusionModel
from core.progress import finish
from core.studio import reference
from core.studio.analyses import STEPS, THRESHOLDS, against_timesteps, editing_ends, imagined, perturbed


def test_new_pictures_with_a_direction_come_from_the_same_noise(model: DiffusionModel) -> None:  # noqa: F811
    """Appendix M: the edited ones are the loop's from x_T ~ N(0, I); those of fewer are the first of more."""
    made = preset(model)
    plain, changed = finish(imagined(model, made, 0.5, 7, 2))
    x_T, settings = sample_latent(model, 7, 2).x_T, EditSettings(STEPS, Intervals(300, 0), seed=7)
    assert torch.allclose(changed, finish(edit(model, x_T, [(made.direction, 0.5)], settings)), atol=1e-4)
    assert torch.allclose(plain, finish(edit(model, x_T, [], settings)), atol=1e-4)
    assert (changed - plain).abs().max() > 0.01
    alone, _ = finish(imagined(model, made, 0.5, 8, 1))
    assert torch.allclose(alone[0], plain[1], atol=1e-4)
    with pytest.raises(RequestError, match="count"):
        finish(imagined(model, made, 0.5, 7, 9))


def test_random_shifts_are_matched_to_the_edit_of_the_picture(model: DiffusionModel) -> None:  # noqa: F811
    """At strength 0 nothing is changed."""
    f_t = trained_block(model.unet.unet.time_embedding.linear_2.out_features)
    made, shown = preset(model, direction=ImplicitDirection(f_t, STEPS)), picture(model)
    x_T = finish(invert(model, shown.pixels, STEPS)).x_T
    frames = [finish(perturbed(model, shown, made, 1.0, space, 3)) for space in ("h", "eps")]
    settings = EditSettings(STEPS, Intervals(300, 0))
    for frame, space in zip(frames, ("h", "eps"), strict=True):
        random = random_of_equal_share(model, made.direction, x_T, 300, space, 3)  # type: ignore[arg-type]
        seen = model if space == "h" else at_layer(model, EPS)
        expected = finish(edit(seen, x_T, [(random, 1.0)], settings))[0]
        assert torch.allclose(frame.pixels, expected, atol=1e-4)
    assert not torch.allclose(frames[0].pixels, frames[1].pixels, atol=1e-2)
    still = finish(edit(model, x_T, [], EditSettings(STEPS)))[0]
    for space in ("h", "eps"):
        assert torch.allclose(finish(perturbed(model, shown, made, 0.0, space)).pixels, still, atol=1e-4)
    with pytest.raises(RequestError, match="no space"):
        finish(perturbed(model, shown, made, 1.0, "x"))  # type: ignore[arg-type]


def test_a_direction_against_timesteps_is_over_the_reference_pictures(model: DiffusionModel, tmp_path: Path) -> None:  # noqa: F811
    delta = torch.randn(1, *model.card.h_shape, generator=torch.Generator().manual_seed(0))
    rows = finish(against_timesteps(model, preset(model, direction=GlobalDirection(delta, 10)), 3))
    assert [row.t for row in rows] == [t for t in model.schedule.timesteps(10)[::-1] if t >= 300]
    x_T = finish(reference.reference_latents(model, 10, 3))
    assert x_T.shape[0] == 3
    pixels = finish(reference.reference_pictures(model, 3))
    torch.testing.assert_close(x_T, finish(invert(model, pixels, 10)).x_T, atol=1e-4, rtol=0)
    with pytest.raises(RequestError, match="pictures"):
        finish(against_timesteps(model, preset(model), 1))


def test_intervals_end_where_the_curve_reaches_each_threshold() -> None:
    """The paper's own threshold is that of two texts that mean the same; a table is read in the same way."""
    curves = Curves.load(PRESETS / str(MODELS["avatars"].curves))
    expected = [(level, first_reaching(curves.t, curves.predicted_x0, level)) for level in THRESHOLDS]
    assert editing_ends(MODELS["avatars"]) == expected
    table = dict(editing_ends(MODELS["ddpm-ema-celebahq-256"]))
    assert table[0.33] == PUBLISHED["CelebA-HQ"].t_edit(1.0)
    assert list(table.values()) == sorted(table.values()), "the lower the threshold, the longer the interval"

"""Asyrp's analyses: random shifts of equal size, delta h against t, segmentation consistency, editing strength."""

from math import sqrt

import numpy as np
import pytest
import torch
from small_models import small_model, trained_block

from core.asyrp.consistency import compared, consistency
from core.asyrp.forms import global_direction, in_eps, mean_direction
from core.asyrp.perturbation import (
    MAX_FACTOR,
    gaussian,
    random_like,
    random_of_equal_share,
    rising_to,
    strength_of_equal_change,
)
from core.asyrp.segmentation import segmentation_consistency
from core.directions import GlobalDirection, ImplicitDirection, PerTimestepDirection
from core.editing import EditSettings, edit, sample_latent
from core.errors import RequestError
from core.intervals import PUBLISHED, Curves, Intervals
from core.layers import EPS, RESCALED_EPS, at_layer
from core.progress import Job, Progress, finish


def shifts() -> PerTimestepDirection:
    deltas = (
        torch.randn(6, 32, 4, 4, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 7)[:, None, None, None]
    )
    return PerTimestepDirection(torch.arange(400, 1000, 100), deltas, 12, 900)


def test_a_random_shift_has_the_size_of_the_one_in_its_place() -> None:
    known, random = shifts(), random_like(shifts(), 4)
    for a, b in zip(known.deltas, random.deltas, strict=True):
        assert b.norm().item() == pytest.approx(a.norm().item(), rel=1e-5)
        assert abs(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)) < 5 / sqrt(a.numel())
    assert torch.equal(random.timesteps, known.timesteps)
    assert (random.steps, random.t_start) == (12, 900)
    assert torch.equal(random.deltas, random_like(shifts(), 4).deltas)
    assert not torch.equal(random.deltas, random_like(shifts(), 5).deltas)


def test_shifts_of_equal_share_in_h_and_in_eps() -> None:
    """||delta|| / ||h|| and ||delta|| / ||eps|| are those of the direction's delta_h, computed here on the way."""
    model, x_T = small_model(), sample_latent(small_model(), 5, 1).x_T
    delta = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    direction = GlobalDirection(delta, 8)
    made = {space: random_of_equal_share(model, direction, x_T, 500, space, 1) for space in ("h", "eps")}
    timesteps, x = [t for t in model.schedule.timesteps(8)[::-1] if t >= 500], x_T
    with torch.no_grad():
        for k, (t, t_prev) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
            features = model.features(x, t)
            eps, shifted = model.eps(features, x, t), model.eps(features, x, t, delta)
            share = delta.norm() / features.h.norm()
            at = len(timesteps) - 1 - k
            torch.testing.assert_close(made["h"].deltas[at].norm(), delta.norm())
            torch.testing.assert_close(made["eps"].deltas[at].norm() / eps.norm(), share)
            x = model.schedule.reverse_step(x, shifted, eps, t, t_prev)
    assert made["h"].timesteps.tolist() == timesteps[::-1]
    assert made["eps"].deltas.shape[1:] == model.x_shape


def test_gaussian_noise_has_its_deviation() -> None:
    noise = gaussian((32, 8, 8), torch.tensor([100, 300, 500]), 40, 0.25, 2)
    assert noise.deltas.shape == (3, 32, 8, 8)
    assert noise.deltas.std().item() == pytest.approx(0.25, rel=0.05)
    assert noise.steps == 40


def test_perturbations_act_in_h_and_in_eps() -> None:
    """Both are directions as any other, each in its own place."""
    model = small_model()
    in_eps = at_layer(model, EPS)
    x_T, settings = sample_latent(model, 2).x_T, EditSettings(6)
    plain = finish(edit(model, x_T, [], settings))
    timesteps = torch.tensor(model.schedule.timesteps(6))
    for there, shape in ((model, model.card.h_shape), (in_eps, model.x_shape)):
        made = finish(edit(there, x_T, [(gaussian(shape, timesteps, 6, 0.3), 1.0)], settings))
        assert (made - plain).abs().mean() > 1e-3
        assert torch.allclose(finish(edit(there, x_T, [], settings)), plain, atol=1e-5)


@pytest.mark.parametrize(
    ("function", "wanted", "expected"),
    [
        (lambda c: 0.03 * c, 0.6, 20),
        (lambda c: c**3, 8, 2),
        (lambda c: c**0.3, 2, 2 ** (1 / 0.3)),
        (lambda c: 1.1 * np.tanh(c / 40), 1, 40 * np.arctanh(1 / 1.1)),
        (lambda c: max(0, c - 30) ** 2, 4, 32),
    ],
)
def test_where_a_rising_function_reaches_a_value(function: object, wanted: float, expected: float) -> None:
    tried: list[float] = []

    def value(c: float) -> Job[float]:
        tried.append(c)
        yield Progress(1, 1)
        return float(function(c))  # type: ignore[operator]

    found = finish(rising_to(wanted, value))
    assert float(function(found)) == pytest.approx(wanted, rel=0.02)  # type: ignore[operator]
    assert found == pytest.approx(expected, rel=0.1)
    assert len(tried) <= 24


def test_a_value_that_is_never_reached_says_so() -> None:
    tried: list[float] = []

    def value(c: float) -> Job[float]:
        tried.append(c)
        yield Progress(1, 1)
        return float(np.tanh(c))

    with pytest.raises(RequestError, match="Ask for less"):
        finish(rising_to(1.5, value))
    assert max(tried) <= MAX_FACTOR


def test_shifts_of_h_and_of_eps_compared_at_equal_change() -> None:
    """The strengths at which noise in h, in eps and in rescaled eps moves the pictures by what is asked for."""
    model = small_model()
    x_T, settings = sample_latent(model, 5).x_T, EditSettings(4)
    timesteps = torch.tensor(model.schedule.timesteps(4))
    plain = finish(edit(model, x_T, [], settings))
    for there in (model, at_layer(model, EPS), at_layer(model, RESCALED_EPS)):
        noise = gaussian(there.card.h_shape, timesteps, 4, 0.3)
        strength = finish(strength_of_equal_change(there, noise, x_T, settings, 0.1))
        moved = finish(edit(there, x_T, [(noise, strength)], settings)) - plain
        assert moved.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.03)


def test_a_shift_of_h_as_a_shift_of_eps_makes_the_same_edit() -> None:
    """Of the latent that it was taken from; of another one it does not (figure 6)."""
    model = small_model()
    direction, x_T = ImplicitDirection(trained_block(64), 8), sample_latent(model, 5, 2).x_T
    seen, settings = at_layer(model, EPS), EditSettings(8, Intervals(500, 0))
    shift = in_eps(model, direction, x_T[:1], 500)
    of_eps = finish(edit(seen, x_T, [(shift, 1.0)], settings))
    of_h = finish(edit(model, x_T, [(direction, 1.0)], settings))
    torch.testing.assert_close(of_eps[0], of_h[0], atol=1e-3, rtol=0)
    assert (of_eps[1] - of_h[1]).abs().max() > 0.01


def test_what_is_the_same_everywhere_is_consistent() -> None:
    model, delta = small_model(), torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    x_T = sample_latent(model, 5, 3).x_T
    rows = finish(consistency(model, GlobalDirection(delta, 8, 800), x_T, 400))
    assert [row.t for row in rows] == [t for t in model.schedule.timesteps(8)[::-1] if 400 <= t <= 800]
    for row in rows:
        assert (row.across, row.along, row.distance) == pytest.approx((1, 1, 0), abs=1e-6)
        assert row.size == pytest.approx(delta.norm().item(), rel=1e-5)
    with pytest.raises(RequestError, match="does nothing"):
        finish(consistency(model, GlobalDirection(delta, 8, 300), x_T, 400))


def test_consistency_is_of_the_shifts_that_an_edit_makes() -> None:
    """Its means are those of `mean_direction`, its global direction that of `global_direction`."""
    model = small_model()
    direction, x_T = ImplicitDirection(trained_block(64), 8), sample_latent(model, 5, 4).x_T
    rows = finish(consistency(model, direction, x_T, 500))
    mean = mean_direction(model, direction, x_T, 500)
    whole = global_direction(mean).delta[0]
    for row, delta in zip(rows, mean.deltas.flip(0), strict=True):
        cosine = torch.nn.functional.cosine_similarity(delta.flatten(), whole.flatten(), dim=0).item()
        assert row.along == pytest.approx(cosine, abs=1e-4)
        assert row.distance == pytest.approx(((delta - whole).norm() / whole.norm()).item(), rel=1e-3)
        assert 0 < row.across <= 1


def test_numbers_of_consistency_in_closed_form() -> None:
    """Two timesteps and two pictures in the plane: (3, 4), (3, -4) and twice (0, 1)."""
    made = torch.tensor([[[3.0, 4.0], [3.0, -4.0]], [[0.0, 1.0], [0.0, 1.0]]])
    first, second = compared([900, 100], made, torch.tensor([[10.0, 10.0], [1.0, 2.0]]))
    assert (first.size, first.share, first.across) == pytest.approx((5, 0.5, 0.6))
    assert (second.size, second.share, second.across) == pytest.approx((1, 0.75, 1))
    whole = np.array([1.5, 0.5])
    assert first.along == pytest.approx(1.5 / np.linalg.norm(whole))
    assert second.distance == pytest.approx(np.linalg.norm([-1.5, 0.5]) / np.linalg.norm(whole))


def test_segmentation_consistency_counts_pixels_and_parts() -> None:
    before, after = np.zeros((4, 5), int), np.zeros((4, 5), int)
    before[:2, :2], after[:2, 1:3] = 1, 1  # four pixels each, two in common
    after[3, 4] = 7
    found = segmentation_consistency(before, after)
    assert found.pixels == pytest.approx(15 / 20)
    assert found.parts == pytest.approx((13 / 18 + 2 / 6 + 0 / 1) / 3)
    same = segmentation_consistency(before, before)
    assert (same.pixels, same.parts) == (1, 1)
    with pytest.raises(ValueError, match="compared"):
        segmentation_consistency(before, after.T)


def test_editing_strength_is_what_the_interval_leaves_out() -> None:
    """Section 4.1: xi_t = LPIPS(x, P_T) - LPIPS(x, P_t), linear between the points of the curve."""
    curves = Curves(np.array([0, 500, 999]), np.array([0.0, 0.3, 0.8]), np.array([0.1, 1.0, 1.5]))
    assert curves.editing_strength(999) == 0
    assert curves.editing_strength(500) == pytest.approx(0.5)
    assert curves.editing_strength(250) == pytest.approx(0.65)
    assert curves.editing_flexibility(250) == pytest.approx(0.15)
    assert curves.quality_deficiency(250) == pytest.approx(0.55)
    t_edit = curves.t_edit(1.0)
    assert curves.editing_strength(t_edit) == pytest.approx(0.8 - 0.33, abs=2e-3)
    assert not hasattr(PUBLISHED["AFHQ"], "editing_strength")

"""Sampling against a plain reading of DPM-Solver++, and guidance against its formula."""

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from small_models import small_model, small_unet
from torch import Tensor

from core.editing import sample_latent
from core.errors import RequestError
from core.models.loader import DiffusionModel
from core.progress import finish
from core.sampling import guided, sample, solver, timesteps
from core.schedule import Schedule
from core.unet import SplitUNet


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return replace(small_model(), guide=SplitUNet(small_unet(seed=1)))


def by_the_paper(schedule: Schedule, x: Tensor, steps: int, predicted_x0: object) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2), its first and last step of first order. x in float64."""
    times = [round(schedule.T * (1 - k / steps) ** 1.6) - 1 for k in range(steps)]
    before: tuple[Tensor, float] | None = None
    for k, t in enumerate(times):
        x0 = predicted_x0(x, t)
        if k + 1 == steps:
            return x0  # to no noise at all: exp(-h) = 0
        a, s = (sqrt(v) for v in (schedule.alpha(t), 1 - schedule.alpha(t)))
        a_next, s_next = (sqrt(v) for v in (schedule.alpha(times[k + 1]), 1 - schedule.alpha(times[k + 1])))
        h, D = log(a_next / s_next) - log(a / s), x0
        if before is not None:
            r = before[1] / h
            D = (1 + 1 / (2 * r)) * x0 - before[0] / (2 * r)
        x, before = s_next / s * x - a_next * (exp(-h) - 1) * D, (x0, h)
    raise AssertionError


@pytest.mark.parametrize("steps", [8, 25])
def test_sampling_is_dpm_solver_with_guidance(model: DiffusionModel, steps: int) -> None:
    """With autoguidance written out on the predictions of both networks."""

    @torch.no_grad()
    def x0(x: Tensor, t: int) -> Tensor:
        a = model.schedule.alpha(t)
        v, v_guide = (net.unet(x.float(), t).sample.double() for net in (model.unet, model.guide))
        eps, eps_guide = (sqrt(a) * out + sqrt(1 - a) * x for out in (v, v_guide))
        away = (eps - eps_guide).numpy()
        away = away - np.mean(away, axis=(2, 3), keepdims=True)
        return (x - sqrt(1 - a) * (eps + 0.5 * torch.from_numpy(away))) / sqrt(a)

    start = sample_latent(model, seed=4).x_T.double()
    expected = model.codec.decode(by_the_paper(model.schedule, start, steps, x0)).clamp(-1, 1)
    made = finish(sample(model, 4, steps=steps, guidance=0.5)).double()
    assert (made - expected).abs().max() < 2e-3
    plain = finish(sample(model, 4, steps=steps, guidance=0)).double()
    assert (plain - expected).abs().max() > 2e-2


def test_new_pictures_are_drawn_by_the_sampler(model: DiffusionModel) -> None:
    """As by a model that has that network alone; its own network has no part."""
    other = SplitUNet(small_unet(seed=2))
    drawn = finish(sample(replace(model, sampler=other), 4, steps=6))
    assert torch.equal(drawn, finish(sample(replace(model, unet=other), 4, steps=6)))
    assert (drawn - finish(sample(model, 4, steps=6))).abs().max() > 0.1


def test_samples_do_not_depend_on_their_number(model: DiffusionModel) -> None:
    pictures = finish(sample(model, seed=5, count=3, steps=6))
    assert pictures.shape == (3, 3, 32, 32)
    assert torch.allclose(pictures[2:], finish(sample(model, seed=7, steps=6)), atol=1e-4)
    assert (pictures[0] - pictures[1]).abs().max() > 0.1


def test_guidance_leaves_the_mean_colour_alone(model: DiffusionModel) -> None:
    x = torch.randn(2, 12, 16, 16, generator=torch.Generator().manual_seed(0))
    plain, moved = guided(model, x, 500, 0, 0), guided(model, x, 500, 2.0, 0)
    assert torch.allclose(plain.mean((2, 3)), moved.mean((2, 3)), atol=1e-5)
    assert (plain - moved).abs().max() > 0.01
    alone = replace(model, guide=None)
    assert torch.equal(guided(alone, x, 500, 2.0, 1.0), plain)


class Darkness:
    """In the place of an `Agreement`: log p = -1/2 ||pixels||^2, whatever the size of the pictures."""

    last = 600

    def log_density(self, pixels: Tensor) -> Tensor:
        return -pixels.square().sum((1, 2, 3)) / 2


def test_agreement_moves_along_the_gradient_through_the_network(model: DiffusionModel) -> None:
    """Against finite differences of log p of the predicted picture, in pieces as in one, up to the last timestep."""
    known, t = replace(model, agreement=Darkness()), 600
    x = torch.randn(3, 12, 16, 16, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def log_p(x: Tensor) -> float:
        x0 = model.schedule.predicted_x0(x, model.eps(model.features(x, t), x, t), t)
        return known.agreement.log_density(model.codec.decode(x0).clamp(-1, 1)).sum().item()

    plain = guided(model, x, t, 0.5, 2.0)
    up = (plain - guided(known, x, t, 0.5, 2.0)) / (2.0 * sqrt(1 - model.schedule.alpha(t)))
    way = up / up.norm()
    slope = (log_p(x + 0.05 * way) - log_p(x - 0.05 * way)) / 0.1
    assert slope == pytest.approx(up.norm().item(), rel=0.02)
    across = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    slope = (log_p(x + 0.01 * across) - log_p(x - 0.01 * across)) / 0.02
    assert slope == pytest.approx((up * across).sum().item(), abs=0.05 * up.norm().item())
    in_pieces = guided(known, x, t, 0.5, 2.0, chunk=1)
    assert torch.allclose(in_pieces, guided(known, x, t, 0.5, 2.0), atol=1e-4)
    assert torch.equal(guided(known, x, t + 1, 0.5, 2.0), guided(model, x, t + 1, 0.5, 2.0))
    assert not in_pieces.requires_grad


def test_a_gaussian_world_is_sampled_exactly() -> None:
    """Where portraits are N(0, s^2) the ODE has the solution x_0 = s x_T / sqrt(a_T s^2 + 1 - a_T)."""
    schedule, s = small_model().schedule, 0.6
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def best(x: Tensor, t: int) -> Tensor:
        a = schedule.alpha(t)
        return sqrt(a) * s**2 * x / (a * s**2 + 1 - a)

    times = timesteps(schedule, 100)
    scheduler = solver(schedule, times)
    y, a_T = x.clone(), schedule.alpha(999)
    for t in times:
        a = schedule.alpha(t)
        y = scheduler.step((y - sqrt(a) * best(y, t)) / sqrt(1 - a), t, y).prev_sample
    assert torch.allclose(y, s * x / sqrt(a_T * s**2 + 1 - a_T), rtol=0.02)


def test_timesteps_descend_and_end_close_to_the_picture() -> None:
    """Each once, from the last one on; half of them in the last third of the timesteps, as 0.5^1.6 says."""
    schedule = small_model().schedule
    for steps in (2, 25, 600, 1000):
        times = timesteps(schedule, steps)
        assert times == sorted(set(times), reverse=True)
        assert len(times) <= steps
        assert (times[0], min(times[-1], 0)) == (999, 0)
    assert len(timesteps(schedule, 25)) == 25
    assert np.median(timesteps(schedule, 101)) == pytest.approx(1000 * (51 / 101) ** 1.6 - 1, abs=1)


@pytest.mark.parametrize("steps", [0, 2000])
def test_steps_out_of_range_are_told(model: DiffusionModel, steps: int) -> None:
    with pytest.raises(RequestError, match="steps"):
        finish(sample(model, 0, steps=steps))

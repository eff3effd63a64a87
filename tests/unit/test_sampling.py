"""Sampling against a plain reading of DPM-Solver++, drawing from words against diffusers' own pipeline."""

from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from small_models import small_model
from small_text_models import small_pipeline
from torch import Tensor

from core.editing import sample_latent
from core.errors import RequestError
from core.models.loader import DiffusionModel
from core.progress import finish
from core.sampling import draw, sample, solver, timesteps
from core.schedule import Schedule
from core.text_to_image import TextToImage


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return small_model()


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
def test_sampling_is_dpm_solver(model: DiffusionModel, steps: int) -> None:
    @torch.no_grad()
    def x0(x: Tensor, t: int) -> Tensor:
        a = model.schedule.alpha(t)
        return sqrt(a) * x - sqrt(1 - a) * model.unet.unet(x.float(), t).sample.double()

    start = sample_latent(model, seed=4).x_T.double()
    expected = model.codec.decode(by_the_paper(model.schedule, start, steps, x0)).clamp(-1, 1)
    made = finish(sample(model, 4, steps=steps)).double()
    assert (made - expected).abs().max() < 2e-3


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_drawing_is_what_diffusers_draws(guidance: float) -> None:
    """With the same noise, timesteps and solver; with pictures that differ between prompts."""
    pipeline, prompts = small_pipeline("v_prediction"), ["a red cat", "a smiling dog"]
    model = TextToImage.from_pipeline(pipeline, "small", "0" * 16)
    noise = [torch.randn(model.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in (7, 8)]
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompts,
        timesteps=timesteps(model.schedule, 9),
        guidance_scale=guidance,
        latents=torch.stack(noise),
        output_type="pt",
    ).images
    ours = finish(draw(model, prompts, 7, steps=9, guidance=guidance))
    assert (ours - (2 * theirs - 1)).abs().max() < 2e-4
    others = finish(draw(model, prompts[::-1], 7, steps=9, guidance=guidance))
    assert (ours - others).abs().max() > 2e-3
    alone = finish(draw(model, prompts[1:], 8, steps=9, guidance=guidance))
    assert torch.allclose(ours[1:], alone, atol=1e-4)


def test_samples_do_not_depend_on_their_number(model: DiffusionModel) -> None:
    pictures = finish(sample(model, seed=5, count=3, steps=6))
    assert pictures.shape == (3, 3, 32, 32)
    assert torch.allclose(pictures[2:], finish(sample(model, seed=7, steps=6)), atol=1e-4)
    assert (pictures[0] - pictures[1]).abs().max() > 0.1


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

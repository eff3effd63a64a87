"""The algebra of DDIM in float64: inversion, diffusers' schedulers, eta, the papers' Theorem 1, v-prediction."""

from math import sqrt

import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
)
from torch import Tensor

from core.errors import RequestError
from core.schedule import Schedule, extrapolate

T = 1000
EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.fixture
def schedule() -> Schedule:
    return Schedule.from_scheduler(DDIMScheduler())


def noise(seed: int) -> Tensor:
    return torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def in_float64(scheduler: DDIMScheduler | DDIMInverseScheduler) -> DDIMScheduler | DDIMInverseScheduler:
    """diffusers computes in the precision of these two."""
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.initial_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def test_timesteps(schedule: Schedule) -> None:
    assert schedule.timesteps(T) == list(range(T))
    assert schedule.timesteps(5) == [0, 250, 500, 749, 999]  # 499.5 and 749.25; halves go to even
    forty = schedule.timesteps(40)
    assert (len(set(forty)), forty[0], forty[-1]) == (40, 0, 999)
    assert forty == sorted(forty)
    for steps in (1, 0, -3, T + 1):
        with pytest.raises(RequestError, match="between 2 and 1000"):
            schedule.timesteps(steps)


def test_levels(schedule: Schedule) -> None:
    assert schedule.T == T
    assert schedule.alpha(-1) == 1.0
    assert schedule.alpha(0) == pytest.approx(1 - 1e-4, abs=1e-7)
    assert schedule.alphas_cumprod.dtype == torch.float64
    assert bool((schedule.alphas_cumprod.diff() < 0).all())


def test_from_another_schedulers_configuration() -> None:
    ddpm = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", variance_type="fixed_large")
    schedule = Schedule.from_scheduler(dict(ddpm.config))
    assert schedule.prediction_type == "v_prediction"
    assert torch.equal(schedule.alphas_cumprod, ddpm.alphas_cumprod.double())


def test_betas_are_those_of_the_kind_of_scheduler() -> None:
    """DDPM's own sigmoid betas, by their formula; and whatever else diffusers makes of betas."""
    config = {"_class_name": "DDPMScheduler", "beta_schedule": "sigmoid", "num_train_timesteps": 200}
    x = torch.linspace(-6, 6, 200, dtype=torch.float64)
    betas = 1e-4 + (0.02 - 1e-4) / (1 + (-x).exp())
    levels = Schedule.from_scheduler(config).alphas_cumprod
    assert torch.allclose(levels, torch.cumprod(1 - betas, 0), rtol=1e-5)
    for scheduler in (PNDMScheduler(beta_end=0.01), EulerDiscreteScheduler(), DPMSolverMultistepScheduler()):
        named = {"_class_name": type(scheduler).__name__, **scheduler.config}
        assert torch.equal(Schedule.from_scheduler(named).alphas_cumprod, scheduler.alphas_cumprod.double())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "ScoreSdeVeScheduler are not those of a DDPM"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "not those of a DDPM"),
        ({"_class_name": "KarrasVeScheduler"}, "not those of a DDPM"),
        ({"_class_name": "EDMEulerScheduler"}, "not those of a DDPM"),
        ({"_class_name": "SomebodysOwnScheduler"}, "not those of a DDPM"),
        ({"_class_name": "UNet2DModel"}, "not those of a DDPM"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "not those of a DDPM"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "sigmoid"}, "with the betas “sigmoid”"),
        ({"_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": True}, "noise alone"),
    ],
)
def test_noise_of_another_kind_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Schedule.from_scheduler(config)


@pytest.mark.parametrize("steps", [2, 7, 40, T])
def test_inversion_and_reverse_undo_one_another_with_the_same_eps(schedule: Schedule, steps: int) -> None:
    timesteps = schedule.timesteps(steps)
    levels = [-1, *timesteps]
    x = trajectory = noise(0)
    for t_prev, t in zip(levels, timesteps, strict=False):
        x = schedule.invert_step(x, noise(t), t_prev, t)
    assert (x - trajectory).abs().max() > 1
    for t, t_prev in reversed(list(zip(timesteps, levels, strict=False))):
        # Backwards the rounding errors of D_t grow by up to sqrt(a_prev / a_t), over all steps by 1 / sqrt(a_T) = 158.
        x = schedule.reverse_step(x, noise(t), noise(t), t, t_prev)
    assert torch.allclose(x, trajectory, rtol=0, atol=1e-12 * 158)


@pytest.mark.parametrize("t", [-1, 26, 27, 51, 77])
def test_extrapolation_is_exact_for_straight_lines(t: int) -> None:
    at_zero, slope = noise(0), noise(1)
    values = [at_zero + slope * s for s in (26, 51, t)]
    assert torch.allclose(extrapolate(values[0], values[1], 26, 51, t), values[2], rtol=0, atol=1e-10)
    constant = extrapolate(at_zero, at_zero, -1, 0, t)
    assert torch.equal(constant, at_zero), "one value known: that one"


def test_noised_as_diffusers_does_it(schedule: Schedule) -> None:
    theirs = in_float64(DDIMScheduler())
    for t in (0, 167, 999):
        expected = theirs.add_noise(noise(1), noise(2), torch.tensor([t]))
        assert torch.allclose(schedule.noised(noise(1), noise(2), t), expected, **EXACT)


@pytest.mark.parametrize("steps", [40, 125, T])
def test_single_steps_undo_one_another(schedule: Schedule, steps: int) -> None:
    x, eps, timesteps = noise(1), noise(2), schedule.timesteps(steps)
    for t_prev, t in zip([-1, *timesteps], timesteps, strict=False):
        there = schedule.invert_step(x, eps, t_prev, t)
        assert torch.allclose(schedule.reverse_step(there, eps, eps, t, t_prev), x, **EXACT)
        assert torch.allclose(schedule.eps_between(there, x, t, t_prev), eps, rtol=0, atol=1e-9)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [40, T])
def test_reverse_step_is_diffusers(prediction_type: str, eta: float, steps: int) -> None:
    scheduler = in_float64(DDIMScheduler(clip_sample=False, prediction_type=prediction_type))
    scheduler.set_timesteps(steps)
    schedule = Schedule.from_scheduler(scheduler)
    x, output, z = noise(0), noise(1), noise(2)
    for t in scheduler.timesteps[:: max(1, steps // 40)].tolist() + [0]:
        t_prev = t - T // steps
        eps = schedule.eps_from_output(output, x, t)
        ours = schedule.reverse_step(x, eps, eps, t, t_prev, eta, z)
        theirs = scheduler.step(output, t, x, eta=eta, variance_noise=z)
        # With "sample", eps is divided by sqrt(1 - a_t), which is 0.01 at t = 0.
        assert torch.allclose(ours, theirs.prev_sample, rtol=0, atol=1e-12 / sqrt(1 - schedule.alpha(t)))
        x0 = schedule.predicted_x0(x, eps, t)
        assert torch.allclose(x0, theirs.pred_original_sample, rtol=0, atol=1e-12 / sqrt(schedule.alpha(t)))


@pytest.mark.parametrize("steps", [40, T])
def test_inversion_step_is_diffusers(steps: int) -> None:
    """At t, diffusers goes from t - T/S to t with the output at t. (With v it converts at the source level instead.)"""
    scheduler = in_float64(DDIMInverseScheduler(clip_sample=False))
    scheduler.set_timesteps(steps)
    schedule = Schedule.from_scheduler(scheduler)
    x, eps = noise(0), noise(1)
    for t in scheduler.timesteps[:: max(1, steps // 40)].tolist():
        theirs = scheduler.step(eps, t, x).prev_sample
        # x0 is divided by sqrt(a_prev), which is 0.006 at the end.
        ours = schedule.invert_step(x, eps, t - T // steps, t)
        assert torch.allclose(ours, theirs, **EXACT), t


def test_eta_1_is_ddpm(schedule: Schedule) -> None:
    """Between neighbours the mean and variance are the posterior's, q(x_{t-1} | x_t, x_0) (Ho et al., Eq. 6-7)."""
    x, eps = noise(0), noise(1)
    for t in (1, 10, 500, 999):
        a, a_prev = schedule.alpha(t), schedule.alpha(t - 1)
        beta = 1 - a / a_prev
        x0 = (x - sqrt(1 - a) * eps) / sqrt(a)
        mean = sqrt(a_prev) * beta / (1 - a) * x0 + sqrt(1 - beta) * (1 - a_prev) / (1 - a) * x
        ours = schedule.reverse_step(x, eps, eps, t, t - 1, eta=1.0, noise=torch.zeros_like(x))
        assert torch.allclose(ours, mean, rtol=0, atol=1e-12 / sqrt(a))
        assert schedule.sigma(t, t - 1, 1.0) ** 2 == pytest.approx((1 - a_prev) / (1 - a) * beta, rel=1e-9)
    assert schedule.sigma(0, -1, 1.0) == 0.0  # nothing is added to the final image
    assert schedule.sigma(500, 475, 0.3) == pytest.approx(0.3 * schedule.sigma(500, 475, 1.0))


def test_noise_has_the_size_sigma_and_is_not_optional(schedule: Schedule) -> None:
    x, eps, z = noise(0), noise(1), noise(2)
    with pytest.raises(ValueError, match="noise"):
        schedule.reverse_step(x, eps, eps, 500, 475, eta=1.0)
    without = schedule.reverse_step(x, eps, eps, 500, 475, eta=1.0, noise=torch.zeros_like(z))
    with_z = schedule.reverse_step(x, eps, eps, 500, 475, eta=1.0, noise=z)
    assert torch.allclose(with_z - without, schedule.sigma(500, 475, 1.0) * z, **EXACT)


def test_theorem_1_a_symmetric_shift_of_eps_cancels(schedule: Schedule) -> None:
    """Asyrp Appendix C, Eq. 15-16: shifting eps in P_t and D_t moves x_{t-1} by a coefficient below 0.01 in size.

    The same shift in P_t alone moves it by up to 1 (the asymmetric step, Eq. 6).
    """
    x, eps, shift = noise(0), noise(1), noise(2)
    for t in range(1, T):
        a, beta = schedule.alpha(t), 1 - schedule.alpha(t) / schedule.alpha(t - 1)
        coefficient = (sqrt(1 - a - beta) - sqrt(1 - a)) / sqrt(1 - beta)
        plain = schedule.reverse_step(x, eps, eps, t, t - 1)
        symmetric = schedule.reverse_step(x, eps + shift, eps + shift, t, t - 1)
        assert torch.allclose(symmetric - plain, coefficient * shift, **EXACT), t
        assert abs(coefficient) < 0.0102, t

        asymmetric = schedule.reverse_step(x, eps + shift, eps, t, t - 1)
        assert torch.allclose(asymmetric - plain, -sqrt(1 - a) / sqrt(1 - beta) * shift, **EXACT), t
        if t >= 400:
            assert sqrt(1 - a) / sqrt(1 - beta) > 50 * abs(coefficient), t


def test_v_prediction_is_the_same_process(schedule: Schedule) -> None:
    """v = sqrt(a) eps - sqrt(1 - a) x0 carries eps and x0 back."""
    v_schedule = Schedule(schedule.alphas_cumprod, "v_prediction")
    x0, eps = noise(0), noise(1)
    for t in (0, 250, 999):
        a = schedule.alpha(t)
        x, v = sqrt(a) * x0 + sqrt(1 - a) * eps, sqrt(a) * eps - sqrt(1 - a) * x0
        recovered = v_schedule.eps_from_output(v, x, t)
        assert torch.allclose(recovered, eps, **EXACT)
        P = v_schedule.predicted_x0(x, recovered, t)
        assert torch.allclose(P, x0, rtol=0, atol=1e-12 / sqrt(a))
        assert torch.allclose(P, sqrt(a) * x - sqrt(1 - a) * v, rtol=0, atol=1e-12 / sqrt(a))


def test_other_prediction_types_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="flow"):
        Schedule(schedule.alphas_cumprod, "flow")

"""The measures of the embedded model against closed forms."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from held_out import people, pixels
from torch import Tensor

from core import instruments
from core.models.codec import Identity
from core.schedule import Schedule
from core.unet import Features
from training.evaluate_ddpm import apart, frechet_distance, share_of_h
from training.evaluate_instruments import OUT as INSTRUMENTS
from training.loop import learning_rate, learning_rate_within
from training.portraits import varied
from training.train_ddpm import build_scheduler, build_unet


def test_the_frechet_distance_of_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(200_000, 3)) * [1.0, 2.0, 0.5]
    b = rng.normal(size=(200_000, 3)) * [1.5, 1.0, 0.5] + [1.0, 0.0, -2.0]
    # Commuting covariances: |m|^2 + sum (s_a - s_b)^2.
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 0.25 + 1.0, rel=0.01)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_the_frechet_distance_of_correlated_gaussians_agrees_with_a_matrix_square_root() -> None:
    import scipy.linalg

    rng = np.random.default_rng(1)
    a = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    b = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + 0.3
    S_a, S_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(S_a + S_b - 2 * scipy.linalg.sqrtm(S_a @ S_b).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    rates = [learning_rate(step, 1000, 200, 1.0, warmup=100) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[100:800] == [1.0] * 700
    assert rates[900] == pytest.approx(0.5)
    assert 0 < rates[999] < 0.01
    assert learning_rate(5000, 100_000, 0, 1.0) == 1.0


def test_the_network_is_the_one_the_card_describes() -> None:
    unet = build_unet()
    assert sum(p.numel() for p in unet.parameters()) < 11e6
    assert unet.config.in_channels == 12
    assert build_scheduler().config.clip_sample is False


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_h_in_what_a_network_predicts(share: float) -> None:
    """A network whose P_t is `share` of h and the rest of the skip connection, both of them x_t."""
    schedule, t = Schedule.from_scheduler(build_scheduler()), 600
    a = float(schedule.alpha(t))

    def eps(features: Features, x: Tensor, t: int) -> Tensor:
        P = share * features.h + (1 - share) * features.skips[0]
        return (x - a**0.5 * P) / (1 - a) ** 0.5

    model = SimpleNamespace(
        codec=Identity(),
        schedule=schedule,
        x_shape=(3, 8, 8),
        device=torch.device("cpu"),
        features=lambda x, t: Features(h=x, skips=(x,), emb=x[:, :1, 0, 0], timesteps=torch.full((len(x),), t)),
        eps=eps,
    )
    assert share_of_h(model, torch.rand(20, 3, 8, 8) * 2 - 1, t) == pytest.approx(share, abs=1e-4)


def test_a_run_with_an_end_decays_in_its_second_half() -> None:
    assert learning_rate_within(0, 0.0, 2.0) == pytest.approx(2.0 / 200)
    assert [learning_rate_within(999, share, 2.0) for share in (0.1, 0.5, 0.75, 1.0)] == [2.0, 2.0, 1.0, 0.0]


def test_halves_that_differ_are_told() -> None:
    """Portraits with one eye of their sleeping twin, against themselves awake and asleep."""
    probe = instruments.load(INSTRUMENTS)
    calm = {"glasses": 0, "hair_style": 0, "x": 0, "tilt": 0}
    awake, asleep = (pixels([varied(p, eye_open=value, **calm) for p in people(40)]) for value in (0.8, 0.0))
    wink = torch.cat((awake[..., :64], asleep[..., 64:]), 3)
    for pictures in (awake, asleep):
        times = apart(wink, probe) / apart(pictures, probe)
        assert times.median() > 2.5
        assert (times > 1).float().mean() > 0.95

"""The training of the embedded diffusion model: its target, and a run of two processes that resumes and releases."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel

from tests.two_processes import run_in_two
from training import train_ddpm
from training.noising import FOCUS, focus
from training.portraits import from_vector, part_mask, sample, to_vector
from training.train_ddpm import DETAIL, build_scheduler, v_loss

SMALL = ["--images", "16", "--batch", "4", "--channels", "16,16,32,32", "--every", "1"]


@pytest.mark.slow
def test_two_processes_train_resume_and_release(tmp_path: Path) -> None:
    options = [*SMALL, "--run", tmp_path / "run", "--out", tmp_path / "out"]
    run_in_two(train_ddpm.main, tmp_path, *options, "--steps", "2")
    first = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert "resumed at step 2" in run_in_two(train_ddpm.main, tmp_path, *options, "--steps", "4", "--decay", "2")
    second = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert (first["step"], second["step"]) == (2, 4)
    assert any(not torch.equal(first["average"][name], second["average"][name]) for name in first["average"])

    released = UNet2DModel.from_pretrained(tmp_path / "out" / "unet").state_dict()
    for name, value in second["average"].items():
        torch.testing.assert_close(released[name].float(), value, atol=1e-3, rtol=1e-3)
    assert DDIMScheduler.from_pretrained(tmp_path / "out" / "scheduler").config.prediction_type == "v_prediction"


def test_the_target_is_v_as_diffusers_defines_it() -> None:
    x0, scheduler = torch.rand(64, 12, 4, 4) * 2 - 1, build_scheduler()
    seen: dict[str, torch.Tensor] = {}

    def zero(x_t: torch.Tensor, t: torch.Tensor) -> SimpleNamespace:
        seen.update(x_t=x_t, t=t)
        return SimpleNamespace(sample=torch.zeros_like(x_t))

    loss = v_loss(zero, x0, scheduler.alphas_cumprod, torch.Generator().manual_seed(0))
    a = scheduler.alphas_cumprod[seen["t"]].view(-1, 1, 1, 1)
    noise = (seen["x_t"] - a.sqrt() * x0) / (1 - a).sqrt()
    squares = scheduler.get_velocity(x0, noise, seen["t"]).square().mean((0, 2, 3))
    weights = torch.tensor([1.0] * 3 + [DETAIL] * 9)
    assert loss.item() == pytest.approx((weights @ squares / weights.sum()).item(), rel=1e-4)


def test_the_timesteps_of_a_batch_are_spread_evenly() -> None:
    seen: list[torch.Tensor] = []

    def zero(x_t: torch.Tensor, t: torch.Tensor) -> SimpleNamespace:
        seen.append(t)
        return SimpleNamespace(sample=torch.zeros_like(x_t))

    alphas = build_scheduler().alphas_cumprod
    for seed in range(50):
        v_loss(zero, torch.zeros(8, 12, 2, 2), alphas, torch.Generator().manual_seed(seed))
    u = (torch.stack(seen) / 1000) ** (1 / 1.7)
    assert ((u * 8).floor().sort(dim=1).values - torch.arange(8)).abs().max() <= 1, "one in each eighth"
    assert u.mean() == pytest.approx(0.5, abs=0.03)
    assert (u.min() < 0.02) & (u.max() > 0.98)


def test_places_weigh_the_loss_by_where_faces_have_their_features() -> None:
    parameters = np.stack([to_vector(sample(seed)) for seed in range(20)])
    places = focus(parameters, 64)
    assert places.mean().item() == pytest.approx(1)
    eye = np.mean([part_mask(from_vector(row), "eyes") for row in parameters], axis=0)
    y, x = np.unravel_index(eye.argmax(), eye.shape)
    assert places[0, 0, y // 2, x // 2] / places[0, 0, 0, 0] == pytest.approx(FOCUS, rel=0.05)

    def wrong(where: tuple[int, int]) -> float:
        """The loss of a network that is right everywhere but there."""

        def network(x_t: torch.Tensor, t: torch.Tensor) -> SimpleNamespace:
            a = alphas[t].view(-1, 1, 1, 1)
            v = a.sqrt() * (x_t - a.sqrt() * x0) / (1 - a).sqrt() - (1 - a).sqrt() * x0
            v[..., where[0], where[1]] += 1
            return SimpleNamespace(sample=v)

        return v_loss(network, x0, alphas, torch.Generator().manual_seed(0), places).item()

    x0, alphas = torch.zeros(2, 12, 64, 64), build_scheduler().alphas_cumprod
    assert wrong((y // 2, x // 2)) / wrong((0, 0)) == pytest.approx(FOCUS, rel=0.06)

"""What pictures look like from afar: against closed forms, on held-out portraits, and on samples."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_folders import change_config, linked_avatars
from small_models import small_model
from torch import Tensor, nn

from core import coarse
from core.coarse import Coarse, CoarseNet
from core.errors import ModelUnavailable
from core.models.codec import Identity
from core.models.loader import DiffusionModel, load, models
from core.progress import finish
from core.sampling import corrected, sample
from training.evaluate_ddpm import grain, stains
from training.train_coarse import by_frequency, drawn_errors, losses_of, measure, release

ERRORS = ((19.0, 0.01), (499.0, 0.1), (999.0, 0.5))


@pytest.fixture(scope="module")
def avatars() -> DiffusionModel:
    return models.get("avatars")


def test_an_untrained_network_weighs_by_inverse_variances() -> None:
    """And draws towards the mean of all pictures by what is left of the error: the best linear estimate."""
    torch.manual_seed(0)
    net, generator = CoarseNet((8, 16)), torch.Generator().manual_seed(0)
    seen, predicted = (torch.randn(3, 3, 8, 8, generator=generator) for _ in range(2))
    r, sigma = torch.tensor([1e-4, 0.3, 0.2]), torch.tensor([0.5, 1e-4, 0.1])
    made = net(seen, predicted, r, sigma)
    assert torch.allclose(made[0], seen[0], atol=1e-3)
    assert torch.allclose(made[1], predicted[1], atol=1e-3)
    precisions = 1 / 0.2**2, 1 / 0.1**2
    best = (precisions[0] * seen[2] + precisions[1] * predicted[2]) / (sum(precisions) + 1 / 0.25)
    assert torch.allclose(made[2], best, atol=1e-5)


def test_errors_are_drawn_with_their_spectrum() -> None:
    """Mean square 1; power 1/f^2 from one cycle on, and of the mean that of 0.4 cycles."""
    drawn = drawn_errors(4000, 16, torch.Generator().manual_seed(0))
    assert drawn.square().mean().item() == pytest.approx(1, rel=0.03)
    power = torch.fft.fft2(drawn.double()).abs().square().mean((0, 1))
    for (y, x), f in (((0, 1), 1), ((0, 4), 4), ((3, 4), 5), ((8, 0), 8)):
        assert (power[y, x] / power[1, 0]).item() == pytest.approx(1 / f**2, rel=0.06)
    assert (power[0, 0] / power[1, 0]).item() == pytest.approx(1 / 0.4**2, rel=0.06)


def test_amplitudes_by_frequency() -> None:
    """Of 0.3 cos(2 pi 3 x) + 0.1: 0.1 of the mean, and at 3 cycles two of the ring's frequencies have 0.15."""
    x = torch.arange(16) / 16
    made = by_frequency((0.3 * torch.cos(2 * torch.pi * 3 * x) + 0.1).expand(2, 3, 16, 16))
    ring = sum(round(float(np.hypot(a, b))) == 3 for a in range(-8, 8) for b in range(-8, 8))
    assert made == pytest.approx([0.1, 0, 0, 0.15 * np.sqrt(2 / ring), 0, 0, 0, 0], abs=1e-7)


def test_deviations_are_interpolated() -> None:
    known = Coarse(CoarseNet((8, 16)), 16, ERRORS)
    assert known.sigma(499) == pytest.approx(0.1)
    assert known.sigma(259) == pytest.approx(np.sqrt(0.01 * 0.1))
    assert known.sigma(0) == pytest.approx(0.01)


class Brighter:
    """In the place of a `Coarse`: every picture is to be 0.1 brighter on its left; remembers what it was shown."""

    def correction(self, noised: Tensor, predicted: Tensor, alpha: float, t: int) -> Tensor:
        self.noised, self.alpha = noised, alpha
        more = torch.zeros_like(predicted)
        more[..., : more.shape[-1] // 2] = 0.1
        return more


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_predicted_is_moved_by_the_correction(plain: bool) -> None:
    model = replace(small_model(), coarse=Brighter())
    if plain:
        model = replace(model, codec=Identity())
    generator = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(2, *model.x_shape, generator=generator) for _ in range(2))
    moved = corrected(model, x, eps, 400)
    before, after = (model.codec.decode(model.schedule.predicted_x0(x, e, 400)) for e in (eps, moved))
    half = after.shape[-1] // 2
    assert torch.allclose(after[..., :half], before[..., :half] + 0.1, atol=1e-4)
    assert torch.allclose(after[..., half:], before[..., half:], atol=1e-4)
    assert torch.allclose(model.codec.encode(model.coarse.noised) * model.coarse.alpha**0.5, x, atol=1e-4)


@pytest.mark.parametrize(("t", "share"), [(199, 0.8), (299, 0.8), (399, 0.8)])
def test_held_out_portraits_are_known_better(avatars: DiffusionModel, t: int, share: float) -> None:
    """Than what the diffusion model predicts and than what averaging the noised portrait says."""
    (noised, noised_mean), (predicted, predicted_mean), (better, better_mean) = measure(
        avatars.coarse, avatars, t, 40
    ).values()
    assert better < share * min(noised, predicted)
    assert better_mean < min(noised_mean, predicted_mean)


def test_stains_are_measured() -> None:
    """None in a vertical gradient; what differs across a row counts, where no one's head is."""
    pixels = torch.linspace(-1, 1, 128).view(1, 1, 128, 1).expand(2, 3, 128, 128).clone()
    pixels[:, :, 40:, 24:100] = 0.7  # a person
    assert stains(pixels).tolist() == pytest.approx([0, 0], abs=1e-6)
    pixels[1, :, :, :64] += 0.2
    assert stains(pixels).tolist() == pytest.approx([0, 0.1], abs=1e-6)


def test_grain_is_measured() -> None:
    """None in a gradient; of a chequered backdrop its amplitude."""
    pixels = torch.linspace(-1, 1, 128).view(1, 1, 128, 1).expand(2, 3, 128, 128).clone()
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    pixels[1] += 0.1 * (-1.0) ** (x + y)
    assert grain(pixels).tolist() == pytest.approx([0, 0.1], abs=1e-6)


@pytest.mark.slow
def test_samples_are_not_stained(avatars: DiffusionModel) -> None:
    plain = finish(sample(avatars, 500, 8, from_afar=False, agreement=0))
    better = finish(sample(avatars, 500, 8, agreement=0))
    assert stains(better).median() < 0.5 * stains(plain).median()
    assert (plain - better).abs().mean() < 0.3


def test_the_loss_of_the_truth_and_of_the_weighted_mean() -> None:
    """Nothing is wrong with the truth; the mean by inverse variances is wrong by one unit, however large the errors."""
    alphas, pictures = np.linspace(0.999, 0.2, 1000), torch.rand(50, 3, 16, 16).half()

    class Stand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.device = nn.Parameter(torch.zeros(()))

    class Truth(Stand):
        def forward(self, seen: Tensor, predicted: Tensor, r: Tensor, sigma: Tensor) -> Tensor:
            return pictures[np.random.default_rng(3).integers(50, size=400)].float()

    class Weighted(Stand):
        def forward(self, seen: Tensor, predicted: Tensor, r: Tensor, sigma: Tensor) -> Tensor:
            a, b = (1 / d.view(-1, 1, 1, 1) ** 2 for d in (r, sigma))
            return (a * seen + b * predicted) / (a + b)

    losses = losses_of(pictures, Coarse(None, 16, ((19.0, 0.01), (999.0, 0.05))), alphas, 8, 400)
    made = [losses(net, np.random.default_rng(3), torch.Generator().manual_seed(0)) for net in (Truth(), Weighted())]
    assert made[0]["loss"].item() == 0
    assert made[1]["loss"].item() == pytest.approx(1, rel=0.1)


def test_a_released_network_is_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = CoarseNet((8, 16))
    nn.init.normal_(net.leave.weight)
    release(net, 16, [(19, 0.01), (999, 0.5)], tmp_path)
    read = coarse.load(tmp_path)
    assert (read.side, read.errors) == (16, ((19.0, 0.01), (999.0, 0.5)))
    seen, predicted, one = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 16, 16), torch.ones(2)
    assert torch.allclose(read.net(seen, predicted, one, one), net(seen, predicted, one, one), atol=0.05)


def test_a_damaged_network_is_told(tmp_path: Path) -> None:
    card, folder = linked_avatars(tmp_path / "avatars"), tmp_path / "avatars" / "coarse"
    release(CoarseNet((8, 16)), 16, [(19, 0.01), (999, 0.5)], folder)
    assert load(card).coarse.side == 16
    change_config(folder, widths=[8, 24])
    with pytest.raises(ModelUnavailable, match="damaged"):
        load(card)

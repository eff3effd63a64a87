"""Agreement of the halves of a face: against its formula, on the renderer's portraits, and on samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from model_folders import change_config, linked_avatars
from torch import Tensor, nn

from core import agreement
from core.agreement import Agreement, HalfReader, halves
from core.errors import ModelUnavailable
from core.models.loader import DiffusionModel, load, models
from core.progress import finish
from core.sampling import AGREEMENT, sample
from training import dataset
from training.portraits import from_vector, render, varied
from training.train_agreement import NAMES, SHIFT, TURNED, losses_of, measure, release, standardised


class Mean(nn.Module):
    """Reads the mean red and green of a half; the log variance of the second is that of its blue."""

    def forward(self, half: Tensor) -> tuple[Tensor, Tensor]:
        red, green, blue = half.mean((2, 3)).T
        return torch.stack([red, green], 1), torch.stack([torch.zeros_like(blue), blue], 1)


def test_the_density_of_no_difference() -> None:
    """Of a picture of four numbers per half, by hand; a mirror turns the first reading round."""
    known = Agreement(Mean(), ("gaze", "smile"), ("gaze",), 700)
    pixels = torch.zeros(1, 3, 128, 128)
    left, right = (slice(0, 64), slice(64, 128))
    colours = ((0.5, -0.2), (0.1, 0.7), (0.3, -0.4))
    for channel, (a, b) in enumerate(colours):
        pixels[0, channel, :, left], pixels[0, channel, :, right] = a, b
    inside = 42 / 44  # columns 22..63 of the left half's 22..65; two more are the right half's
    mixed = [[inside * a + (1 - inside) * b for a, b in ((p, q), (q, p))] for p, q in colours]
    (red, red_), (green, green_), (blue, blue_) = mixed
    expected = -((red + red_) ** 2 / 2 + (green - green_) ** 2 / (np.exp(blue) + np.exp(blue_))) / 2
    assert known.log_density(pixels).item() == pytest.approx(expected, rel=1e-4)
    assert known.log_density(pixels.flip(3)).item() == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match="128"):
        known.log_density(pixels[..., :64])


def test_saying_less_is_no_way_to_agree() -> None:
    """The variance has no gradient: in the blue channel, which only the variance depends on, nothing is gained."""
    pixels = torch.rand(2, 3, 128, 128, requires_grad=True)
    (up,) = torch.autograd.grad(Agreement(Mean(), ("a", "b"), (), 700).log_density(pixels).sum(), pixels)
    assert up[:, 2].abs().max() == 0
    assert up[:, :2].abs().max() > 0


@pytest.fixture(scope="module")
def avatars() -> DiffusionModel:
    return models.get("avatars")


@pytest.mark.parametrize(("t", "least"), [(0, 0.95), (400, 0.9), (600, 0.7)])
def test_halves_of_different_portraits_are_told(avatars: DiffusionModel, t: int, least: float) -> None:
    """On held-out portraits; at t = 0 the eyes' opening and the gaze are read well."""
    r_squared, told = measure(avatars.agreement, avatars, t, 100)
    assert told > least
    if t == 0:
        assert min(r_squared["eye_open"], r_squared["gaze"], r_squared["brow_angle"]) > 0.8


@torch.no_grad()
def test_a_wink_is_told(avatars: DiffusionModel) -> None:
    """A portrait with one eye of its sleeping twin: the same picture everywhere else."""
    _, parameters = dataset.held_out(60)
    awake = [varied(from_vector(row), eye_open=0.8, glasses=0, hair_style=0, x=0, tilt=0) for row in parameters]
    pictures = [[np.asarray(render(varied(p, eye_open=o))) for p in awake] for o in (0.8, 0.0)]
    open_, closed = (dataset.to_pixels(np.stack(p)) for p in pictures)
    wink = open_.clone()
    wink[..., 64:] = closed[..., 64:]
    own, winking, sleeping = (avatars.agreement.log_density(p) for p in (open_, wink, closed))
    assert (own > winking).float().mean() > 0.95
    assert (sleeping > winking).float().mean() > 0.95


@pytest.mark.slow
def test_samples_have_two_halves_that_agree(avatars: DiffusionModel) -> None:
    """More than without, and nearly as portraits do."""
    low, share = avatars.agreement.log_density(dataset.to_pixels(dataset.held_out(60)[0])).quantile(0.1), {}
    for weight in (0.0, AGREEMENT):
        pictures = finish(sample(avatars, 300, 10, agreement=weight))
        share[weight] = (avatars.agreement.log_density(pictures) > low).float().mean().item()
    assert share[AGREEMENT] > share[0.0] + 0.25


def test_training_reads_what_the_renderer_drew() -> None:
    """The loss is least at the truth: with a network that knows it, and one whose mirrored gaze has the wrong sign."""
    _, parameters = dataset.load(300)
    wanted, pictures = standardised(parameters), np.zeros((300, 128, 128, 3), np.uint8)
    chosen = np.random.default_rng(0).integers(300, size=8)

    class Knows(nn.Module):
        def __init__(self, turned: float) -> None:
            super().__init__()
            self.turned, self.device = turned, nn.Parameter(torch.zeros(()))

        def forward(self, half: Tensor) -> tuple[Tensor, Tensor]:
            signs = torch.tensor([self.turned if name in TURNED else 1.0 for name in NAMES])
            truth = torch.cat([wanted[chosen], wanted[chosen] * signs])
            return truth, torch.zeros_like(truth)

    def loss(turned: float) -> float:
        losses = losses_of(pictures, wanted, 8)
        return losses(Knows(turned), np.random.default_rng(0), torch.Generator())["loss"].item()

    gaze = wanted[chosen][:, NAMES.index("gaze")]
    assert loss(-1.0) == 0
    assert loss(1.0) == pytest.approx((2 * gaze).square().mean().item() / 2 / len(NAMES), rel=1e-4)
    assert SHIFT < agreement.LEFT


def test_a_released_network_is_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = HalfReader(len(NAMES))
    release(net, tmp_path)
    read = agreement.load(tmp_path)
    half = halves(torch.rand(2, 3, 128, 128))[0]
    for made, expected in zip(read.net(half), net(half), strict=True):
        assert torch.allclose(made, expected, atol=1e-2)
    assert (read.names, read.turned, read.last) == (NAMES, TURNED, 760)


def test_a_damaged_network_is_told(tmp_path: Path) -> None:
    card, folder = linked_avatars(tmp_path / "avatars"), tmp_path / "avatars" / "agreement"
    release(HalfReader(len(NAMES)), folder)
    assert load(card).agreement.last == 760
    change_config(folder, width=16)
    with pytest.raises(ModelUnavailable, match="damaged"):
        load(card)

"""Boundary Diffusion's boundary: against a plain minimiser of its definition, against a known attribute, and as a
method that edits at one timestep."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from small_models import small_model
from torch import Tensor

from core.discovery import boundary as method
from core.discovery.boundary import Boundaries, boundary, directions, prepare
from core.discovery.interface import DiscoverySettings
from core.errors import RequestError
from core.models.loader import DiffusionModel
from core.progress import finish
from core.regions import Region


def test_the_boundary_minimises_what_it_says() -> None:
    """A quasi-Newton method on the weighted squares themselves, in the full space, finds the same hyperplane."""
    rng = np.random.default_rng(0)
    h, labels = rng.normal(size=(40, 7)), np.arange(40) < 13
    h[labels] += rng.normal(size=7)
    normal, offset = boundary(torch.tensor(h), torch.tensor(labels), 0.3)

    y, m = labels * 2.0 - 1, (h[labels].mean(0) + h[~labels].mean(0)) / 2
    r = np.where(labels, 40 / (2 * labels.sum()), 40 / (2 * (~labels).sum()))
    mu = 0.3 * ((h - m) ** 2).sum(1).mean()

    def value(p: np.ndarray) -> float:
        return float((r * ((h - m) @ p[:7] + p[7] - y) ** 2).sum() + mu * (p[:7] ** 2).sum())

    best = minimize(value, np.zeros(8), method="BFGS", options={"gtol": 1e-10}).x
    length = np.linalg.norm(best[:7])
    assert normal.numpy() == pytest.approx(best[:7] / length, abs=1e-5)
    assert offset == pytest.approx((m @ best[:7] - best[7]) / length, abs=1e-5)
    assert normal.norm().item() == pytest.approx(1)
    with pytest.raises(ValueError, match="both sides"):
        boundary(torch.tensor(h), torch.ones(40, dtype=torch.bool))


def test_more_dimensions_than_samples() -> None:
    """As in h-space. A class that differs along one axis is divided along that axis."""
    generator = torch.Generator().manual_seed(1)
    h, labels = torch.randn(60, 500, generator=generator), torch.arange(60) % 3 == 0
    h[labels, 4] += 30
    normal, offset = boundary(h, labels)
    assert normal.abs().argmax() == 4
    assert normal[4] > 0.9
    assert bool(((h.double() @ normal > offset) == labels).all())


class Probe:
    """Reads whether the left half is brighter than the right one, and noise that is in no picture."""

    def attributes(self, pixels: Tensor) -> dict[str, Tensor]:
        left = pixels[..., :16].mean((1, 2, 3)) - pixels[..., 16:].mean((1, 2, 3))
        noise = torch.rand(len(pixels), generator=torch.Generator().manual_seed(int(pixels.sum() * 1e4) % 2**31))
        return {"left": left, "noise": noise, "constant": torch.zeros(len(pixels))}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> DiffusionModel:
    monkeypatch.setattr(method.instruments, "load", lambda *_: Probe())
    made = small_model()
    object.__setattr__(made.card, "instruments", "somewhere")
    return made


def test_boundaries_of_what_can_be_read_from_h(model: DiffusionModel) -> None:
    """What every sample has is no boundary; normals are of unit length and move h across."""
    t = model.schedule.timesteps(40)[24]
    found = finish(prepare(model, t, 5, 48))
    assert "constant" not in found.names
    assert list(found.accuracies) == sorted(found.accuracies, reverse=True)
    assert all(one >= method.MIN_ACCURACY for one in found.accuracies)
    torch.testing.assert_close(found.normals.flatten(1).norm(dim=1), torch.ones(len(found.names)))
    assert found.nbytes == found.normals.nbytes
    with pytest.raises(RequestError, match="among those of 40 steps"):
        finish(prepare(model, t + 1, 5, 48))
    object.__setattr__(model.card, "instruments", None)
    with pytest.raises(RequestError, match="labels"):
        finish(prepare(model, t, 5, 48))


def test_regions_order_them_by_how_local_they_are() -> None:
    """A basis of two vectors whose responses are known: one changes the left half alone, the other everything."""
    vectors = torch.zeros(2, 1, 1, 2)
    vectors[0, 0, 0, 0] = vectors[1, 0, 0, 1] = 1
    mask = np.zeros((4, 4), bool)
    mask[:, :2] = True
    basis = SimpleNamespace(
        vectors=vectors, whole=torch.diag(torch.tensor([4.0, 9.0])).double(), steps=40, resolution=4
    )
    basis.gram = lambda m: torch.diag(torch.tensor([4.0, 4.5])).double()
    known = Boundaries(("all", "left"), vectors.flip(0), (0.9, 0.8), 600)
    plain = directions(basis, [], DiscoverySettings(count=2, prepared=known))
    assert [one.value for one in plain] == [0.9, 0.8]
    local = directions(basis, [Region("left", mask)], DiscoverySettings(count=2, prepared=known))
    assert [one.value for one in local] == [0.8, 0.9]
    assert directions(basis, [], DiscoverySettings(count=1, prepared=known))[0].value == 0.9
    for wrong in (None, Boundaries(("a",), torch.zeros(1, 3, 1, 2), (0.9,), 600)):
        with pytest.raises(RequestError):
            directions(basis, [], DiscoverySettings(prepared=wrong))

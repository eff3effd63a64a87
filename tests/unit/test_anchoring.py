"""Anchored editing against its equations written out in float64, a closed form, and what it promises."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import asinh, exp, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from core.anchoring import PathCache, SourcePath, edit_anchored, source_path
from core.directions import CompositeDirection, GlobalDirection, ImplicitDirection
from core.editing import EditSettings, Intervals
from core.errors import RequestError, ResourceError
from core.models.codec import Identity
from core.models.loader import DiffusionModel
from core.progress import Running, finish
from core.queries import Query
from core.schedule import Schedule
from core.unet import Features, SplitUNet
from tests.unit.small_models import small_card, small_model, trained_block

STEPS = 8
TIMESTEPS = tuple(Schedule(torch.linspace(0.9, 0.1, 1000)).timesteps(STEPS))


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return small_model(dtype=torch.float64)


@pytest.fixture
def shift() -> GlobalDirection:
    return GlobalDirection(torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(5)), steps=40)


def pictures(count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def written_out(
    model: DiffusionModel, path: SourcePath, shifts: list[tuple[Any, float, int, bool]], settings: EditSettings
) -> Tensor:
    """The equations of `core.anchoring` for one picture, by the whole network and a hook that shifts h.

    shifts: (direction, c, t_edit, whether it acts on both terms).
    """
    unet, schedule = model.unet.unet, model.schedule
    levels, xs = [-1, *path.timesteps], path.x[:, 0].double()
    x = xs[-1][None]

    def eps(x: Tensor, t: int, acting: list[tuple[Any, float]]) -> Tensor:
        def add(module: torch.nn.Module, inputs: tuple[Tensor, Tensor], h: Tensor) -> Tensor:
            delta = [c * d.steps / settings.steps * d.delta_h(h.float(), inputs[1].float(), t) for d, c in acting]
            return h + sum(delta)

        hook = unet.mid_block.register_forward_hook(add)
        v = unet(x, t).sample
        hook.remove()
        return sqrt(1 - schedule.alpha(t)) * x + sqrt(schedule.alpha(t)) * v

    for k in range(len(path.timesteps) - 1, -1, -1):
        t, t_prev = levels[k + 1], levels[k]
        a, a_prev = schedule.alpha(t), schedule.alpha(t_prev)
        sigma = sqrt((1 - a_prev) / (1 - a)) * sqrt(1 - a / a_prev) if t < settings.intervals.t_boost else 0.0

        def step(x: Tensor, eps_P: Tensor, eps_D: Tensor) -> Tensor:
            x0 = (x - sqrt(1 - a) * eps_P) / sqrt(a)  # noqa: B023
            return sqrt(a_prev) * x0 + sqrt(1 - a_prev - sigma**2) * eps_D  # noqa: B023

        acting = [(d, c, both) for d, c, t_edit, both in shifts if t >= max(t_edit, settings.intervals.t_edit)]
        eps_P = eps(x, t, [(d, c) for d, c, _ in acting])
        eps_D = eps(x, t, [(d, c) for d, c, both in acting if both])
        source = eps(xs[k + 1][None], t, [])
        r = xs[k][None] - step(xs[k + 1][None], source, source)
        x = step(x, eps_P, eps_D) + r
    return model.codec.decode(x).clamp(-1, 1)


@pytest.mark.parametrize("route", ["inverted", "noised"])
@pytest.mark.parametrize("t_boost", [0, 300])
@pytest.mark.parametrize("kind", ["asymmetric", "symmetric", "both"])
def test_every_row_is_the_equations(model: DiffusionModel, shift: GlobalDirection, route: str, t_boost: int, kind: str):
    implicit = ImplicitDirection(trained_block(emb_channels=64), steps=40)
    parts = [(implicit, 3.0, 450, kind == "symmetric"), (shift, 0.2, 200, kind != "asymmetric")]
    modes = tuple("symmetric" if both else "asymmetric" for *_, both in parts)
    direction = CompositeDirection((implicit, shift), (3.0, 0.2), (450, 200), modes)
    settings = EditSettings(STEPS, Intervals(100, t_boost))
    path = finish(source_path(model, pictures(), TIMESTEPS, route))
    strengths = [1.0, -0.5, 0.0, 1.0]
    rows = finish(edit_anchored(model, path.repeat(4), [(direction, strengths)], settings))
    for row, c in zip(rows[:2], strengths, strict=False):
        expected = written_out(model, path, [(d, c * w, t, both) for d, w, t, both in parts], settings)
        torch.testing.assert_close(row[None].double(), expected, atol=2e-4, rtol=0)
    assert torch.equal(rows[0], rows[3])
    assert torch.equal(rows[2], path.pixels[0]), "strength 0 is the picture itself"
    assert (rows[0] - rows[2]).abs().max() > 0.02, "far above the tolerance"


def test_rows_of_several_pictures(model: DiffusionModel, shift: GlobalDirection) -> None:
    path = finish(source_path(model, pictures(2), TIMESTEPS))
    settings, strengths = EditSettings(STEPS), [1.0, 0.0, 0.5, 1.0]
    together = finish(edit_anchored(model, path.repeat(2), [(shift, strengths)], settings))
    assert together.shape == (4, 3, 32, 32)
    for row, c in enumerate(strengths):
        alone = finish(source_path(model, pictures(2)[row // 2 : row // 2 + 1], TIMESTEPS))
        expected = finish(edit_anchored(model, alone, [(shift, c)], settings))
        torch.testing.assert_close(together[row : row + 1], expected, atol=1e-5, rtol=0)
    for chunk in (1, 3):
        pieces = finish(edit_anchored(model, path.repeat(2), [(shift, strengths)], settings, chunk))
        torch.testing.assert_close(pieces, together, atol=1e-5, rtol=0)
    no_change = finish(edit_anchored(model, path, [(shift, 0.0)], settings))
    assert torch.equal(no_change, path.pixels)


@dataclass
class Linear:
    """A model whose eps is k x, and k x + delta where h is shifted by delta: its ODE has a closed form."""

    k: float = 0.6
    key: str = "linear"

    def __post_init__(self) -> None:
        sigma = torch.linspace(0.001, 3.0, 1000, dtype=torch.float64)
        self.schedule = Schedule(1 / (1 + sigma.square()))
        self.codec, self.device, self.card, self.fingerprint = Identity(), torch.device("cpu"), small_card(), "0"

    def rows_per_call(self) -> int:
        return 64

    def answer(self, queries: Sequence[Query]) -> list[Tensor]:
        return [self._eps(query) for query in queries]

    def _eps(self, query: Query) -> Tensor:
        x = query.x if query.rows is None else query.x[query.rows]
        if query.shift is None:
            return self.k * x
        timesteps = torch.tensor(query.timesteps)[:1].expand(len(x))
        shift = query.shift(Features(x.new_zeros(len(x), 1, 1, 1), (), x.new_zeros(len(x), 1), timesteps))
        return self.k * x + (0 if shift is None else shift)


@pytest.mark.parametrize("route", ["inverted", "noised"])
def test_a_linear_network_in_closed_form(route: str) -> None:
    """In s = sqrt(1/a - 1) and y = x / sqrt(a) the ODE is dy/ds = k y / sqrt(1 + s^2) + delta: the difference that a
    shift at every step makes to the picture is -delta times the integral of exp(-k asinh s). Half the step is half the
    error, on whatever path."""
    model: Any = Linear()
    k, top = model.k, asinh(3.0)
    integral = (exp((1 - k) * top) - 1) / (1 - k) / 2 - (exp(-(1 + k) * top) - 1) / (1 + k) / 2
    delta, pixels = 0.05, pictures() * 0.5

    def error(steps: int) -> float:
        direction = GlobalDirection(torch.full((1, 1, 1, 1), delta), steps)
        path = finish(source_path(model, pixels, model.schedule.timesteps(steps), route))
        edited = finish(edit_anchored(model, path, [(direction, 1.0)], EditSettings(steps, injection="symmetric")))
        return ((edited - pixels).mean() + delta * integral).abs().item() / (delta * integral)

    assert error(8) < 0.25
    assert error(200) < 0.01
    assert error(40) == pytest.approx(0.5 * error(20), rel=0.15), "first order"


def test_what_it_costs(model: DiffusionModel, shift: GlobalDirection, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without inversion is one call of the network, all levels in it; another direction on the same picture has
    nothing of it to do again, and no direction costs anything before it acts."""
    calls: Counter[str] = Counter()
    encode, decode = SplitUNet.encode, SplitUNet.decode

    def counted(name: str, method: Any) -> Any:
        def call(self: Any, *arguments: Any) -> Any:
            calls[name] += 1
            return method(self, *arguments)

        return call

    monkeypatch.setattr(SplitUNet, "encode", counted("encode", encode))
    monkeypatch.setattr(SplitUNet, "decode", counted("decode", decode))
    cache = PathCache()
    path = finish(source_path(model, pictures(), TIMESTEPS, "noised", cache=cache))
    assert calls == {"encode": 1, "decode": 1}
    assert finish(source_path(model, pictures().clone(), TIMESTEPS, "noised", cache=cache)) is path
    assert finish(source_path(model, pictures(), TIMESTEPS, "noised", seed=1, cache=cache)) is not path
    calls.clear()
    late = GlobalDirection(shift.delta, 40, t_start=500)
    finish(edit_anchored(model, path, [(late, 1.0)], EditSettings(STEPS)))
    acting = sum(t <= 500 for t in path.timesteps)
    assert calls == {"encode": acting, "decode": acting}
    calls.clear()
    finish(source_path(model, pictures(), TIMESTEPS))
    assert calls == {"encode": STEPS, "decode": STEPS}, "one evaluation per level"


def test_it_reports_and_can_be_stopped(model: DiffusionModel, shift: GlobalDirection) -> None:
    path = finish(source_path(model, pictures(), TIMESTEPS))
    running = Running(edit_anchored(model, path.repeat(2), [(shift, [0.0, 1.0])], EditSettings(STEPS)))
    events = list(running)
    assert [event.step for event in events] == list(range(1, STEPS + 1))
    assert all(event.preview is None or event.preview.shape == (2, 3, 32, 32) for event in events)
    assert torch.equal(events[-1].preview, running.result)
    job = edit_anchored(model, path, [(shift, 1.0)], EditSettings(STEPS))
    next(job)
    job.close()
    with pytest.raises(StopIteration):
        next(job)


def test_requests_that_make_no_sense(model: DiffusionModel, shift: GlobalDirection, monkeypatch: Any) -> None:
    path = finish(source_path(model, pictures(), TIMESTEPS))
    with pytest.raises(ValueError, match="path of 8 steps"):
        finish(edit_anchored(model, path, [(shift, 1.0)], EditSettings(20)))
    with pytest.raises(RequestError, match="strength"):
        finish(edit_anchored(model, path, [(shift, [1.0, 2.0])], EditSettings(STEPS)))

    def run_out(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(DiffusionModel, "answer", run_out)
    with pytest.raises(ResourceError, match="ran out of memory"):
        finish(source_path(model, pictures(), TIMESTEPS, "noised"))

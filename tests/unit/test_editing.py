"""The editing loop against a plain reading of Asyrp's Algorithm 1, and what it promises about rows, noise and work."""

from collections import Counter
from itertools import pairwise
from math import sqrt

import pytest
import torch
from small_models import small_model, trained_block
from torch import Tensor

from core.directions import CompositeDirection, Direction, GlobalDirection, ImplicitDirection
from core.editing import EditSettings, Intervals, edit, invert, sample_latent
from core.errors import RequestError, ResourceError
from core.latents import Latent, LatentCache
from core.models.loader import DiffusionModel
from core.progress import Running, finish
from core.schedule import Schedule
from core.unet import SplitUNet

INTERVALS = Intervals(t_edit=450, t_boost=200)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return small_model()


@pytest.fixture
def shift() -> GlobalDirection:
    return GlobalDirection(torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(5)), steps=40)


def picture(count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@torch.no_grad()
def algorithm_1(
    model: DiffusionModel, x: Tensor, direction: Direction | None, c: float, settings: EditSettings
) -> Tensor:
    """Asyrp's Algorithm 1 for one picture with the whole U-Net, h shifted by a hook on the mid block. float64."""
    unet, schedule = model.unet.unet, model.schedule
    generator = torch.Generator().manual_seed(settings.seed)
    x = x.double()

    def eps_theta(t: int, shifted: bool) -> Tensor:
        def add(module: torch.nn.Module, inputs: tuple[Tensor, Tensor], h: Tensor) -> Tensor:
            scale = c * direction.steps / settings.steps
            return h + scale * direction.delta_h(h, inputs[1], t)

        hook = unet.mid_block.register_forward_hook(add) if shifted else None
        try:
            v = unet(x.float(), t).sample.double()
        finally:
            if hook:
                hook.remove()
        return sqrt(1 - schedule.alpha(t)) * x + sqrt(schedule.alpha(t)) * v

    taus = [-1, *schedule.timesteps(settings.steps)]
    for t, t_prev in zip(taus[:0:-1], taus[-2::-1], strict=True):
        a, a_prev = schedule.alpha(t), schedule.alpha(t_prev)
        editing = direction is not None and t >= settings.intervals.t_edit
        eps_tilde = eps_theta(t, shifted=editing)
        eps = eps_tilde if settings.injection == "symmetric" else eps_theta(t, shifted=False)
        sigma = 0.0
        if t < settings.intervals.t_boost:
            sigma = sqrt((1 - a_prev) / (1 - a)) * sqrt(1 - a / a_prev)
        x0 = (x - sqrt(1 - a) * eps_tilde) / sqrt(a)
        x = sqrt(a_prev) * x0 + sqrt(1 - a_prev - sigma**2) * eps
        if t < settings.intervals.t_boost:
            x = x + sigma * torch.randn((1, *x.shape[1:]), generator=generator)
    return model.codec.decode(x).clamp(-1, 1).float()


@pytest.mark.parametrize("injection", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("steps", [20, 40])
def test_every_row_of_a_strip_is_algorithm_1(model: DiffusionModel, injection: str, steps: int) -> None:
    """Implicit and global directions together; three phases; rows of strength 0 and rows of another picture."""
    parts = (
        ImplicitDirection(trained_block(emb_channels=64), steps=40),
        GlobalDirection(torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(5)), steps=80),
    )
    direction = CompositeDirection(parts, (3.0, 0.6))
    settings = EditSettings(steps=steps, intervals=INTERVALS, injection=injection, seed=7)
    two = sample_latent(model, seed=0, count=2).x_T
    x_T, strengths = two[[0, 0, 0, 1, 0]], [-1.0, 0.0, 1.5, 1.0, -1.0]

    strip = finish(edit(model, x_T, [(direction, strengths)], settings))
    assert strip.shape == (5, 3, 32, 32)
    for row, (x, c) in enumerate(zip(x_T, strengths, strict=True)):
        expected = algorithm_1(model, x[None], direction if c else None, c, settings)
        assert torch.allclose(strip[row], expected[0], atol=2e-3), row
    assert (strip[2] - strip[1]).abs().max() > 0.05, "far above the tolerance"
    assert torch.equal(strip[0], strip[4])


@torch.no_grad()
def test_parts_act_where_they_say(model: DiffusionModel, shift: GlobalDirection) -> None:
    """A composite of an asymmetric part down to 450 and a symmetric one from 900 down to 700, nested, against a loop
    that is told nothing but what each eps has to be."""
    other = GlobalDirection(shift.delta.flip(1), steps=80, t_start=900)
    inner = CompositeDirection((other,), (2.0,), t_edits=(700,))
    both = CompositeDirection((shift, inner), (0.5, -0.2), (450, 0), ("asymmetric", "symmetric"))
    x_T, schedule = sample_latent(model, seed=3).x_T, model.schedule
    timesteps = schedule.timesteps(20)[::-1]
    x = x_T
    for t, t_prev in zip(timesteps, [*timesteps[1:], -1], strict=True):
        features = model.features(x, t)
        symmetric = -0.4 * other.delta * 80 / 20 if 700 <= t <= 900 else torch.zeros_like(other.delta)
        asymmetric = 0.5 * shift.delta * 40 / 20 if t >= 450 else torch.zeros_like(other.delta)
        eps_P, eps_D = (model.eps(features, x, t, delta) for delta in (symmetric + asymmetric, symmetric))
        x = schedule.reverse_step(x, eps_P, eps_D, t, t_prev)
    expected = model.codec.decode(x).clamp(-1, 1)

    rows = finish(edit(model, x_T.repeat(3, 1, 1, 1), [(both, [1.0, 0.0, 1.0])], EditSettings(20)))
    assert torch.allclose(rows[0], expected[0], atol=1e-3)
    assert torch.equal(rows[0], rows[2])
    apart = [
        (CompositeDirection((d,), (w,), (t,), (i,)), 1.0)
        for d, w, t, i in ((shift, 0.5, 450, "asymmetric"), (other, -0.4, 700, "symmetric"))
    ]
    assert torch.allclose(finish(edit(model, x_T, apart, EditSettings(20)))[0], expected[0], atol=1e-3)
    for settings in (EditSettings(20, Intervals(800, 0)), EditSettings(20, injection="symmetric")):
        said = finish(edit(model, x_T, [(both, 1.0)], settings))
        assert torch.allclose(said, rows[:1], atol=1e-3) == (settings.intervals.t_edit == 0), "modes of parts win"


def test_no_direction_is_plain_ddim(model: DiffusionModel, shift: GlobalDirection) -> None:
    x_T = sample_latent(model, seed=3).x_T
    plain = finish(edit(model, x_T))
    assert torch.allclose(plain, algorithm_1(model, x_T, None, 0.0, EditSettings()), atol=2e-3)
    assert torch.equal(finish(edit(model, x_T, [(shift, 0.0)])), plain)
    nothing = GlobalDirection(torch.zeros_like(shift.delta), steps=40)
    for injection in ("asymmetric", "symmetric"):
        same = finish(edit(model, x_T, [(nothing, 1.0)], EditSettings(injection=injection)))
        assert torch.allclose(same, plain, atol=1e-4)


def test_two_directions_add_up(model: DiffusionModel, shift: GlobalDirection) -> None:
    """Strengths per direction and per row; opposite directions cancel without being mistaken for no edit."""
    x_T = sample_latent(model, seed=3).x_T.repeat(2, 1, 1, 1)
    other = GlobalDirection(shift.delta.flip(1), steps=40)
    both = finish(edit(model, x_T, [(shift, [0.5, 1.0]), (other, -0.25)]))
    summed = CompositeDirection((shift, other), (0.5, -0.25))
    assert torch.allclose(both[:1], finish(edit(model, x_T[:1], [(summed, 1.0)])), atol=1e-3)
    cancelled = finish(edit(model, x_T[:1], [(shift, 1.0), (shift, -1.0)]))
    assert torch.allclose(cancelled, finish(edit(model, x_T[:1])), atol=1e-3)


def test_boosting_noise_is_seeded_and_the_same_for_every_row(model: DiffusionModel, shift: GlobalDirection) -> None:
    x_T = sample_latent(model, seed=1).x_T.repeat(2, 1, 1, 1)
    settings = EditSettings(intervals=INTERVALS, seed=7)
    first = finish(edit(model, x_T, [(shift, [0.0, 1e-5])], settings))
    assert torch.allclose(first[0], first[1], atol=1e-2)
    assert torch.equal(first, finish(edit(model, x_T, [(shift, [0.0, 1e-5])], settings)))
    another_seed = finish(edit(model, x_T[:1], (), EditSettings(intervals=INTERVALS, seed=8)))
    no_noise = finish(edit(model, x_T[:1], (), EditSettings(intervals=INTERVALS, eta_boost=0.0)))
    assert (another_seed - first[:1]).abs().max() > 0.05
    assert torch.equal(no_noise, finish(edit(model, x_T[:1], (), EditSettings(intervals=Intervals(450, 0)))))


def test_work_is_not_done_twice(model: DiffusionModel, shift: GlobalDirection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows per call: the encoder once per step and row, the second decode only where there is an edit."""
    rows: Counter[str] = Counter()
    encode, decode = SplitUNet.encode, SplitUNet.decode

    def counted_encode(self: SplitUNet, x: Tensor, t: int) -> object:
        rows["encode"] += len(x)
        return encode(self, x, t)

    def counted_decode(self: SplitUNet, features: object, delta_h: Tensor | None = None) -> Tensor:
        rows["decode"] += len(features.h)
        return decode(self, features, delta_h)

    monkeypatch.setattr(SplitUNet, "encode", counted_encode)
    monkeypatch.setattr(SplitUNet, "decode", counted_decode)
    x_T = sample_latent(model, seed=0).x_T.repeat(4, 1, 1, 1)
    edited = sum(t >= INTERVALS.t_edit for t in model.schedule.timesteps(10))
    assert edited == 5

    # Strengths -1, 0, 1, 1: three different rows of which two are edited; one state until the first edit.
    finish(edit(model, x_T, [(shift, [-1.0, 0.0, 1.0, 1.0])], EditSettings(10, INTERVALS)))
    assert rows == {"encode": 1 + 9 * 3, "decode": (1 + 9 * 3) + edited * 2}

    rows.clear()
    finish(edit(model, x_T, [(shift, [-1.0, 0.0, 1.0, 1.0])], EditSettings(10, INTERVALS, "symmetric")))
    assert rows == {"encode": 1 + 9 * 3, "decode": 10 * 3}

    rows.clear()
    finish(edit(model, x_T, [(shift, 0.0)], EditSettings(10, INTERVALS)))
    assert rows == {"encode": 10, "decode": 10}


@pytest.mark.parametrize("injection", ["asymmetric", "symmetric"])
def test_pieces_do_not_change_the_result(model: DiffusionModel, shift: GlobalDirection, injection: str) -> None:
    x_T = sample_latent(model, seed=0, count=2).x_T[[0, 1, 0, 0, 1]]
    weighted, settings = [(shift, [1.0, 0.0, -1.0, 0.0, 2.0])], EditSettings(10, INTERVALS, injection)
    whole = finish(edit(model, x_T, weighted, settings))
    for chunk in (1, 2, 4):
        assert torch.allclose(finish(edit(model, x_T, weighted, settings, chunk=chunk)), whole, atol=1e-4)
    pixels = picture(3)
    assert torch.allclose(
        finish(invert(model, pixels, 10, chunk=2)).x_T, finish(invert(model, pixels, 10)).x_T, atol=1e-4
    )


def test_no_call_has_more_rows_than_fit(
    model: DiffusionModel, shift: GlobalDirection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An asymmetric edit decodes two rows for every one that it encodes."""
    x_T, settings = torch.randn(2, 12, 16, 16, generator=torch.Generator().manual_seed(8)), EditSettings(4, INTERVALS)
    weighted = [(shift, [1.0, 2.0])]
    whole = finish(edit(model, x_T, weighted, settings))

    calls: list[int] = []
    decode = model.unet.decode
    monkeypatch.setattr(
        model.unet, "decode", lambda features, delta_h: calls.append(len(features.h)) or decode(features, delta_h)
    )
    monkeypatch.setattr(DiffusionModel, "rows_per_call", lambda self, budget=None: 1)
    torch.testing.assert_close(finish(edit(model, x_T, weighted, settings)), whole, atol=1e-4, rtol=0)
    assert max(calls) == 1
    acting = sum(t >= INTERVALS.t_edit for t in model.schedule.timesteps(4))
    assert len(calls) == 2 * (4 + acting), "each row once, and once more where the direction acts"


def test_inversion_is_exact_when_eps_does_not_depend_on_x(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inversion, then the reverse process with the same eps at each t, gives the picture back."""

    def eps(self: Schedule, output: Tensor, x: Tensor, t: int) -> Tensor:
        noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(t))
        return noise.expand_as(x)

    monkeypatch.setattr(Schedule, "eps_from_output", eps)
    pixels = picture(2)
    for steps in (10, 40):
        latent = finish(invert(model, pixels, steps))
        assert (latent.steps, latent.model_id) == (steps, "small")
        assert torch.allclose(finish(edit(model, latent, (), EditSettings(steps))), pixels, atol=1e-3)


def test_inversion_of_a_linear_network_in_closed_form(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With eps(x, t) = c x every reverse step is a factor, so its exact inverse is known. `iterations` converge to it;
    one predicted evaluation is of higher order than plain inversion: half the step, a quarter of the error or less."""
    schedule, pixels = model.schedule, picture()
    monkeypatch.setattr(Schedule, "eps_from_output", lambda self, output, x, t: 0.6 * x)

    def error(steps: int, iterations: int) -> float:
        exact = model.codec.encode(pixels).double()
        levels = [-1, *schedule.timesteps(steps)]
        for t_prev, t in pairwise(levels):
            a, a_prev = schedule.alpha(t), schedule.alpha(t_prev)
            factor = (a_prev / a) ** 0.5 * (1 - 0.6 * (1 - a) ** 0.5) + 0.6 * (1 - a_prev) ** 0.5
            exact = exact / factor
        x_T = finish(invert(model, pixels, steps, iterations=iterations)).x_T.double()
        return ((x_T - exact).norm() / exact.norm()).item()

    assert error(20, 20) < 1e-5
    assert error(20, 2) < error(20, 1) < 0.2 * error(20, 0)
    assert error(80, 0) == pytest.approx(0.5 * error(40, 0), rel=0.2), "first order"
    assert error(80, 1) < 0.3 * error(40, 1), "second order"


def test_a_predicted_step_costs_one_evaluation(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    encode = SplitUNet.encode
    monkeypatch.setattr(SplitUNet, "encode", lambda self, x, t: asked.append(t) or encode(self, x, t))
    for iterations, expected in ((0, 12), (1, 13), (3, 37)):
        asked.clear()
        finish(invert(model, picture(), 12, iterations=iterations))
        assert len(asked) == expected, iterations
    with pytest.raises(RequestError, match="iterations"):
        finish(invert(model, picture(), 12, iterations=-1))


def test_a_known_picture_is_not_inverted_again(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LatentCache()
    pixels = picture()
    latent = finish(invert(model, pixels, 10, cache=cache))
    monkeypatch.setattr(SplitUNet, "encode", None)  # any further use of the network fails
    assert finish(invert(model, pixels.clone(), 10, cache=cache)) is latent
    with pytest.raises(TypeError):
        finish(invert(model, pixels, 11, cache=cache))


def test_samples_do_not_depend_on_their_number(model: DiffusionModel) -> None:
    three = sample_latent(model, seed=5, count=3)
    assert three.x_T.shape == (3, 12, 16, 16)
    assert torch.equal(three.x_T[2:], sample_latent(model, seed=7).x_T)
    assert not torch.equal(three.x_T[0], three.x_T[1])
    assert three.x_T.std().item() == pytest.approx(1, abs=0.05)
    assert three.key != sample_latent(model, seed=5, count=2).key
    assert isinstance(three, Latent)


def test_a_job_reports_and_can_be_stopped(model: DiffusionModel, shift: GlobalDirection) -> None:
    x_T = sample_latent(model, seed=0).x_T.repeat(3, 1, 1, 1)
    settings = EditSettings(40, Intervals(600, 100))
    jobs = (edit(model, x_T, [(shift, [0.0, 0.0, 1.0])], settings), Tensor), (invert(model, picture(3), 40), Latent)
    for job, kind in jobs:
        running = Running(job)
        events = list(running)
        assert [event.step for event in events] == list(range(1, 41))
        assert {event.total for event in events} == {40}
        assert isinstance(running.result, kind)
        previews = [event.preview for event in events if event.preview is not None]
        assert 8 <= len(previews) <= 12
        assert all(preview.shape == (3, 3, 32, 32) and preview.abs().max() <= 1 for preview in previews)

    job = edit(model, x_T, [(shift, 1.0)], settings)
    phases = [next(job).note for _ in range(39)]
    assert [phase for i, phase in enumerate(phases) if i == 0 or phase != phases[i - 1]] == [
        "editing",
        "denoising",
        "boosting",
    ]
    job.close()
    with pytest.raises(StopIteration):
        next(job)


def test_gradients_are_off_inside_only(model: DiffusionModel, shift: GlobalDirection) -> None:
    x_T = sample_latent(model, seed=0).x_T
    for job in (edit(model, x_T, [(shift, 1.0)], EditSettings(4)), invert(model, picture(), 4)):
        running = Running(job)
        for _ in running:
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
        result = running.result.x_T if isinstance(running.result, Latent) else running.result
        assert not result.requires_grad
        assert not result.is_inference()  # it can be trained on


def test_requests_that_make_no_sense(model: DiffusionModel, shift: GlobalDirection) -> None:
    x_T = sample_latent(model, seed=0).x_T
    with pytest.raises(RequestError, match="steps"):
        finish(edit(model, x_T, (), EditSettings(steps=1)))
    with pytest.raises(RequestError, match="steps"):
        finish(invert(model, picture(), 1001))
    for strength in ([1.0, 2.0], float("nan"), torch.ones(1, 1)):
        with pytest.raises(RequestError, match="strength"):
            finish(edit(model, x_T, [(shift, strength)]))


def test_running_out_of_memory_is_put_into_words(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(self: SplitUNet, x: Tensor, t: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SplitUNet, "encode", encode)
    with pytest.raises(ResourceError, match="fewer pictures"):
        finish(invert(model, picture(), 10))


def test_half_precision_network_float32_sampler() -> None:
    """bfloat16 inside, float32 outside, and nearly the same pictures."""
    half, full = small_model(dtype=torch.bfloat16), small_model()
    pixels = picture(2)
    latents = [finish(invert(m, pixels, 20)).x_T for m in (half, full)]
    results = [finish(edit(m, latents[1], (), EditSettings(20))) for m in (half, full)]
    assert latents[0].dtype == results[0].dtype == torch.float32
    for a, b in (latents, results):
        assert 0 < (a - b).abs().mean() < 0.05


@pytest.mark.slow
def test_the_effect_does_not_grow_with_the_number_of_steps(model: DiffusionModel, shift: GlobalDirection) -> None:
    """Without the scaling it would, 8-fold."""
    x_T = sample_latent(model, seed=2).x_T.repeat(2, 1, 1, 1)
    changes = []
    for steps in (50, 400):
        plain, shifted = finish(edit(model, x_T, [(shift, [0.0, 0.3])], EditSettings(steps, Intervals(600, 0))))
        changes.append((shifted - plain).norm().item())
    assert changes[0] == pytest.approx(changes[1], rel=0.3)

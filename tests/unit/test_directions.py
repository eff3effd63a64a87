"""Directions: their forms, sums, scaling between step counts, and what goes into a file and comes back."""

from dataclasses import replace

import pytest
import torch
from asyrp_files import ASYRP
from small_models import trained_block
from torch import Tensor
from torch.nn import functional as F

from core.delta_block import DeltaBlock
from core.directions import (
    CompositeDirection,
    Direction,
    GlobalDirection,
    ImplicitDirection,
    PerTimestepDirection,
    from_state,
    parts_of,
    weighted_delta,
)
from core.errors import PresetError
from core.unet import Features


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def features() -> Features:
    return Features(h=normal(3, 32, 4, 4), skips=(), emb=normal(3, 16, seed=1), timesteps=torch.full((3,), 500))


@pytest.fixture
def composite() -> CompositeDirection:
    parts = (
        ImplicitDirection(trained_block(), steps=40),
        PerTimestepDirection(torch.tensor([100, 900]), normal(2, 32, 4, 4, seed=2), steps=20),
        GlobalDirection(normal(1, 32, 4, 4, seed=3), steps=80),
    )
    return CompositeDirection(parts, (1.0, -0.5, 2.0))


def test_f_t_starts_at_zero_and_learns_from_there() -> None:
    f_t = DeltaBlock(32, 16)
    h, emb = normal(2, 32, 4, 4), normal(2, 16)
    assert not f_t(h, emb).any()
    f_t(h, emb).sum().backward()
    assert f_t.conv2.weight.grad.abs().max() > 0
    assert f_t.norm2.num_groups == 32


def test_f_t_starts_alike_whatever_the_rest_of_the_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread draws numbers, or builds a model, during which diffusers takes torch's initialisers away."""
    mine = DeltaBlock(32, 16).state_dict()
    torch.rand(3)
    for name in ("kaiming_uniform_", "uniform_", "ones_", "zeros_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    for name, value in DeltaBlock(32, 16).state_dict().items():
        assert torch.equal(value, mine[name]), name
    bound = mine["conv1.weight"].abs().max()
    assert 0.95 / 32**0.5 < bound <= 1 / 32**0.5  # PyTorch's range for that layer


def test_f_t_is_the_papers() -> None:
    """conv2(swish(norm(conv1(h) + Linear(swish(emb))))), pixel by pixel but for the group norm."""
    f_t = trained_block()
    h, emb = normal(2, 32, 4, 4), normal(2, 16)
    z = torch.einsum("oc,bchw->bohw", f_t.conv1.weight[:, :, 0, 0], h) + f_t.conv1.bias[:, None, None]
    z = z + (emb * emb.sigmoid() @ f_t.temb_proj.weight.T + f_t.temb_proj.bias)[:, :, None, None]
    grouped = z.reshape(2, 32, -1)
    grouped = (grouped - grouped.mean(-1, keepdim=True)) / (grouped.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    z = grouped.reshape(z.shape)
    expected = torch.einsum("oc,bchw->bohw", f_t.conv2.weight[:, :, 0, 0], z * z.sigmoid())
    assert torch.allclose(f_t(h, emb), expected + f_t.conv2.bias[:, None, None], atol=1e-5)


def test_the_authors_weights_load_as_they_are() -> None:
    state = torch.load(ASYRP / "smiling_LC_CelebA_HQ.pth", weights_only=True, map_location="cpu")["0"]
    direction = from_state(state, {"kind": "implicit", "steps": 40})
    channels, width = state["temb_proj.weight"].shape
    h, emb = normal(1, channels, 8, 8), normal(1, width, seed=1)
    z = F.conv2d(h, state["conv1.weight"], state["conv1.bias"])
    z = z + F.linear(F.silu(emb), state["temb_proj.weight"], state["temb_proj.bias"])[:, :, None, None]
    z = F.silu(F.group_norm(z, 32, state["norm2.weight"], state["norm2.bias"], eps=1e-6))
    expected = F.conv2d(z, state["conv2.weight"], state["conv2.bias"])
    assert expected.abs().max() > 0.1
    assert torch.allclose(direction.delta_h(h, emb, 500), expected, atol=1e-5)


def test_per_timestep_is_linear_between_and_constant_beyond() -> None:
    deltas = torch.tensor([1.0, 3.0, 11.0])[:, None, None, None]
    direction = PerTimestepDirection(torch.tensor([100, 200, 400]), deltas, steps=40)
    h, emb = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1)
    values = [direction.delta_h(h, emb, t).item() for t in (0, 100, 150, 200, 250, 399, 400, 999)]
    assert values == pytest.approx([1, 1, 2, 3, 5, 10.96, 11, 11])


def test_the_sum_of_shifts_does_not_depend_on_the_step_count(features: Features) -> None:
    direction = GlobalDirection(normal(1, 32, 4, 4), steps=40)
    for steps in (10, 40, 1000):
        total = weighted_delta([(direction, 1.0)], features, steps) * steps
        assert torch.allclose(total, direction.delta * 40, rtol=1e-5)


def test_a_composite_is_the_weighted_sum_of_its_parts(features: Features, composite: CompositeDirection) -> None:
    """Also across parts made at different step counts, and at another step count than any of theirs."""
    parts = list(zip(composite.parts, composite.weights, strict=True))
    expected = weighted_delta(parts, features, steps=50)
    assert expected.shape == features.h.shape
    assert torch.allclose(weighted_delta([(composite, 1.0)], features, steps=50), expected, atol=1e-5)
    by_hand = sum(w * part.steps / 50 * part.delta_h(features.h, features.emb, 500) for part, w in parts)
    assert torch.allclose(expected, by_hand, atol=1e-5)


def test_strengths_are_per_row(features: Features) -> None:
    direction = ImplicitDirection(trained_block(), steps=40)
    strengths = torch.tensor([-1.0, 0.0, 2.5])
    delta = weighted_delta([(direction, strengths)], features, steps=40)
    plain = direction.delta_h(features.h, features.emb, 500)
    assert torch.allclose(delta, strengths[:, None, None, None] * plain)
    assert weighted_delta([(direction, torch.zeros(3)), (direction, 0.0)], features, steps=40) is None
    assert weighted_delta([], features, steps=40) is None


def test_before_its_start_a_direction_does_nothing(features: Features, composite: CompositeDirection) -> None:
    """Also as a part of a sum, and after a round trip through its state."""
    for plain in composite.parts:
        late = from_state(*replace(plain, t_start=400).state())
        assert (late.t_start, plain.t_start) == (400, None)
        for t in (401, 999):
            shift = late.delta_h(features.h, features.emb, t)
            assert shift.shape[1:] == features.h.shape[1:]
            assert not shift.any()
        for t in (0, 400):
            assert torch.equal(*(d.delta_h(features.h, features.emb, t) for d in (late, plain)))
    rest = CompositeDirection(composite.parts[1:], composite.weights[1:])
    without = CompositeDirection((replace(composite.parts[0], t_start=400), *composite.parts[1:]), composite.weights)
    scale = rest.steps / without.steps
    shifts = [d.delta_h(features.h, features.emb, 500) for d in (without, rest)]
    assert torch.allclose(shifts[0], scale * shifts[1], atol=1e-5)


@pytest.mark.parametrize("bad", [-1, 1.5, "500", True, 10**6])
def test_a_start_that_is_no_timestep_is_refused(bad: object) -> None:
    tensors, meta = GlobalDirection(normal(1, 32, 4, 4), steps=40).state()
    with pytest.raises(PresetError, match="t_start"):
        from_state(tensors, meta | {"t_start": bad})


def test_half_precision_features_give_a_float32_shift(features: Features) -> None:
    half = Features(features.h.bfloat16(), (), features.emb.bfloat16(), features.timesteps)
    direction = ImplicitDirection(trained_block(), steps=40)
    delta, exact = (weighted_delta([(direction, 1.0)], f, 40) for f in (half, features))
    assert delta.dtype == torch.float32
    assert torch.allclose(delta, exact, atol=0.05 * exact.abs().max().item())


def test_parts_of_a_nested_sum(features: Features, composite: CompositeDirection) -> None:
    """Flattened, weighted and summed they are the same shift; a part acts where all around it allow it."""
    nested = CompositeDirection((composite, composite.parts[2]), (2.0, 1.0), t_edits=(400, 600))
    outer = CompositeDirection((nested,), (-1.0,), (500,), ("symmetric",))
    parts = parts_of(outer)
    assert [part.t_edit for part in parts] == [500, 500, 500, 600]
    assert {part.injection for part in parts} == {"symmetric"}
    for t in (300, 450, 550, 650):
        h, emb = features.h, features.emb
        total = sum(p.weight * p.direction.steps * p.direction.delta_h(h, emb, t) for p in parts if t >= p.t_edit)
        assert torch.allclose(outer.steps * outer.delta_h(h, emb, t), total * torch.ones_like(h), atol=1e-4), t
    assert from_state(*outer.state()).state()[1] == outer.state()[1]


def test_a_moved_direction_is_a_copy(composite: CompositeDirection) -> None:
    moved = composite.to("cpu", torch.float64)
    assert moved.parts[0].f_t.conv1.weight.dtype == moved.parts[1].deltas.dtype == torch.float64
    assert composite.parts[0].f_t.conv1.weight.dtype == torch.float32


@pytest.mark.parametrize("index", [0, 1, 2, None], ids=["implicit", "per_timestep", "global", "composite"])
def test_state_round_trip(composite: CompositeDirection, features: Features, index: int | None) -> None:
    direction: Direction = composite if index is None else composite.parts[index]
    tensors, meta = direction.state()
    again = from_state(tensors, meta)
    assert type(again) is type(direction)
    assert again.steps == direction.steps
    for t in (0, 333, 999):
        expected = direction.delta_h(features.h, features.emb, t)
        assert torch.equal(again.delta_h(features.h, features.emb, t), expected)


def test_damaged_states_are_refused(composite: CompositeDirection) -> None:
    implicit, per_timestep, constant = (part.state() for part in composite.parts)
    tensors, meta = composite.state()
    damaged = {
        "unknown kind": (constant[0], constant[1] | {"kind": "magic"}),
        "no kind": (constant[0], {"steps": 40}),
        "no steps": (constant[0], {"kind": "global"}),
        "zero steps": (constant[0], constant[1] | {"steps": 0}),
        "steps in words": (constant[0], constant[1] | {"steps": "40"}),
        "tensor missing": ({}, constant[1]),
        "tensor too many": (constant[0] | {"more": torch.zeros(1)}, constant[1]),
        "not finite": ({"delta": constant[0]["delta"] * torch.nan}, constant[1]),
        "wrong rank": ({"delta": torch.zeros(32, 4, 4)}, constant[1]),
        "timesteps do not match": (per_timestep[0] | {"timesteps": torch.tensor([1, 2, 3])}, per_timestep[1]),
        "timesteps out of order": (per_timestep[0] | {"timesteps": torch.tensor([900, 100])}, per_timestep[1]),
        "layer missing": ({k: v for k, v in implicit[0].items() if k != "conv2.weight"}, implicit[1]),
        "layer of another size": (implicit[0] | {"conv2.weight": torch.zeros(32, 1, 1, 1)}, implicit[1]),
        "weight too many": (tensors, meta | {"weights": [1.0, 2.0]}),
        "part missing": (tensors, meta | {"parts": meta["parts"][:2], "weights": [1.0, 2.0]}),
        "an interval too few": (tensors, meta | {"t_edits": [1, 2]}),
        "interval in words": (tensors, meta | {"t_edits": ["1", "2", "3"]}),
        "unknown injection": (tensors, meta | {"injections": ["magic"] * 3}),
        "no parts": ({}, {"kind": "composite", "parts": [], "weights": []}),
        "weight not finite": (tensors, meta | {"weights": [1.0, float("nan"), 1.0]}),
    }
    for fault, state in damaged.items():
        try:
            from_state(*state)
        except PresetError:
            continue
        pytest.fail(f"accepted: {fault}")

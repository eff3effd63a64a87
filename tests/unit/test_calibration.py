"""What a strength means in few steps: the response of Gaussian pictures, by the editing loops and in closed form."""

from collections.abc import Sequence
from dataclasses import replace
from math import asinh, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor

from core.anchoring import edit_anchored, source_path
from core.calibration import COARSE, REFERENCE_STEPS, SPREAD, calibrated, grid, response, uneven_timesteps
from core.directions import (
    CompositeDirection,
    Direction,
    GlobalDirection,
    Part,
    PerTimestepDirection,
    from_state,
    parts_of,
)
from core.editing import EditSettings, Intervals, edit, invert
from core.errors import PresetError, RequestError
from core.models.codec import Identity
from core.process import edit_pictures
from core.progress import finish
from core.queries import Query
from core.schedule import Schedule
from core.unet import Features
from tests.unit.small_models import small_card

SCHEDULE = Schedule.from_scheduler({"_class_name": "DDIMScheduler", "num_train_timesteps": 1000})


class Gaussian:
    """A network that is right about pictures whose pixels are Gaussian, N(0, s^2): eps = sigma z / (s^2 + sigma^2) at
    z = x / sqrt(a). A shift of h is added to it."""

    schedule, codec, device = SCHEDULE, Identity(), torch.device("cpu")
    card, fingerprint, key = small_card(), "0", ("gaussian",)

    def rows_per_call(self) -> int:
        return 64

    def answer(self, queries: Sequence[Query]) -> list[Tensor]:
        return [self._eps(query) for query in queries]

    def _eps(self, query: Query) -> Tensor:
        rows = torch.arange(len(query.x)) if query.rows is None else query.rows
        timesteps = torch.tensor(query.timesteps)[rows]
        x, a = query.x[rows].double(), SCHEDULE.alphas_cumprod[timesteps][:, None, None, None]
        sigma = ((1 - a) / a).sqrt()
        eps = sigma * x / a.sqrt() / (SPREAD**2 + sigma**2)
        if query.shift is not None:
            nothing = x.new_zeros(len(x), 1, 1, 1)
            shift = query.shift(Features(nothing, (), nothing[:, :, 0, 0], timesteps))
            eps = eps if shift is None else eps + shift
        return eps


MODEL: Any = Gaussian()
PIXELS = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
SMALL = 1e-3  # a shift that leaves every pixel within [-1, 1]


def shift(steps: int = 40, size: float = SMALL, t_start: int | None = None) -> GlobalDirection:
    return GlobalDirection(torch.full((1, 1, 1, 1), size), steps, t_start)


def settings(steps: int, t_edit: int = 0, injection: Any = "asymmetric") -> EditSettings:
    return EditSettings(steps, Intervals(t_edit, 0), injection)


def change_in_the_paper(direction: Direction, chosen: EditSettings) -> float:
    """Of the mean pixel, in the papers' process."""
    latent = finish(invert(MODEL, PIXELS, chosen.steps))
    before, after = (finish(edit(MODEL, latent, [(direction, c)], chosen)) for c in (0.0, 1.0))
    return (after - before).mean().item()


def change_anchored(direction: Direction, chosen: EditSettings, timesteps: Sequence[int]) -> float:
    path = finish(source_path(MODEL, PIXELS, timesteps, "noised"))
    return (finish(edit_anchored(MODEL, path, [(direction, 1.0)], chosen)) - path.pixels).mean().item()


@pytest.mark.parametrize("t_edit", [0, 300, 900])
@pytest.mark.parametrize("steps", [4, 8, 40])
def test_the_response_is_what_both_loops_do(t_edit: int, steps: int) -> None:
    """P_t loses sigma times a shift of eps, whatever path the picture is on."""
    chosen, timesteps = settings(steps, t_edit), SCHEDULE.timesteps(steps)
    expected = -SMALL * response(SCHEDULE, timesteps, Part(shift(steps)), chosen)
    assert abs(expected) > 1e-4
    assert change_in_the_paper(shift(steps), chosen) == pytest.approx(expected, rel=1e-3)
    assert change_anchored(shift(steps), chosen, timesteps) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("steps", [4, 8, 12, 100])
@pytest.mark.parametrize("made_with", [20, 40])
def test_a_strength_means_the_same_at_any_number_of_steps(steps: int, made_with: int) -> None:
    direction, chosen = shift(made_with), settings(steps, 350)
    expected = change_in_the_paper(direction, settings(REFERENCE_STEPS, 350))
    edited = finish(edit_pictures(MODEL, PIXELS, 1, [(direction, 1.0)], chosen))
    assert (edited - PIXELS).mean().item() == pytest.approx(expected, rel=1e-3)


def unscaled(steps: int, made_with: int) -> float:
    """What a symmetric shift of size SMALL at `made_with` steps is worth at every one of `steps`: no S / S~."""
    return SMALL * made_with / REFERENCE_STEPS * (1 + (COARSE / steps) ** 2) / (1 + (COARSE / REFERENCE_STEPS) ** 2)


@pytest.mark.parametrize("steps", [4, 8, 12, 100])
@pytest.mark.parametrize("made_with", [20, 40])
def test_a_symmetric_shift_has_twice_the_steps_and_is_not_divided_by_their_number(steps: int, made_with: int) -> None:
    chosen = settings(steps, 0, "symmetric")
    edited = finish(edit_pictures(MODEL, PIXELS, 1, [(shift(made_with), 1.0)], chosen))
    twice, timesteps = settings(2 * steps, 0, "symmetric"), uneven_timesteps(SCHEDULE, 2 * steps)
    expected = change_anchored(shift(2 * steps, unscaled(2 * steps, made_with)), twice, timesteps)
    assert abs(expected) > 1e-4
    assert (edited - PIXELS).mean().item() == pytest.approx(expected, rel=1e-3)


def test_a_symmetric_shift_converges_to_its_closed_form() -> None:
    """dd/dsigma = sigma d / (s^2 + sigma^2) - 1 from sigma_T down: s asinh(sigma_T / s). More steps come nearer."""
    a = SCHEDULE.alpha(999)
    exact = -unscaled(1000, 40) * SPREAD * asinh(sqrt((1 - a) / a) / SPREAD)
    errors = []
    for steps in (30, 125, 500):
        edited = finish(edit_pictures(MODEL, PIXELS, 1, [(shift(), 1.0)], settings(steps, 0, "symmetric")))
        errors.append(abs((edited - PIXELS).mean().item() / exact - 1))
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2]
    assert errors[2] < 0.01


def test_a_symmetric_shift_counts_by_the_part_of_the_process_in_which_it_acts() -> None:
    timesteps, part = SCHEDULE.timesteps(1000), Part(shift())
    whole, half = (response(SCHEDULE, timesteps, part, settings(1000, t, "symmetric")) for t in (0, 500))
    assert half / whole == pytest.approx(0.5, abs=0.001)


def test_every_part_of_a_composite_by_its_own_interval_and_injection() -> None:
    composite = CompositeDirection(
        (shift(), shift(20, 2 * SMALL), shift(40, SMALL, t_start=600)),
        (0.5, -0.3, 0.7),
        (200, 700, 100),
        ("asymmetric", "symmetric", "asymmetric"),
    )
    chosen, timesteps = settings(16), uneven_timesteps(SCHEDULE, 16)  # as one of its parts is symmetric
    expected = 0.0
    for k in range(3):
        part = CompositeDirection(*((values[k],) for values in vars(composite).values() if isinstance(values, tuple)))
        alone = calibrated(SCHEDULE, timesteps, part, chosen)
        assert len(alone.weights) == 1
        expected += change_anchored(alone, chosen, timesteps)
    edited = finish(edit_pictures(MODEL, PIXELS, 1, [(composite, 1.0)], settings(8)))
    assert (edited - PIXELS).mean().item() == pytest.approx(expected, rel=1e-3)
    nested = CompositeDirection((composite,), (2.0,))
    edited = finish(edit_pictures(MODEL, PIXELS, 1, [(nested, 0.5)], settings(8)))
    assert (edited - PIXELS).mean().item() == pytest.approx(expected, rel=1e-3)


def test_a_measured_gain_counts_in_few_steps_only() -> None:
    with_gain = replace(shift(), gain=1.5)
    for direction in (with_gain, CompositeDirection((with_gain,), (1.0,))):
        expected = change_in_the_paper(shift(), settings(REFERENCE_STEPS))
        assert change_in_the_paper(direction, settings(REFERENCE_STEPS)) == pytest.approx(expected)
        edited = finish(edit_pictures(MODEL, PIXELS, 1, [(direction, 1.0)], settings(8)))
        assert (edited - PIXELS).mean().item() == pytest.approx(1.5 * expected, rel=1e-3)
        assert parts_of(from_state(*direction.state()))[0].direction.gain == 1.5
    tensors, meta = shift().state()
    assert "gain" not in meta
    for bad in (0, -1, "2", True, 1e6, float("nan")):
        with pytest.raises(PresetError, match="gain"):
            from_state(tensors, meta | {"gain": bad})


def test_what_acts_nowhere_keeps_its_weight() -> None:
    [weight] = calibrated(SCHEDULE, SCHEDULE.timesteps(8), shift(), settings(8, t_edit=1000)).weights
    assert weight == 1.0


def test_an_interval_between_two_steps_gets_a_step_of_its_own() -> None:
    """Steps at 500 and 625 miss what acts from 590 to 620 only; it has its effect all the same."""
    narrow = CompositeDirection((shift(40, SMALL, t_start=620),), (1.0,), (590,))
    plain = tuple(uneven_timesteps(SCHEDULE, 8))
    assert grid(SCHEDULE, 8, [shift()], settings(8)) == plain
    assert grid(SCHEDULE, 8, [shift()], settings(8, t_edit=1000)) == plain, "nothing acts at all"
    chosen = grid(SCHEDULE, 8, [shift(), narrow], settings(8))
    [added] = set(chosen) - set(plain)
    assert 590 <= added <= 620
    assert list(chosen) == sorted(chosen)
    expected = change_in_the_paper(narrow, settings(REFERENCE_STEPS))
    edited = finish(edit_pictures(MODEL, PIXELS, 1, [(narrow, 1.0)], settings(8)))
    assert (edited - PIXELS).mean().item() == pytest.approx(expected, rel=1e-3)


def test_an_eighth_of_the_steps_lies_above_three_quarters() -> None:
    assert uneven_timesteps(SCHEDULE, 7) == [0, 150, 300, 450, 600, 750, 999]
    assert uneven_timesteps(SCHEDULE, 16)[-3:] == [750, 874, 999]
    for steps in range(4, 200):
        timesteps = uneven_timesteps(SCHEDULE, steps)
        assert len(set(timesteps)) == steps
        assert timesteps == sorted(timesteps)
        assert (timesteps[0], timesteps[-1]) == (0, 999)
    assert uneven_timesteps(SCHEDULE, 2) == [0, 999]
    assert uneven_timesteps(SCHEDULE, 1000) == list(range(1000))
    with pytest.raises(RequestError, match="between 2 and 1000"):
        uneven_timesteps(SCHEDULE, 1)


def test_the_papers_process_is_left_alone() -> None:
    """It keeps the sum of the shifts, as the paper does, and nothing else."""
    direction = PerTimestepDirection(
        torch.tensor([300, 900]), torch.tensor([1.0, 2.0])[:, None, None, None] * SMALL, 40
    )
    chosen = settings(8, 300)
    edited = finish(edit_pictures(MODEL, PIXELS, 1, [(direction, 1.0)], chosen, "paper"))
    latent = finish(invert(MODEL, PIXELS, 8))
    assert torch.equal(edited, finish(edit(MODEL, latent, [(direction, 1.0)], chosen)))

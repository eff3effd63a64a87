"""The shift of h that does what a change of words does, against a dense least-squares solution, and on others."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from small_text_models import small_text_model
from torch import Tensor

from core.anchoring import source_path
from core.asyrp.fitted_shift import FOCUS, HELD_OUT, ITERATIONS, RIDGE, STRENGTHS, Fitting, fit, fitted_shift, focus
from core.asyrp.prompt_shift import prompt_shift
from core.calibration import uneven_timesteps
from core.editing import EditSettings
from core.errors import RequestError
from core.models.loader import DiffusionModel
from core.process import edit_pictures
from core.progress import Running, finish
from core.prompted import with_prompt

C, SIDE, OUT = 3, 2, 40  # of h, and values of a prediction


@dataclass
class LinearFeatures:
    h: Tensor
    c: Tensor  # what the decoder has besides h

    def select(self, rows: slice) -> "LinearFeatures":
        return LinearFeatures(self.h[rows], self.c[rows])


class LinearDecoder:
    """eps = A_n (h + delta) + c, (n, OUT, 1, 1), with an A of its own for every picture n."""

    def __init__(self, count: int, rows_per_call: int) -> None:
        draw = torch.Generator().manual_seed(2)
        self.A = torch.randn(count, OUT, C * SIDE * SIDE, generator=draw, dtype=torch.float64)
        self.rows_per_call = lambda: rows_per_call

    def eps(self, features: LinearFeatures, x: Tensor, t: int, delta: Tensor | None = None) -> Tensor:
        h = features.h if delta is None else features.h + delta
        first = int(x[0, 0])  # x says which pictures these are
        A = self.A[first : first + len(h)]
        return (A @ h.flatten(1)[:, :, None])[..., None] + features.c


@pytest.mark.parametrize("rows_per_call", [400, 8])
def test_the_fit_is_the_dense_solution(rows_per_call: int) -> None:
    count, samples = 6, 5
    draw = torch.Generator().manual_seed(3)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    model = LinearDecoder(count, rows_per_call)
    features = LinearFeatures(random(count, C, SIDE, SIDE), random(count, OUT, 1, 1))
    s = torch.tensor([0.5, 1, 1.5, 0.5, 2], dtype=torch.float64)[:, None, None, None]
    x = torch.arange(count, dtype=torch.float64)[:, None]
    eps = model.eps(features, x, 0)
    made_with = (model.A @ torch.ones(C * SIDE * SIDE, 1, dtype=torch.float64))[..., None]
    wanted = eps + 0.3 * random(count, OUT, 1, 1) + made_with
    wanted[:samples] += (s - 1) * made_with[:samples]
    start = torch.zeros(1, C, SIDE, SIDE, dtype=torch.float64)
    delta = finish(fit(model, features, x, 0, wanted, eps, s, start, iterations=60))

    # |s A d - g|^2 / s^2, of all that it is without d, + RIDGE mean(d^2) / mean(h^2): least squares of a tall matrix.
    A, g = model.A[:samples].flatten(0, 1), ((wanted - eps)[:samples] / s).flatten()
    mean_square = features.h[:samples].square().mean()
    ridge = (RIDGE / (start.numel() * mean_square)).sqrt() * torch.eye(start.numel(), dtype=torch.float64)
    tall = torch.cat((A / g.norm(), ridge))
    expected = torch.linalg.lstsq(
        tall, torch.cat((g / g.norm(), torch.zeros(start.numel(), dtype=torch.float64)))[:, None]
    )
    torch.testing.assert_close(delta.flatten(), expected.solution[:, 0], rtol=1e-5, atol=1e-6)
    assert (delta - 1).abs().max() < 0.3, "near to what the pictures were made with"

    same = finish(fit(model, features, x, 0, eps, eps, s, start + 1))
    assert same.abs().max() == 0, "the words do nothing"


@pytest.fixture(scope="module")
def pair() -> tuple[DiffusionModel, DiffusionModel]:
    model = small_text_model()
    return with_prompt(model, "a cat"), with_prompt(model, "a smiling cat")


def words_written_out(
    source: DiffusionModel, target: DiffusionModel, x: list[Tensor], times: list[int]
) -> list[Tensor]:
    """Where the words take pictures on a path, the clean one first; DDIM by its formula."""
    w, changes = [x[-1]], []
    for k in reversed(range(len(times))):
        there = prediction(target, x[k + 1], times[k])
        changes.append(there - prediction(source, x[k + 1], times[k]))
        lost = x[k] - ddim(source, x[k + 1], prediction(source, x[k + 1], times[k]), times, k)
        w.append(ddim(source, w[-1], prediction(target, w[-1], times[k]), times, k) + lost)
    m = focus(changes)
    return [one + m * (other - one) for one, other in zip(x, w[::-1], strict=True)]


def prediction(model: DiffusionModel, x: Tensor, t: int, delta: Tensor | None = None) -> Tensor:
    features = model.features(x, t)
    return model.eps(features, x, t, None if delta is None else delta.expand_as(features.h))


def ddim(model: DiffusionModel, x: Tensor, eps: Tensor, times: list[int], k: int) -> Tensor:
    a, a_prev = (model.schedule.alpha(t) for t in (times[k], times[k - 1] if k else -1))
    return a_prev**0.5 * (x - (1 - a) ** 0.5 * eps) / a**0.5 + (1 - a_prev) ** 0.5 * eps


def edited_written_out(bound: DiffusionModel, x: list[Tensor], times: list[int], deltas: Tensor) -> Tensor:
    """Clean latents of an anchored edit."""
    edited = x[-1]
    for k in reversed(range(len(times))):
        lost = x[k] - ddim(bound, x[k + 1], prediction(bound, x[k + 1], times[k]), times, k)
        edited = ddim(bound, edited, prediction(bound, edited, times[k], deltas[k]), times, k) + lost
    return edited


def share(made: Tensor, wanted: Tensor, of: Tensor) -> float:
    return 1 - ((made - wanted).square().sum() / (wanted - of).square().sum()).item()


@torch.no_grad()
def test_it_explains_more_of_others_than_the_mean_shift(pair: tuple[DiffusionModel, DiffusionModel]) -> None:
    """Of pictures that it was not fitted to, with the model's own noise, and written out."""
    (source, target), times = pair, uneven_timesteps(pair[0].schedule, 4)
    with torch.enable_grad():
        made = finish(fitted_shift(source, target, samples=4, steps=4, guidance=1))
    assert made.direction.timesteps.tolist() == times
    assert made.direction.steps == source.card.steps
    mean = finish(prompt_shift(source, target, samples=4, steps=4))
    x = [torch.cat([torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(4 + HELD_OUT)])]
    for k in reversed(range(4)):
        x.insert(0, ddim(source, x[0], prediction(source, x[0], times[k]), times, k))
    wanted = words_written_out(source, target, x, times)[0][4:]
    shares = [
        share(edited_written_out(source, x, times, direction.deltas)[4:], wanted, x[0][4:])
        for direction in (made.direction, mean)
    ]
    assert made.explained == pytest.approx(shares[0], abs=2e-3)
    assert shares[0] > max(0.1, shares[1])


@torch.no_grad()
def test_one_picture_as_it_is_edited(pair: tuple[DiffusionModel, DiffusionModel]) -> None:
    """On the path of its edits, under the prompt that it is bound to, with guidance of the words, and written out; an
    edit at a strength of 1 does just that."""
    (source, target), times = pair, uneven_timesteps(pair[0].schedule, 4)
    model = small_text_model()
    bound = with_prompt(model, "a photo")
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.enable_grad():
        made = finish(fitted_shift(source, target, steps=4, picture=picture, bound=bound, guidance=3))
    path = finish(source_path(bound, picture, times))
    words = (with_prompt(model, prompt, 3) for prompt in ("a cat", "a smiling cat"))
    wanted = words_written_out(*words, list(path.x), times)[0]
    edited = edited_written_out(bound, list(path.x), times, made.direction.deltas)
    assert made.explained == pytest.approx(share(edited, wanted, path.x[0]), abs=2e-3)
    assert made.explained > 0.5
    settings = EditSettings(2, injection="symmetric")  # of which a symmetric shift makes four
    result = finish(edit_pictures(bound, picture, 1, [(made.direction, [1.0])], settings))
    plain, expected = (bound.codec.decode(latents) for latents in (path.x[0], edited))
    torch.testing.assert_close(result, (picture + expected - plain).clamp(-1, 1), rtol=1e-3, atol=1e-3)
    assert (result - picture).abs().max() > 0.01
    with torch.enable_grad():
        elsewhere = finish(fitted_shift(source, target, steps=4, picture=-picture, bound=bound, guidance=3))
    assert (elsewhere.direction.deltas - made.direction.deltas).norm() > 0.1 * made.direction.deltas.norm()


def test_where_the_words_act() -> None:
    """Every noise level counts alike, and every picture for itself."""
    changes = [torch.zeros(2, 4, 9, 9), torch.zeros(2, 4, 9, 9)]
    for size, change in zip((1.0, 1e-4), changes, strict=True):
        change[0, :, 1:4, 1:4] = size
        change[1] = size
    m = focus(changes)
    assert m.shape == (2, 1, 9, 9)
    assert m[0, 0, 2, 2] == pytest.approx(1 / (1 + FOCUS**2))
    assert m[0, 0, 6:, 6:].max() == 0
    assert m[0, 0, 2, 4] == pytest.approx(1 / (1 + 9 * FOCUS**2)), "a third of its neighbourhood"
    assert torch.allclose(m[1], torch.full((1, 9, 9), 1 / (1 + FOCUS**2)))
    assert focus([torch.zeros(1, 4, 3, 3)]).abs().max() == 0
    changes[1][0, :, 7, 7] = 1e-4
    share = 1 / 2 / 9  # of one level of two, and of the neighbourhood
    expected = pytest.approx(share**2 / (share**2 + FOCUS**2), rel=1e-4)
    assert focus(changes)[0, 0, 7, 7] == expected, "however little all of a level changes"


def test_it_goes_on_from_where_it_was_stopped(pair: tuple[DiffusionModel, DiffusionModel]) -> None:
    whole = finish(fitted_shift(*pair, samples=2, steps=4))
    so_far = Fitting()
    job = fitted_shift(*pair, samples=2, steps=4, so_far=so_far)
    assert sum(next(job).kept for _ in range(8 + 2 * (ITERATIONS + 1))) == 2
    job.close()
    first = [delta.clone() for delta in so_far.deltas]
    assert len(first) == 2
    rest = Running(fitted_shift(*pair, samples=2, steps=4, so_far=so_far))
    told = [event.step for event in rest if event.kept]
    assert told == [8 + 3 * ITERATIONS, 8 + 4 * ITERATIONS], "only what is new is of use"
    again = rest.result
    assert torch.equal(torch.stack(first), torch.stack(so_far.deltas[:2])), "what was done is not done again"
    torch.testing.assert_close(again.direction.deltas, whole.direction.deltas)
    assert again.explained == pytest.approx(whole.explained)


def test_what_cannot_be_asked(pair: tuple[DiffusionModel, DiffusionModel]) -> None:
    source, target = pair
    with pytest.raises(RequestError, match="one model"):
        finish(fitted_shift(source, SimpleNamespace(fingerprint="another")))
    for values in ({"samples": 0}, {"samples": 20_000}, {"steps": 1}):
        with pytest.raises(RequestError):
            finish(fitted_shift(source, target, **values))
    nothing = finish(fitted_shift(source, source, samples=1, steps=3))
    assert nothing.explained == 0
    assert nothing.direction.deltas.abs().max() == 0


@torch.no_grad()
def test_strengths_besides_one(pair: tuple[DiffusionModel, DiffusionModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """s times the shift goes s times as far where the words lead: nearer to it than one that is fitted at 1 alone."""
    (source, target), times = pair, uneven_timesteps(pair[0].schedule, 4)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    path = finish(source_path(source, picture, times))
    model = small_text_model()
    words = (with_prompt(model, prompt, 9) for prompt in ("a cat", "a smiling cat"))
    wanted = words_written_out(*words, list(path.x), times)[0] - path.x[0]

    def missed() -> dict[float, float]:
        with torch.enable_grad():
            deltas = finish(fitted_shift(source, target, steps=4, picture=picture, guidance=9)).direction.deltas
        edits = {s: edited_written_out(source, list(path.x), times, s * deltas) - path.x[0] for s in (0.5, 1.0, 1.5)}
        return {s: ((made / s - wanted).norm() / wanted.norm()).item() for s, made in edits.items()}

    assert set(STRENGTHS) == {0.5, 1.0, 1.5}
    together = missed()
    monkeypatch.setattr("core.asyrp.fitted_shift.STRENGTHS", (1.0,))
    alone = missed()
    assert alone[1.0] < together[1.0]
    assert together[0.5] < 0.95 * alone[0.5]
    assert sum(e**2 for e in together.values()) < sum(e**2 for e in alone.values())

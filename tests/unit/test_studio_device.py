"""One engine for all visitors: what is computed together is what it would be alone, in a fair order, whatever fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from small_models import small_model, trained_block
from torch import Tensor

from core.anchoring import edit_anchored, source_path
from core.directions import Direction, GlobalDirection, ImplicitDirection
from core.editing import EditSettings, Intervals, edit, sample_latent
from core.models.loader import DiffusionModel
from core.progress import Job, Progress, finish
from core.queries import Query
from core.studio.device import MAX_ROWS, PATIENCE, Engine, Request, Urgency, in_order, together


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return small_model()


def in_threads(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results, or the exceptions, of tasks that run at once."""
    results: list[Any] = [None] * len(tasks)

    def run(i: int) -> None:
        try:
            results[i] = tasks[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    return results


class Gate:
    """A model whose first call waits until `waiting` others have asked, and that notes how many rows calls had."""

    def __init__(self, model: DiffusionModel, engine: Engine, waiting: int) -> None:
        self.calls: list[int] = []
        own = model.answer

        def answer(queries: Sequence[Query]) -> list[Tensor]:
            if not self.calls:
                until(lambda: len(engine._waiting) == waiting)
            self.calls.append(sum(query.size for query in queries))
            return own(queries)

        self.answer = answer


def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not come true")


# --------------------------------------------------------------------------------------------------- computed together


@pytest.mark.parametrize("seed", range(4))
def test_a_random_mix_of_jobs_gives_what_each_gives_alone(model: DiffusionModel, seed: int) -> None:
    """Edits of two kinds, inversions and sampling, with other steps, directions, strengths and intervals."""
    engine, draw = Engine(), torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=draw))

    def task() -> Callable[[DiffusionModel], Job[Tensor]]:
        steps, rows, pick = number(3, 7), number(1, 4), number(0, 3)
        direction: Direction = ImplicitDirection(trained_block(emb_channels=64), steps=40)
        if number(0, 2):
            direction = GlobalDirection(torch.randn(1, 32, 4, 4, generator=draw), steps=40)
        settings = EditSettings(
            steps,
            Intervals(number(0, 700), number(0, 300)),
            "symmetric" if number(0, 2) else "asymmetric",
        )
        strengths = (torch.rand(rows, generator=draw) * 2 - 1) * (torch.rand(rows, generator=draw) > 0.3)
        pixels = torch.rand(1, 3, 32, 32, generator=draw) * 2 - 1

        def anchored(model: DiffusionModel) -> Job[Tensor]:
            path = yield from source_path(
                model, pixels, model.schedule.timesteps(steps), "inverted" if pick > 1 else "noised"
            )
            return (yield from edit_anchored(model, path.repeat(rows), [(direction, strengths)], settings))

        def plain(model: DiffusionModel) -> Job[Tensor]:
            latent = sample_latent(model, seed).repeat(rows)
            return (yield from edit(model, latent, [(direction, strengths)], settings))

        return anchored if pick else plain

    tasks = [task() for _ in range(6)]
    alone = [finish(one(model)) for one in tasks]

    def with_others(one: Callable[[DiffusionModel], Job[Tensor]]) -> Tensor:
        with engine.shared(model) as shared:
            return finish(one(shared))

    mixed = in_threads([lambda one=one: with_others(one) for one in tasks])
    for expected, got in zip(alone, mixed, strict=True):
        assert isinstance(got, Tensor), got
        assert (got - expected).abs().max() < 1 / 255, "less than half a level of 255"
    assert not engine.busy


def test_what_is_asked_for_meanwhile_is_one_call(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    gate = Gate(model, engine, waiting=7)
    monkeypatch.setattr(model, "answer", gate.answer)
    x = torch.randn(8, *model.x_shape, generator=torch.Generator().manual_seed(0))
    expected = small_model().answer([Query(x, [100 * row for row in range(8)])])[0]

    def ask(row: int) -> Tensor:
        return engine.answer(row, model, [Query(x[row : row + 1], 100 * row)])[0]

    answers = in_threads([lambda row=row: ask(row) for row in range(8)])
    assert gate.calls == [1, 7], "the first alone, then all that came meanwhile"
    assert (engine.calls, engine.rows) == (2, 8)
    torch.testing.assert_close(torch.cat(answers), expected, atol=1e-5, rtol=1e-4)


def test_a_job_waits_a_moment_for_those_it_was_computed_with(model: DiffusionModel) -> None:
    """Jobs in step stay in step: far fewer calls than they would need one after the other."""
    engine, steps, n = Engine(), 12, 6
    started = threading.Barrier(n)

    def job(seed: int) -> Tensor:
        with engine.shared(model) as shared:
            started.wait()
            return finish(edit(shared, sample_latent(model, seed), settings=EditSettings(steps)))

    in_threads([lambda seed=seed: job(seed) for seed in range(n)])
    assert engine.rows == n * steps
    assert engine.calls <= n * steps / 2


# ------------------------------------------------------------------------------------------------------------- failures


def test_only_who_caused_an_error_gets_it(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    gate = Gate(model, engine, waiting=3)
    monkeypatch.setattr(model, "answer", gate.answer)
    x = torch.randn(4, *model.x_shape, generator=torch.Generator().manual_seed(0))

    def broken(features: Any) -> Tensor:
        raise ZeroDivisionError("mine")

    def ask(row: int) -> Tensor:
        return engine.answer(row, model, [Query(x[row : row + 1], 10, shift=broken if row == 2 else None)])[0]

    answers = in_threads([lambda row=row: ask(row) for row in range(4)])
    assert isinstance(answers[2], ZeroDivisionError)
    for row in (0, 1, 3):
        expected = small_model().answer([Query(x[row : row + 1], 10)])[0]
        torch.testing.assert_close(answers[row], expected, atol=1e-5, rtol=1e-4)
    assert not engine.busy


def test_out_of_memory_together_is_tried_one_by_one(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    gate = Gate(model, engine, waiting=3)

    def tight(queries: Sequence[Query]) -> list[Tensor]:
        answers = gate.answer(queries)
        if sum(query.size for query in queries) > 1:
            raise torch.OutOfMemoryError
        return answers

    monkeypatch.setattr(model, "answer", tight)
    x = torch.randn(4, *model.x_shape, generator=torch.Generator().manual_seed(0))
    answers = in_threads(
        [lambda row=row: engine.answer(row, model, [Query(x[row : row + 1], 10)])[0] for row in range(4)]
    )
    assert all(isinstance(answer, Tensor) for answer in answers)
    assert gate.calls == [1, 3, 1, 1, 1]


def test_a_closed_job_keeps_nobody_waiting(model: DiffusionModel) -> None:
    engine = Engine()

    def job(steps: int) -> Job[Tensor]:
        with engine.shared(model) as shared:
            return (yield from edit(shared, sample_latent(model, 0), settings=EditSettings(steps)))

    left = job(50)
    next(left)
    left.close()
    assert not engine.busy
    assert not engine._expected
    assert in_threads([lambda: finish(job(3))])[0].shape == (1, 3, 32, 32)


def test_a_job_that_yields_for_ever_stops_nobody(model: DiffusionModel) -> None:
    engine, stop = Engine(), threading.Event()

    def endless() -> Job[None]:
        with engine.shared(model) as shared:
            step = 0
            while True:
                shared.answer([Query(torch.zeros(1, *model.x_shape), 0)])
                yield Progress(step := step + 1, step + 1)

    def consume() -> None:
        for _ in endless():
            if stop.is_set():
                return

    def others() -> None:
        with engine.shared(model) as shared:
            finish(edit(shared, sample_latent(model, 0), settings=EditSettings(5)))
        with engine.turn():
            assert engine.busy
        stop.set()

    assert in_threads([consume, others]) == [None, None]


def test_whoever_holds_the_device_may_ask_the_network(model: DiffusionModel) -> None:
    engine = Engine()
    with engine.turn(), engine.turn():
        [answer] = engine.answer("me", model, [Query(torch.zeros(1, *model.x_shape), 0)])
        assert engine.busy
    assert answer.shape == (1, *model.x_shape)
    assert not engine.busy


# ------------------------------------------------------------------------------------------------------------- fairness


def request(client: str, urgency: int, since: float, rows: int = 1, model: Any = None) -> Request:
    return Request(client, urgency, since, model, [Query(torch.zeros(rows, 1, 1, 1), 0)] if model else ())


def order(waiting: Sequence[Request], now: float) -> str:
    return "".join(str(one.client) for one in in_order(waiting, now))


def test_the_urgent_go_first_and_equals_in_the_order_they_came() -> None:
    waiting = [
        request("d", Urgency.LONG, 0.0),
        request("c", Urgency.MORE, 0.2),
        request("b", Urgency.FIRST, 0.3),
        request("a", Urgency.FIRST, 0.1),
    ]
    assert order(waiting, 0.4) == "abcd"


def test_nobody_starves() -> None:
    """A sweep that waits while first pictures come in without end has its turn after two patiences."""
    now, sweep = 0.0, request("s", Urgency.LONG, 0.0)
    while True:
        newest = request("f", Urgency.FIRST, now)
        if in_order([newest, sweep], now)[0] is sweep:
            break
        now += 0.1
    assert 2 * PATIENCE <= now <= 2 * PATIENCE + 0.2


def test_a_call_has_room_for_so_many_rows_the_urgent_first(model: DiffusionModel) -> None:
    other = small_model()
    waiting = [
        request("l", Urgency.LONG, 0.0, 10, model),
        request("m", Urgency.MORE, 0.0, MAX_ROWS - 4, model),
        request("f", Urgency.FIRST, 0.0, 2, model),
        request("g", Urgency.FIRST, 0.0, 2, model),
        request("o", Urgency.FIRST, 0.0, 1, other),
        request("t", Urgency.LONG, 0.0),
    ]
    assert [one.client for one in together(waiting, 0.0)] == ["f", "g", "m"]
    assert [one.client for one in together(waiting[5:], 0.0)] == ["t"]
    assert [one.client for one in together([waiting[5], waiting[0]], 0.0)] == ["t"], "a turn is a turn alone"
    too_many = request("x", Urgency.FIRST, 0.0, 2 * MAX_ROWS, model)
    assert [one.client for one in together([too_many, waiting[2]], 0.0)] == ["x"]

"""Jobs as generators of progress."""

from functools import partial

import pytest
import torch

from core.progress import Job, Previews, Progress, Running, TimeLeft, duration_in_words, finish, stage


def test_finish_returns_what_the_job_returns() -> None:
    def job() -> Job:
        yield Progress(1, 2)
        yield Progress(2, 2)
        return "done"

    assert finish(job()) == "done"


def test_a_stage_counts_its_steps_within_the_whole() -> None:
    def part() -> Job[str]:
        yield Progress(1, 2, "drawing", torch.zeros(1, 3, 2, 2))
        yield Progress(2, 2, "drawing")
        return "drawn"

    def whole() -> Job[list[str]]:
        return [(yield from stage(part(), "First", 0, 4)), (yield from stage(part(), str.upper, 2, 4, previews=False))]

    running = Running(whole())
    assert [(event.step, event.total, event.note, event.preview is None) for event in running] == [
        (1, 4, "First", False),
        (2, 4, "First", True),
        (3, 4, "DRAWING", True),
        (4, 4, "DRAWING", True),
    ]
    assert running.result == ["drawn", "drawn"]


def test_stopping_a_whole_stops_the_part_that_runs() -> None:
    ended = []

    def part() -> Job[None]:
        try:
            yield Progress(1, 2)
            yield Progress(2, 2)
        finally:
            ended.append(True)

    running = Running(stage(part(), "Working"))
    next(iter(running))
    running.close()
    assert ended == [True]
    with pytest.raises(AttributeError):
        running.result  # noqa: B018


def shown(duration: float, cost: float, seconds: float = 1.0) -> list[int]:
    """The steps of 50 with a preview, when each takes `duration` seconds and a preview `cost`."""
    now = [0.0]
    previews, found = Previews(lambda: now[0], seconds), []

    def make(step: int) -> torch.Tensor:
        now[0] += cost
        return torch.tensor(step)

    for step in range(1, 51):
        now[0] += duration
        made = previews.after(step, 50, partial(make, step))
        if made is not None:
            found.append(int(made))
    return found


def test_previews_come_ten_times_in_a_phase_but_not_twice_in_a_second_nor_in_the_first() -> None:
    assert shown(0.25, cost=0) == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    assert shown(0.0625, cost=0) == [20, 40]
    assert shown(0.015625, cost=0) == []
    assert shown(0.015625, cost=0, seconds=0) == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]


def test_previews_take_a_fifth_of_the_time_at_most() -> None:
    assert shown(0.25, cost=0.25) == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    assert shown(0.25, cost=1) == [5, 25, 45]
    assert shown(0.25, cost=1, seconds=0) == [5, 25, 45]


def test_durations_in_words() -> None:
    said = {3: "10 seconds", 44: "40 seconds", 89: "90 seconds", 91: "2 minutes", 720: "12 minutes", 9000: "2 hours"}
    for seconds, words in said.items():
        assert duration_in_words(seconds) == f"about {words}"


def test_the_time_left_is_that_of_the_steps_to_come() -> None:
    """The wait before the first step does not count, nor does another phase; nothing is told of the first moments."""
    now = [100.0]
    left = TimeLeft(lambda: now[0], seconds=3)

    def after(seconds: float, step: int, total: int) -> float | None:
        now[0] += seconds
        return left.after(Progress(step, total))

    assert after(60, 1, 10) is None  # however long it has waited for its turn
    assert after(2, 2, 10) is None  # too soon
    assert after(2, 3, 10) == pytest.approx(2 * 7)
    assert after(26, 5, 10) == pytest.approx(30 / 4 * 5)  # it became slower
    assert after(1, 0, 4) is None  # another phase
    assert after(4, 2, 4) == pytest.approx(2 * 2)
    assert left.in_words(Progress(2, 4)) == "about 10 seconds left"
    assert left.in_words(Progress(4, 4)) == ""

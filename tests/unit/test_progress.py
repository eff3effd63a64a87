"""Jobs as generators of progress."""

import pytest

from core.progress import Job, Previews, Progress, finish


def test_finish_returns_the_last_result() -> None:
    def job() -> Job:
        yield Progress(1, 2)
        yield Progress(2, 2, result="done")

    assert finish(job()) == "done"


def test_a_job_without_a_result_is_an_error() -> None:
    def job() -> Job:
        yield Progress(1, 2)

    with pytest.raises(RuntimeError, match="without a result"):
        finish(job())


def test_previews_come_ten_times_in_a_phase_but_not_twice_in_a_second() -> None:
    seconds = [0.0]
    previews = Previews(lambda: seconds[0])

    def shown(duration: float) -> list[int]:
        """The steps of 50 with a preview, when each takes `duration` seconds."""
        found = []
        for step in range(1, 51):
            seconds[0] += duration
            if previews.due(step, 50):
                found.append(step)
        return found

    assert shown(0.25) == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50]
    seconds[0] += 1
    assert shown(0.0625) == [5, 25, 45]

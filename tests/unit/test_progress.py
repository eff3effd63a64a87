"""Jobs as generators of progress."""

import pytest

from core.progress import Job, Progress, finish


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

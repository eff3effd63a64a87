"""Units of work: nothing is computed twice, what fails or is stopped costs itself alone."""

import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from core import tensor_file
from core.errors import RequestError, ResourceError
from core.progress import Job, Progress, Running, finish
from core.recipes.team import HIDDEN, Team, folder_lock
from core.recipes.units import Outcome, Unit, run_units


def unit(name: str, cost: float = 1.0) -> Unit:
    return Unit(name, (f"{name}.txt", f"sub/{name}.json"), f"the unit {name}", cost)


def counting(begun: list[str], bad: Callable[[Unit], Exception | None] = lambda _: None) -> Callable[[Unit], Job]:
    def work(one: Unit) -> Job[Mapping[str, bytes]]:
        begun.append(one.key)
        for step in range(4):
            yield Progress(step + 1, 4, "counting")
        if error := bad(one):
            raise error
        return {name: f"{one.key} in {name}".encode() for name in one.files}

    return work


def visible(folder: Path) -> list[str]:
    """Files that are no business of ours are the hidden ones."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(path) for path in files if path.parts[0] != HIDDEN)


UNITS = [unit("a"), unit("b", 5.0), unit("c", 3.0)]
FILES = ["a.txt", "b.txt", "c.txt", "sub/a.json", "sub/b.json", "sub/c.json"]


def test_all_are_done_the_longest_first_and_never_again(tmp_path: Path) -> None:
    begun: list[str] = []
    outcome = finish(run_units(UNITS, counting(begun), tmp_path))
    assert begun == ["b", "c", "a"]
    assert outcome == Outcome(("b", "c", "a"))
    assert visible(tmp_path) == FILES
    assert (tmp_path / "sub" / "b.json").read_bytes() == b"b in sub/b.json"
    assert finish(run_units(UNITS, counting(begun), tmp_path)) == Outcome()
    assert begun == ["b", "c", "a"], "nothing is computed again"
    (tmp_path / "sub" / "c.json").unlink()
    finish(run_units(UNITS, counting(begun), tmp_path))
    assert begun == ["b", "c", "a", "c"], "but what has lost a file"


def test_progress_is_that_of_the_whole(tmp_path: Path) -> None:
    events = list(Running(run_units(UNITS, counting([]), tmp_path)))
    steps = [event.step for event in events]
    assert steps == sorted(steps)
    assert steps[-1] == events[-1].total == 1000
    assert events[1].step == round(1000 * (5 * 2 / 4) / 9)
    assert events[1].note == "0 of 3 done; the unit b: counting 50%"
    assert events[-1].note == "3 of 3 done"


def test_a_unit_that_fails_costs_itself_only(tmp_path: Path) -> None:
    bad = {"b": RequestError("Use other words."), "c": KeyError("x")}
    outcome = finish(run_units(UNITS, counting([], lambda one: bad.get(one.key)), tmp_path))
    assert outcome.made == ("a",)
    assert outcome.failed == {UNITS[1]: "Use other words.", UNITS[2]: "KeyError: 'x'"}
    assert visible(tmp_path) == ["a.txt", "sub/a.json"]
    assert "KeyError" in (tmp_path / HIDDEN / "c.failed.txt").read_text()
    with pytest.raises(ResourceError, match=r"the unit b: Use other words.\nthe unit c: KeyError"):
        outcome.require_complete()
    finish(run_units(UNITS, counting([]), tmp_path)).require_complete()
    assert visible(tmp_path) == FILES
    assert not (tmp_path / HIDDEN / "c.failed.txt").exists()


def test_what_is_stopped_is_begun_again(tmp_path: Path) -> None:
    begun: list[str] = []
    job = run_units(UNITS, counting(begun), tmp_path)
    for _ in range(7):  # within the second unit
        next(job)
    job.close()
    assert visible(tmp_path) == ["b.txt", "sub/b.json"]
    finish(run_units(UNITS, counting(begun), tmp_path))
    assert begun == ["b", "c", "c", "a"]
    assert visible(tmp_path) == FILES


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.fsync
    room = [3]  # files

    def full(descriptor: int) -> None:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0] -= 1
        written(descriptor)

    monkeypatch.setattr(tensor_file.os, "fsync", full)
    outcome = finish(run_units(UNITS, counting([]), tmp_path))
    assert outcome.made == ("b",)
    assert list(outcome.failed) == [UNITS[2]]
    assert "No space left on device" in outcome.failed[UNITS[2]]
    assert outcome.left == (UNITS[0],), "it is not even begun"
    with pytest.raises(ResourceError, match=r"Free some space(.|\n)*Not begun or not finished: the unit a"):
        outcome.require_complete()
    assert visible(tmp_path) == ["b.txt", "c.txt", "sub/b.json"], "whole files, and no others"
    assert (tmp_path / "c.txt").read_bytes() == b"c in c.txt"
    monkeypatch.setattr(tensor_file.os, "fsync", written)
    finish(run_units(UNITS, counting([]), tmp_path)).require_complete()
    assert visible(tmp_path) == FILES


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        finish(run_units(UNITS, counting([]), tmp_path / "file" / "folder"))


def test_work_that_gives_other_files_fails(tmp_path: Path) -> None:
    def work(one: Unit) -> Job[Mapping[str, bytes]]:
        yield Progress(1, 1)
        return {"other.txt": b""}

    outcome = finish(run_units(UNITS[:1], work, tmp_path))
    assert "ValueError: a gave ['other.txt']" in outcome.failed[UNITS[0]]


def test_units_that_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="share a key or a file"):
        finish(run_units([Unit("a", ("x",)), Unit("b", ("x",))], counting([]), tmp_path))
    with pytest.raises(ValueError, match="no unit"):
        Unit("../a", ("x",))


def test_shares_of_a_job_array_are_everything_and_no_unit_twice(tmp_path: Path) -> None:
    units = [unit(name, cost) for name, cost in zip("abcdefg", (1, 5, 2, 9, 4, 3, 7), strict=True)]
    hands = []
    for k in (1, 2, 3):
        begun: list[str] = []
        whole = tmp_path / str(k)
        outcome = finish(run_units(units, counting(begun), whole, Team(share=(k, 3))))
        assert outcome.complete
        hands.append(begun)
    assert hands == [["d", "e", "a"], ["g", "f"], ["b", "c"]]


def test_two_runs_on_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with folder_lock(folder, Team()):
        with (
            pytest.raises(RequestError, match=f"Another run works in {folder}. Wait until it is done"),
            folder_lock(folder, Team()),
        ):
            pass
        with pytest.raises(RequestError, match="Another run"), folder_lock(folder, Team(share=(1, 2))):
            pass
        with folder_lock(tmp_path / "other", Team()):
            pass
    with folder_lock(folder, Team(share=(1, 2))), folder_lock(folder, Team(share=(2, 2))):
        with pytest.raises(RequestError, match="Another run"), folder_lock(folder, Team(share=(2, 2))):
            pass
        with pytest.raises(RequestError, match="Another run"), folder_lock(folder, Team()):
            pass
    with folder_lock(folder, Team()):
        pass


def test_a_lock_of_a_killed_process_holds_nobody(tmp_path: Path) -> None:
    held, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with folder_lock(tmp_path, Team()):
                os.write(told, b"1")
                time.sleep(60)
        finally:
            os._exit(1)
    try:
        os.read(held, 1)
        with pytest.raises(RequestError, match="Another run"), folder_lock(tmp_path, Team()):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with folder_lock(tmp_path, Team()):
        pass


def test_shares_that_are_run_one_after_the_other_leave_no_gap(tmp_path: Path) -> None:
    """Each is of all units, whatever other shares have done meanwhile."""
    units = [Unit(f"u{n}", (f"u{n}.txt",), cost=1.0 + n % 3) for n in range(7)]

    def work(unit: Unit) -> Job[dict[str, bytes]]:
        yield Progress(1, 1)
        return {unit.files[0]: b"done"}

    made = [finish(run_units(units, work, tmp_path, Team(share=(k, 3)))).made for k in (1, 2, 3)]
    assert sorted(key for keys in made for key in keys) == sorted(unit.key for unit in units)
    assert all(unit.is_done(tmp_path) for unit in units)

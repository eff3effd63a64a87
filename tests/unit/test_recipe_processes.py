"""Units shared among processes, as accelerate joins them; one of which is killed at any moment."""

import multiprocessing
import os
import random
import signal
import socket
import time
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState

from core.errors import ResourceError
from core.progress import Job, Progress, finish
from core.recipes.team import HIDDEN, Team, folder_lock, join_team
from core.recipes.units import Outcome, Unit, run_units

UNITS = [Unit(f"u{n}", (f"u{n}.txt", f"more/u{n}.bin"), cost=1.0 + n % 3) for n in range(12)]
SEED = int(os.environ.get("KILL_SEED", "0"))
KILLS = 8
FORK = multiprocessing.get_context("fork")  # torch is imported already


def work(unit: Unit) -> Job[Mapping[str, bytes]]:
    steps = round(5 * unit.cost)
    for step in range(steps):
        time.sleep(0.01)
        yield Progress(step + 1, steps, "working")
    return {name: f"{unit.key} {name} ".encode() * 1000 for name in unit.files}


def failing(unit: Unit) -> Job[Mapping[str, bytes]]:
    contents = yield from work(unit)
    if unit.key in ("u3", "u4"):
        raise ResourceError(f"{unit.key} cannot be done.")
    return contents


def take_part(rank: int, size: int, port: int, folder: Path, do: Any, told: Any) -> None:
    """What `accelerate launch` starts: a process that is told which one it is."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    os.environ.update(where | ranks)
    AcceleratorState._reset_state(reset_partial_state=True)  # a process of its own has none from before
    try:
        team = join_team()
        with folder_lock(folder, team):
            told.put((rank, finish(run_units(UNITS, do, folder, team))))
    except ResourceError as error:
        told.put((rank, error.message))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, size: int = 2, do: Any = work) -> tuple[list[BaseProcess], Any]:
    told, port = FORK.Queue(), free_port()
    processes = [FORK.Process(target=take_part, args=(rank, size, port, folder, do, told)) for rank in range(size)]
    for process in processes:
        process.start()
    return processes, told


def end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.join(60)
        if process.is_alive():
            process.kill()
            process.join()
            pytest.fail("a process goes on for ever")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and HIDDEN not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(run_units(UNITS, work, folder)).require_complete()
    return contents(folder)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_do_everything_once(size: int, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    processes, told = start(tmp_path, size)
    outcomes = dict(told.get(timeout=60) for _ in processes)
    end(processes)
    assert contents(tmp_path) == undisturbed
    assert len({repr(outcome) for outcome in outcomes.values()}) == 1, "all of them know what came of it"
    assert sorted(outcomes[0].made) == sorted(unit.key for unit in UNITS), "each once"


def test_a_failing_unit_is_told_by_all(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    processes, told = start(tmp_path, do=failing)
    outcomes = dict(told.get(timeout=60) for _ in processes)
    end(processes)
    for outcome in outcomes.values():
        assert isinstance(outcome, Outcome)
        assert {unit.key: why for unit, why in outcome.failed.items()} == {
            "u3": "u3 cannot be done.",
            "u4": "u4 cannot be done.",
        }
    assert contents(tmp_path).keys() == {
        name for name in undisturbed if not name.split("/")[-1].startswith(("u3.", "u4."))
    }


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_process_that_is_killed_at_any_moment(kill: int, tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    """The other one ends by itself and says why, no file is half written, and a second call ends with all of them."""
    chance = random.Random(100 * SEED + kill)
    rank, moment = chance.randrange(2), chance.uniform(0.0, 1.2)
    processes, told = start(tmp_path)
    time.sleep(moment)
    os.kill(processes[rank].pid or 0, signal.SIGKILL)
    end(processes)
    whole = {name: data for name, data in contents(tmp_path).items() if not name.endswith(".partial")}
    assert whole.items() <= undisturbed.items(), (rank, moment)
    processes, told = start(tmp_path)
    outcomes = dict(told.get(timeout=60) for _ in processes)
    end(processes)
    assert isinstance(outcomes[0], Outcome), (rank, moment, outcomes)
    assert outcomes[0].complete
    done_before = [unit for unit in UNITS if all(name in whole for name in unit.files)]
    assert not {unit.key for unit in done_before} & set(outcomes[0].made), "nothing is computed twice"
    assert contents(tmp_path) == undisturbed


def test_the_other_process_says_why_it_ends(tmp_path: Path) -> None:
    processes, told = start(tmp_path)
    while not (tmp_path / HIDDEN / "process-1.json").exists():
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(processes[1].pid or 0, signal.SIGKILL)
    assert told.get(timeout=60) == (
        0,
        "Another process of this run has ended. Give the same command again: it goes on where it was.",
    )
    end(processes)


def test_a_request_to_end_is_an_interruption(tmp_path: Path) -> None:
    """SIGTERM, which a launcher sends to the others when one has died, lets a unit keep what it has."""
    kept = tmp_path / "kept.txt"

    def careful(unit: Unit) -> Job[Mapping[str, bytes]]:
        try:
            for step in range(1000):
                time.sleep(0.01)
                yield Progress(step + 1, 1000)
        finally:
            kept.write_text(unit.key)
        return {}

    def alone() -> None:
        finish(run_units(UNITS, careful, tmp_path, Team()))

    process = FORK.Process(target=alone)
    process.start()
    time.sleep(0.5)
    process.terminate()
    process.join(30)
    assert process.exitcode == 128 + signal.SIGTERM
    assert kept.read_text() == "u2"

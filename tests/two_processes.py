"""A training script in two processes, as `accelerate launch --cpu --num_processes 2` runs it. They are forks of the
test, which saves reading all libraries again, six times per test."""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from accelerate.state import AcceleratorState, GradientState

COUNT = 2


def run_in_two(main: Callable[[], None], folder: Path, *options: object) -> str:
    """What the two of them print, of a script's `main` with these options. folder: of the renders that they keep.
    An error of one fails the test with its words."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "printed.txt"
    log.unlink(missing_ok=True)
    children = []
    for rank in range(COUNT):
        if (child := os.fork()) == 0:
            _run(main, rank, port, log, folder, [str(option) for option in options])
        children.append(child)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    printed = log.read_text()
    assert ended == [0] * COUNT, printed[-3000:]
    return printed


def _run(main: Callable[[], None], rank: int, port: int, log: Path, folder: Path, options: list[str]) -> None:
    """Never returns."""
    status = 1
    try:
        with log.open("a", buffering=1) as printed:
            for stream in (1, 2):
                os.dup2(printed.fileno(), stream)
            sys.stdout = sys.stderr = printed
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": COUNT, "LOCAL_WORLD_SIZE": COUNT}
            where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
            os.environ.update({name: str(value) for name, value in (place | where).items()})
            os.environ["AVATARS_CACHE"] = str(folder / "cache")
            sys.argv = [main.__module__, *options]
            AcceleratorState._reset_state(reset_partial_state=True)
            GradientState._reset_state()
            main()
            status = 0
    except BaseException:
        with log.open("a") as printed:
            traceback.print_exc(file=printed)
    finally:
        os._exit(status)

"""This build against an earlier one: first edits, further ones, strips, sweeps, twenty visitors at once.

    git worktree add ../before 9a230fe
    python -m benchmarks.against ../before              # everything; about forty minutes on two cores
    python -m benchmarks.against ../before first strip  # some of it
    python -m benchmarks.against ../before --write      # everything, also into docs/benchmarks.md

Both builds run in processes of their own, with this interpreter, and take turns: one round each, five rounds, each on a
new picture. A row says what was done, the median of both, and the median of the ratios of the rounds. `large` is the
first edit with a network of google/ddpm-ema-celebahq-256's shape and random weights, in processes that do nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from benchmarks.report import HELP, reported

ROOT = Path(__file__).resolve().parents[1]
WORKER = Path(__file__).parent / "against_worker.py"
TASKS: dict[str, str] = {
    "first": "first edit of a new picture",
    "second": "a second direction on it",
    "strip": "a strip of strengths",
    "sweep": "a sweep of 5x5 strengths, as the page has it",
    "twenty": "twenty visitors at once, a first edit each",
    "twenty_same": "the same, both as in the paper in 10 steps",
    "large": "first edit, 256x256, random weights",
}
APART = ("large",)


class Build:
    """A checkout at work in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        environment = {**os.environ, "PYTHONPATH": str(root)}
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            cwd=root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def measure(self, task: str, number: int) -> dict[str, float]:
        """What a task took. number: of the round, and of the picture."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{task} {number}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.root} cannot do {task!r}")
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="a checkout of the earlier build")
    parser.add_argument("tasks", nargs="*", help=f"some of: {', '.join(TASKS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    with reported("benchmarks.against", arguments.write and not arguments.tasks):
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """A row for each task."""
    tasks = arguments.tasks or list(TASKS)
    together = [task for task in tasks if task not in APART]
    print("| | before | now | times as fast | slowest visitor / mean, before and now | peak memory |")
    print("|---|---|---|---|---|---|")
    for group in [together, *([task] for task in tasks if task in APART)]:
        builds = [Build(arguments.before.resolve()), Build(ROOT)]
        try:
            for task in group:
                warm_up = 0 if task in APART else 1
                rounds = [[build.measure(task, k) for build in builds] for k in range(-warm_up, arguments.rounds)]
                print(row(task, rounds[warm_up:]), flush=True)
        finally:
            for build in builds:
                build.close()


def row(task: str, rounds: list[list[dict[str, float]]]) -> str:
    before, now = (median(pair[k]["seconds"] for pair in rounds) for k in (0, 1))
    ratio = median(pair[0]["seconds"] / pair[1]["seconds"] for pair in rounds)
    unfair = ""
    if "slowest" in rounds[0][0]:
        unfair = ", ".join(f"{median(p[k]['slowest'] / p[k]['mean'] for p in rounds):.2f}" for k in (0, 1))
    memory = ", ".join(f"{rounds[-1][k]['peak'] / 2**30:.2f} GiB" for k in (0, 1))
    return f"| {TASKS[task]} | {before:.2f} s | {now:.2f} s | **{ratio:.2f}** | {unfair} | {memory} |"


if __name__ == "__main__":
    main()

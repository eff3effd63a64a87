"""Does the memory of `hspace evaluate` grow with the number of pictures?

    python -m benchmarks.evaluate_memory                       # 100 and 1,000 portraits: half an hour on two cores
    python -m benchmarks.evaluate_memory --counts 16 64

Each count is a run of its own, of one direction at strength 1 with all measures; its peak is that of its resident
memory, as the operating system counts it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import HELP, reported
from training.portraits import HELD_OUT, render, sample


def peak_of(count: int, pictures: Path, out: Path) -> tuple[float, float]:
    """Megabytes at the peak, and seconds, of a run over the first `count` pictures of a folder."""
    began = time.monotonic()
    command = [sys.executable, "hspace.py", "evaluate", "smiling", "--pictures", pictures, "--count", count]
    command += ["--strengths", 1, "--out", out]
    child = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(child.returncode)
    return used.ru_maxrss / (1024 if sys.platform != "darwin" else 2**20), time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    with reported("benchmarks.evaluate_memory", arguments.write), tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        pictures.mkdir()
        for n in range(max(arguments.counts)):
            render(sample(HELD_OUT + n)).save(pictures / f"{n:05d}.png")
        print("| pictures | peak memory | seconds |")
        print("|---|---|---|")
        peaks = []
        for count in arguments.counts:
            peak, seconds = peak_of(count, pictures, Path(folder) / f"out-{count}")
            peaks.append(peak)
            print(f"| {count:,} | {peak:.0f} MB | {seconds:.0f} |", flush=True)
        print(f"\nThe last peak is {peaks[-1] / peaks[0]:.3f} times the first.")


if __name__ == "__main__":
    main()

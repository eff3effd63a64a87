"""Held-out portraits as files, to measure directions on.

python -m training.make_portraits FOLDER --count 100
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.portraits import HELD_OUT, render, sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=HELD_OUT, help="seed; by default none was trained on")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.first, arguments.first + arguments.count):
        render(sample(seed)).save(arguments.folder / f"{seed}.png")
    print(arguments.folder)


if __name__ == "__main__":
    main()

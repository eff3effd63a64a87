"""The quick backward pass of `core/group_norm.py` beside PyTorch's, for the feature maps of the embedded network.

python -m benchmarks.group_norm
python -m benchmarks.group_norm --write        # also into docs/benchmarks.md
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn import functional as F

from benchmarks import report
from core.group_norm import group_norm

SHAPES = [(32, 64), (64, 64), (96, 64), (64, 32), (128, 32)]


def milliseconds(work: Callable[[], object], runs: int = 7) -> float:
    work()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=report.HELP)
    with report.reported("benchmarks.group_norm", parser.parse_args().write):
        compare()


def compare() -> None:
    """A row for each kind of number and size of feature map."""
    print(f"16 maps, 16 groups, forward and backward, {torch.get_num_threads()} threads, median of 7")
    print("| dtype | channels | side | PyTorch | quick |\n|---|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        for channels, side in SHAPES:
            x = torch.randn(16, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
            x.requires_grad_()
            w, b = torch.ones(channels, dtype=dtype), torch.zeros(channels, dtype=dtype)
            up = torch.randn(x.shape).to(x).contiguous(memory_format=torch.channels_last)

            def theirs(x=x, w=w, b=b, up=up) -> object:
                return torch.autograd.grad(F.group_norm(x, 16, w, b, 1e-5), x, up)

            def ours(x=x, w=w, b=b, up=up) -> object:
                return torch.autograd.grad(group_norm(x, 16, w, b, 1e-5), x, up)

            row = f"{milliseconds(theirs):.1f} ms | {milliseconds(ours):.1f} ms"
            print(f"| {str(dtype).removeprefix('torch.')} | {channels} | {side} | {row} |", flush=True)


if __name__ == "__main__":
    main()

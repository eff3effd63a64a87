"""The command line: `hspace list | show | import-asyrp | download | publish | apply | precompute | curves | evaluate |
convert | verify | deploy | bench-inversion | figures`.

What was asked for goes to the standard output, progress and faults to the standard error. Exit codes: 0 done, 1 could
not be done, and the message says why, 2 the command was not understood, 130 interrupted.

What takes seconds to import is imported by the commands that need it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..errors import VisitorError
from . import apply, bench_inversion, convert, deploy, evaluate, figures, preset_files, recipes, share, verify

QUIET = ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS")  # the Hub's client reads them when it is imported


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for variable in QUIET:
        os.environ.setdefault(variable, "1")
    options = parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except VisitorError as error:
        print(f"hspace {options.command}: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `hspace list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
    return 0


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="hspace", description="Directions in h-space, outside the app.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group in (preset_files, share, apply, recipes, evaluate, convert, verify, deploy, bench_inversion, figures):
        group.add_to(commands)
    return top

"""Whether two processes of one thread do a recipe in at most 0.6 of the time of one, and make the same presets.

    python -m benchmarks.precompute             # on a machine with two idle cores
    python -m benchmarks.precompute --write     # also write the table into docs/benchmarks.md

Four texts and two regions on `avatars`, each time from an empty folder, as `hspace precompute` and as docs/recipes.md
starts two processes on a CPU. The two are run in turn, each as often as `--repeats` says, and the shortest time of each
counts: what else the machine does makes a run longer, never shorter. A share of it is not divided: both processes read
the libraries and the models, which is told apart.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from core import presets

ROOT = Path(__file__).resolve().parents[1]
MOST = 0.6  # of the time of one process
TOLERANCE = 2e-3  # of the largest number of a tensor

RECIPE = """\
model: avatars
output: made
defaults:
  texts: {steps: 20, samples: 32, epochs: 1, t_edit: 350}
  regions: {count: 2, size: 32}
directions:
  smiling: {source: face, target: smiling face, purpose: {attribute: smile, part: mouth}}
  angry: {source: face, target: angry face, purpose: {attribute: brow_angle, part: brows}}
  old: {source: face, target: old face, purpose: {attribute: age}}
  gray hair: {source: person, target: person with gray hair, purpose: {attribute: gray, part: hair}}
  mouth: {regions: mouth}
  hair: {regions: hair}
measure: {count: 8}
"""


def command(recipe: Path, processes: int) -> list[str]:
    """`hspace precompute` of this clone."""
    script = [str(ROOT / "hspace.py"), "precompute", str(recipe)]
    if processes == 1:
        return [sys.executable, *script]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(processes)),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
        *script,
    ]


def seconds(processes: int, folder: Path) -> float:
    """From an empty folder."""
    folder.mkdir(parents=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    began = time.monotonic()
    subprocess.run(command(recipe, processes), cwd=ROOT, env=os.environ | alone, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def start_seconds() -> float:
    """Of reading the libraries and the model alone, in one process."""
    began = time.monotonic()
    code = "from core.models.loader import models; import core.recipes.precompute; models.get('avatars')"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    return time.monotonic() - began


def largest_difference(a: Path, b: Path) -> float:
    """Of the tensors of the same presets, next to the largest number of each tensor."""
    worst, files = 0.0, sorted(path.relative_to(a) for path in a.rglob("*.safetensors") if ".work" not in path.parts)
    assert files, a
    for file in files:
        ours, theirs = (presets.load(folder / file).direction.state()[0] for folder in (a, b))
        for name, value in ours.items():
            scale = max(float(value.float().abs().max()), 1e-12)
            worst = max(worst, float((value.float() - theirs[name].float()).abs().max()) / scale)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    with report.reported("benchmarks.precompute", arguments.write), tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.repeats)


def compare(folder: Path, repeats: int) -> None:
    times: dict[int, list[float]] = {1: [], 2: []}
    for repeat in range(repeats):
        for processes in (1, 2):
            times[processes].append(seconds(processes, folder / f"{processes}-{repeat}"))
    one, two = min(times[1]), min(times[2])
    worst = largest_difference(folder / "1-0" / "made", folder / "2-0" / "made")
    print("| | 1 process | 2 processes | ratio |")
    print("|---|---|---|---|")
    print(f"| four texts and two regions | {one:.0f} s | {two:.0f} s | {two / one:.2f} |")
    print(f"\nOf this, reading libraries and models takes {start_seconds():.0f} s in each process.")
    print(f"The presets differ by at most {worst:.1e} of the largest number of a tensor.")
    print(
        f"\n{'Holds' if two <= MOST * one and worst <= TOLERANCE else 'Does not hold'}: at most {MOST}, same presets."
    )


if __name__ == "__main__":
    main()

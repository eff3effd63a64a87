"""A recipe with everything in it that is computed in seconds, and ways to run it."""

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from core import presets
from core.cli import main
from core.presets import Preset
from core.progress import Running
from core.recipes.precompute import Precomputed, precompute
from core.recipes.reading import read_recipe
from core.recipes.team import HIDDEN, Team

ROOT = Path(__file__).resolve().parents[2]

SMALL = """\
model: avatars
output: made
defaults:
  texts: {steps: 4, samples: 4, batch: 2, t_edit: 600}
  regions: {count: 1, size: 8, refine: no}
directions:
  smiling: {source: face, target: smiling face, purpose: {attribute: smile, part: mouth}}
  sad: {source: face, target: sad face, samples: 2, form: global, mean_over: 2}
  hair: {regions: hair}
  happy: {sum: {smiling: 1, hair: 0.3}}
measure: {count: 1, strengths: [1]}
publish: me/faces
"""
TINY = """\
model: avatars
output: made
directions: {smiling: {source: face, target: smiling face, steps: 4, samples: 2, batch: 2, t_edit: 600}}
measure: false
"""
FILES = [f"directions/avatars/{name}.safetensors" for name in ("smiling", "sad", "hair", "happy")]


def write_recipe(folder: Path, text: str = SMALL) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "faces.yaml"
    path.write_text(text)
    return path


def run(path: Path, team: Team | None = None) -> tuple[Precomputed, list[str]]:
    """In this process, with the notes of its progress."""
    running = Running(precompute(read_recipe(path), team or Team()))
    notes = [event.note for event in running]
    return running.result, notes


def visible(folder: Path) -> list[str]:
    """The paths of what is published."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if path.parts[0] != HIDDEN)


def tensors_of(preset: Preset) -> dict[str, torch.Tensor]:
    return preset.direction.state()[0]


def assert_alike(a: Path, b: Path, exactly: bool = False) -> None:
    """The same files, and presets that differ by rounding at most."""
    assert visible(a) == visible(b)
    for path in FILES:
        one, other = presets.load(a / path), presets.load(b / path)
        assert one.direction.state()[1] == other.direction.state()[1]
        ours, theirs = tensors_of(one), tensors_of(other)
        assert ours.keys() == theirs.keys()
        if exactly:
            assert all(torch.equal(value, theirs[name]) for name, value in ours.items()), path
        # The first steps of Adam are signs: where another process rounds a small gradient otherwise, it goes the other
        # way. Most weights are the same to rounding; what was trained otherwise differs by more than its own size.
        values, others = (torch.cat([tensors[name].float().flatten() for name in ours]) for tensors in (ours, theirs))
        assert (values - others).abs().mean() < 0.1 * values.abs().mean(), path
        assert (one.t_edit, one.t_boost, one.strength, one.name) == (
            *(other.t_edit, other.t_boost, other.strength, other.name),
        )


# What docs/recipes.md says for CPUs; a port that is free, because several of them may run at once.
LAUNCH = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}


def start_two(path: Path) -> list[Any]:
    """`hspace precompute` in two processes that know of one another as `accelerate launch` has it; forks of this one,
    which saves reading all libraries again."""
    fork = multiprocessing.get_context("fork")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def take_part(rank: int) -> None:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
        os.environ.update(where | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        os.environ.update({"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
        sys.exit(main(["precompute", str(path)]))

    processes = [fork.Process(target=take_part, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    return processes


def launched(*command: object) -> subprocess.CompletedProcess[str]:
    """A command of the clone, in two processes."""
    whole = [*LAUNCH, str(ROOT / "hspace.py"), *map(str, command)]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=280)

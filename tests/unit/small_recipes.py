"""A recipe with everything in it that is computed in seconds, and ways to run it."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from core import presets
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
  texts: {steps: 4, samples: 6, batch: 3, epochs: 2, t_edit: 300}
  regions: {count: 1, size: 8, refine: no}
directions:
  smiling: {source: face, target: smiling face, purpose: {attribute: smile, part: mouth}}
  sad: {source: face, target: sad face, samples: 3, form: global, mean_over: 2}
  hair: {regions: {hair: [0.1, 0, 0.9, 0.3]}}
  happy: {sum: {smiling: 1, hair: 0.3}}
measure: {count: 2, strengths: [0.5, 1]}
publish: me/faces
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
        for name, value in tensors_of(one).items():
            if exactly:
                assert torch.equal(value, tensors_of(other)[name]), (path, name)
            else:
                scale = value.float().abs().max().clamp(min=1e-6)
                assert float((value.float() - tensors_of(other)[name].float()).abs().max() / scale) < 2e-3, (path, name)
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


def launched(*command: object) -> subprocess.CompletedProcess[str]:
    """A command of the clone, in two processes."""
    whole = [*LAUNCH, str(ROOT / "hspace.py"), *map(str, command)]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, env=environment(), timeout=280)

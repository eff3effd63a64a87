"""Rendered portraits as arrays: made once in parallel, kept in a cache folder, shared by every training script.

python -m training.dataset --count 20000
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from training.portraits import HELD_OUT, from_vector, render, sample, to_vector

__all__ = ["HELD_OUT", "cache_folder", "from_vector", "held_out", "kept", "load", "to_pixels"]


def cache_folder() -> Path:
    """Where rendered data and training runs are kept: `$AVATARS_CACHE` or ~/.cache/avatars."""
    return Path(os.environ.get("AVATARS_CACHE", Path.home() / ".cache" / "avatars"))


def kept(path: Path, make: Callable[[Path], None]) -> Path:
    """The path of a file that is kept: if it is not there, `make` writes it elsewhere and it is moved there in one go,
    so that nobody reads half of it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp{path.suffix}")
        make(unfinished)
        os.replace(unfinished, path)
    return path


def _one(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    portrait = sample(seed)
    return np.asarray(render(portrait, size)), to_vector(portrait)


def load(count: int, first_seed: int = 0, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Portraits of the seeds first_seed .. first_seed + count - 1: uint8 (count, size, size, 3) and parameters
    float32 (count, len(NAMES)). Rendered in parallel on the first call, read from the cache afterwards."""
    source = Path(__file__).with_name("portraits.py").read_bytes()
    version = hashlib.sha256(source).hexdigest()[:10]
    path = cache_folder() / f"portraits-{version}-{size}-{first_seed}-{count}.npz"

    def make(unfinished: Path) -> None:
        with ProcessPoolExecutor() as pool:
            made = list(pool.map(partial(_one, size=size), range(first_seed, first_seed + count), chunksize=50))
        np.savez(unfinished, images=np.stack([m[0] for m in made]), parameters=np.stack([m[1] for m in made]))

    with np.load(kept(path, make)) as archive:
        return archive["images"], archive["parameters"]


def held_out(count: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """The first `count` portraits that no model was trained on (see `load`)."""
    return load(count, HELD_OUT, size)


def to_pixels(images: np.ndarray | torch.Tensor) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [-1, 1], on the device of a tensor."""
    rows = images if isinstance(images, torch.Tensor) else torch.from_numpy(np.array(images))
    return rows.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    arguments = parser.parse_args()
    images, parameters = load(arguments.count)
    print(images.shape, parameters.shape)

"""What is lost on the way from a photograph into the crop and back, by ways to interpolate: `core.photo.warp` against
Pillow's and OpenCV's, on pictures whose finest waves are known.

    python -m benchmarks.warping
"""

from __future__ import annotations

import time

import cv2
import numpy as np
import torch
from PIL import Image

from core.photo.placement import Placement
from core.photo.warp import cut, put_back

SIDE = 1200
CASES = [(40, 900, 128, 17), (40, 600, 256, 31), (20, 600, 256, 31), (20, 300, 256, 12), (20, 200, 256, 12)]
CUBIC, LANCZOS = cv2.INTER_CUBIC, cv2.INTER_LANCZOS4


def waves(period: float) -> np.ndarray:
    """(SIDE, SIDE) levels: waves of random direction, none of them shorter than `period` pixels."""
    rng, at = np.random.default_rng(0), np.arange(SIDE) + 0.5
    total = np.zeros((SIDE, SIDE))
    for angle, frequency, phase in rng.uniform(0, (2 * np.pi, 1 / period, 2 * np.pi), (20, 3)):
        turned = at * np.cos(angle) + at[:, None] * np.sin(angle)
        total += np.sin(2 * np.pi * frequency * turned + phase)
    return 128 + 100 * total / np.abs(total).max()


def enlarged(crop: np.ndarray, placement: Placement, way: str) -> np.ndarray:
    """The crop at the photograph's pixels by another library."""
    matrix, offset = placement.matrix(len(crop))
    back = np.linalg.inv(matrix)
    shift = -back @ offset
    if way == "Pillow, bicubic":
        affine = (*back[0], shift[0], *back[1], shift[1])
        picture = Image.fromarray(crop.astype(np.float32))
        return np.asarray(picture.transform((SIDE, SIDE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC))
    centred = np.c_[back, back @ (0.5, 0.5) + shift - 0.5]
    flags = (LANCZOS if "Lanczos" in way else CUBIC) | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(crop.astype(np.float32), centred, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def main() -> None:
    print("| finest wave | square | model | turn | way | largest error, levels | rms | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for period, side, size, angle in CASES:
        levels = waves(period)
        photo = Image.fromarray(np.repeat(levels[..., None], 3, -1).round().astype(np.uint8))
        placement = Placement(SIDE / 2, SIDE / 2 - 10, side, angle, SIDE, SIDE)
        seen = cut(photo, placement, size)
        crop = ((seen[0, 0] + 1) * 127.5).numpy()
        y, x = np.mgrid[:SIDE, :SIDE] + 0.5
        at = np.abs(np.stack([x - placement.x, y - placement.y], -1) @ placement.axes)
        middle = (at < 0.42 * side).all(-1)
        for way in ("cubic splines (used)", "Pillow, bicubic", "OpenCV, bicubic", "OpenCV, Lanczos"):
            begun = time.perf_counter()
            if way.endswith("(used)"):
                back = np.asarray(put_back(photo, placement, seen, how="crop"), float)[..., 0]
            else:
                back = enlarged(crop, placement, way)
            taken = time.perf_counter() - begun
            error = (back - np.asarray(photo, float)[..., 0])[middle]
            row = f"| {period} px | {side} | {size} | {angle}° | {way} | {np.abs(error).max():.2f} "
            print(row + f"| {np.sqrt((error**2).mean()):.3f} | {taken:.2f} |")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

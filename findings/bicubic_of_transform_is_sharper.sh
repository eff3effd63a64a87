#!/bin/sh
# Expected: Resampling.BICUBIC is one filter in Pillow: the documentation describes it once, for resize and transform.
# Happens: Image.resize uses the kernel of Keys with a = -0.5, Image.transform the one with a = -1, which overshoots
#   twice as much. The alignment of FFHQ and of CelebA-HQ is a transform; a crop that is done again with resize, OpenCV
#   (a = -0.75) or torch (a = -0.75) differs at every edge of the face, even without any scaling.
# Version: Pillow 12.3.0
# Source: https://pillow.readthedocs.io/en/stable/handbook/concepts.html#filters
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pillow==12.3.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import numpy as np
import PIL
from PIL import Image

print("Pillow", PIL.__version__)
BICUBIC = Image.Resampling.BICUBIC
point = np.zeros((12, 12), np.float32)
point[6, 6] = 1


def kernel(a, x):
    x = abs(x)
    return (a + 2) * x**3 - (a + 3) * x**2 + 1 if x < 1 else a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


# Half a pixel to the side by transform; twice as many pixels, a quarter of one to the side, by resize.
moved = np.asarray(Image.fromarray(point).transform((12, 12), Image.Transform.AFFINE, (1, 0, 0.5, 0, 1, 0), BICUBIC))[6]
larger = np.asarray(Image.fromarray(point).resize((24, 12), BICUBIC))[6]
for name, values, places in (
    ("transform", moved, np.arange(12) + 0.5 - 6),
    ("resize", larger, (np.arange(24) + 0.5) / 2 - 0.5 - 6),
):
    fits = {a: float(np.abs(values - [kernel(a, x) for x in places]).max()) for a in (-0.5, -0.75, -1.0)}
    print(name, "departs from the kernel with a =", {a: round(d, 4) for a, d in fits.items()})
    assert min(fits, key=fits.get) == (-1.0 if name == "transform" else -0.5) and min(fits.values()) < 1e-3, name
PYTHON

"""Masks as pictures: files that visitors bring and take away, and small PNGs inside the JSON of regions.

White is inside. A picture whose transparency varies is read by it instead: opaque is inside.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from .errors import ImageError, RequestError
from .imaging import Source, open_as_it_is, to_rgb

MAX_SIDE = 1024  # of a mask inside the JSON of regions
MAX_TEXT = 200_000  # characters of one
PREFIX = "data:image/png;base64,"


def read_mask(source: Source, size: tuple[int, int] | None = None) -> np.ndarray:
    """A mask file, of any format and size that `core.imaging.open_picture` reads, also below its smallest side.

    Args:
        source: the file, its bytes, a picture or an array.
        size: (width, height) to resize it to; its own by default.

    Returns:
        Boolean (height, width), True inside: where more than half of a pixel's area is white, or opaque if it has
        transparent pixels. Of a file that only has the levels 0 and 1, 1 is white.

    Raises:
        ImageError: it is not a picture, or damaged.
        RequestError: it marks nothing, or everything.
    """
    picture = open_as_it_is(source, min_side=1)
    gray = _opacity(picture) or to_rgb(picture).convert("L")
    levels = np.asarray(gray, np.float32)
    white = levels > (0.5 if levels.max() <= 1 else 127.5)
    if not white.any():
        raise RequestError("This mask is empty: nothing in it is white. White is inside the region, black outside.")
    if white.all():
        raise RequestError("This mask is white everywhere. White is inside the region; leave something outside it.")
    return white if size is None else resized(white, *size)


def resized(mask: np.ndarray, width: int, height: int) -> np.ndarray:
    """A boolean mask (h, w) at another size: True where more than half of a pixel's area is inside."""
    if mask.shape == (height, width):
        return mask
    values = Image.fromarray(mask.astype(np.float32))
    return np.asarray(values.resize((width, height), Image.Resampling.BOX)) > 0.5


def mask_picture(mask: np.ndarray) -> Image.Image:
    """A boolean mask (h, w) as a picture, white inside."""
    return Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))


def mask_url(mask: np.ndarray) -> str:
    """A boolean mask (h, w) as a PNG inside a URL, transparent outside: a region's "mask" in JSON, which a browser can
    draw over a picture. `MAX_SIDE` at most."""
    if max(mask.shape) > MAX_SIDE:
        scale = MAX_SIDE / max(mask.shape)
        mask = resized(mask, *(max(1, round(side * scale)) for side in mask.shape[::-1]))
    inside = np.where(mask, 255, 0).astype(np.uint8)
    return png_url(Image.merge("LA", (Image.new("L", mask.shape[::-1], 255), Image.fromarray(inside))))


def png_url(picture: Image.Image) -> str:
    """A picture as a PNG inside a URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return PREFIX + base64.b64encode(buffer.getvalue()).decode()


def from_url(url: str) -> np.ndarray:
    """The boolean mask (h, w) of what `mask_url` wrote, or of any other PNG in such a URL, from an untrusted client.

    Raises:
        RequestError: it is none, or too large.
    """
    wrong = RequestError(f"A mask must be a PNG of at most {MAX_SIDE} x {MAX_SIDE} pixels, as “{PREFIX}…”.")
    if not url.startswith(PREFIX) or len(url) > MAX_TEXT:
        raise wrong
    try:
        data = base64.b64decode(url[len(PREFIX) :], validate=True)
        opened = Image.open(io.BytesIO(data), formats=["PNG"])
        if max(opened.size) > MAX_SIDE:
            raise wrong
        return read_mask(opened)
    except (ImageError, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise wrong from error


def _opacity(picture: Image.Image) -> Image.Image | None:
    """The transparency of a picture, if it says anything."""
    if picture.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in picture.info:
        return None
    alpha = picture.convert("RGBA").getchannel("A")
    return alpha if np.asarray(alpha).min() < 255 else None

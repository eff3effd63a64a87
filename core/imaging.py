"""Reading, checking, cropping and writing pictures: the only door through which a visitor's picture comes in.

A picture enters as a file, bytes, an array or a PIL image, is checked before anything is decoded, and leaves as
`pixels`: float32 tensors (B, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from .errors import ImageError
from .finite import require_finite

try:  # Photos straight from a phone; everything else works without it.
    import pi_heif

    pi_heif.register_heif_opener()
    _HEIF = ["HEIF"]
except ImportError:
    _HEIF = []

MAX_BYTES = 50 * 2**20  # a phone's largest photographs, and a TIFF of 12 megapixels; memory is bounded by the pixels
MAX_PIXELS = 50_000_000
MAX_JPEG_PIXELS = 4 * MAX_PIXELS  # of a JPEG that can be decoded at half its sides without being held at its own
MAX_PHOTO_SIDE = 4096  # that a photograph is worked on with; the page reduces larger ones before it sends them
MIN_SIDE = 48
# Raster formats only: Pillow would hand PostScript to an interpreter.
FORMATS = ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "ICO", *_HEIF]
READABLE = "JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP"
PAPER = (255, 255, 255)  # shows through where a picture is transparent
ACCEPTED = "a PIL image, a file, its bytes, or a numpy array (height, width, 3) of uint8 or of floats in [0, 1]"
CROP_HEIGHT = 0.42  # a face in a tall picture sits above its middle

ROUNDING = 0.5 / 255  # so far beyond [0, 1], as resampling leaves it, a float still is black or white at 8 bits

# Pillow raises at twice its limit; libraries that open a picture before we do are held to ours as well.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
warnings.simplefilter("ignore", Image.DecompressionBombWarning)

_FULL_SIZE = "size of the file"  # key in the info of a picture that was reduced while it was decoded

Source = str | Path | bytes | np.ndarray | Image.Image


@dataclass(frozen=True)
class Crop:
    """A square part of a picture.

    x, y: where its centre lies along the way it can move, 0 (left, top) to 1 (right, bottom).
    size: its side as a fraction of the picture's shorter side, (0, 1].
    """

    x: float = 0.5
    y: float = CROP_HEIGHT
    size: float = 1.0

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Pixel box (left, top, right, bottom), inside the picture whatever the numbers are."""
        finite = [value if math.isfinite(value) else 0.5 for value in (self.x, self.y, self.size)]
        x, y = (min(max(value, 0.0), 1.0) for value in finite[:2])
        shorter = min(width, height)
        side = min(max(round(finite[2] * shorter), min(MIN_SIDE, shorter)), shorter)
        left, top = round(x * (width - side)), round(y * (height - side))
        return left, top, left + side, top + side


def open_picture(source: Source) -> Image.Image:
    """Read any accepted picture as an upright, opaque, 8-bit RGB image in sRGB.

    EXIF rotation is applied, transparency laid on white, the first frame of an animation taken, 16-bit and float
    samples scaled from their own range, CMYK and wide-gamut colours converted by their profile. A JPEG of more than
    `MAX_PIXELS` has half its sides (see `full_size`).

    Raises:
        ImageError: too large in bytes or pixels, too small, broken, beyond the range of its kind, or not a picture.
    """
    return to_rgb(open_as_it_is(source))


def open_as_it_is(source: Source, min_side: int = MIN_SIDE) -> Image.Image:
    """Read any accepted picture, upright, with the colours and the transparency that it has.

    Raises:
        ImageError: too large in bytes or pixels, smaller than `min_side`, broken, or not a picture.
    """
    if isinstance(source, np.ndarray):
        picture = _from_array(source, min_side)
    elif isinstance(source, Image.Image):
        picture = source
    elif isinstance(source, str | bytes | os.PathLike):
        picture = _from_file(source)
    else:
        hint = " Of pixels in [-1, 1], core.imaging.to_pil makes pictures." if isinstance(source, Tensor) else ""
        raise ImageError(f"A picture is needed: {ACCEPTED}, not {type(source).__name__}.{hint}")
    _check_size(*picture.size, min_side)
    with _decoding():
        picture.seek(0)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
    if upright.size != picture.size:
        upright.info[_FULL_SIZE] = full_size(picture)[::-1]
    return upright


def full_size(picture: Image.Image) -> tuple[int, int]:
    """(width, height) of what `open_picture` read, upright, before it was halved; its own where it was not."""
    full = picture.info.get(_FULL_SIZE)
    if isinstance(full, tuple) and picture.size == ((full[0] + 1) // 2, (full[1] + 1) // 2):
        return full
    return picture.size


@contextmanager
def _decoding() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise ImageError("This picture needs more memory than there is. Save it smaller and try again.") from None
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file.
        raise ImageError("This picture is damaged: it cannot be read to its end. Try saving it again.") from error


def crop_square(picture: Image.Image, crop: Crop | None = None) -> Image.Image:
    """The square that the model will see, at the picture's own resolution."""
    return picture.crop((crop or Crop()).box(*picture.size))


def to_pixels(source: Source, resolution: int, crop: Crop | None = None) -> Tensor:
    """Read, crop and reduce a picture for a model.

    Args:
        source: anything `open_picture` takes.
        resolution: side of the model's pictures, in pixels.
        crop: the part to use; the largest square, centred, by default.

    Returns:
        pixels (1, 3, resolution, resolution), float32 in [-1, 1].

    Raises:
        ImageError: as `open_picture`.
    """
    square = crop_square(open_picture(source), crop)
    if square.size != (resolution, resolution):
        square = square.resize((resolution, resolution), Image.Resampling.LANCZOS)
    values = np.asarray(square, dtype=np.float32) / 127.5 - 1
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()


def to_pil(pixels: Tensor, size: int | None = None) -> list[Image.Image]:
    """Pictures of pixels (B, 3, H, W) or (3, H, W) in [-1, 1]; values outside are clipped.

    Raises:
        NumberError: there are values that are not numbers.

    Args:
        size: side to enlarge to, for showing; the tensor's own by default.
    """
    batch = pixels.detach().float().cpu()
    batch = batch[None] if batch.ndim == 3 else batch
    require_finite(batch)
    values = (batch.clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(value) for value in values]
    if size is None or size == batch.shape[-1]:
        return pictures
    return [picture.resize((size, size), Image.Resampling.BICUBIC) for picture in pictures]


def thumbnail(pixels: Tensor, size: int = 128) -> bytes:
    """A picture (3, H, W) in [-1, 1] as a small WebP file, for cards."""
    buffer = io.BytesIO()
    to_pil(pixels, size)[0].save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def content_hash(pixels: Tensor) -> str:
    """SHA-256 (hex) of what a picture shows at 8 bits: equal for equal pictures whatever file they came in."""
    values = (pixels.detach().float().cpu().clamp(-1, 1) + 1).mul(127.5).round().to(torch.uint8).contiguous()
    return hashlib.sha256(repr(tuple(values.shape)).encode() + values.numpy().tobytes()).hexdigest()


def _from_file(source: str | os.PathLike[str] | bytes) -> Image.Image:
    """Open a file or its bytes far enough to know format and size; nothing is decoded."""
    try:
        data = source if isinstance(source, bytes) else _read(Path(source))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise ImageError("This file could not be read. Choose it again.") from error
    if len(data) > MAX_BYTES:
        size, limit = len(data) / 2**20, MAX_BYTES // 2**20
        raise ImageError(f"This file has {size:.1f} MB; up to {limit} MB can be used. Save it smaller and try again.")
    if not data:
        raise ImageError("This file is empty. Choose a picture.")
    try:
        return _large_jpeg(data) or Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(_too_many_pixels()) from None
    except UnidentifiedImageError:
        raise ImageError(f"This is not a picture that can be read. Use {READABLE}.") from None
    except Exception as error:
        raise ImageError(f"This picture is damaged: its header makes no sense. Use {READABLE}.") from error


def _large_jpeg(data: bytes) -> Image.Image | None:
    """A JPEG that is too large to be decoded as it is, prepared to be decoded at half its sides; None for any other
    file. All of its components are in one scan: several scans, as progressive files have them, libjpeg holds in memory
    at their full size."""
    if not data.startswith(b"\xff\xd8"):
        return None
    file = io.BytesIO(data)
    picture = JpegImageFile(file)  # only `Image.open` minds the size
    if not MAX_PIXELS < picture.width * picture.height <= MAX_JPEG_PIXELS:
        return None
    scan = struct.pack(">HHB", 0xFFDA, 6 + 2 * picture.layers, picture.layers)  # how the header of such a scan begins
    start = file.tell() - 2 - (6 + 2 * picture.layers)
    if "progressive" in picture.info or data[start : start + len(scan)] != scan:
        return None
    picture.info[_FULL_SIZE] = picture.size
    picture.draft(None, (picture.width // 2, picture.height // 2))
    return picture


def _read(path: Path) -> bytes:
    """A file's bytes, no more than one beyond the limit."""
    with path.open("rb") as file:
        return file.read(max(MAX_BYTES + 1, min(path.stat().st_size, MAX_BYTES + 1)))


def _too_many_pixels() -> str:
    return (
        f"This picture has more than {MAX_PIXELS // 10**6} million pixels (of a JPEG that is not progressive, up to "
        f"{MAX_JPEG_PIXELS // 10**6} million are read). Save it smaller and try again."
    )


def _check_size(width: int, height: int, min_side: int = MIN_SIDE) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(_too_many_pixels())
    if min(width, height) < min_side:
        raise ImageError(
            f"This picture is {width} x {height} pixels; each side needs at least {min_side}. Use a larger one."
        )


def _from_array(values: np.ndarray, min_side: int = MIN_SIDE) -> Image.Image:
    """A picture of an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16, bool, or float in [0, 1]."""
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[-1] not in (3, 4)):
        raise ImageError(f"An array of shape {values.shape} is not a picture: height x width x 3 is.")
    _check_size(values.shape[1], values.shape[0], min_side)
    if values.dtype == np.uint16:
        values = values / 257.0
    elif values.dtype == bool or np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
        _require_finite(values)
        low, high = values.min(), values.max()
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ImageError(
                f"This array has values from {low:.4g} to {high:.4g}; floats have to lie in [0, 1], from black to "
                "white. Scale them, or use uint8 for 0 to 255."
            )
        values = values * 255
    elif values.dtype != np.uint8:
        raise ImageError(
            f"Pictures of {values.dtype} numbers are not understood: use uint8, uint16 or floats in [0, 1]."
        )
    return Image.fromarray(np.clip(np.round(values), 0, 255).astype(np.uint8))


def _require_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ImageError("This picture has values that are not numbers. Save it again as PNG or JPEG.")


def to_rgb(picture: Image.Image) -> Image.Image:
    """Opaque 8-bit sRGB of what `open_as_it_is` read. Raises ImageError."""
    with _decoding():
        opaque = _to_rgb(picture)
    if _FULL_SIZE in picture.info:
        opaque.info[_FULL_SIZE] = picture.info[_FULL_SIZE]
    return opaque


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = _scale_samples(picture)
    picture = _to_srgb(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        opaque = Image.new("RGBA", picture.size, (*PAPER, 255))
        picture = Image.alpha_composite(opaque, picture.convert("RGBA"))
    return picture.convert("RGB")


def _scale_samples(picture: Image.Image) -> Image.Image:
    """8-bit gray from 16-bit, 32-bit or float gray, scaled by the range of its kind (Pillow's own convert clips)."""
    values = np.asarray(picture, dtype=np.float64)
    _require_finite(values)
    top = float(values.max(initial=0))
    if picture.mode == "F":
        full = 1.0 if top <= 1 else 255.0 if top <= 255 else 65535.0 if top <= 65535 else top
    else:
        full = 65535.0 if top <= 65535 else top
    return Image.fromarray(np.clip(np.round(values * (255 / full)), 0, 255).astype(np.uint8))


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours by the picture's own profile; a missing or broken profile means sRGB."""
    profile = picture.info.get("icc_profile")
    if not profile or picture.mode not in ("RGB", "RGBA", "CMYK", "L", "LA"):
        return picture
    try:
        alpha = picture.getchannel("A") if picture.mode in ("RGBA", "LA") else None
        base = picture.convert({"RGBA": "RGB", "LA": "L"}.get(picture.mode, picture.mode))
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(base, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return picture
    if converted is None:  # only where it is asked to work in place
        return picture
    if alpha is not None:
        converted.putalpha(alpha)
    return converted

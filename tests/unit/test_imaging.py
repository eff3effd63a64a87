"""Every rule about pictures that come in: what is accepted, how it is read, and the words for what is not."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageDraw

from core import imaging
from core.errors import ImageError
from core.imaging import Crop, content_hash, crop_square, full_size, open_picture, to_pil, to_pixels

RED, GREEN = (220, 30, 40), (20, 160, 60)


def two_halves(width: int = 96, height: int = 64) -> Image.Image:
    """Red above, green below: tells which way is up."""
    picture = Image.new("RGB", (width, height), RED)
    ImageDraw.Draw(picture).rectangle([0, height // 2, width, height], fill=GREEN)
    return picture


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def near(picture: Image.Image, at: tuple[float, float], colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    """Whether the pixel at fractions (x, y) has a colour."""
    pixel = picture.getpixel((int(at[0] * picture.width), int(at[1] * picture.height)))
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) <= tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA"])
def test_common_formats(kind: str) -> None:
    picture = open_picture(encoded(two_halves(), kind))
    assert picture.mode == "RGB"
    assert picture.size == (96, 64)
    assert near(picture, (0.5, 0.2), RED)
    assert near(picture, (0.5, 0.8), GREEN)


def test_photos_of_phones_in_heif() -> None:
    assert near(open_picture(Path(__file__).parents[1] / "data" / "two-halves.heic"), (0.5, 0.2), RED)


def test_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    two_halves().save(path)
    assert open_picture(path).size == open_picture(str(path)).size == (96, 64)


@pytest.mark.parametrize(("orientation", "size"), [(1, (96, 64)), (3, (96, 64)), (6, (64, 96)), (8, (64, 96))])
def test_exif_rotation(orientation: int, size: tuple[int, int]) -> None:
    upright = two_halves(*size)
    stored = upright.rotate({1: 0, 3: 180, 6: 90, 8: 270}[orientation], expand=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = open_picture(encoded(stored, "JPEG", exif=exif, quality=95))
    assert picture.size == size
    assert near(picture, (0.5, 0.2), RED)
    assert near(picture, (0.5, 0.8), GREEN)


def test_transparency_is_laid_on_white() -> None:
    picture = two_halves().convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    ImageDraw.Draw(alpha).rectangle([0, 0, 47, 63], fill=0)
    ImageDraw.Draw(alpha).rectangle([48, 0, 95, 31], fill=128)
    picture.putalpha(alpha)
    picture = open_picture(encoded(picture, "PNG"))
    assert near(picture, (0.2, 0.8), (255, 255, 255), 0)
    assert near(picture, (0.8, 0.2), tuple(round((c + 255) / 2) for c in RED), 2)
    assert near(picture, (0.8, 0.8), GREEN, 0)


def test_gray_with_transparency() -> None:
    picture = Image.new("LA", (64, 64), (0, 0))
    assert near(open_picture(encoded(picture, "PNG")), (0.5, 0.5), (255, 255, 255), 0)


def test_palette_with_a_transparent_colour() -> None:
    picture = two_halves().quantize(4)
    above = picture.getpixel((48, 10))
    picture = open_picture(encoded(picture, "PNG", transparency=above))
    assert near(picture, (0.5, 0.2), (255, 255, 255), 0)
    assert near(picture, (0.5, 0.8), GREEN)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_gray_and_palette(mode: str) -> None:
    ramp = Image.linear_gradient("L").convert(mode)
    picture = open_picture(encoded(ramp, "PNG"))
    assert picture.mode == "RGB"
    values = np.asarray(picture, dtype=float).mean((1, 2))
    assert values[-16:].mean() > values[:16].mean() + 150


def test_sixteen_bit_gray_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    expected = np.round(values / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        read = np.asarray(open_picture(encoded(Image.fromarray(values), kind)))
        assert np.abs(read[..., 0].astype(int) - expected).max() <= 1


def test_sixteen_bit_colour() -> None:
    rows = np.zeros((64, 64, 3), dtype=">u2")
    rows[..., 0] = 65535
    rows[..., 1] = 32768
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    picture = open_picture(png_of(64, 64, depth=16, colour=2, data=zlib.compress(raw)))
    assert near(picture, (0.5, 0.5), (255, 128, 0), 1)


def test_float_gray() -> None:
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    read = np.asarray(open_picture(encoded(Image.fromarray(ramp), "TIFF")))
    assert read.min() == 0
    assert read.max() == 255


def test_cmyk() -> None:
    picture = open_picture(encoded(two_halves().convert("CMYK"), "JPEG", quality=95))
    assert near(picture, (0.5, 0.2), RED)


def test_colours_are_converted_by_their_profile() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = srgb.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    red = Image.new("RGB", (64, 64), (255, 0, 0))
    assert near(open_picture(encoded(red, "PNG", icc_profile=exchanged)), (0.5, 0.5), (0, 255, 0))
    assert near(open_picture(encoded(red, "PNG", icc_profile=srgb)), (0.5, 0.5), (255, 0, 0), 1)
    assert near(open_picture(encoded(red, "PNG", icc_profile=b"not a profile")), (0.5, 0.5), (255, 0, 0), 0)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN, (0, 0, 255))]
    for kind in ("GIF", "WEBP", "TIFF"):
        animation = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert near(open_picture(animation), (0.5, 0.5), RED)


def png_of(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
    """A PNG written by hand, so that its header can say anything."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [7_100, 60_000])
def test_decompression_bomb(side: int) -> None:
    with pytest.raises(ImageError, match="more than 50 million pixels"):
        open_picture(png_of(side, side, data=zlib.compress(b"\0" * 1000)))


def jpeg_header(width: int, height: int, scan: int = 3, frame: int = 0xC0) -> bytes:
    """A JPEG of three components that says how large it is, and ends in its first scan, which has `scan` of them."""
    small = encoded(two_halves(), "JPEG")
    at = small.index(b"\xff\xc0")
    small = (
        small[:at] + bytes([0xFF, frame]) + small[at + 2 : at + 5] + struct.pack(">HH", height, width) + small[at + 9 :]
    )
    at = small.index(b"\xff\xda")
    return small[: at + 4] + bytes([scan]) + small[at + 5 :]


def test_a_large_jpeg_is_halved_while_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the true limits the header; of smaller ones the picture, sideways, against one that is halved afterwards."""
    opened = imaging._from_file(jpeg_header(16320, 12240))
    assert (opened.size, full_size(opened)) == ((8160, 6120), (16320, 12240)), "as phones of 200 megapixels make them"

    rough = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
    stored = Image.fromarray(rough).resize((401, 300), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(stored, "JPEG", quality=97, exif=exif)
    whole = open_picture(data)
    assert full_size(whole) == whole.size == (300, 401)
    monkeypatch.setattr(imaging, "MAX_PIXELS", 100_000)
    monkeypatch.setattr(imaging, "MAX_JPEG_PIXELS", 400_000)
    halved = open_picture(data)
    assert (halved.size, full_size(halved)) == ((150, 201), (300, 401))
    assert full_size(halved.crop((0, 0, 90, 90))) == (90, 90)
    expected = np.asarray(whole, float)[:400].reshape(200, 2, 150, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(halved, float)[:200] - expected).mean() < 1.5
    monkeypatch.setattr(imaging, "MAX_JPEG_PIXELS", 110_000)
    with pytest.raises(ImageError, match="million pixels"):
        open_picture(data)


@pytest.mark.parametrize(
    "settings", [{"progressive": True}, {"kind": "PNG"}, {"kind": "TIFF"}, {"kind": "WEBP"}], ids=str
)
def test_what_has_to_be_held_at_its_full_size_is_not_read(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imaging, "MAX_PIXELS", 100_000)
    monkeypatch.setattr(imaging, "MAX_JPEG_PIXELS", 400_000)
    data = encoded(Image.new("RGB", (400, 300)), **({"kind": "JPEG"} | settings))
    with pytest.raises(ImageError, match="million pixels"):
        open_picture(data)


@pytest.mark.parametrize(
    ("width", "height", "scan", "frame"), [(9000, 9000, 1, 0xC0), (9000, 9000, 3, 0xC2), (16400, 12240, 3, 0xC0)]
)
def test_jpegs_that_would_take_too_much_memory(width: int, height: int, scan: int, frame: int) -> None:
    """Several scans, progressive, and beyond the limit: refused by what the header says."""
    with pytest.raises(ImageError, match="a JPEG that is not progressive, up to 200 million are read"):
        open_picture(jpeg_header(width, height, scan, frame))


def test_too_many_bytes() -> None:
    with pytest.raises(ImageError, match=r"has 50\.0 MB; up to 50 MB"):
        open_picture(b"\xff\xd8\xff" + b"\0" * imaging.MAX_BYTES)


@pytest.mark.parametrize("size", [(10, 10), (4000, 20), (47, 300)])
def test_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=f"{size[0]} x {size[1]} pixels; each side needs at least 48"):
        open_picture(encoded(Image.new("RGB", size), "PNG"))


@pytest.mark.parametrize("data", [b"hello, I am a text", b"%PDF-1.7 ...", b"PK\x03\x04" + b"\0" * 100, b"<svg></svg>"])
def test_not_a_picture(data: bytes) -> None:
    with pytest.raises(ImageError, match="not a picture"):
        open_picture(data)


def test_postscript_is_never_interpreted() -> None:
    with pytest.raises(ImageError, match="not a picture"):
        open_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_cut_short(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ImageError, match="damaged"):
        open_picture(whole[: len(whole) // 2])


def test_every_damage_ends_in_words() -> None:
    """Bytes changed at random end in a picture or an ImageError, never in anything else."""
    random = np.random.default_rng(1)
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = encoded(two_halves(), kind)
        for _ in range(30):
            data = bytearray(whole)
            for at in random.integers(0, len(data), 6):
                data[at] = random.integers(256)
            with contextlib.suppress(ImageError):
                open_picture(bytes(data))


def test_empty_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="empty"):
        open_picture(b"")
    with pytest.raises(ImageError, match="could not be read"):
        open_picture(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="could not be read"):
        open_picture(tmp_path)


def test_arrays() -> None:
    for values in (
        np.full((64, 64), 255, np.uint8),
        np.full((64, 64, 1), 65535, np.uint16),
        np.ones((64, 64, 3), np.float32),
        np.ones((64, 64), bool),
        np.full((64, 64, 4), 255, np.uint8),
    ):
        assert near(open_picture(values), (0.5, 0.5), (255, 255, 255), 0)
    with pytest.raises(ImageError, match="not numbers"):
        open_picture(np.full((64, 64, 3), np.nan))
    with pytest.raises(ImageError, match="not a picture"):
        open_picture(np.zeros((3, 64, 64, 3), np.uint8))
    with pytest.raises(ImageError, match="int64"):
        open_picture(np.zeros((64, 64, 3), np.int64))


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 1), (0, 1.01), (-0.01, 1)])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_of_another_range_are_refused(low: float, high: float, kind: type[np.floating]) -> None:
    with pytest.raises(ImageError, match=r"values from .* to .*; floats have to lie in \[0, 1\]"):
        open_picture(np.linspace(low, high, 64 * 64 * 3).astype(kind).reshape(64, 64, 3))


def test_floats_that_resampling_left_a_little_outside() -> None:
    ramp = np.linspace(-0.001, 1.001, 64 * 64).reshape(64, 64)
    read = np.asarray(open_picture(ramp))
    assert (read.min(), read.max()) == (0, 255)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_float_pictures_that_are_not_numbers(value: float) -> None:
    values = np.zeros((64, 64), np.float32)
    values[3, 5] = value
    for picture in (values, Image.fromarray(values), encoded(Image.fromarray(values), "TIFF")):
        with pytest.raises(ImageError, match="not numbers"):
            open_picture(picture)


@pytest.mark.parametrize("picture", [None, 3, [[0]], object(), torch.zeros(3, 64, 64), open])
def test_what_is_no_picture_at_all(picture: object) -> None:
    with pytest.raises(ImageError, match="PIL image, a file, its bytes, or a numpy array") as caught:
        open_picture(picture)  # type: ignore[arg-type]
    assert type(picture).__name__ in str(caught.value)
    assert ("to_pil" in str(caught.value)) == isinstance(picture, torch.Tensor)


def test_a_name_that_no_file_can_have() -> None:
    for name in ("a\0b.png", "x" * 5000):
        with pytest.raises(ImageError, match="could not be read"):
            open_picture(name)


def test_crop_is_the_largest_square_near_the_middle() -> None:
    assert Crop().box(200, 100) == (50, 0, 150, 100)
    left, top, right, bottom = Crop().box(100, 200)
    assert (left, right, bottom - top) == (0, 100, 100)
    assert 0 < top < 50, "a face in a tall picture sits above its middle"


@pytest.mark.parametrize(
    "crop", [Crop(0, 0, 0.5), Crop(1, 1, 0.5), Crop(-3, 9, 7), Crop(float("nan"), 0, 0), Crop(1, 0, -1)]
)
def test_crop_box_stays_inside(crop: Crop) -> None:
    left, top, right, bottom = crop.box(300, 200)
    assert 0 <= left < right <= 300
    assert 0 <= top < bottom <= 200
    assert right - left == bottom - top >= imaging.MIN_SIDE


def test_crop_moves() -> None:
    picture = two_halves(100, 200)
    assert near(crop_square(picture, Crop(y=0)), (0.5, 0.9), RED)
    assert near(crop_square(picture, Crop(y=1)), (0.5, 0.1), GREEN)


def test_pixels_there_and_back() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = to_pixels(noise, 64)
    assert pixels.shape == (1, 3, 64, 64)
    assert pixels.dtype == torch.float32
    assert -1 <= pixels.min() < pixels.max() <= 1
    assert np.array_equal(np.asarray(to_pil(pixels)[0]), noise)
    assert to_pil(pixels, size=128)[0].size == (128, 128)
    assert len(to_pil(pixels.repeat(3, 1, 1, 1))) == 3
    assert to_pil(torch.full((3, 8, 8), 9.0))[0].getpixel((0, 0)) == (255, 255, 255)


def test_pixels_are_reduced_without_aliasing() -> None:
    checkerboard = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = to_pixels(checkerboard, 64)
    assert pixels.abs().max() < 0.05, "a fine checkerboard becomes gray"


def test_content_hash_is_of_the_content() -> None:
    pixels = to_pixels(two_halves(64, 64), 64)
    again = to_pixels(encoded(two_halves(64, 64), "PNG"), 64)
    other = pixels.clone()
    other[0, 0, 0, 0] += 0.1
    assert content_hash(pixels) == content_hash(again) != content_hash(other)
    assert content_hash(pixels) != content_hash(pixels.reshape(1, 3, 32, 128))

"""Mask files against arrays of known content, and masks inside the JSON of regions."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core import masks
from core.errors import ImageError, RequestError
from core.masks import from_url, mask_picture, mask_url, read_mask, resized
from core.regions import MAX_REGIONS, Region, box_mask, parse_regions, stroke_mask, with_mask

LEFT = np.zeros((60, 40), bool)
LEFT[10:30, :20] = True


def file_of(picture: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def with_alpha(inside: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    picture = Image.new("RGBA", inside.shape[::-1], (*colour, 0))
    picture.putalpha(mask_picture(inside))
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        mask_picture(LEFT),
        mask_picture(LEFT).convert("1"),
        mask_picture(LEFT).convert("RGB"),
        mask_picture(LEFT).convert("RGBA"),  # opaque everywhere: its transparency says nothing
        mask_picture(LEFT).convert("P"),
        Image.fromarray(LEFT.astype(np.uint8)),  # levels 0 and 1
        Image.fromarray(LEFT.astype(np.uint16) * 65535),
        with_alpha(LEFT, (0, 0, 0)),  # black, but opaque
        with_alpha(LEFT, (255, 255, 255)).convert("LA"),
    ],
    ids=lambda picture: picture.mode,
)
def test_white_or_opaque_is_inside(picture: Image.Image) -> None:
    np.testing.assert_array_equal(read_mask(file_of(picture)), LEFT)


def test_other_formats_and_a_lossy_one(tmp_path: Path) -> None:
    for kind in ("BMP", "TIFF", "GIF", "JPEG"):
        path = tmp_path / f"mask.{kind.lower()}"
        mask_picture(LEFT).save(path)
        np.testing.assert_array_equal(read_mask(path), LEFT)


def test_a_mask_of_any_size_takes_the_pictures() -> None:
    """Thin lines count by their area: reduced by 3, a pixel is inside where 5 or more of its 9 pixels are."""
    rng = np.random.default_rng(0)
    fine = rng.random((96, 96)) < 0.5
    wanted = fine.reshape(32, 3, 32, 3).sum((1, 3)) >= 5
    np.testing.assert_array_equal(read_mask(file_of(mask_picture(fine)), (32, 32)), wanted)
    np.testing.assert_array_equal(read_mask(mask_picture(LEFT), (120, 180)), LEFT.repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"no picture", "not a picture"),
        (file_of(mask_picture(LEFT))[:60], "damaged"),
        (file_of(mask_picture(np.zeros((50, 50), bool))), "nothing in it is white"),
        (file_of(mask_picture(np.ones((50, 50), bool))), "white everywhere"),
    ],
)
def test_what_is_no_mask_is_said_in_words(data: bytes, words: str) -> None:
    with pytest.raises((ImageError, RequestError), match=words):
        read_mask(data)


def test_a_mask_in_a_url_comes_back() -> None:
    np.testing.assert_array_equal(from_url(mask_url(LEFT)), LEFT)
    large = np.zeros((3000, 1500), bool)
    large[:1500] = True
    back = from_url(mask_url(large))
    assert back.shape == (masks.MAX_SIDE, masks.MAX_SIDE // 2)
    np.testing.assert_array_equal(back, resized(large, *back.shape[::-1]))
    for wrong in ("", "data:image/gif;base64,AAAA", masks.PREFIX + "?", masks.PREFIX + "A" * masks.MAX_TEXT):
        with pytest.raises(RequestError, match="PNG"):
            from_url(wrong)
    with pytest.raises(RequestError, match="1024"):
        from_url(masks.png_url(mask_picture(large)))


def test_regions_with_masks_and_erasers() -> None:
    """Boxes and masks first, then strokes in their order: each adds or takes away."""
    add = {"points": [[0.2, 0.2], [0.8, 0.2]], "width": 0.2}
    erase = {"points": [[0.5, 0.1], [0.5, 0.9]], "width": 0.1, "erases": True}
    shapes = {"label": "a", "box": [0.1, 0.5, 0.9, 0.9], "mask": mask_url(LEFT), "strokes": [add, erase]}
    (region,) = parse_regions([shapes], 64)
    stroke, eraser = region.strokes
    drawn = box_mask((0.1, 0.5, 0.9, 0.9), 64) | resized(LEFT, 64, 64) | stroke_mask(stroke, 64)
    np.testing.assert_array_equal(region.mask, drawn & ~stroke_mask(eraser, 64))
    (later,) = parse_regions([shapes | {"strokes": [erase, add]}], 64)
    assert (later.mask & ~region.mask).any(), "what is painted after the eraser stays"
    (again,) = parse_regions([region.as_json()], 64)
    np.testing.assert_array_equal(again.mask, region.mask)
    with pytest.raises(RequestError, match="too small"):
        parse_regions(
            [shapes | {"strokes": [{"points": [[0, 0], [1, 1], [1, 0], [0, 1]], "width": 1, "erases": True}]}], 64
        )


def test_a_mask_file_beside_drawn_regions() -> None:
    drawn = parse_regions([{"label": "Mask", "box": [0, 0, 0.5, 0.5]}], 32)
    assert with_mask(drawn, None, "Mask", 32) == drawn
    made = with_mask(drawn, LEFT, "Mask", 32)
    assert [region.label for region in made] == ["Mask", "Mask 2"]
    np.testing.assert_array_equal(made[1].mask, resized(LEFT, 32, 32))
    with pytest.raises(RequestError, match="up to 8"):
        with_mask([Region(str(n), drawn[0].mask) for n in range(MAX_REGIONS)], LEFT, "Mask", 32)

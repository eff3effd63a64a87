"""Out of the photograph and back: what must not change does not, and what changes lands where it belongs."""

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import ImageError
from core.imaging import to_pil
from core.photo.placement import Placement
from core.photo.warp import cut, put_back
from tests.photographs import PLAIN, backdrop, pasted

PLACEMENTS = [
    Placement(300, 260, 240, 0, 600, 500),  # upright
    Placement(310.3, 255.7, 211.4, 0, 600, 500),  # between the pixels
    Placement(300, 260, 240, 23, 600, 500),  # turned
    Placement(300, 260, 60, -71, 600, 500),  # smaller than the model's pictures
    Placement(40, 480, 300, 190, 600, 500),  # beyond a corner of the photograph
    Placement(250, 250, 500, 0, 600, 500),  # from edge to edge
    Placement(300, 250, 1200, 45, 600, 500),  # all of it, and more
]


def noise(width: int = 600, height: int = 500) -> Image.Image:
    """The most detail that there can be."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def inside(placement: Placement, part: float = 1.0) -> np.ndarray:
    """(H, W): whether a pixel's centre lies in the square, or in the middle `part` of it."""
    x, y = np.meshgrid(np.arange(placement.width) + 0.5, np.arange(placement.height) + 0.5)
    at = np.stack([x - placement.x, y - placement.y], -1) @ placement.axes
    return (np.abs(at) <= part * placement.side / 2).all(-1)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_nothing_edited_changes_nothing(placement: Placement) -> None:
    """Not one level, whatever detail the photograph has."""
    photo = noise()
    seen = cut(photo, placement, 128)
    assert seen.shape == (1, 3, 128, 128)
    assert torch.isfinite(seen).all()
    np.testing.assert_array_equal(put_back(photo, placement, seen, seen), photo)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("how", ["difference", "crop"])
def test_outside_the_square_nothing_changes(placement: Placement, how: str) -> None:
    photo = noise()
    seen = cut(photo, placement, 64)
    edited = -torch.sign(seen)  # as different as can be
    result = np.asarray(put_back(photo, placement, edited, seen, how))
    changed = (result != np.asarray(photo)).any(-1)
    assert not changed[~inside(placement, 1 + 1e-6)].any()
    assert changed[inside(placement, 0.8)].mean() > 0.95


@pytest.mark.parametrize("placement", PLACEMENTS[:4])
def test_the_whole_crop_comes_back_within_a_level(placement: Placement) -> None:
    """Where the model's pictures can hold what the photograph shows, the crop itself returns it."""
    photo = backdrop(600, 500)
    seen = cut(photo, placement, 128)
    result = np.asarray(put_back(photo, placement, seen, how="crop"), float)
    difference = np.abs(result - np.asarray(photo, float))
    assert difference.max() <= 1


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_change_lands_where_it_belongs(placement: Placement, size: int) -> None:
    """A Gaussian spot of the crop returns as the same spot at the photograph's point, by its closed form."""
    photo = Image.new("RGB", (600, 500), (100, 100, 100))
    u, v, width = 0.55, 0.45, 0.06
    if not (0 < (placement.quad[0] + placement.axes @ (placement.side * np.array([u, v])))[0] < 600):
        return
    j, i = np.meshgrid((np.arange(size) + 0.5) / size, (np.arange(size) + 0.5) / size)
    spot = np.exp(-((j - u) ** 2 + (i - v) ** 2) / (2 * width**2))
    before = torch.full((1, 3, size, size), 100 / 127.5 - 1)
    edited = before + torch.from_numpy(spot).float() * (100 / 127.5)
    result = np.asarray(put_back(photo, placement, edited, before), float)[..., 0] - 100

    x, y = np.meshgrid(np.arange(600) + 0.5, np.arange(500) + 0.5)
    at = np.stack([x - placement.x, y - placement.y], -1) @ placement.axes / placement.side + 0.5
    expected = 100 * np.exp(-((at[..., 0] - u) ** 2 + (at[..., 1] - v) ** 2) / (2 * width**2))
    expected[~inside(placement)] = 0
    middle = inside(placement, 0.8)
    assert np.abs(result - expected)[middle].max() <= 1


def test_the_crop_samples_the_photograph_where_it_says() -> None:
    """Of a photograph that is linear in x and y, the crop is linear too, with its value at the mapped point."""
    x, y = np.meshgrid(np.arange(600) + 0.5, np.arange(500) + 0.5)
    photo = Image.fromarray(np.stack([x / 3, y / 3, (x + y) / 6], -1).round().astype(np.uint8))
    for placement in PLACEMENTS[:4]:
        seen = (cut(photo, placement, 96)[0].permute(1, 2, 0).numpy() + 1) * 127.5
        j, i = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
        matrix, offset = placement.matrix(96)
        at = np.stack([j, i], -1) @ matrix.T + offset
        expected = np.stack([at[..., 0] / 3, at[..., 1] / 3, at.sum(-1) / 6], -1)
        assert np.abs(seen - expected).max() < 0.8


def test_a_fine_pattern_does_not_alias() -> None:
    """A checkerboard that the model cannot show becomes gray at any angle."""
    board = np.indices((1200, 1200)).sum(0) % 2 * 255
    photo = Image.fromarray(np.repeat(board[..., None], 3, -1).astype(np.uint8))
    for angle in (0, 11, 45):
        seen = cut(photo, Placement(600, 600, 800, angle, 1200, 1200), 128)
        assert seen.abs().max() < 0.06


def test_detail_stays_with_the_difference_and_goes_with_the_crop() -> None:
    """Grain finer than the model's pixels survives an edit of colour, where only what changed is added."""
    grain = np.random.default_rng(1).integers(-20, 21, (500, 600, 1))
    photo = Image.fromarray((np.full((500, 600, 3), 120) + grain).astype(np.uint8))
    placement = Placement(300, 250, 360, 14, 600, 500)
    seen = cut(photo, placement, 128)
    edited = seen + 20 / 127.5
    middle = inside(placement, 0.8)
    added = np.asarray(put_back(photo, placement, edited, seen), float)[middle] - np.asarray(photo, float)[middle]
    assert np.abs(added - 20).max() <= 1
    smooth = np.asarray(put_back(photo, placement, edited, how="crop"), float)[middle]
    assert smooth.std() < 0.5 * np.asarray(photo, float)[middle].std()


def test_the_edge_is_soft_but_not_where_the_photograph_ends() -> None:
    photo = Image.new("RGB", (600, 500), (100, 100, 100))
    placement = Placement(250, 250, 500, 0, 600, 500)  # left, top and bottom are edges of the photograph
    before = torch.zeros(1, 3, 64, 64)
    result = np.asarray(put_back(photo, placement, before + 50 / 127.5, before), int)[..., 0]
    assert (result[[0, 250, 499], 0] == 150).all()
    assert (result[250, 500:] == 100).all()
    ramp = result[250, 455:500]
    assert (np.diff(ramp) <= 0).all()
    assert np.diff(ramp).min() >= -3, "no visible edge"


def test_beyond_the_photograph_it_is_mirrored_and_fades() -> None:
    photo, _ = pasted(backdrop(600, 500), PLAIN, (90.0, 100.0), 200, 0)
    placement = Placement(90, 100, 300, 5, 600, 500)
    seen = np.asarray(to_pil(cut(photo, placement, 128))[0], float)
    assert seen.min() > 0, "no black corner"
    corner = seen[:4, :4].reshape(-1, 3)
    assert corner.std(0).max() < 12, "one colour far outside"


def test_values_that_are_not_numbers_are_refused() -> None:
    photo, placement = noise(), PLACEMENTS[0]
    seen = cut(photo, placement, 64)
    broken = seen.clone()
    broken[0, 0, 5, 5] = float("nan")
    with pytest.raises(ImageError, match="not numbers"):
        put_back(photo, placement, broken, seen)


def test_another_photograph_is_refused() -> None:
    with pytest.raises(ImageError, match="Place it again"):
        cut(noise(300, 200), PLACEMENTS[0], 64)
    with pytest.raises(ImageError, match="before the edit"):
        put_back(noise(), PLACEMENTS[0], torch.zeros(1, 3, 8, 8))

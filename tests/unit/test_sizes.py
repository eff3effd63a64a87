"""The sizes in which a result leaves the app, against Pillow and against the photograph itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import RequestError
from core.imaging import to_pil
from core.photo.placement import Placement
from core.photo.warp import cut
from core.studio.frames import Picture
from core.studio.keeping import Shown
from core.studio.regions import mask_for

R = 32
BEFORE = torch.linspace(-1, 1, 3 * R * R).reshape(1, 3, R, R)
EDITED = BEFORE[0].flip(-1)


def shown(picture: Picture, edited: torch.Tensor = EDITED) -> Shown:
    return Shown(picture, BEFORE, edited, "name")


def test_a_drawn_picture_is_enlarged_by_lanczos() -> None:
    result = shown(Picture(BEFORE, "avatars"))
    assert result.sizes == {"four": (128, 128), "twice": (64, 64), "model": (32, 32)}
    small = to_pil(EDITED)[0]
    assert result.result("crop", "model").tobytes() == small.tobytes()
    large = small.resize((128, 128), Image.Resampling.LANCZOS)
    assert result.result("crop").tobytes() == result.result("crop", "four").tobytes() == large.tobytes()
    assert result.original("twice").size == (64, 64)
    with pytest.raises(RequestError, match="this size"):
        result.result("crop", "photo")


def test_a_photograph_whole_or_its_square() -> None:
    """Where nothing was edited, both are the photograph's own pixels: its detail stays."""
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)
    placement = Placement(60, 45, 60, 0, 120, 90)
    picture = Picture(BEFORE, "avatars", photo=torch.from_numpy(photo), placement=placement)
    same = shown(picture, BEFORE[0])
    assert same.sizes == {"photo": (120, 90), "square": (60, 60), "model": (R, R)}
    np.testing.assert_array_equal(np.asarray(same.result("difference")), photo)
    np.testing.assert_array_equal(np.asarray(same.result("difference", "square")), photo[15:75, 30:90])
    edited = shown(picture)
    assert (
        edited.result("crop", "square").tobytes()
        == to_pil(EDITED)[0].resize((60, 60), Image.Resampling.LANCZOS).tobytes()
    )
    assert edited.original("square").tobytes() == to_pil(cut(Image.fromarray(photo), placement, 60))[0].tobytes()
    small = Placement(60, 45, 24, 0, 120, 90)  # the photograph shows less of it than the model
    assert "square" not in shown(Picture(BEFORE, "avatars", photo=torch.from_numpy(photo), placement=small)).sizes


def test_a_mask_of_the_whole_photograph_is_cut_like_it() -> None:
    """And one of any other size belongs to the square."""
    placement = Placement(60, 45, 60, 0, 120, 90)
    whole = np.zeros((90, 120), np.uint8)
    whole[15:45, 30:90] = 255  # the upper half of the square
    upper = np.zeros((R, R), bool)
    upper[: R // 2] = True
    np.testing.assert_array_equal(mask_for(Image.fromarray(whole), R, placement), upper)
    np.testing.assert_array_equal(mask_for(Image.fromarray(upper.astype(np.uint8)), R, placement), upper)
    away = np.zeros((90, 120), np.uint8)
    away[:, :20] = 255
    assert mask_for(Image.fromarray(away), R).any(), "without a placement it is resized"
    with pytest.raises(RequestError, match="nothing of the square"):
        mask_for(Image.fromarray(away), R, placement)

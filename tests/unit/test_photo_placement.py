"""The square on a face: CelebA-HQ's formula, and where it lands on photographs whose landmarks are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import ADM
from openai_unet import random_weights

from core.errors import ImageError, RequestError
from core.imaging import Crop, crop_square, to_pil
from core.models.cards import MODELS, Folder, framing_of
from core.models.conversion import convert_file
from core.models.opening import describe
from core.photo.placement import CELEBA_HQ, Landmarks, Placement, align, from_crop, from_json
from core.photo.warp import cut
from tests.photographs import PLAIN, backdrop, landmarks_of, pasted
from training.portraits import render, sample

AVATARS = MODELS["avatars"].framing


def dataset_tool(left: np.ndarray, right: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """The corners as `dataset_tool.py` of Progressive GAN computes them, written with complex numbers: there,
    rot90(v) is a multiplication with i."""
    e0, e1, m = (complex(*p) for p in (left, right, mouth))
    eye_avg = (e0 + e1) * 0.5
    eye_to_eye, eye_to_mouth = e1 - e0, m - eye_avg
    x = eye_to_eye - 1j * eye_to_mouth
    x /= abs(x)
    x *= max(abs(eye_to_eye) * 2.0, abs(eye_to_mouth) * 1.8)
    y = 1j * x
    c = eye_avg + eye_to_mouth * 0.1
    return np.array([[z.real, z.imag] for z in (c - x - y, c - x + y, c + x + y, c + x - y)])


@pytest.mark.parametrize("seed", range(40))
def test_align_is_the_formula_of_celeba_hq(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right, mouth = rng.uniform(300, 700, (3, 2))
    placement = align(Landmarks(tuple(left), tuple(right), tuple(mouth)), 1000, 1000)
    np.testing.assert_allclose(placement.quad, dataset_tool(left, right, mouth), atol=1e-9)


def test_an_upright_face_by_hand() -> None:
    """Eyes 100 apart and the mouth 110 below: half the side is max(200, 198), the centre 11 below the eyes."""
    placement = align(Landmarks((450, 400), (550, 400), (500, 510)), 1000, 1000)
    assert (placement.x, placement.y, placement.side) == pytest.approx((500, 411, 400))
    assert placement.angle == pytest.approx(0)
    np.testing.assert_allclose(placement.quad, [(300, 211), (300, 611), (700, 611), (700, 211)])


def test_the_crop_turns_with_the_face() -> None:
    """Points turned by any angle give the same square, turned by that angle."""
    upright = align(landmarks_of(PLAIN, 400), 400, 400)
    for angle in (-170, -90, -31, 12, 90, 179):
        _, found = pasted(backdrop(900, 800), PLAIN, (450.0, 400.0), 400, angle)
        turned = align(found, 900, 800)
        assert turned.side == pytest.approx(upright.side)
        assert (turned.angle - upright.angle - angle + 180) % 360 - 180 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("angle", [-90, -30, 0, 15, 45])
@pytest.mark.parametrize("side", [90, 200, 512])
def test_drawn_faces_come_out_upright(angle: float, side: int) -> None:
    """A portrait at any angle and size in a photograph is cut out as if it stood upright and large."""
    photo, landmarks = pasted(backdrop(1100, 900), PLAIN, (560.0, 430.0), side, angle)
    seen = to_pil(cut(photo, align(landmarks, *photo.size, framing=AVATARS), 128))[0]
    drawn = render(PLAIN, 512)
    upright = to_pil(cut(drawn, align(landmarks_of(PLAIN, 512), 512, 512, AVATARS), 128))[0]
    inner = slice(16, 112)
    error, turned = (
        np.abs(np.asarray(picture, float) - np.asarray(upright, float))[inner, inner].mean()
        for picture in (seen, seen.rotate(2))
    )
    assert error < (3 if side > 128 else 6)
    assert turned > 1.3 * error, "two degrees would be seen"


def test_the_framing_of_the_drawn_portraits() -> None:
    """Over training portraits the square is the whole picture, up to what their proportions differ."""
    placements = []
    for seed in range(200):
        portrait = replace(sample(seed), tilt=0.0, x=0.0, y=0.0, yaw=0.0)
        placements.append(align(landmarks_of(portrait, 128), 128, 128, AVATARS))
    sides, down = np.array([p.side for p in placements]), np.array([p.y for p in placements])
    assert abs(sides.mean() - 128) < 1.5
    assert sides.std() < 6
    assert abs(down.mean() - 64) < 0.7


@pytest.mark.parametrize(
    ("texts", "faces"),
    [
        (("person",), True),
        (("People",), True),
        (("painting of a face",), True),
        (("old women's portraits",), True),
        (("painting", "someone/ddpm_metfaces-256"), True),
        (("painting", "folder", "METFACES"), True),
        (("picture", "google/ddpm-celebahq-256"), True),
        (("painting",), False),
        (("surface", "interfaces", "humane"), False),
        (("dog", "dogs", "AFHQ"), False),
        (("church", "google/ddpm-church-256", "LSUN-church"), False),
    ],
)
def test_which_models_show_faces(texts: tuple[str, ...], faces: bool) -> None:
    assert (framing_of(*texts) == CELEBA_HQ) is faces


@pytest.mark.parametrize(("word", "curves"), [("person", None), ("painting", "METFACES")])
def test_a_converted_network_of_faces(tmp_path: Path, word: str, curves: str | None) -> None:
    """Its card is framed, whatever word for them was chosen."""
    torch.save(random_weights(ADM), tmp_path / "adm.pt")
    convert_file(tmp_path / "adm.pt", tmp_path / "model", head_channels=16, domain_word=word, curves=curves)
    card = describe(tmp_path / "model", "mine", Folder(str(tmp_path / "model")))
    assert card.framing == CELEBA_HQ


def test_a_crop_is_an_upright_placement() -> None:
    photo = backdrop(640, 400)
    crop = Crop(0.3, 0.6, 0.5)
    placement = from_crop(crop, *photo.size)
    assert placement.angle == 0
    side = round(placement.side)
    np.testing.assert_array_equal(to_pil(cut(photo, placement, side))[0], crop_square(photo, crop))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((-5, 50, 40, 0), "outside"),
        ((50, 120, 40, 0), "outside"),
        ((50, 50, 5, 0), "larger"),
        ((50, 50, 500, 0), "smaller"),
        ((float("nan"), 50, 40, 0), "no numbers"),
        ((50, 50, 40, float("inf")), "no numbers"),
    ],
)
def test_squares_that_cannot_be(values: tuple[float, ...], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        Placement(*values, 100, 100)


def test_three_equal_points_are_no_face() -> None:
    with pytest.raises(ImageError, match="no face"):
        align(Landmarks((5, 5), (5, 5), (5, 5)), 100, 100)


def test_placements_of_programs() -> None:
    square = from_json({"x": 50, "y": 40, "side": 30, "angle": 12}, 100, 80)
    assert from_json(square.as_json(), 100, 80) == square
    points = {"left_eye": [40, 30], "right_eye": [60, 30], "mouth": [50, 52]}
    assert from_json(points, 100, 80) == align(Landmarks((40, 30), (60, 30), (50, 52)), 100, 80, CELEBA_HQ)
    for wrong in ("face", {"x": 1}, {"x": "a", "y": 1, "side": 20}, {**points, "mouth": [1]}, [1, 2], None):
        with pytest.raises(RequestError, match="not understood"):
            from_json(wrong, 100, 80)


def test_a_placement_at_another_size() -> None:
    small = Placement(50, 40, 30, 10, 100, 80).scaled(400, 320)
    assert (small.x, small.y, small.side, small.angle) == (200, 160, 120, 10)

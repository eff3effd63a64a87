"""Finding faces: through OpenCV with a file whose answer is known, and at every turn and size with a stand-in."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core import imaging
from core.errors import ImageError, ModelUnavailable, NumberError, RequestError
from core.imaging import open_picture
from core.models.cards import MODELS
from core.models.loader import load
from core.photo import weights, yunet
from core.photo.faces import BY_HAND, FoundFaces, find_faces, found_faces
from core.photo.placement import CELEBA_HQ, Landmarks, align
from core.photo.yunet import YuNet
from core.progress import finish
from core.studio import library
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions
from core.studio.photographs import cut_out, look_for_faces, open_photo, placed, requested_placement, returned
from tests.photographs import backdrop, mark, stand_in, with_faces
from tests.yunet_file import CELL, MAGENTA, POINTS, write


def off(found: Landmarks, truth: Landmarks) -> float:
    """The largest error of a landmark, in parts of the distance between the eyes."""
    pairs = [(found.left_eye, truth.left_eye), (found.right_eye, truth.right_eye), (found.mouth, truth.mouth)]
    scale = np.hypot(*np.subtract(truth.right_eye, truth.left_eye))
    return max(float(np.hypot(*np.subtract(a, b))) for a, b in pairs) / scale


@pytest.mark.parametrize("angle", [0, 30, -45, 90, 180])
@pytest.mark.parametrize("side", [140, 400, 1000])
def test_faces_at_every_turn_and_size(angle: float, side: int) -> None:
    photo, [truth] = with_faces((1600, 1200), (830.0, 590.0, side, angle))
    [face] = find_faces(photo, stand_in)
    assert off(face.landmarks, truth) < 0.06
    placement, wanted = align(face.landmarks, *photo.size), align(truth, *photo.size)
    assert abs(placement.side / wanted.side - 1) < 0.06
    assert abs((placement.angle - wanted.angle + 180) % 360 - 180) < 3


def test_the_corners_of_a_panorama() -> None:
    truth_at = [(130.0, 200.0, 200, 0), (2000.0, 220.0, 240, 10), (3890.0, 190.0, 180, -5)]
    photo, marks = with_faces((4000, 400), *truth_at)
    faces = find_faces(photo, stand_in)
    assert len(faces) == 3, "each once, though parts overlap"
    for truth in marks:
        assert min(off(face.landmarks, truth) for face in faces) < 0.06


def test_the_largest_face_comes_first() -> None:
    photo, marks = with_faces((1400, 800), (250.0, 400.0, 220, 0), (900.0, 400.0, 400, 12), (1250.0, 200.0, 150, -8))
    faces = find_faces(photo, stand_in)
    assert [off(face.landmarks, marks[i]) < 0.06 for face, i in zip(faces, (1, 0, 2), strict=True)] == [True] * 3


# ------------------------------------------------------------------------------------------------------------- OpenCV


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> YuNet:
    pytest.importorskip("cv2")
    return YuNet(write(tmp_path_factory.mktemp("yunet") / "yunet.onnx"))


def magenta(size: tuple[int, int], *cells: tuple[int, int]) -> Image.Image:
    photo = Image.new("RGB", size, (90, 90, 90))
    for column, row in cells:
        photo.paste(MAGENTA, (column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL))
    return photo


def expected(column: int, row: int, scale: float = 1.0) -> Landmarks:
    right, left, _, *mouth = (POINTS + (column, row)) * CELL / scale
    return Landmarks(tuple(right), tuple(left), tuple(np.mean(mouth, 0)))


def test_opencv_reads_the_twelve_outputs(network: YuNet) -> None:
    """`cv2.FaceDetectorYN` runs a network of YuNet's form, and its rows become landmarks in the photograph."""
    faces = find_faces(magenta((480, 320), (4, 2), (11, 6)), network)
    assert len(faces) == 2
    for truth in (expected(4, 2), expected(11, 6)):
        assert min(off(face.landmarks, truth) for face in faces) < 1e-3
    assert all(face.score > 0.99 for face in faces)
    at = {tuple(np.floor(np.divide(face.points[0], CELL)).astype(int) + (0, 1)): face.points for face in faces}
    assert at.keys() == {(4, 2), (11, 6)}
    for cell, points in at.items():
        assert np.allclose(points, (POINTS + cell) * CELL, atol=1e-3)


def test_opencv_on_a_large_photograph(network: YuNet) -> None:
    """Twice as large as a view: landmarks come back in the photograph's own pixels."""
    photo = magenta((1024, 512), (10, 7)).resize((2048, 1024), Image.Resampling.NEAREST)
    [face] = find_faces(photo, network)
    assert off(face.landmarks, expected(10, 7, 0.5)) < 1e-3


def test_opencv_finds_nothing_where_there_is_nothing(network: YuNet) -> None:
    assert find_faces(backdrop(700, 500), network) == []


def test_a_damaged_file(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(ModelUnavailable, match="cannot be run here"):
        YuNet(tmp_path / "broken.onnx")(np.zeros((64, 64, 3), np.uint8))


# ------------------------------------------------------------------------------------------------- fetching the network


def test_no_network_says_so_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "hub_answers", lambda: False)
    monkeypatch.setattr(weights, "_here", lambda wanted: None)
    found = look_for_faces(backdrop(300, 200), "avatars")
    assert found.placements == ()
    assert "has to be downloaded once" in found.words
    assert found.words.endswith(BY_HAND)


def test_another_file_than_the_pinned_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(b"something else")
    monkeypatch.setattr(weights, "_here", lambda wanted: tmp_path / "other.onnx")
    with pytest.raises(ModelUnavailable, match="not the file that this app was made for"):
        yunet.load()


def test_the_weights_that_the_installed_opencv_can_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    asked = []
    monkeypatch.setattr(yunet, "fetched", lambda wanted: asked.append(wanted.file) or Path("x"))
    for version in ("4.12.0", "5.0.0"):
        monkeypatch.setattr(cv2, "__version__", version)
        yunet.load()
    assert asked == ["face_detection_yunet_2023mar.onnx", "face_detection_yunet_2026may.onnx"]


def test_a_second_repository_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"weights")
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append(repository)
        if len(asked) == 1:
            raise OSError("not there")
        return str(tmp_path / "w")

    monkeypatch.setattr(weights, "hub_answers", lambda: True)
    monkeypatch.setattr(weights, "_here", lambda wanted: None)
    monkeypatch.setattr(weights.huggingface_hub, "hf_hub_download", download)
    wanted = replace(yunet.FOR_OPENCV_5, sha256=weights.hashlib.sha256(b"weights").hexdigest())
    assert weights.fetched(wanted) == tmp_path / "w"
    assert asked == list(wanted.repositories)


def test_opencv_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    assert "pip install opencv-python-headless" in look_for_faces(backdrop(300, 200), "avatars").words


# ---------------------------------------------------------------------------------------------- twelve bad photographs


def found(photo: Image.Image) -> FoundFaces:
    return look_for_faces(photo, "avatars", stand_in)


def saved(photo: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, kind, **settings)
    return buffer.getvalue()


def edits_and_returns(photo: Image.Image, faces: FoundFaces) -> None:
    """The photograph goes all the way: cut out, changed, put back."""
    placement = faces.placements[0] if faces.placements else requested_placement(photo, "", "avatars")
    picture = cut_out(photo, placement, "avatars")
    whole = returned(picture, (picture.pixels + 0.3).clamp(-1, 1))
    assert whole.size == photo.size
    assert (np.asarray(whole) != np.asarray(photo)).any()


def test_bad_profile() -> None:
    photo = mark(backdrop(600, 500), Landmarks((300, 200), (325, 203), (305, 300)))
    faces = found(photo)
    assert "looks aside" in faces.words
    edits_and_returns(photo, faces)


def test_bad_two_faces() -> None:
    photo, _ = with_faces((900, 500), (250.0, 250.0, 300, 0), (650.0, 250.0, 250, 0))
    faces = found(photo)
    assert len(faces.placements) == 2
    assert "choose one" in faces.words
    edits_and_returns(photo, faces)


def test_bad_none() -> None:
    photo = backdrop(600, 500)
    faces = found(photo)
    assert faces.placements == ()
    assert faces.words == f"No face was found. {BY_HAND}"
    edits_and_returns(photo, faces)
    with pytest.raises(RequestError, match="No face was found"):
        requested_placement(photo, "face", "avatars", stand_in)


def test_bad_tiny() -> None:
    with pytest.raises(ImageError, match="each side needs at least 48"):
        open_photo(Image.new("RGB", (20, 20)))
    small, _ = with_faces((60, 60), (30.0, 30.0, 60, 0))
    edits_and_returns(small, found(small))


def test_bad_sideways_by_exif() -> None:
    upright, [truth] = with_faces((600, 500), (300.0, 250.0, 400, 0))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = open_photo(saved(stored, "JPEG", exif=exif, quality=95))
    assert photo.size == (600, 500)
    [face] = find_faces(photo, stand_in)
    assert off(face.landmarks, truth) < 0.06


def test_bad_48_megapixels() -> None:
    small, _ = with_faces((800, 600), (420.0, 300.0, 400, 20))
    photo = open_photo(saved(small.resize((8000, 6000), Image.Resampling.NEAREST), "JPEG", quality=60))
    assert photo.size == (4096, 3072)
    faces = found(photo)
    assert len(faces.placements) == 1
    edits_and_returns(photo, faces)


def test_placements_count_in_pixels_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a JPEG that is halved while it is decoded, programs and the library find and give squares where they are in
    the file."""
    photo, [truth] = with_faces((1200, 900), (640.0, 430.0, 500, 10))
    data = saved(photo, "JPEG", quality=97, subsampling=0)
    monkeypatch.setattr(imaging, "MAX_PIXELS", 800_000)
    read = open_picture(data)
    assert read.size == (600, 450)
    [square] = found_faces(read, stand_in).placements
    wanted = align(truth, 1200, 900)
    assert square.as_json() == pytest.approx(wanted.as_json(), abs=8)
    points = {"left_eye": truth.left_eye, "right_eye": truth.right_eye, "mouth": truth.mouth}
    for given in (wanted, wanted.as_json(), points):
        at = placed(read, given, CELEBA_HQ)
        assert at.as_json() == pytest.approx(wanted.as_json(), abs=1e-3)
        assert (at.x, at.side) == pytest.approx((wanted.x / 2, wanted.side / 2))
    assert placed(read, "face", CELEBA_HQ, stand_in) == placed(read, square, CELEBA_HQ) == square
    assert placed(read, square.as_json(), CELEBA_HQ).x == pytest.approx(square.x, abs=1e-3)
    assert placed(read, "", CELEBA_HQ).as_json()["side"] == 900
    # On the page there is nothing but the pixels that it shows.
    [shown] = found_faces(open_photo(data), stand_in).placements
    assert shown.as_json()["x"] == pytest.approx(square.x, abs=1e-3)


def test_bad_nan_making() -> None:
    """A network that makes no numbers of it: words, and neither a picture nor a gray patch in the photograph."""
    model, photo = load(MODELS["avatars"], "cpu", torch.float32), backdrop(600, 500)
    picture = cut_out(photo, requested_placement(photo, "", "avatars"), "avatars")
    preset, options = library.named_preset("avatars", "smiling"), EditOptions(4)
    [frame] = finish(edit_frames(model, picture, preset, [1.0], options))
    assert returned(picture, frame.pixels).size == photo.size
    with torch.no_grad():
        model.unet.unet.mid_block.resnets[-1].conv2.weight[0, 0, 1, 1] = torch.nan
    with pytest.raises(NumberError, match="so there is no picture"):
        finish(edit_frames(model, picture, preset, [1.0], options))
    with pytest.raises(ImageError, match="not numbers"):
        returned(picture, torch.full((3, 128, 128), float("nan")))


def test_bad_16_bit() -> None:
    ramp = np.linspace(0, 65535, 300 * 200).reshape(200, 300).astype(np.uint16)
    photo = open_photo(saved(Image.fromarray(ramp)))
    assert np.ptp(np.asarray(photo)) == 255
    edits_and_returns(photo, found(photo))


def test_bad_cmyk() -> None:
    photo = open_photo(saved(backdrop(300, 200).convert("CMYK"), "JPEG", quality=95))
    assert photo.mode == "RGB"
    edits_and_returns(photo, found(photo))


def test_bad_heic() -> None:
    photo = open_photo(Path(__file__).parents[1] / "data" / "two-halves.heic")
    edits_and_returns(photo, found(photo))


def test_bad_transparent() -> None:
    drawn, _ = with_faces((400, 400), (200.0, 200.0, 300, 0))
    drawn.putalpha(Image.linear_gradient("L").resize((400, 400)))
    photo = open_photo(saved(drawn))
    assert np.asarray(open_picture(saved(drawn)))[0, 0].min() > 250, "white paper shows through"
    edits_and_returns(photo, found(photo))


def test_bad_panorama() -> None:
    photo, _ = with_faces((4000, 400), (3500.0, 200.0, 300, 0))
    faces = found(photo)
    assert len(faces.placements) == 1
    edits_and_returns(photo, faces)


def test_models_that_show_no_faces_look_for_none() -> None:
    photo, _ = with_faces((600, 500), (300.0, 250.0, 400, 0))
    assert look_for_faces(photo, "ddpm-ema-church-256", stand_in).placements == ()


def test_placements_of_programs_follow_the_models_framing() -> None:
    photo, [truth] = with_faces((600, 500), (300.0, 250.0, 400, 0))
    face = requested_placement(photo, "face", "avatars", stand_in)
    points = {"left_eye": truth.left_eye, "right_eye": truth.right_eye, "mouth": truth.mouth}
    assert requested_placement(photo, points, "avatars").side == pytest.approx(face.side, rel=0.03)
    assert found_faces(photo, stand_in, CELEBA_HQ).placements[0].side < face.side

"""Photographs through the endpoints: the square where a program wants it, and the whole photograph back."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from core.imaging import to_pil
from core.models.cards import MODELS
from core.models.loader import models
from core.photo import weights, yunet
from core.photo.placement import Placement, align
from core.photo.warp import cut
from core.progress import finish
from core.studio import library
from core.studio.compose.orthogonalise import similarities
from core.studio.frames import Picture
from tests.photographs import PLAIN, backdrop, pasted, stand_in, with_faces

AVATARS = MODELS["avatars"].framing


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, _ = with_faces((800, 600), (460.0, 300.0, 360, 25))
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    made.save(path)
    return path


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yunet, "load", lambda: stand_in)


def opened(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), int)


def test_find_edit_and_return(client: Client, photo: Path) -> None:
    """The way of a program: find the face, edit it, get the photograph with it; and the same in one call."""
    about = client.predict(handle_file(photo), api_name="/find_faces")
    [face] = about["faces"]
    assert (about["width"], about["height"]) == (800, 600)
    assert abs((face["angle"] - 25 + 180) % 360 - 180) < 3
    edit = {"image": handle_file(photo), "direction": "smiling", "strength": 2, "steps": 6, "api_name": "/edit_text"}
    square, measures = client.predict(placement=face, **edit)
    assert opened(square).shape == (128, 128, 3)
    assert measures["placement"] == pytest.approx(face, abs=1e-3)
    returned = client.predict(handle_file(photo), handle_file(square), face, api_name="/return_to_photo")
    whole, _ = client.predict(placement="face", returned="photo", **edit)
    original = opened(str(photo))
    for path in (returned, whole):
        result = opened(path)
        assert result.shape == original.shape
        changed = (result != original).any(-1)
        x, y = np.meshgrid(np.arange(800) + 0.5, np.arange(600) + 0.5)
        away = np.hypot(x - face["x"], y - face["y"]) > face["side"] * 0.7072
        assert not changed[away].any()
        assert changed.mean() > 0.02
    assert np.abs(opened(returned) - opened(whole)).mean() < 0.3, "the square was rounded to 8 bits on the way"


def test_a_large_file_that_browsers_cannot_reduce(client: Client, tmp_path: Path) -> None:
    """A TIFF of 12 MB, as scanners write them."""
    made, _ = with_faces((2100, 2000), (900.0, 900.0, 900, 0))
    made.save(tmp_path / "scan.tiff")
    assert (tmp_path / "scan.tiff").stat().st_size > 12e6
    about = client.predict(handle_file(tmp_path / "scan.tiff"), api_name="/find_faces")
    assert (about["width"], about["height"], len(about["faces"])) == (2100, 2000, 1)


def test_compose_returns_the_photograph(client: Client, tmp_path: Path) -> None:
    made, landmarks = pasted(backdrop(500, 400), PLAIN, (250.0, 200.0), 240, -12)
    made.save(tmp_path / "photo.png")
    points = {name: list(getattr(landmarks, name)) for name in ("left_eye", "right_eye", "mouth")}
    whole, about = client.predict(
        handle_file(tmp_path / "photo.png"),
        '{"smiling": 1.5}',
        6,
        placement=points,
        returned="photo with the whole square",
        api_name="/compose",
    )
    assert opened(whole).shape == (400, 500, 3)
    wanted = align(landmarks, 500, 400, AVATARS)
    assert about["placement"] == pytest.approx(wanted.as_json(), abs=1e-3)


def test_a_sweep_shows_the_photograph_in_every_cell(client: Client, photo: Path) -> None:
    asked = ("smiling", "glasses", 0, 2, 2, "", 4)
    file = handle_file(photo)
    sheet, about = client.predict(file, *asked, placement="face", returned="photo", api_name="/sweep")
    face = client.predict(file, api_name="/find_faces")["faces"][0]
    assert about["placement"] == pytest.approx(face, abs=1e-3)
    width, height = Image.open(sheet).size
    assert width > 2 * 512
    assert height < 1.1 * 2 * 384 + 56
    cells = opened(sheet)[56:, 112:]
    first, last = cells[:384, :512], cells[388 : 388 + 384, 516 : 516 + 512]
    left = face["x"] - face["side"] * 0.72
    away = slice(0, int(left * 0.64))
    original = np.asarray(Image.open(photo).convert("RGB").resize((512, 384), Image.Resampling.LANCZOS), int)
    assert np.abs(first[:, away] - original[:, away]).mean() < 2, "the whole photograph"
    assert np.array_equal(first[:, away], last[:, away])
    assert np.abs(first - last).max() > 40


def test_a_filmstrip_shows_the_photograph_in_every_picture(client: Client, photo: Path) -> None:
    """Beside each other, reduced to 512 pixels, the face edited more and more; or the squares, as ever."""
    file, asked = handle_file(photo), {"composition": '{"smiling": 2}', "count": 3, "steps": 4, "placement": "face"}
    strip, about = client.predict(file, **asked, returned="photo", api_name="/filmstrip")
    [face] = client.predict(file, api_name="/find_faces")["faces"]
    assert about["placement"] == pytest.approx(face, abs=1e-3)
    assert Image.open(strip).size == (3 * 512 + 2 * 4, 384)
    first, middle, last = (opened(strip)[:, left : left + 512] for left in (0, 516, 1032))
    original = np.asarray(Image.open(photo).convert("RGB").resize((512, 384), Image.Resampling.LANCZOS), int)
    assert np.abs(first - original).mean() < 1, "the photograph itself"
    away = slice(0, int((face["x"] - face["side"] * 0.72) * 0.64))
    assert np.array_equal(first[:, away], last[:, away])
    assert 0 < np.abs(middle - first).sum() < np.abs(last - first).sum()
    squares, about = client.predict(file, **asked, api_name="/filmstrip")
    assert Image.open(squares).size == (3 * 256 + 2 * 4, 256)
    seen = cut(Image.open(photo).convert("RGB"), Placement(**face, width=800, height=600), 128)
    assert np.abs(opened(squares)[:, :256] - np.asarray(to_pil(seen, size=256)[0], int)).mean() < 1


def test_several_photographs_each_with_its_placement(client: Client, photo: Path, tmp_path: Path) -> None:
    """One placement for all of them, or one for each; one without a face does not stop the others."""
    backdrop(500, 400).save(tmp_path / "nobody.png")
    files = [handle_file(photo), handle_file(tmp_path / "nobody.png")]
    [face] = client.predict(files[0], api_name="/find_faces")["faces"]
    asked = {"composition": '{"smiling": 2}', "steps": 4, "api_name": "/batch"}
    archive, about = client.predict(files, placement="face", **asked)
    assert about["pictures"][0]["placement"] == pytest.approx(face, abs=1e-3)
    assert "No face was found" in about["pictures"][1]["problem"]
    alone, _ = client.predict(files[0], '{"smiling": 2}', 4, placement="face", api_name="/compose")
    with zipfile.ZipFile(archive) as held:
        assert held.namelist() == ["01-photo.png", "contents.json"]
        square = np.asarray(Image.open(io.BytesIO(held.read("01-photo.png"))), int)
    assert np.abs(square - opened(alone)).max() <= 1
    square = {"x": 200, "y": 150, "side": 100, "angle": 10}
    _, about = client.predict(files, placement=[{}, square], **asked)
    whole, part = (one["placement"] for one in about["pictures"])
    assert (whole["side"], whole["angle"], part) == (600, 0, square)
    with pytest.raises(AppError, match="2 pictures and 1 placements: give one for each"):
        client.predict(files, placement=["face"], **asked)


def test_directions_are_compared_at_the_face(client: Client, photo: Path) -> None:
    """At what the model sees there, cut out here."""
    file = handle_file(photo)
    asked = {"directions": "smiling, sad", "metric": "h-space", "api_name": "/similarity"}
    face = {"x": 460, "y": 310, "side": 400, "angle": 25}
    at_face = client.predict(file, placement=face, **asked)
    assert at_face["placement"] == face
    seen = cut(Image.open(photo).convert("RGB"), Placement(**face, width=800, height=600), 128)
    chosen = [library.named_preset("avatars", name) for name in ("smiling", "sad")]
    expected = finish(similarities(models.get("avatars"), Picture(seen, "avatars"), chosen, "h-space")).numpy()
    assert np.abs(at_face["similarity"] - expected).max() < 1e-4
    middle = client.predict(file, **asked)
    assert np.abs(middle["similarity"] - expected).max() > 1e-3


def test_discover_and_invert_see_the_face(client: Client, photo: Path) -> None:
    """The other tabs: the face is what is analysed and inverted, and the edit goes back."""
    file, small = handle_file(photo), {"size": 8, "placement": "face"}
    face = client.predict(file, api_name="/find_faces")["faces"][0]
    seen, about = client.predict(file, api_name="/analyse", **small)
    expected = cut(Image.open(photo).convert("RGB"), Placement(**face, width=800, height=600), 128)
    assert np.abs(opened(seen) - np.asarray(to_pil(expected)[0], int)).max() <= 2
    assert about["placement"] == pytest.approx(face, abs=1e-3)
    mouth = [{"label": "mouth", "boxes": [[0.33, 0.57, 0.67, 0.82]]}]
    asked = {"regions": mouth, "count": 1, "refine": False, **small}
    _, _, about = client.predict(image=file, api_name="/discover", **asked)
    assert about["placement"] == pytest.approx(face, abs=1e-3)

    quick = {"steps": 4, "iterations": 1, "starts": 2, "prompt": "a pale face", "placement": "face"}
    inverted, _, _ = client.predict(file, api_name="/invert", **quick)
    pictures, _ = client.predict(file, sigmas="10", methods="DDIM", api_name="/robustness", **quick)
    resolution = Image.open(pictures[0]["image"]).height
    square = opened(pictures[0]["image"])[:, :resolution]
    expected = cut(Image.open(photo).convert("RGB"), Placement(**face, width=800, height=600), resolution)
    assert np.abs(square - np.asarray(to_pil(expected)[0], int)).max() <= 2

    edit = {"inversion": handle_file(inverted), "prompts": "a smiling face", "api_name": "/edit_inverted"}
    [whole], _ = client.predict(image=file, placement="face", returned="photo", **edit)
    original, result = opened(str(photo)), opened(whole["image"])
    assert result.shape == original.shape
    x, y = np.meshgrid(np.arange(800) + 0.5, np.arange(600) + 0.5)
    away = np.hypot(x - face["x"], y - face["y"]) > face["side"] * 0.7072
    assert not (result != original)[away].any()
    assert (result != original).any(-1).mean() > 0.02
    with pytest.raises(AppError, match="is not the picture that was inverted"):
        client.predict(image=file, returned="photo", **edit)
    with pytest.raises(AppError, match="There is no picture"):
        client.predict(returned="photo", **edit)


def test_words_for_programs(client: Client, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AppError, match="is not understood"):
        client.predict(handle_file(photo), "smiling", placement={"a": 1}, api_name="/edit_text")
    with pytest.raises(AppError, match="There is no edited picture"):
        client.predict(handle_file(photo), None, None, api_name="/return_to_photo")
    monkeypatch.undo()
    monkeypatch.setattr(weights, "_here", lambda wanted: None)
    monkeypatch.setattr(weights, "hub_answers", lambda: False)
    with pytest.raises(AppError, match="has to be downloaded once"):
        client.predict(handle_file(photo), api_name="/find_faces")

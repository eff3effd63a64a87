"""Pictures that say what made them: written on request only, read back whatever the file, harmless if it is a
stranger's."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from core.errors import ImageError
from core.photo.record import KEY, to_file, token_in
from core.studio.compose import link
from core.studio.compose.composition import Component, Composition
from core.studio.frames import EditOptions, Picture
from tests.photographs import backdrop

PHOTO = backdrop(90, 60)
TOKEN = link.encode(Composition((Component("smiling", 1.2), Component("old", -0.5))), "avatars", "portrait-3", 12, 5)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_made_it_comes_back(kind: str) -> None:
    data = to_file(PHOTO, kind, TOKEN)
    assert token_in(data) == TOKEN
    restored = link.decode(token_in(data))
    assert (restored.model_id, restored.picture, restored.steps, restored.seed) == ("avatars", "portrait-3", 12, 5)
    assert [(c.key, c.strength) for c in restored.composition.components] == [("smiling", 1.2), ("old", -0.5)]
    difference = np.abs(np.asarray(Image.open(io.BytesIO(data)), int) - np.asarray(PHOTO, int))
    assert difference.max() <= (0 if kind == "PNG" else 6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_nothing_is_said_unasked(kind: str) -> None:
    """Neither of the edit nor of the camera, place and date that the photograph came with."""
    exif = Image.Exif()
    exif[0x010F] = "A camera"
    buffer = io.BytesIO()
    PHOTO.save(buffer, "JPEG", exif=exif, comment=b"a comment")
    data = to_file(Image.open(io.BytesIO(buffer.getvalue())), kind)
    with Image.open(io.BytesIO(data)) as read:
        assert not read.getexif()
        assert not {KEY, "comment"} & read.info.keys()
    assert token_in(data) == ""
    for secret in (b"A camera", b"a comment", KEY.encode()):
        assert secret not in data


@pytest.mark.parametrize(
    "said",
    [
        "",
        "not json but h-space studio",
        json.dumps({"made by": KEY, "version": 2, "composition": TOKEN}),
        json.dumps({"made by": "h-space studio?", "version": 1, "composition": TOKEN}),
        json.dumps({"made by": KEY, "version": 1, "composition": "<script>"}),
        json.dumps({"made by": KEY, "version": 1, "composition": ["smiling"]}),
        json.dumps({"made by": KEY, "version": 1}),
        json.dumps([KEY]),
        "[" * 3000 + KEY,
        json.dumps({"made by": KEY, "version": 1, "composition": "a" * 5000}),
    ],
)
def test_what_strangers_write_is_no_record(said: str) -> None:
    about = PngInfo()
    about.add_itxt(KEY, said)
    buffer = io.BytesIO()
    PHOTO.save(buffer, "PNG", pnginfo=about)
    assert token_in(buffer.getvalue()) == ""


def test_no_picture_is_no_record() -> None:
    assert token_in(b"") == token_in(b"nothing") == ""
    with pytest.raises(ImageError, match="JPEG or PNG"):
        to_file(PHOTO, "GIF")  # type: ignore[arg-type]


def test_one_direction_travels_and_ones_own_does_not() -> None:
    picture = Picture(None, "avatars", example="portrait-1")  # type: ignore[arg-type]
    restored = link.decode(link.one_direction("smiling", 1.3333333, picture, EditOptions(8, seed=4)))
    assert restored.composition == Composition((Component("smiling", 1.333),))
    assert (restored.picture, restored.steps, restored.seed, restored.process) == ("portrait-1", 8, 4, "anchored")
    assert link.one_direction("own-1", 1.0, picture, EditOptions()) == ""

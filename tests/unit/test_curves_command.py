"""Perceptual curves over many pictures, and what follows of them, by `hspace curves`."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from held_out import pictures as portraits
from PIL import Image
from small_evaluations import found_in, pictures
from small_models import small_model
from torch import Tensor

from core import cli, kept_on_disk
from core.curves import measure_curves
from core.errors import RequestError
from core.evaluation import curves as curving
from core.evaluation.curves import curves_plot, curves_together, editing_ends, papers_texts, read_texts
from core.imaging import to_pixels
from core.intervals import Curves
from core.models.cards import MODELS
from core.models.loader import models
from core.progress import finish
from core.sampling import sample
from core.studio import measuring
from tests.two_processes import run_in_two


def distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().mean((1, 2, 3))


def test_curves_in_batches_are_those_of_all_pictures_at_once(tmp_path: Path) -> None:
    """Of 7 pictures in batches of 3, one of them broken."""
    folder, model = pictures(tmp_path / "pictures", 7), small_model()
    pixels = torch.cat([to_pixels(path, 32) for path in sorted(folder.iterdir())])
    (folder / "0002a.png").write_bytes(b"broken")
    expected = finish(measure_curves(model, pixels, distance, 8))
    found = finish(curves_together(model, found_in(folder), distance, tmp_path / "out", steps=8, batch=3))
    assert found is not None
    assert found.count == 7
    np.testing.assert_array_equal(found.curves.t, expected.t)
    np.testing.assert_allclose(found.curves.predicted_x0, expected.predicted_x0, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.curves.noisy, expected.noisy, rtol=1e-4, atol=1e-7)
    written = Curves.load(tmp_path / "out" / "curves.json")
    np.testing.assert_allclose(written.noisy, expected.noisy, rtol=1e-3, atol=1e-6)


def test_without_a_folder_the_model_makes_the_pictures(tmp_path: Path) -> None:
    model = small_model()
    expected = finish(measure_curves(model, finish(sample(model, 0, 5)), distance, 8))
    found = finish(curves_together(model, None, distance, tmp_path, count=5, steps=8, batch=2))
    assert found is not None
    np.testing.assert_allclose(found.curves.predicted_x0, expected.predicted_x0, rtol=1e-3, atol=1e-7)


def test_they_are_kept_where_the_model_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core.models.loader import with_kept_curves

    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "cache"))
    model = small_model()
    model.fingerprint = "0123456789abcdef"
    found = finish(curves_together(model, None, distance, tmp_path / "out", count=3, steps=8))
    assert found is not None
    card = with_kept_curves(replace(model.card, curves=None), model.fingerprint)
    source = card.interval_source()
    assert isinstance(source, Curves)
    np.testing.assert_allclose(source.predicted_x0, found.curves.predicted_x0, atol=1e-6)
    kept = kept_on_disk.recall("curves", model.fingerprint)
    assert kept is not None
    assert kept["pictures"] == 3


def test_nothing_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[int] = Counter()

    def counting(model, pixels, *rest):  # type: ignore[no-untyped-def]
        calls[len(pixels)] += 1
        return measure_curves(model, pixels, *rest)

    monkeypatch.setattr(curving, "measure_curves", counting)
    folder, out = found_in(pictures(tmp_path / "pictures", 6)), tmp_path / "out"
    first = finish(curves_together(small_model(), folder, distance, out, steps=8))
    assert calls == {4: 1, 2: 1}
    again = finish(curves_together(small_model(), folder, distance, out, steps=8))
    assert sum(calls.values()) == 2
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.curves.noisy, again.curves.noisy)
    finish(curves_together(small_model(), folder, distance, out, steps=9))
    assert sum(calls.values()) == 4


def test_the_papers_texts_are_those_of_table_2() -> None:
    texts = papers_texts()
    assert len(texts) == 33
    assert ("Face", "Smiling face") in texts
    assert ("Dog", "Yorkshire Terrier") in texts


def test_where_editing_ends_is_read_off_the_curve() -> None:
    """A straight curve: LPIPS(x0, P_t) = t / 1000 reaches 0.33 times the similarity at t = 330 times it."""
    curves = Curves(np.arange(0, 1000, 100), np.arange(0, 1, 0.1), np.arange(0, 2, 0.2))
    model = measuring.image_text(MODELS["avatars"])
    ends = editing_ends(curves, [("Face", "Smiling face"), ("face", "face with glasses")], model)
    for end in ends:
        a, b = model.embed_texts([end.source, end.target]).double()
        assert end.similarity == pytest.approx(float(a @ b), abs=1e-5)
        assert end.t_edit == pytest.approx(330 * float(a @ b), abs=1)
    assert ends[0].published == (0.899, 513)
    assert ends[1].published is None
    assert editing_ends(curves, [("a", "b")], None)[0].t_edit is None


@pytest.mark.parametrize(
    "text", ["face -> smiling face\n\n# of the paper\nface→sad  face\n", "face,smiling face\nface,sad face"]
)
def test_texts_from_a_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "texts.txt"
    path.write_text(text)
    assert read_texts(path) == [("face", "smiling face"), ("face", "sad face")]


@pytest.mark.parametrize(
    ("text", "words"), [("face\n", "line 1"), ("a -> b\nc -> \n", "line 2"), ("# none", "0 pairs"), ("a,b,c", "line 1")]
)
def test_texts_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "texts.txt"
    path.write_text(text)
    with pytest.raises(RequestError, match=words):
        read_texts(path)
    with pytest.raises(RequestError, match="cannot be read"):
        read_texts(tmp_path / "absent.txt")


@pytest.mark.slow
def test_the_command_in_two_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, alone, both = tmp_path / "portraits", tmp_path / "alone", tmp_path / "both"
    folder.mkdir()
    for n, picture in enumerate(portraits(5)):
        Image.fromarray(picture).save(folder / f"{n}.png")
    arguments = ["curves", "avatars", "--pictures", str(folder), "--steps", "10", "--out"]
    assert cli.main([*arguments, str(alone)]) == 0
    printed = capsys.readouterr()
    assert "Smiling face" in printed.out
    assert "over 5 pictures" in printed.out
    assert "come with it" in printed.err

    def main() -> None:
        assert cli.main() == 0

    run_in_two(main, tmp_path, *arguments, both)
    for name in ("curves.json", "t_edit.csv", "curves.svg"):
        assert (both / name).read_bytes() == (alone / name).read_bytes()
    found = Curves.load(alone / "curves.json")
    shipped = MODELS["avatars"].interval_source()
    assert isinstance(shipped, Curves)
    known = np.interp(found.t, shipped.t, shipped.predicted_x0)
    np.testing.assert_allclose(found.predicted_x0, known, atol=0.12)  # few pictures, and few steps
    rows = list(csv.DictReader(io.StringIO((alone / "t_edit.csv").read_text())))
    assert len(rows) == 33
    assert json.loads((alone / "curves.json").read_text())["pictures"] == 5
    assert models.get("avatars").card.curves == "models/avatars/curves.json"


def test_the_plot_says_what_it_shows() -> None:
    curves = Curves(np.arange(0, 1000, 100), np.arange(0, 1, 0.1), np.arange(0, 2, 0.2))
    svg = curves_plot(curving.MeasuredCurves(curves, 12), "Cats & dogs")
    drawing = ElementTree.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    assert "12 pictures, Cats & dogs" in (drawing.findtext(f"{space}title") or "")
    said = [text.text for text in drawing.iter(f"{space}text")]
    assert "0.33: t_edit up to 330" in said
    assert "1.2: t_boost 600" in said

"""The page, the tables and the plots of an evaluation: complete, escaped, and in need of nothing else."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from small_evaluations import preset

from core.drawing import HEIGHT, WIDTH, Line, Mark, line_plot, ticks
from core.evaluation.measures import MEASURES
from core.evaluation.page import COLUMNS, _short, _signed, page
from core.evaluation.results import Evaluation, Found, Joined, Shown, as_csv
from core.evaluation.subject import Subject

STRENGTHS = (-1.0, 0.0, 1.0, 2.0)
HOSTILE = '<script>alert("x")</script>&\'"</title>'


def table(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Made measures of a batch, some undefined."""
    rng = np.random.default_rng(seed)
    made = {key: rng.normal(1, 0.3, (rows, 4)) for key in MEASURES}
    made["roir"][:, 1] = made["s_dir"][:, 1] = np.nan
    made["attributes"] = rng.normal(size=(rows, 4, 3))
    made["features"] = rng.normal(size=(rows, 4, 5))
    made["original_features"] = rng.normal(size=(rows, 5))
    made["rank_correlation"] = rng.normal(size=rows)
    return made


def evaluation(name: str = "Wider", **changes: object) -> Evaluation:
    subject = Subject(replace(preset(name), source_text="face", target_text="wide face"), STRENGTHS, "smile", -1)
    joined = Joined(subject, ["smile", "age_now", "beard"])
    joined.add(table(5)), joined.add(table(3, 1))
    shown = [Shown(f"{n}.png", np.full((4, 16, 16, 3), 40 * n, np.uint8)) for n in range(2)]
    found = joined.found((300, 0), shown, ["One thing is not known."])
    made = Evaluation(
        model="small",
        title="Small",
        fingerprint="0" * 16,
        resolution=32,
        process="anchored",
        steps=7,
        seed=0,
        source="pictures",
        count=8,
        found=(found,),
        left_out=(("broken.png", "This file is empty."),),
        names={"identity": "cosine"},
        missing=("Nothing is measured by CLIP.",),
        created="2026-11-29T18:51:02+00:00",
    )
    return replace(made, **changes)


class Reader(HTMLParser):
    """Tags with their attributes, and all text outside of scripts and styles."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._raw = "", ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""

    def handle_data(self, data: str) -> None:
        self.text += "" if self._raw else data


def test_the_joined_figures_are_those_of_all_rows() -> None:
    both = {key: np.concatenate([a, b]) for (key, a), b in zip(table(5).items(), table(3, 1).values(), strict=True)}
    found = evaluation().found[0]
    assert found.count == 8
    for key in MEASURES:
        np.testing.assert_allclose(found.means[key], both[key].mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.errors[key], both[key].std(0, ddof=1) / math.sqrt(8), rtol=1e-9)
    mean = np.abs(both["attributes"].mean(0))
    for k, (which, value) in enumerate(found.others):
        assert which == ("age_now" if mean[k, 1] > mean[k, 2] else "beard"), "all but its own"
        assert value == pytest.approx(mean[k, 1:].max())
    assert found.rank_correlation is not None
    assert found.rank_correlation[0] == pytest.approx(both["rank_correlation"].mean())
    assert found.subject.main == 2


def test_the_table_as_csv_and_json() -> None:
    made = evaluation()
    rows = list(csv.DictReader(io.StringIO(made.as_csv())))
    assert len(rows) == 4
    found = made.found[0]
    assert float(rows[2]["own"]) == pytest.approx(found.means["own"][2], rel=1e-5)
    assert float(rows[2]["own_se"]) == pytest.approx(found.errors["own"][2], rel=1e-5)
    assert rows[1]["roir"] == "", "0 / 0 has no number"
    assert (rows[0]["direction"], rows[0]["process"], rows[0]["steps"]) == ("Wider", "anchored", "7")
    said = json.loads(json.dumps(made.as_json(), allow_nan=False))
    assert said["directions"][0]["strengths"][1]["roir"] is None
    assert said["directions"][0]["sign"] == -1
    assert set(said["measures"]) == set(MEASURES)
    assert as_csv([]) == "\n"


def test_cells_of_a_csv_file_are_no_formulas() -> None:
    assert as_csv([{"a": "=1+1", "b": -1.0, "c": None, "d": 'x,"y"'}]) == 'a,b,c,d\n\'=1+1,-1,,"x,""y"""\n'


def test_the_page_says_everything_and_asks_for_nothing() -> None:
    made = evaluation()
    document = page(made)
    read = Reader(document)
    for tag, attributes in read.tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, f"<{tag} {name}={value[:50]}>"
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in document
    assert "@import" not in document
    images = [attributes for tag, attributes in read.tags if tag == "img"]
    assert len(images) == 2 * len(STRENGTHS)
    assert all((image["src"] or "").startswith("data:image/webp;base64,") and image["alt"] for image in images)
    for words in (
        "Small (small), weights 0000000000000000", "8 from pictures", "anchored, 7 steps", "broken.png",
        "This file is empty.", "Nothing is measured by CLIP.", "less of “smile”", "One thing is not known.", "age now",
        "no boosting", "t = 300",
    ):  # fmt: skip
        assert words in read.text, words
    assert "NaN" not in document.replace("isNaN", "")
    assert {"viewport", "generator"} <= {attributes.get("name") for tag, attributes in read.tags if tag == "meta"}
    assert [tag for tag, _ in read.tags].count("h1") == 1
    anchors = {attributes.get("id") for _, attributes in read.tags}
    assert {(attributes["href"] or "#")[1:] for tag, attributes in read.tags if tag == "a"} <= anchors


@pytest.mark.parametrize("where", ["name", "source", "missing", "left_out", "title", "texts", "picture"])
def test_all_text_is_escaped(where: str) -> None:
    made = evaluation(HOSTILE if where == "name" else "Wider")
    found = made.found[0]
    if where in ("source", "title"):
        made = replace(made, **{where: HOSTILE})
    elif where == "missing":
        made = replace(made, missing=(HOSTILE,))
    elif where == "left_out":
        made = replace(made, left_out=((HOSTILE, HOSTILE),))
    elif where == "texts":
        named = replace(found.subject.preset, source_text=HOSTILE, target_text=HOSTILE)
        made = replace(made, found=(replace(found, subject=replace(found.subject, preset=named, attribute=HOSTILE)),))
    elif where == "picture":
        made = replace(made, found=(replace(found, shown=(replace(found.shown[0], name=HOSTILE),)),))
    if where == "texts":
        attributes = dict(zip([HOSTILE, "b"], found.attributes.values(), strict=False))
        made = replace(made, found=(replace(made.found[0], attributes=attributes, remarks=(HOSTILE,)),))
    read, plain = Reader(page(made)), Reader(page(evaluation()))
    assert [tag for tag, _ in read.tags].count("script") == [tag for tag, _ in plain.tags].count("script")
    if where != "picture":
        assert "alert(" in read.text, "it is there as a text"


def test_a_direction_of_which_little_is_known() -> None:
    subject = Subject(preset(), (0.0, 1.0))
    joined = Joined(subject, [])
    joined.add({"mse": np.array([[0.0, 1e-3]]), "reconstruction": np.array([[60.0, 30.0]])})
    made = replace(evaluation(), found=(joined.found((300, 0)),), names={}, missing=())
    read = Reader(page(made))
    assert "own change" not in [a.get("data-value") for _, a in read.tags]
    assert "Wider" in read.text


def test_the_policy_allows_the_pages_own_script() -> None:
    import base64
    import hashlib

    document = page(evaluation())
    (script,) = re.findall(r"<script>(.*?)</script>", document, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in document
    assert "default-src 'none'" in document


def test_numbers_of_tables() -> None:
    for value, text in (
        (0.0, "0"),
        (1234.6, "1235"),
        (0.98765, "0.988"),
        (0.00041, "0.00041"),
        (12.0, "12"),
        (-3.0, "-3"),
    ):
        assert _short(value) == text
    assert [_signed(v) for v in (1.0, 0.0, -0.25)] == ["+1", "0", "−0.25"]
    assert set(COLUMNS) <= {*MEASURES, "other", "frechet", "rank_correlation"}


# -------------------------------------------------------------------------------------------------------------- plots


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_a_line_goes_through_its_points() -> None:
    drawing = parsed(line_plot("Title <&>", [Line("a", [0, 1, 2], [0, 5, 10])], "x"))
    dots = [(float(c.get("cx", "")), float(c.get("cy", ""))) for c in drawing.iter("circle")]
    (x0, y0), (x1, y1), (x2, y2) = dots
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y2 < y0, "more is further up"
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in dots)
    assert [c.findtext("title") for c in drawing.iter("circle")] == ["a: 0 at 0", "a: 5 at 1", "a: 10 at 2"]
    assert drawing.findtext("title") == "Title <&>"
    mirrored = parsed(line_plot("t", [Line("a", [0, 1, 2], [0, 5, 10])], "t", downwards=True))
    first = next(mirrored.iter("circle"))
    assert float(first.get("cx", "")) == pytest.approx(x2, abs=0.2)


def test_a_line_ends_where_it_has_no_value() -> None:
    drawing = parsed(line_plot("t", [Line("a", range(5), [1, 2, math.nan, 4, 5], [0.1] * 5)], "x"))
    assert len(list(drawing.iter("circle"))) == 4
    paths = [p.get("d", "") for p in drawing.iter("path") if p.get("class") == "line-0"]
    assert len(paths) == 2
    bands = [p for p in drawing.iter("path") if p.get("class") == "band-0"]
    assert len(bands) == 2
    assert line_plot("t", [Line("a", [0, 1], [math.nan, math.inf])], "x") == ""


def test_several_lines_have_a_legend_that_fits() -> None:
    lines = [Line(f"attribute {n}", [0, 1], [n, n + 1]) for n in range(9)]
    drawing = parsed(line_plot("t", lines, "x", alone=True, marks=[Mark(3.0, "t_edit", level=True), Mark(0.5, "here")]))
    names = [text for text in drawing.iter("{http://www.w3.org/2000/svg}text") if (text.text or "").startswith("attr")]
    assert len(names) == 9
    _, _, width, height = (float(v) for v in drawing.get("viewBox", "").split())
    assert all(float(text.get("x", "")) < width and float(text.get("y", "")) < height for text in names)
    assert drawing.find("{http://www.w3.org/2000/svg}style") is not None, "a file of its own brings its colours"


def test_a_flat_line_and_a_single_point_can_be_drawn() -> None:
    for line in (Line("a", [0, 1], [2, 2]), Line("a", [3], [0]), Line("a", [0, 1], [0, 0])):
        drawing = parsed(line_plot("t", [line], "x"))
        assert all(math.isfinite(float(c.get("cy", ""))) for c in drawing.iter("circle"))


def test_ticks_say_exactly_where_they_are() -> None:
    for least, most in ((0, 1), (-0.02, 0.3), (3, 4021), (0, 1e-4)):
        for value, label in ticks(least, most):
            assert float(label) == pytest.approx(value, abs=1e-12)
            assert least - 1e-9 <= value <= most + 1e-9


def test_found_knows_its_name() -> None:
    assert isinstance(evaluation().found[0], Found)
    assert evaluation().found[0].name == "Wider"

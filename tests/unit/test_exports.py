"""What is taken away of a result can be read by others: CSV, JSON, and drawings that stand alone."""

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from core.intervals import Curves, Intervals
from core.studio.discover.spectrum import Spectrum
from tabs.charts import Point, front_plot, intervals_plot, loss_curve, spectrum_plot
from tabs.exports import csv_link, csv_text, first_svg, json_link

T = np.arange(0, 1000, 50)
DRAWINGS = {
    "loss": loss_curve([1.0, 0.5, 0.4], 3, 2),
    "intervals": intervals_plot(Intervals(500, 100), Curves(T, T / 2000, T / 600)),
    "front": front_plot([Point("a", 1.0, 30.0), Point("b", 4.0, 31.0)], 33.0),
    "spectrum": spectrum_plot([Spectrum("Mouth", (2.0, 1.0, 0.5), 0.2, 0.5), Spectrum("Rest", (1.0, 0.5, 0.1))]),
}


def held(link: str) -> tuple[str, bytes]:
    """The name and the content of the file in a link."""
    name, data = re.search(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', link).groups()
    return name, base64.b64decode(data)


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_drawing_can_be_had_as_a_file_that_stands_alone(name: str) -> None:
    file, data = held(DRAWINGS[name])
    assert file.endswith(".svg")
    root = ElementTree.fromstring(data)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"var(--" not in data
    assert data.decode() == first_svg(DRAWINGS[name])


def test_a_table_comes_back_from_its_file() -> None:
    rows = [["method", "psnr"], ["a, “b”", 30.25], ["x", None]]
    name, data = held(csv_link(rows, "table"))
    assert name == "table.csv"
    assert list(csv.reader(io.StringIO(data.decode()))) == [["method", "psnr"], ["a, “b”", "30.25"], ["x", ""]]
    assert json.loads(held(json_link({"a": [1.5]}, "numbers"))[1]) == {"a": [1.5]}


def test_no_cell_is_a_formula() -> None:
    assert csv_text([["=1+1"], ["@x"], [-2.0], ["", "a"]]) == "'=1+1\n'@x\n-2.0\n,a\n"

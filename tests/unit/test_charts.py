"""The drawings are well-formed and say what they show."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from core.intervals import Curves, Intervals
from tabs.charts import intervals_plot, loss_curve


def parsed(html: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{html}</div>")


@pytest.mark.parametrize("losses", [[], [1.0], [1.0, 0.5], list(np.linspace(2, 1, 5000)), [0.7] * 40])
def test_loss_curve(losses: list[float]) -> None:
    drawing = parsed(loss_curve(losses, 6000, 20))
    assert drawing.find("svg/title").text
    assert "nan" not in ElementTree.tostring(drawing, "unicode")


@pytest.mark.parametrize("chosen", [(500, 167), (1000, 0), (0, 0), (100, 900), (0, 1000)])
@pytest.mark.parametrize("with_curves", [True, False])
def test_intervals_plot(chosen: tuple[int, int], with_curves: bool) -> None:
    t = np.arange(0, 1000, 50)
    curves = Curves(t, t / 2000, t / 600) if with_curves else None
    drawing = parsed(intervals_plot(Intervals(*chosen), curves))
    for band in drawing.iter("rect"):
        assert float(band.get("width")) > 0
    assert str(chosen[0]) in drawing.find("svg/title").text

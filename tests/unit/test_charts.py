"""The drawings are well-formed and say what they show."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from core.intervals import Curves, Intervals
from tabs.charts import Point, front_plot, in_seconds, intervals_plot, loss_curve


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


def test_a_direction_that_starts_late_leaves_a_band_before_it() -> None:
    whole, late = (parsed(intervals_plot(Intervals(300, 0), None, t_start)) for t_start in (None, 700))
    left = {kind: [float(b.get("x")) for b in drawing.iter("rect")] for kind, drawing in (("a", whole), ("b", late))}
    assert left["b"][0] == left["a"][0] < left["b"][1] < left["a"][1] == left["b"][2]
    assert "from t = 700 to 300" in late.find("svg/title").text
    assert any(text.text == "700" for text in late.iter("text"))


@pytest.mark.parametrize(
    ("chosen", "t_start", "expected"),
    [
        ((5, 243), None, {"editing": (1000, 5), "boosting": (243, 0)}),
        ((950, 243), None, {"editing": (1000, 950), "denoising": (950, 243), "boosting": (243, 0)}),
        ((699, 2), 700, {"as it is": (1000, 700), "editing": (700, 699), "denoising": (699, 2), "boosting": (2, 0)}),
    ],
)
def test_every_interval_is_drawn_and_named(
    chosen: tuple[int, int], t_start: int | None, expected: dict[str, tuple[int, int]]
) -> None:
    """However narrow it is, and where noise is added to what is still edited; the names do not touch."""
    drawing = parsed(intervals_plot(Intervals(*chosen), None, t_start))
    bands = [(float(band.get("x")), float(band.get("width"))) for band in drawing.iter("rect")]
    assert len(bands) == len(expected)
    for (left, width), (start, end) in zip(bands, expected.values(), strict=True):
        assert left == pytest.approx(2 + 0.392 * (1000 - start), abs=3)
        assert width == pytest.approx(max(3, 0.392 * (start - end)), abs=0.1)
        assert left + width <= 394.1
    names = sorted(
        (float(text.get("x")), text.text) for text in drawing.iter("text") if text.get("class") == "band-name"
    )
    assert {name for _, name in names} == set(expected)
    ends = [(x - 3 * len(name), x + 3 * len(name)) for x, name in names]
    assert ends[0][0] >= 0
    assert ends[-1][1] <= 400
    assert all(a[1] < b[0] for a, b in zip(ends, ends[1:], strict=False))
    assert any(text.text in (str(chosen[0]), f"t = {chosen[0]}") for text in drawing.iter("text"))


def test_a_direction_that_begins_too_late_to_act_is_told() -> None:
    html = intervals_plot(Intervals(950, 0), None, 700)
    drawing = parsed(html)
    assert "edit" not in [word for band in drawing.iter("rect") for word in band.get("class").split()]
    assert "No editing: the direction begins to act at t = 700" in html
    assert {"t = 950", "700"} <= {text.text for text in drawing.iter("text")}


@pytest.mark.parametrize("values", [[37.7, 37.1], [36.0, 37.7, 37.75], [12.0, 44.0], [30.0, 30.001]])
def test_a_tick_says_where_it_is(values: list[float]) -> None:
    """A point lies between the ticks that its value lies between."""
    drawing = parsed(front_plot([Point(f"m{k}", 1.0 + k, value) for k, value in enumerate(values)], None))
    labels = [t for t in drawing.iter("text") if t.get("x") == "2" and "PSNR" not in t.text]
    ticks = {float(t.get("y")) - 4: float(t.text) for t in labels}
    assert len(ticks) >= 2
    for circle in drawing.iter("circle"):
        psnr = values[int(circle.find("title").text[1])]
        for place, label in ticks.items():
            assert (float(circle.get("cy")) <= place + 0.1) == (psnr >= label - 1e-2), (psnr, label)


@pytest.mark.parametrize("chosen", [(950, 0), (990, 940), (500, 30), (500, 480), (999, 5)])
def test_labels_of_the_time_axis_do_not_touch(chosen: tuple[int, int]) -> None:
    drawing = parsed(intervals_plot(Intervals(*chosen), None))
    spans = []
    for text in drawing.iter("text"):
        if float(text.get("y")) > 160:
            width, x = 6.2 * len(text.text), float(text.get("x"))
            left = {"middle": x - width / 2, "end": x - width}.get(text.get("text-anchor"), x)
            spans.append((left, left + width))
    spans.sort()
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False)), spans


CROWD = [("DDIM, guided", 1.1, 21.0), ("Edit-friendly DDPM", 1.2, 37.1), ("latent-TOP", 9.0, 36.2), ("DDIB", 1.0, 24.0)]
METHODS = [("Anchored", 0.02, 37.7), ("DDIM", 0.01, 24.0), *CROWD, ("EDICT", 2.5, 37.4), ("Null-text", 30.0, 35.9)]


@pytest.mark.parametrize("methods", [METHODS[:2], [("Anchored", 1.4, 37.7), ("DDIM", 1.3, 37.2)], METHODS])
def test_names_of_dots_stand_on_nothing(methods: list[tuple[str, float, float]]) -> None:
    """Neither on a dot, nor on another name, nor on the dotted bound; and they stay inside."""
    drawing = parsed(front_plot([Point(*method) for method in methods], 37.72))
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in drawing.iter("circle")]
    covered = [(a - 4, b - 4, a + 4, b + 4) for a, b in dots]
    [dotted] = [path.get("d") for path in drawing.iter("path") if path.get("class") == "threshold"]
    line = float(dotted.partition(" ")[2].partition("H")[0])
    covered.append((34, line - 0.5, 386, line + 0.5))
    names = [text for text in drawing.iter("text") if text.get("class") == "name"]
    assert [name.text for name in names] == [name for name, *_ in methods]
    for name, dot in zip(names, dots, strict=True):
        left, base = float(name.get("x")), float(name.get("y"))
        box = (left, base - 8.5, left + 6.2 * len(name.text), base)
        assert all((box[0] >= 34, box[1] > 0, box[2] <= 400, box[3] < 212)), name.text
        for other in covered:
            assert box[2] <= other[0] or box[0] >= other[2] or box[3] <= other[1] or box[1] >= other[3], name.text
        assert max(box[0] - dot[0], dot[0] - box[2], box[1] - dot[1], dot[1] - box[3]) < 25, "it is beside its dot"
        covered.append(box)


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "< 0.001"), (0.0123, "0.012"), (0.1, "0.1"), (2.04, "2.0"), (75.0, "75.0")]
)
def test_table_and_drawing_tell_the_same_time(seconds: float, told: str) -> None:
    drawing = parsed(front_plot([Point("m", seconds, 20.0), Point("n", 1.0, 30.0)], None))
    assert next(iter(drawing.iter("circle"))).find("title").text == f"m, {told} s, 20.0 dB"
    assert in_seconds(seconds) == told
    ticks = [text for text in drawing.iter("text") if text.text.endswith(" s")]
    at = {float(text.text[:-2]): float(text.get("x")) for text in ticks}
    x = float(next(iter(drawing.iter("circle"))).get("cx"))
    assert all((x >= place - 0.1) == (max(seconds, 0.001) >= value) for value, place in at.items())


@pytest.mark.parametrize("bound", [None, 30.0])
def test_time_and_accuracy(bound: float | None) -> None:
    """The front joins the methods that nothing beats in both; a time of zero has its place too."""
    points = [
        Point("exact", 2.0, 30.0),
        Point("<b>slow</b>", 60.0, 28.0),
        Point("plain", 0.5, 22.0),
        Point("z", 0.0, 9.0),
    ]
    drawing = parsed(front_plot(points, bound))
    assert len(list(drawing.iter("circle"))) == 4
    assert "<b>slow</b>, 60.0 s, 28.0 dB" in drawing.find("svg/title").text
    assert "nan" not in ElementTree.tostring(drawing, "unicode")
    at = {c.find("title").text.split(",")[0]: (float(c.get("cx")), float(c.get("cy"))) for c in drawing.iter("circle")}
    assert at["z"][0] < at["plain"][0] < at["exact"][0] < at["<b>slow</b>"][0]
    assert at["exact"][1] < at["<b>slow</b>"][1] < at["plain"][1]
    [front] = [path.get("d") for path in drawing.iter("path") if path.get("class") == "second"]
    assert front.count("L") == 2
    assert f"{at['<b>slow</b>'][0]:.1f} " not in front
    assert any(path.get("class") == "threshold" for path in drawing.iter("path")) == (bound is not None)


def test_the_axis_is_that_of_the_model() -> None:
    """Of a model with 4000 timesteps an interval that ends at 2000 takes as much as one that ends at 500 of 1000."""
    usual, long = (parsed(intervals_plot(Intervals(T // 2, T // 10), None, None, T)) for T in (1000, 4000))
    bands = [[(band.get("x"), band.get("width")) for band in drawing.iter("rect")] for drawing in (usual, long)]
    assert bands[0] == bands[1]
    ticks = [[text.text for text in drawing.iter("text")] for drawing in (usual, long)]
    assert {"500", "100", "t = 1000"} < set(ticks[0])
    assert {"2000", "400", "t = 4000"} < set(ticks[1])

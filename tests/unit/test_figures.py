"""The papers' figures: how verdicts come about, what a stopped run keeps, and that the page says what was drawn."""

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from held_out import people, pixels
from PIL import Image
from small_models import small_model

from core.directions import GlobalDirection
from core.discovery.locality import mean_squares
from core.errors import RequestError
from core.figures import listed, locality
from core.figures.asyrp_edits import r_squared
from core.figures.bench import HELD_OUT, Bench, frechet, read_held_out
from core.figures.figure import Check, Drawn, Figure, short, verdict_of
from core.figures.grids import GAP, grid
from core.figures.latent_top import ORDER, order_checks
from core.figures.page import anchor, parts
from core.figures.region_based import heat, principal_cosines
from core.figures.run import described, draw_figures
from core.marked import sections
from core.metrics import psnr
from core.progress import Job, Progress, finish
from core.regions import Region
from hspace import main

ROOT = Path(__file__).parents[2]
PAGE, FOLDER = ROOT / "docs" / "papers.md", ROOT / "docs" / "figures"
MAX_BYTES = 3 * 2**20  # of the committed figures


# ------------------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("value", "bound", "at_least", "holds"),
    [
        (0.9, 0.9, True, True),
        (0.89, 0.9, True, False),
        (1.0, 1.0, False, True),
        (1.01, 1.0, False, False),
        (math.nan, 0.0, True, False),
        (math.inf, 0.0, True, False),
        (-math.inf, 0.0, False, False),
    ],
)
def test_a_number_holds_or_not(value: float, bound: float, at_least: bool, holds: bool) -> None:
    check = Check("a number", value, bound, at_least)
    assert check.holds == holds
    assert (": no" in check.words) != holds


def test_a_verdict_is_that_of_all_checks() -> None:
    assert verdict_of([True, True]) == "agrees"
    assert verdict_of([True, False]) == "partly"
    assert verdict_of([False, False]) == "does not hold here"


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.0, "0"), (0.9041, "0.904"), (12.345, "12.3"), (1234.5, "1234"), (-0.5, "−0.5"), (math.nan, "no number")],
)
def test_numbers_are_short(value: float, said: str) -> None:
    assert short(value) == said


def test_a_line_fits_itself_and_a_parabola_fits_none() -> None:
    x = [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert r_squared(x, [2 * c - 1 for c in x]) == pytest.approx(1)
    assert r_squared(x, [c * c for c in x]) == pytest.approx(0, abs=1e-12)
    y = np.array([0.0, 1.0, 1.0, 3.0, 4.0])
    assert r_squared(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2)


def test_principal_angles_of_planes() -> None:
    """Planes in four dimensions that share one axis, the other turned by 60 degrees; their bases are mixed."""
    a = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    b = torch.tensor([[1.0, 0, 0, 0], [0, math.cos(math.pi / 3), math.sin(math.pi / 3), 0]])
    mix = torch.tensor([[2.0, 1.0], [1.0, -3.0]])
    assert principal_cosines(mix @ a, b).tolist() == pytest.approx([1.0, 0.5])


def test_the_frechet_distance_of_shifted_sets_is_the_square_of_the_shift() -> None:
    features = np.random.default_rng(0).normal(size=(40, 3))
    assert frechet(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet(features, features + [3.0, 0.0, 4.0]) == pytest.approx(25)


def test_the_order_of_methods_is_by_the_least_lead() -> None:
    first, second, third = ORDER
    values = {"a": (30.0, 28.0, 20.0), "b": (31.0, 32.0, 10.0)}
    rows = [
        {"changed": what, "method": method, "psnr": value}
        for what, three in values.items()
        for method, value in zip(ORDER, three, strict=True)
    ]
    checks = order_checks(rows, "reconstruction")
    assert [check.value for check in checks] == [-1.0, 8.0]
    assert [check.holds for check in checks] == [False, True]
    assert second in checks[0].what
    assert third in checks[1].what
    assert first != second


# ------------------------------------------------------------------------------------------------------------- pictures


def test_cells_are_where_they_belong() -> None:
    red, green = (Image.new("RGB", (40, 40), colour) for colour in ((255, 0, 0), (0, 255, 0)))
    made = grid([[red, None], [green, -torch.ones(1, 3, 8, 8)]], side=20)
    assert made.size == (2 * 20 + GAP, 2 * 20 + GAP)
    assert made.getpixel((10, 10)) == (255, 0, 0)
    assert made.getpixel((34, 10)) == (255, 255, 255)
    assert made.getpixel((10, 34)) == (0, 255, 0)
    assert made.getpixel((34, 34)) == (0, 0, 0)
    labelled = grid([[red]], columns=("one\ntwo",), names=("a name",), side=20)
    assert labelled.width > 20
    assert labelled.height > 20
    assert labelled.getpixel((labelled.width - 10, labelled.height - 10)) == (255, 0, 0)


def test_heat_is_where_pictures_differ() -> None:
    before = torch.zeros(1, 3, 8, 8)
    after = before.clone()
    after[..., 4:] += 0.3
    picture = heat(before, after)
    assert isinstance(picture, Image.Image)
    assert picture.getpixel((1, 4)) == (255, 255, 255)
    assert picture.getpixel((6, 4)) == (255, 0, 0)


def test_the_sheet_holds_the_first_held_out_portraits() -> None:
    held = read_held_out("avatars")
    assert held is not None
    assert held.pixels.shape == (40, 3, 128, 128)
    drawn = pixels(people(10))
    assert psnr(held.pixels[:10], drawn).min() > 32
    assert psnr(held.pixels[[1]], drawn[[0]]) < 20  # another portrait is another
    about = json.loads((ROOT / "presets" / HELD_OUT / "avatars.json").read_text())
    assert about["count"] == 40
    assert all(prompt != target for prompt, target, _, _ in held.prompts.values())
    assert read_held_out("church") is None


def test_methods_are_compared_at_equal_change() -> None:
    model = small_model()
    mask = np.zeros((32, 32), bool)
    mask[8:20, 8:20] = True
    region = Region("middle", mask)
    directions = [
        GlobalDirection(torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(seed)), locality.STEPS)
        for seed in (1, 2)
    ]
    candidates = [
        locality.Candidate("one", region, one, start) for one, start in zip(directions, (0.5, 1.5), strict=True)
    ]
    x_T = torch.randn(1, 12, 16, 16, generator=torch.Generator().manual_seed(3))
    bench = Bench(model)
    before = finish(bench.decoded(x_T))
    wanted = 0.02
    strengths, after = finish(locality.at_equal_change(bench, x_T, before, candidates, wanted))
    reached = mean_squares(before, after, mask)[0].sqrt()
    assert torch.allclose(reached, torch.full((2,), wanted), rtol=0.3)
    again = finish(bench.decoded(x_T, [(directions[1], float(strengths[1]))], locality.SYMMETRIC))
    assert torch.allclose(after[1:], again, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------- a run


def figure(name: str, draw) -> Figure:  # type: ignore[no-untyped-def]
    return Figure(name, f"Figure {name}", "Something.", "It holds.", (("core/editing.py", "edit"),), draw)


def counting(calls: list[str], name: str, fault: str = "") -> Figure:
    def draw(bench: Bench) -> Job[Drawn]:
        calls.append(name)
        yield Progress(0, 1, "drawing")
        if fault:
            raise RequestError(fault)
        value = 1.0 if bench.small else 0.0
        picture: Image.Image | str = Image.new("RGB", (4, 4)) if name.endswith("1") else "<svg/>"
        return Drawn(picture, [{"n": 2, "value": 1 / 3}], [Check("a number:", value, 0.5)], "One of two.")

    return figure(name, draw)


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    calls: list[str] = []
    bench = Bench(small_model())
    figures = [counting(calls, "a-1"), counting(calls, "a-2", "There is no painter."), counting(calls, "a-3")]
    done = finish(draw_figures(bench, figures, tmp_path))
    assert calls == ["a-1", "a-2", "a-3"], "one that fails stops no other"
    assert [one.fault for one in done] == ["", "There is no painter.", ""]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"a-{end}" for end in ("1.webp", "1.csv", "1.json", "3.svg", "3.csv", "3.json")
    }
    about = described(tmp_path, "a-1")
    assert about is not None
    assert (about["verdict"], about["small"], about["says"]) == ("does not hold here", False, "One of two.")
    assert list(csv.reader(io.StringIO((tmp_path / "a-1.csv").read_text()))) == [["n", "value"], ["2", "0.33333"]]

    done = finish(draw_figures(bench, figures, tmp_path))
    assert calls[3:] == ["a-2"], "what is there is kept"
    assert [one.fresh for one in done] == [False, False, False]
    finish(draw_figures(bench, figures[:1], tmp_path, again=True))
    assert calls[4:] == ["a-1"]
    finish(draw_figures(Bench(small_model(), small=True), figures[:1], tmp_path))
    assert calls[5:] == ["a-1"], "a quick look is another figure"
    (tmp_path / "a-3.svg").unlink()
    finish(draw_figures(bench, figures[2:], tmp_path))
    assert calls[6:] == ["a-3"], "a figure without its picture is none"


def test_names_are_figures_or_papers() -> None:
    assert [one.name for one in listed.chosen_figures(["asyrp-7", "latent", "latent-2"])][:2] == ["asyrp-7", "latent-2"]
    assert len(listed.chosen_figures([])) == len(listed.FIGURES)
    with pytest.raises(RequestError, match="asyrp-7"):
        listed.chosen_figures(["asyrp-77"])


def test_the_command_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in listed.FIGURES)
    assert main(["figures", "nothing"]) == 1
    assert "latent" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)  # minutes of work on a slow machine
@pytest.mark.parametrize("paper", [paper.key for paper in listed.PAPERS])
def test_a_quick_look_draws_every_figure(paper: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Little of each: whether what they are drawn with fits together, and that every check has a number."""
    assert main(["figures", paper, "--small", "--out", str(tmp_path)]) == 0
    for one in listed.chosen_figures([paper]):
        about = described(tmp_path, one.name)
        assert about is not None, one.name
        assert about["small"] is True
        assert about["checks"], one.name
        assert all(check["value"] is not None for check in about["checks"]), one.name
        rows = list(csv.reader(io.StringIO((tmp_path / f"{one.name}.csv").read_text(encoding="utf-8"))))
        assert len(rows) > 1, one.name
        assert len({len(row) for row in rows}) == 1, one.name
    assert "papers.md" not in capsys.readouterr().out


def test_with_another_model_a_figure_is_drawn_or_says_what_it_needs() -> None:
    """One without directions, instruments, held-out pictures and words."""
    bench, needs = Bench(small_model(), small=True), {}
    for name, one in listed.FIGURES.items():
        try:
            drawn = finish(one.draw(bench))
        except RequestError as error:
            needs[name] = error.message
            continue
        assert drawn.rows, name
        assert drawn.checks, name
    assert all(name.startswith(("asyrp", "latent")) for name in needs if name != "region-table2")
    assert needs["asyrp-4"].startswith("No directions come with small: put presets into presets/directions/small")
    assert needs["asyrp-7"].startswith("No direction “smiling” comes with small: put presets into")
    assert "held-out pictures with prompts" in needs["latent-2"]


# ------------------------------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module", params=list(listed.FIGURES))
def drawn(request: pytest.FixtureRequest) -> Figure:
    return listed.FIGURES[request.param]


def test_what_is_to_be_read_is_there(drawn: Figure) -> None:
    assert drawn.read
    for file, name in drawn.read:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"^\s*(?:def|class) {name}\b|^{name}(?:: .+)? =", source, re.MULTILINE), f"{file}: {name}"


def test_a_figure_was_drawn_whole_or_is_said_to_be_missing(drawn: Figure) -> None:
    about = described(FOLDER, drawn.name)
    if about is None:
        assert f"Not drawn yet: `hspace figures {drawn.name}`" in PAGE.read_text(encoding="utf-8")
        return
    assert about["small"] is False
    assert about["model"] == "avatars"
    for check in about["checks"]:
        value = math.nan if check["value"] is None else check["value"]
        assert Check(check["what"], value, check["bound"], check["at_least"]).holds == check["holds"]
    assert about["verdict"] == verdict_of([check["holds"] for check in about["checks"]])
    rows = list(csv.reader(io.StringIO((FOLDER / f"{drawn.name}.csv").read_text(encoding="utf-8"))))
    assert len(rows) > 1
    assert len({len(row) for row in rows}) == 1
    picture = FOLDER / about["picture"]
    if picture.suffix == ".webp":
        with Image.open(picture) as opened:
            assert np.asarray(opened.convert("L")).std() > 5
    else:
        assert picture.read_text(encoding="utf-8").startswith("<svg ")


def test_the_page_says_what_was_drawn() -> None:
    assert sections(PAGE) == {name: text.strip() for name, text in parts(PAGE, FOLDER).items()}


def test_the_page_leads_to_every_figure() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [one.title for one in listed.FIGURES.values()]
    assert len({anchor(heading) for heading in headings}) == len(headings)


def test_the_folder_holds_the_figures_and_little_else() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {path.stem for path in files} <= set(listed.FIGURES)
    assert sum(path.stat().st_size for path in files) < MAX_BYTES


def test_a_model_without_directions_says_so() -> None:
    bench = Bench(small_model())
    with pytest.raises(RequestError, match="figures that need none"):
        bench.directions()


def test_work_that_figures_share_is_done_once() -> None:
    bench, calls = Bench(small_model()), []

    def make() -> Job[int]:
        calls.append(1)
        yield Progress(0, 1)
        return 7

    assert [finish(bench.once("key", make)) for _ in range(2)] == [7, 7]
    assert calls == [1]

"""The page of an evaluation in a real browser, offline, on a desk and on a phone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from core import cli
from training.portraits import HELD_OUT, render, sample

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three directions on four portraits, made by the command; one file cannot be read."""
    folder = tmp_path_factory.mktemp("portraits")
    for n in range(4):
        render(sample(HELD_OUT + n)).save(folder / f"{n}.png")
    (folder / "bröken <b>.png").write_bytes(b"no picture")
    out = folder / "out"
    arguments = ["smiling", "red lips", "glasses", "--steps", "4", "--pictures", str(folder), "--out", str(out)]
    assert cli.main(["evaluate", *arguments]) == 0
    return out / "evaluation.html"


@pytest.fixture
def opened(browser: Browser, report: Path) -> Iterator[Open]:
    """The page from its file without a network; messages of its console and requests fail the test."""
    contexts, said, asked = [], [], []

    def open_page(width: int, height: int, **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not said
    assert [url for url in asked if not url.startswith("data:") and url != report.as_uri()] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1440, 900), (390, 844)], ids=["desk", "phone"])
def test_it_opens_offline_and_fits(opened: Open, size: tuple[int, int], scheme: str) -> None:
    page = opened(*size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0], "nothing sticks out"
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert page.locator(".direction").count() == 3
    assert page.locator("section.direction").first.locator(".plot").count() >= 5
    smallest = "Math.min(...[...document.querySelectorAll('.plot')].map((plot) => plot.getBoundingClientRect().height))"
    assert page.evaluate(smallest) > 120
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:120]) for one in found] == []


def test_the_table_is_sorted_by_its_headings(opened: Open) -> None:
    page = opened(1440, 900)

    def column(index: int) -> list[str]:
        return page.locator(f"table.sortable tbody tr > :nth-child({index})").all_inner_texts()

    assert column(1) == ["Smiling", "Red lips", "Glasses"], "in the order of the command"
    heading = page.get_by_role("button", name="own change")
    heading.click()
    values = page.locator("table.sortable tbody td:nth-child(3)").evaluate_all(
        "all => all.map((a) => +a.dataset.value)"
    )
    assert values == sorted(values, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("own")
    heading.focus()
    page.keyboard.press("Enter")
    values = page.locator("table.sortable tbody td:nth-child(3)").evaluate_all(
        "all => all.map((a) => +a.dataset.value)"
    )
    assert values == sorted(values)
    page.get_by_role("button", name="direction").click()
    assert column(1) == ["Glasses", "Red lips", "Smiling"]


def test_a_direction_is_found_from_the_table(opened: Open) -> None:
    page = opened(390, 844)
    page.get_by_role("link", name="Glasses").click()
    assert page.evaluate("Math.abs(document.querySelector('#direction-2').getBoundingClientRect().top) < 844")
    details = page.locator("details").last
    assert not details.locator("table").is_visible()
    details.locator("summary").click()
    assert details.locator("tbody tr").count() == 5
    assert "bröken <b>.png" in page.locator("body").inner_text()

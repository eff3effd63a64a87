"""What the page says is true: of pictures that the model does not know, of intervals, of settings that it chose itself.
And every table can be taken away."""

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from benchmarks.domain import drawing
from tests.browser.test_invert import choose, edited, inverted, opened, panel, write_targets

Visit = Callable[..., Page]


def section(page: Page, name: str) -> None:
    page.locator(f"#{name} > button.label-wrap").click()
    page.wait_for_timeout(600)  # Gradio makes what is inside only now, and gives it its first values after that


def held(link: Locator) -> str:
    """The content of the file in a link."""
    address = link.get_attribute("href") or ""
    return base64.b64decode(address.partition(",")[2]).decode()


def table(place: Locator) -> list[list[str]]:
    return list(csv.reader(io.StringIO(held(place.locator("a[download$='.csv']").first))))


def test_a_picture_that_the_model_cannot_draw_is_told(visit: Visit, tmp_path: Path) -> None:
    page = visit(390, 844)
    stage = page.locator("#stage .stage")
    foreign = stage.locator("[data-part=foreign]")
    page.locator("#presets .cards").get_by_role("radio", name="Smiling", exact=True).click()
    expect(stage).not_to_have_attribute("data-frames", "0")
    expect(foreign).to_be_hidden()
    expect(stage.locator("[data-part=attributes]")).to_be_visible()

    drawing(3).save(tmp_path / "shapes.png")
    page.get_by_role("tab", name="Your own").click()
    page.locator(".upload input[type=file]").first.set_input_files(tmp_path / "shapes.png")
    page.get_by_role("button", name="Use this").click()
    expect(foreign).to_be_visible()
    expect(foreign).to_contain_text("cannot draw this picture")
    expect(foreign).to_contain_text("Celebrity faces")
    expect(foreign).to_contain_text("Another model")
    expect(foreign.locator("img")).to_have_attribute("src", re.compile("^data:image"))
    expect(stage).not_to_have_attribute("data-frames", "0")
    expect(stage.locator("[data-part=attributes]")).to_be_hidden()
    expect(stage.locator("[data-measure=identity]")).to_have_count(0)
    expect(stage.locator("[data-part=missing]")).to_contain_text("does not know pictures like this one")
    tops = [
        place.evaluate("node => node.getBoundingClientRect().top") for place in (foreign, stage.locator(".picture"))
    ]
    assert tops[0] < tops[1]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    root = opened(page)
    choose(root, "Anchored")
    inverted(root, "anchored")
    told = root.locator("#invert-stage [data-part=foreign]")
    expect(told).to_contain_text("cannot draw this picture")
    expect(told).to_contain_text("Stable Diffusion 1.5")
    expect(root.locator("#invert-stage [data-part=attributes]")).to_be_hidden()

    page.get_by_role("tab", name="Compose", exact=True).click()
    page.locator("#palette .cards").get_by_role("checkbox", name="Smiling", exact=True).click()
    composed = page.locator("#compose-stage .stage")
    expect(composed.locator("[data-part=foreign]")).to_be_visible()
    expect(composed).to_have_attribute("data-frames", "1")
    page.locator("#compose").get_by_role("tab", name="Examples").click()
    page.locator("#compose .examples .cards button").nth(2).click()
    expect(composed.locator("[data-part=foreign]")).to_be_hidden()


def test_a_mix_says_its_intervals_and_its_tables_can_be_taken_away(page: Page) -> None:
    page.get_by_role("tab", name="Compose", exact=True).click()
    for name in ("Smiling", "Old"):
        page.locator("#palette .cards").get_by_role("checkbox", name=name, exact=True).click()
    expect(page.locator("#mixer .channel")).to_have_count(2)
    expect(page.locator("#compose-stage .stage")).to_have_attribute("aria-busy", "false")
    before = page.locator("#compose-stage [data-part=after]").get_attribute("src")

    section(page, "advanced-compose")
    said = page.locator("#compose-in-force")
    expect(said).to_contain_text("Smiling down to t =")
    expect(said).to_contain_text(re.compile("No boosting, because (Smiling and Old|Old and Smiling) suggest none"))
    page.locator("#compose-boost input").check()
    expect(said).to_contain_text("Quality boosted below t =")
    expect(page.locator("#compose-stage [data-part=after]")).not_to_have_attribute("src", before or "")
    page.locator("#compose-sources").get_by_label("From the model's perceptual curves").check()
    expect(said).to_contain_text("by the model's curves")

    section(page, "similarity")
    page.locator("#metric").get_by_label("What they add inside the model").check()
    page.locator("#compare").click()
    rows = table(page.locator("#matrix"))
    assert (rows[0][0], sorted(rows[0][1:])) == ("", ["Old", "Smiling"])
    assert [round(float(rows[k][k]), 4) for k in (1, 2)] == [1.0, 1.0]

    section(page, "sweep")
    page.locator("#sweep-count input[type=number]").fill("2")
    page.locator("#sweep-count input[type=number]").press("Enter")
    page.locator("#make-sweep").click()
    expect(page.locator("#sweep-grid .grid")).to_have_attribute("data-done", "yes")
    rows = table(page.locator("#sweep-note"))
    assert (sorted(rows[0][:2]), rows[0][2:5]) == (["Old", "Smiling"], ["s_dir", "identity", "distance"])
    assert len(rows) == 5

    section(page, "history")
    numbers = page.locator("#history-numbers")
    expect(numbers.locator("a")).to_have_count(2)
    results = json.loads(held(numbers.locator("a[download$='.json']")))
    assert [result["tab"] for result in results] == ["Compose"] * len(results)
    assert results[-1]["attributes"]


def test_what_suits_a_change_of_words_is_chosen_and_said(page: Page) -> None:
    root = opened(page)
    root.locator("#source-prompt textarea").fill("a face with glasses and long hair")
    inverted(root, "anchored", "DDIM")
    panel(root, "Edit")
    said = root.locator("#edit-said")
    write_targets(root, "a face with long hair")
    edited(root)
    expect(said).to_contain_text("because words are taken out")
    expect(said).to_contain_text("The model is also told “without glasses”")
    expect(said).to_contain_text("The edit begins early")
    root.locator("#targets textarea").fill("a face with glasses and gray hair")
    edited(root)
    expect(said).to_contain_text("swap")
    expect(said).not_to_contain_text("without glasses")

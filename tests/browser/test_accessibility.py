"""What axe-core finds in the accessibility tree of every tab: nothing serious, in light and in dark."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from core import presets
from core.studio import library

axe = pytest.importorskip("axe_playwright_python.sync_playwright")


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("light", {"width": 1440, "height": 900}),
        ("dark", {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}),
    ],
)
def test_no_serious_finding(visit: Callable[..., Page], scheme: str, options: dict[str, Any], tmp_path: Path) -> None:
    page = visit(color_scheme=scheme, **options)
    made = replace(library.shipped("avatars")["sad"], name="Mine")
    page.locator("input[type=file][accept*=safetensors]").first.set_input_files(
        presets.save(made, tmp_path / "m.safetensors")
    )
    expect(page.locator("#presets .group")).to_have_count(2)
    page.locator("#presets .cards button").first.click()
    expect(page.locator("#stage .strip button:not([disabled])")).to_have_count(7)
    found = []
    for name in ("Text edit", "Discover", "Compose", "Invert"):
        page.get_by_role("tab", name=name, exact=True).click()
        page.wait_for_timeout(1500)
        for fault in axe.Axe().run(page).response["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found += [(name, fault["id"], node["html"][:120]) for node in fault["nodes"]]
    assert not found


def test_on_a_phone_the_picture_stays_in_view_and_targets_are_large(visit: Callable[..., Page]) -> None:
    page = visit(390, 844, has_touch=True, is_mobile=True)
    page.locator("#presets .cards button").first.tap()
    expect(page.locator("#stage .strip button:not([disabled])")).to_have_count(7)
    save = page.locator("#stage [data-part=photo]").bounding_box()
    assert min(save["width"], save["height"]) >= 44
    page.locator("#stage input[type=range]").scroll_into_view_if_needed()
    page.evaluate("window.scrollBy(0, 300)")
    page.wait_for_timeout(300)
    slider = page.locator("#stage input[type=range]").bounding_box()
    canvas = page.locator("#stage .canvas").bounding_box()
    assert canvas["y"] + canvas["height"] > 150
    margin = {"x": canvas["x"] - 5, "y": canvas["y"] + 40, "width": 4, "height": canvas["height"] - 80}
    beside = Image.open(io.BytesIO(page.screenshot(clip=margin))).convert("RGB")
    assert len(beside.getcolors() or []) == 1, "nothing sticks out behind the picture"
    assert slider["y"] > canvas["y"]

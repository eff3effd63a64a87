"""What axe-core finds in the accessibility tree of every tab: nothing serious, in light and in dark."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

axe = pytest.importorskip("axe_playwright_python.sync_playwright")


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("light", {"width": 1440, "height": 900}),
        ("dark", {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}),
    ],
)
def test_no_serious_finding(visit: Callable[..., Page], scheme: str, options: dict[str, Any]) -> None:
    page = visit(color_scheme=scheme, **options)
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
    assert slider["y"] > canvas["y"]

"""The board that regions are drawn on: eraser, masks in and out, parts, zoom and pan, by mouse, keys and fingers."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from core.errors import ModelUnavailable, RequestError
from tabs import regions as board

Visit = Callable[..., Page]


def opened(page: Page) -> Locator:
    tab = page.get_by_role("tab", name="Discover")
    tab.tap() if page.viewport_size["width"] < 700 else tab.click()
    root = page.locator("#discover .regions")
    expect(root.locator("img[data-part=image]")).to_have_attribute("src", re.compile("^data:"))
    root.locator(".board").scroll_into_view_if_needed()
    return root


def on(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where a point of the board is on the page."""
    at = page.locator("#discover .board").bounding_box()
    return at["x"] + x * at["width"], at["y"] + y * at["height"]


def drag(page: Page, *points: tuple[float, float]) -> None:
    page.mouse.move(*on(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*on(page, *point), steps=4)
    page.mouse.up()


def mask_of(page: Page, label: str) -> np.ndarray:
    """The mask file of a region, boolean (R, R)."""
    with page.expect_download() as download:
        page.get_by_role("link", name=f"{label} as a mask file").click()
    picture = Image.open(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert picture.size == (128, 128), "a mask has the picture's size"
    return np.asarray(picture.convert("L")) > 127


def inside(mask: np.ndarray, x: float, y: float) -> bool:
    return bool(mask[int(y * len(mask)), int(x * len(mask))])


def test_eraser_masks_parts_and_zoom(page: Page, tmp_path: Path) -> None:
    root = opened(page)
    drag(page, (0.1, 0.1), (0.4, 0.3))
    root.get_by_role("button", name="Brush", exact=True).click()
    root.get_by_label("Width of the brush").fill("12")
    drag(page, (0.2, 0.6), (0.8, 0.6))
    root.get_by_role("button", name="Eraser", exact=True).press("Enter")  # by keyboard as well
    expect(root.get_by_label("Width of the brush")).to_have_value("12")
    drag(page, (0.5, 0.4), (0.5, 0.8))
    brush = mask_of(page, "Brush 1")
    assert [inside(brush, x, 0.6) for x in (0.3, 0.5, 0.7)] == [True, False, True]
    drag(page, (0.25, 0.05), (0.25, 0.35))  # through the box, which is one no more
    box = mask_of(page, "Region 1")
    assert [inside(box, x, 0.2) for x in (0.15, 0.25, 0.36)] == [True, False, True]
    root.get_by_role("button", name="Undo", exact=True).click()
    root.get_by_role("button", name="Undo", exact=True).click()
    expect(root.locator(".shape")).to_have_count(1)
    assert inside(mask_of(page, "Brush 1"), 0.5, 0.6), "undone"

    # Enlarged twice about its middle by the keys, then dragged: what is painted lies under the pointer.
    root.get_by_role("button", name="Clear", exact=True).click()
    root.locator(".board").focus()
    for _ in range(2):
        page.keyboard.press("+")
    zoom = float(root.get_attribute("data-zoom"))
    assert zoom > 1.5
    page.mouse.move(*on(page, 0.5, 0.5))
    page.mouse.wheel(0, -100)
    expect(root).not_to_have_attribute("data-zoom", f"{zoom:.2f}")
    zoom = float(root.get_attribute("data-zoom"))
    root.get_by_role("button", name="Brush", exact=True).click()
    drag(page, (0.9, 0.5), (0.9, 0.52))
    painted = mask_of(page, "Brush 1")
    assert inside(painted, 0.5 + 0.4 / zoom, 0.51)
    assert not inside(painted, 0.9, 0.51)
    root.get_by_role("button", name="Move the enlarged picture").click()
    drag(page, (0.8, 0.5), (0.2, 0.5))
    root.get_by_role("button", name="Brush", exact=True).click()
    drag(page, (0.9, 0.9), (0.9, 0.92))
    assert inside(mask_of(page, "Brush 1"), min(1 - 0.1 / zoom, 0.5 + (0.4 + 0.6) / zoom), 0.5 + 0.41 / zoom)
    root.locator(".board").focus()
    page.keyboard.press("0")
    expect(root).to_have_attribute("data-zoom", "1.00")
    root.get_by_role("button", name="Clear", exact=True).click()

    # A mask file of another size; then one that is none.
    wanted = np.zeros((300, 300), np.uint8)
    wanted[150:225, 75:225] = 255
    Image.fromarray(wanted).save(tmp_path / "mask.png")
    with page.expect_file_chooser() as chooser:
        root.get_by_role("button", name="Open a mask").click()
    chooser.value.set_files(tmp_path / "mask.png")
    given = mask_of(page, "Mask")
    np.testing.assert_array_equal(given[64:96, 32:96], True)
    assert given.sum() == 32 * 64
    (tmp_path / "empty.png").write_bytes(b"")
    with page.expect_file_chooser() as chooser:
        root.get_by_role("button", name="Open a mask").click()
    chooser.value.set_files(tmp_path / "empty.png")
    expect(root.locator(".said")).to_contain_text("empty")
    expect(root.locator(".line")).to_have_count(1)
    root.get_by_role("button", name="Clear", exact=True).click()

    # A tap: the mouth of this portrait, which is the part at its place, and nothing else.
    root.get_by_role("button", name="Part", exact=True).click()
    expect(root.locator(".parts button", has_text="Mouth")).to_be_visible()
    page.mouse.click(*on(page, 0.515, 0.66))
    mouth = mask_of(page, "Mouth")
    rows, columns = np.nonzero(mouth)
    assert 0.004 < mouth.mean() < 0.04
    assert 0.55 < rows.mean() / 128 < 0.8
    assert columns.min() > 0.2 * 128
    expect(root.locator(".parts button", has_text="Mouth")).to_have_attribute("aria-pressed", "true")
    page.mouse.click(*on(page, 0.515, 0.66))
    expect(root.locator(".line")).to_have_count(0)

    # By keys: one eye by its name, which Undo takes away again, and what is in the middle of the board.
    row = root.get_by_role("group", name="Parts that the picture shows")
    row.get_by_role("button", name="Left eye").press("Enter")
    eye = mask_of(page, "Left eye")
    assert 0.0005 < eye.mean() < 0.03
    assert np.nonzero(eye)[1].mean() < 64, "the one on the left of the picture"
    root.get_by_role("button", name="Undo", exact=True).press("Enter")
    expect(root.locator(".line")).to_have_count(0)
    root.locator(".board").focus()
    page.keyboard.press("Enter")
    middle = root.locator(".line input.label")
    expect(middle).to_have_count(1)
    assert inside(mask_of(page, middle.input_value()), 0.5, 0.5)


def test_objects_and_parts_of_photographs(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a model has no network of its own: what is tapped or boxed is looked for, and both tools say what fails."""
    square = np.zeros((128, 128), bool)
    square[40:60, 30:50] = True
    asked: list[tuple[float, ...]] = []

    def found(model_id: str, pixels: object, place: tuple[float, ...]) -> tuple[str, np.ndarray]:
        asked.append(place)
        if place[0] > 0.7:
            raise RequestError("Nothing was found there.")
        return "Object", square

    def none_here(*arguments: object) -> None:
        raise ModelUnavailable("The network of 340 MB has to be downloaded once.")

    monkeypatch.setattr(board, "knowledge", lambda model_id: "faces")
    monkeypatch.setattr(board, "at_place", found)
    monkeypatch.setattr(board, "parts_of", none_here)
    root = opened(page)
    for title in ("Avatars from text", "Avatars"):  # a board asks what is known when the model changes
        page.locator("#model input").click()
        page.get_by_role("option", name=title, exact=True).click()
        expect(page.locator("#model input")).to_have_value(title)
        expect(root.get_by_role("button", name="Object", exact=True)).to_be_visible()
        expect(page.locator("#discover textarea")).to_have_count(int(title == "Avatars from text"))  # with its prompt
    root.get_by_role("button", name="Part", exact=True).click()
    expect(root.locator(".said")).to_contain_text("340 MB has to be downloaded")
    expect(root.locator(".parts")).to_be_hidden()
    root.get_by_role("button", name="Object", exact=True).click()
    page.mouse.click(*on(page, 0.3, 0.4))
    np.testing.assert_array_equal(mask_of(page, "Object"), square)
    drag(page, (0.5, 0.9), (0.1, 0.5))
    expect(root.locator(".line")).to_have_count(2)
    assert asked[0] == pytest.approx((0.3, 0.4), abs=0.01)
    assert asked[1] == pytest.approx((0.1, 0.5, 0.5, 0.9), abs=0.01)
    page.mouse.click(*on(page, 0.8, 0.4))
    expect(root.locator(".said")).to_contain_text("Nothing was found there")
    root.get_by_role("button", name="Undo", exact=True).click()
    expect(root.locator(".line")).to_have_count(1)


def test_two_fingers_on_a_phone(visit: Visit) -> None:
    page = visit(390, 844, has_touch=True, is_mobile=True)
    root = opened(page)
    root.get_by_role("button", name="Brush", exact=True).tap()
    for button in root.locator("button:visible").all():
        at = button.bounding_box()
        assert min(at["width"], at["height"]) >= 43.9, button.inner_text()
    touches = page.context.new_cdp_session(page)
    root.locator(".board").scroll_into_view_if_needed()

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        at = [dict(zip("xy", on(page, *point), strict=True)) for point in points]
        touches.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    fingers("touchStart", (0.45, 0.5))  # one finger begins a stroke; the second takes it back
    fingers("touchMove", (0.44, 0.52))
    fingers("touchStart", (0.44, 0.52), (0.6, 0.5))
    fingers("touchMove", (0.3, 0.5), (0.74, 0.5))
    fingers("touchMove", (0.1, 0.4), (0.54, 0.4))
    fingers("touchEnd")
    assert float(root.get_attribute("data-zoom")) > 2
    expect(root.locator(".line")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    root.get_by_role("button", name="Show the whole picture").tap()
    expect(root).to_have_attribute("data-zoom", "1.00")
    for tool, width, left in (("Brush", "5", 1), ("Eraser", "20", 0)):
        root.get_by_role("button", name=tool, exact=True).tap()
        root.get_by_label("Width of the brush").fill(width)
        root.locator(".board").scroll_into_view_if_needed()
        fingers("touchStart", (0.3, 0.3))
        for part in range(1, 7):
            fingers("touchMove", (0.3 + 0.05 * part, 0.3))
        fingers("touchEnd")
        expect(root.locator(".line")).to_have_count(left)  # of which nothing is left is no region any more
        page.wait_for_timeout(700)  # Chromium takes a tap right after a swipe for the end of the swipe

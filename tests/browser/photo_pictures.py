"""Screenshots of the whole way of a photograph: `python -m tests.browser.photo_pictures FOLDER [WIDTH]`."""

import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from core.models.t2i_cards import TEXT_TO_IMAGE
from core.photo import yunet
from tests.browser.conftest import SWITCHED_OFF
from tests.browser.test_photo import on_photo, photo_with_face
from tests.conftest import find_chromium, running_app
from tests.photographs import stand_in, with_faces


def way(page: Page, folder: Path, name: str) -> None:
    def shot(step: str) -> None:
        page.screenshot(path=folder / f"{name}-{step}.png")

    photo, _ = with_faces((1200, 800), (330.0, 420.0, 420, -8), (860.0, 380.0, 330, 12))
    photo.save(folder / "two.png")
    single, landmarks = photo_with_face(folder / "one.png")
    page.get_by_role("tab", name="Your own").click()
    shot("1-empty")
    page.locator(".upload input[type=file]").set_input_files(folder / "two.png")
    expect(page.locator(".cropper .said")).to_contain_text("2 faces")
    page.wait_for_timeout(400)
    shot("2-faces")
    page.get_by_role("button", name="Choose another picture").click()
    page.locator(".upload input[type=file]").set_input_files(single)
    expect(page.locator(".cropper .said")).to_contain_text("No face")
    page.locator(".cropper .frame").scroll_into_view_if_needed()
    page.get_by_role("button", name="Three taps").click()
    for point in (landmarks.left_eye, landmarks.right_eye):
        page.mouse.click(*on_photo(page, *point, 900, 700))
    shot("3-two-taps")
    page.mouse.click(*on_photo(page, *landmarks.mouth, 900, 700))
    page.get_by_role("button", name="Zoom in").click()
    page.wait_for_timeout(400)
    shot("4-closer")
    page.get_by_role("button", name="Use this").click()
    page.wait_for_timeout(800)
    shot("5-used")
    page.locator("#presets .cards").get_by_role("radio", name="Smiling", exact=True).click()
    expect(page.locator(".stage .strip button:not([disabled])")).to_have_count(7)
    page.wait_for_timeout(600)
    shot("6-edited")
    page.get_by_role("button", name="Back into the photo").click()
    expect(page.get_by_role("button", name="Download the photo")).to_be_visible()
    page.locator(".keeping").scroll_into_view_if_needed()
    page.wait_for_timeout(600)
    shot("7-photo-out")
    page.get_by_role("button", name="Ask other instruments").click()
    expect(page.locator(".opinion")).to_be_visible()
    page.locator(".opinion").scroll_into_view_if_needed()
    shot("8-opinion")
    print(name, "wide:", page.evaluate("document.documentElement.scrollWidth"))


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    yunet.load = lambda: stand_in  # type: ignore[assignment,return-value]
    TEXT_TO_IMAGE["stand-in"] = TEXT_TO_IMAGE["avatars-t2i"]
    flags = ["--no-sandbox", f"--disable-features={','.join(SWITCHED_OFF)}"]
    with running_app() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=flags)
        for width, height, touch in ((1440, 900, False), (390, 844, True)):
            if sys.argv[2:] and str(width) not in sys.argv[2:]:
                continue
            context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("#presets .cards button")
            page.wait_for_selector(".stage img[src^='data:']")
            way(page, folder, str(width))
            context.close()
        browser.close()


if __name__ == "__main__":
    main()

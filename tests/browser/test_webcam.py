"""A camera that is not there, refused, or kept from an insecure page: said in words, and nothing else breaks."""

import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

REFUSED = """
Object.defineProperty(navigator, 'mediaDevices', { value: {
    enumerateDevices: async () => [{ kind: 'videoinput', deviceId: '', label: '' }],
    getUserMedia: async () => { throw new DOMException('Permission denied', 'NotAllowedError'); },
} });
"""
INSECURE = "Object.defineProperty(navigator, 'mediaDevices', { value: undefined, configurable: true });"


@pytest.mark.parametrize(
    ("script", "words"),
    [("", "No camera was found"), (REFUSED, "was not allowed"), (INSECURE, "secure pages only")],
    ids=["none", "refused", "insecure"],
)
def test_no_webcam(page: Page, tmp_path: Path, script: str, words: str) -> None:
    if script:
        page.add_init_script(script)
        page.reload()
        page.wait_for_selector("#presets .cards button")
    page.get_by_role("tab", name="Your own").click()
    page.locator(".upload [aria-label='Capture from camera']:visible").click()
    said = page.locator(".camera-words")
    if script == REFUSED:
        page.get_by_title("grant webcam access").click()
    expect(said).to_contain_text(re.compile(f"{words}.*upload a picture instead", re.IGNORECASE))
    said.get_by_role("button", name="Upload a picture").click()
    expect(said).to_have_count(0)
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "photo.png")
    page.locator(".upload input[type=file]").first.set_input_files(tmp_path / "photo.png")
    expect(page.locator(".cropper .square").first).to_be_visible()

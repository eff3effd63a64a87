"""Another model in a real browser: a folder is opened, listed and makes pictures; of a wrong one the page tells."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from diffusers import DDPMPipeline, DDPMScheduler
from playwright.sync_api import Page, expect

from core import hub_access
from core.errors import ModelUnavailable
from core.studio import measuring
from tests.unit.model_folders import opened_models_closed
from tests.unit.small_models import small_unet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline of diffusers with random weights."""
    DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler()).save_pretrained(tmp_path / "my cats")
    return tmp_path / "my cats"


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is opened here is closed again; LPIPS is not here, and nobody waits for the Hub."""

    def missing(_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "_lpips", missing)
    monkeypatch.setattr(hub_access, "hub_answers", lambda *_: False)
    with opened_models_closed():
        yield


def test_a_folder_is_opened_listed_and_makes_pictures(page: Page, folder: Path) -> None:
    page.locator("#presets .cards").get_by_role("radio", name="Closed eyes", exact=True).click()
    expect(page.locator(".stage .strip button:not([disabled])")).to_have_count(7)
    page.locator(".stage .photo").first.click()
    expect(page.locator("#text-edit-keeping")).to_be_visible()
    page.locator("#another-model > button").click()
    name, status = page.locator(".repository textarea, .repository input").first, page.locator(".opening-status.prose")
    name.fill(str(folder.parent / "nothing here"))
    page.locator(".open-model").click()
    expect(status.get_by_role("alert")).to_contain_text("there is no such folder here")
    expect(page.locator("#model input")).to_have_value("Avatars")

    (folder.parent / "empty").mkdir()
    name.fill(str(folder.parent / "empty"))
    page.locator(".open-model").click()
    expect(status.get_by_role("alert")).to_contain_text("“empty” does not hold")

    name.fill(str(folder))
    page.locator(".domain-word textarea, .domain-word input").first.fill("cat")
    page.keyboard.press("Enter")
    expect(page.locator("#model input")).to_have_value("my cats")
    expect(status).to_contain_text("LPIPS is not here")  # what is measured at first use cannot be, and it goes on
    expect(page.locator(".stage [data-part=hint]").first).to_contain_text("Upload a picture")
    page.locator("#model input").click()
    expect(page.get_by_role("option", name="my cats")).to_be_visible()
    page.keyboard.press("Escape")

    expect(page.locator("#text-edit-keeping")).to_be_hidden()  # it showed another model's result

    # No directions come with it, and its shelf says how to get some.
    shelf = page.locator("#shelf:visible")
    expect(shelf).to_contain_text("cannot be reached")
    expect(shelf).to_contain_text("say what the pictures show (cat)")
    shelf.locator("#shelf-train").click()
    expect(page.locator("#source-text:visible").locator("input, textarea")).to_have_value("cat")

    page.get_by_role("tab", name="New").first.click()
    page.locator(".imagine").first.click()
    picture = page.locator(".stage [data-part=before]").first
    expect(picture).to_have_js_property("naturalWidth", 32)
    expect(page.locator("#model input")).to_have_value("my cats")

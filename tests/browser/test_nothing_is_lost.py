"""What a visitor has made stays until they ask for something else: strengths, strips, searches, files."""

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from core import presets
from core.photo import yunet
from core.progress import Job, Running
from core.studio.strips import Strip
from core.studio.turns import Turn
from core.studio.visit.session import Session
from tabs import picture
from tabs import strip as strips
from tests.photographs import stand_in, with_faces

Visit = Callable[..., Page]


def choose(page: Page, name: str) -> None:
    page.locator("#presets .cards").get_by_role("radio", name=name, exact=True).click()


def finished(page: Page, name: str) -> None:
    expect(page.locator("#stage [data-part=title]")).to_have_text(name)
    expect(page.locator("#stage .strip button:not([disabled])")).to_have_count(7)
    expect(page.locator("#stage [data-part=note]")).to_have_text("")


def shown(page: Page) -> tuple[str | None, str | None]:
    stage = page.locator("#stage .stage")
    return stage.get_attribute("data-shown"), page.locator("#stage [data-part=after]").get_attribute("src")


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_what_save_opens_is_of_what_is_shown(page: Page) -> None:
    """The panel closes when another strength or another direction is shown, and when Save is pressed again."""
    choose(page, "Angry")
    finished(page, "Angry")
    save, panel = page.locator("#stage [data-part=photo]"), page.locator("#text-edit-keeping")
    said = panel.locator("[data-part=note]")
    save.click()
    expect(said).to_have_text("Angry +1")
    page.locator("#stage .strip button").nth(1).click()
    expect(panel).to_be_hidden()
    save.click()
    expect(said).to_have_text("Angry −0.5")
    expect(panel).to_be_visible()
    for wanted in (expect(panel).to_be_hidden, expect(panel).to_be_visible):
        save.click()
        wanted()
    choose(page, "Sad")
    expect(panel).to_be_hidden()
    finished(page, "Sad")
    save.click()
    expect(said).to_have_text("Sad +1")
    expect(panel).to_be_visible()
    page.locator("#stage [data-part=slider]").press("ArrowRight")  # by the keyboard too
    expect(page.locator("#stage [data-part=strength]")).to_have_text("+1.10")
    expect(panel).to_be_hidden()


def test_on_a_phone_the_picture_stays_beside_the_slider_that_moves(visit: Visit) -> None:
    page = visit(390, 844, has_touch=True, is_mobile=True)
    tab(page, "Compose")
    for name in ("Smiling", "Old", "Sad", "Angry"):
        page.locator("#palette .cards").get_by_role("checkbox", name=name, exact=True).tap()
        expect(page.locator("#mixer .channel .name").last).to_have_text(name)
    stage, slider = page.locator("#compose-stage .stage"), page.locator("#mixer input[type=range]").last
    expect(page.locator("#compose-stage [data-part=title]")).to_contain_text("Angry")
    expect(stage).to_have_attribute("aria-busy", "false")
    slider.scroll_into_view_if_needed()
    slider.evaluate("node => node.scrollIntoView({ block: 'center', behavior: 'instant' })")
    place, before = slider.bounding_box(), page.locator("#compose-stage [data-part=after]").get_attribute("src")
    slider.fill("0.5")
    expect(page.locator("#compose-stage [data-part=after]")).not_to_have_attribute("src", before)
    expect(stage).to_have_attribute("aria-busy", "false")
    canvas = page.locator("#compose-stage .canvas").bounding_box()
    assert slider.bounding_box()["y"] == pytest.approx(place["y"], abs=2)
    assert 0 <= canvas["y"] < canvas["y"] + canvas["height"] <= slider.bounding_box()["y"]


def test_a_result_and_its_strength_stay(page: Page, tmp_path: Path) -> None:
    choose(page, "Angry")
    finished(page, "Angry")
    page.locator("#stage .strip button").nth(1).click()
    kept = shown(page)
    assert kept[0] == "-0.5"

    for name in ("Compose", "Discover", "Invert"):
        tab(page, name)
        page.wait_for_timeout(1000)
        tab(page, "Text edit")
        page.wait_for_timeout(1000)
        assert shown(page) == kept, name

    (tmp_path / "rubbish.safetensors").write_bytes(b"\x00" * 100)
    page.locator("input[type=file][accept*=safetensors]").first.set_input_files(tmp_path / "rubbish.safetensors")
    expect(page.get_by_text("This is not a usable preset file")).to_be_visible()
    page.wait_for_timeout(2000)
    assert shown(page) == kept

    tab(page, "From words")
    page.get_by_role("button", name="Train this direction").click()
    expect(page.locator("#training")).to_contain_text("Write both texts")
    page.wait_for_timeout(2000)
    assert shown(page) == kept

    page.locator("#advanced > button").click()
    page.locator("#apply").click()
    page.wait_for_timeout(3000)
    assert shown(page) == kept

    before = page.locator("#stage [data-part=before]")
    first = before.get_attribute("src") or ""
    page.locator("#text-edit .examples .cards button").nth(2).click()
    expect(before).not_to_have_attribute("src", first)
    finished(page, "Angry")
    assert shown(page)[0] == "-0.5", "another portrait stays at the strength that was chosen"
    page.locator("#text-edit .examples .cards button").first.click()
    expect(before).to_have_attribute("src", first)
    finished(page, "Angry")
    assert shown(page) == kept


def test_a_strip_that_another_tab_has_ended_goes_on(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    running = strips._running

    def slowly(turn: Turn, strip: Strip, *others: Any) -> Running[Any]:
        """The strengths after the first take a while."""

        def job() -> Job[Any]:
            for event in (inner := running(turn, strip, *others)):
                time.sleep(0.5 if strip.frames else 0)
                yield event
            return inner.result

        return Running(job())

    monkeypatch.setattr(strips, "_running", slowly)
    choose(page, "Sad")
    expect(page.locator("#stage .stage")).to_have_attribute("data-frames", "1")
    tab(page, "Compose")
    page.locator("#palette .cards").get_by_role("checkbox", name="Old", exact=True).click()
    expect(page.locator("#compose-stage .stage")).to_have_attribute("data-frames", "1")
    tab(page, "Text edit")
    finished(page, "Sad")


def test_what_is_saved_is_what_is_chosen(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(page, "Angry")
    finished(page, "Angry")
    save = page.locator("#save-preset")
    expect(save).to_be_enabled()
    write = Session.write

    def slowly(session: Session, preset: presets.Preset) -> Path:
        time.sleep(2)
        return write(session, preset)

    monkeypatch.setattr(Session, "write", slowly)
    choose(page, "Sad")
    page.wait_for_timeout(700)
    expect(save).to_be_disabled(timeout=100)
    expect(save).to_be_enabled()
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "saved.safetensors")
    assert presets.load(tmp_path / "saved.safetensors").name == "Sad"


def test_what_was_found_in_a_picture_is_found_again_with_it(page: Page) -> None:
    tab(page, "Discover")
    page.locator("#discover-advanced > button").click()
    page.wait_for_timeout(600)
    for label, number in (("How fine the search is", "16"), ("How many per region", "1")):
        page.get_by_label(f"number input for {label}").fill(number)
        page.get_by_label(f"number input for {label}").press("Tab")
    page.get_by_role("button", name="Mouth").click()
    page.locator("#find").click()
    expect(page.locator(".found")).to_have_attribute("data-refined", "true")
    name = page.locator(".found .name").input_value()
    page.locator("#discover .examples .cards button").nth(2).click()
    expect(page.locator(".found")).to_have_attribute("data-rows", "0")
    page.locator("#discover .examples .cards button").first.click()
    expect(page.locator(".found")).to_have_attribute("data-rows", "1", timeout=15_000)
    expect(page.locator(".found .name")).to_have_value(name)


def test_a_square_that_is_used_while_faces_are_looked_for_stays(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, looking = threading.Event(), picture.look_for_faces

    def late(photo: Any, model_id: str) -> Any:
        monkeypatch.setattr(yunet, "load", lambda: stand_in)
        found = looking(photo, model_id)
        assert found.placements
        assert looked.wait(60)
        return found

    monkeypatch.setattr(picture, "look_for_faces", late)
    photo, _ = with_faces((900, 700), (520.0, 330.0, 380, 20))
    photo.save(tmp_path / "face.png")
    page.get_by_role("tab", name="Your own", exact=True).click()
    page.locator(".upload input[type=file]").set_input_files(tmp_path / "face.png")
    cropper, said = page.locator(".cropper").first, page.locator(".cropper .said").first
    expect(said).to_have_text("Looking for faces …")
    expect(cropper).to_have_attribute("data-square", re.compile(r"\d"))  # it can be seen before it is used
    expect(page.get_by_role("button", name="Use this")).to_be_enabled()
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Use this").click()
    expect(said).to_contain_text("This square is in use")
    used = json.loads(cropper.get_attribute("data-square") or "")
    looked.set()
    page.wait_for_timeout(1000)  # the faces have come; what is said stays
    expect(said).to_contain_text("This square is in use")
    assert json.loads(cropper.get_attribute("data-square") or "") == used
    tab(page, "Discover")
    cropper = page.locator("#discover .cropper")
    expect(cropper).to_be_visible()
    assert json.loads(cropper.get_attribute("data-square") or "") == used

"""A visit across reloads and the browser's Back, its own presets, and what is told of words."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from playwright.sync_api import Dialog, Page, Route, expect

from core import presets
from core.studio import library

Visit = Callable[..., Page]


def choose(page: Page, name: str) -> None:
    page.locator("#presets .cards").get_by_role("radio", name=name, exact=True).click()


def finished(page: Page, name: str) -> None:
    expect(page.locator("#stage [data-part=title]")).to_have_text(name)
    expect(page.locator("#stage .strip button:not([disabled])")).to_have_count(7)


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")


def test_back_and_reload(page: Page, tmp_path: Path) -> None:
    """Back goes to the tab before; a reload, and a link to a tab, find what was made."""
    made = replace(library.shipped("avatars")["smiling"], name="Mine")
    opener = page.locator("input[type=file][accept*=safetensors]").first
    opener.set_input_files(presets.save(made, tmp_path / "mine.safetensors"))
    finished(page, "Mine")
    page.locator("#stage .strip button").nth(1).click()
    tab(page, "Discover")
    assert page.url.endswith("#discover")
    tab(page, "Compose")
    page.go_back()
    expect(page.get_by_role("tab", name="Discover", exact=True)).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.get_by_role("tab", name="Text edit", exact=True)).to_have_attribute("aria-selected", "true")
    after = page.locator("#stage [data-part=after]").get_attribute("src")
    tab(page, "Compose")
    page.reload()
    expect(page.get_by_role("tab", name="Compose", exact=True)).to_have_attribute("aria-selected", "true")
    tab(page, "Text edit")
    finished(page, "Mine")
    expect(page.locator("#presets .own")).to_have_count(1)
    assert page.locator("#stage [data-part=after]").get_attribute("src") == after
    assert page.locator("#stage .stage").get_attribute("data-shown") == "-0.5"


def test_what_a_quick_visitor_chooses_stays_when_the_visit_is_found(page: Page) -> None:
    """On a busy server an edit can be there before the events of the page's opening have run."""
    page.evaluate("sessionStorage.clear()")
    late: list[Route] = []
    opening = True
    page.route("**/queue/join*", lambda route: late.append(route) if opening else route.continue_())
    page.reload()
    page.wait_for_selector("#presets .cards button")
    page.wait_for_timeout(1500)
    assert late
    opening = False
    choose(page, "Smiling")
    finished(page, "Smiling")
    for route in late:
        route.continue_()
    expect(page.locator("body")).to_have_attribute("data-visit", "found")
    page.wait_for_timeout(1500)
    smiling = page.locator("#presets .cards").get_by_role("radio", name="Smiling", exact=True)
    expect(smiling).to_have_attribute("aria-checked", "true")
    finished(page, "Smiling")


def test_a_reload_finds_the_region_and_the_photograph(page: Page, tmp_path: Path) -> None:
    """What was drawn is on the board again, as it is read; the photograph's panel is open where the photograph is."""
    tab(page, "Discover")
    page.locator("#discover").get_by_role("button", name="Mouth", exact=True).click()
    overlay = page.locator("#discover .board .overlay")
    expect(overlay).to_have_attribute("src", re.compile("^data:image/png"))
    drawn = overlay.get_attribute("src") or ""
    page.locator("#discover").get_by_role("tab", name="Your own", exact=True).click()
    photo = tmp_path / "photo.png"
    Image.effect_noise((300, 200), 60).convert("RGB").save(photo)
    page.locator("#discover .upload input[type=file]").set_input_files(photo)
    said = page.locator("#discover .cropper .said")
    expect(said).to_contain_text("Tap the two eyes")
    page.locator("#discover").get_by_role("button", name="Use this").click()
    expect(said).to_contain_text("This square is in use")
    page.reload()
    expect(said).to_contain_text("This square is in use")
    expect(page.locator("#discover .shape")).to_have_count(1)
    expect(overlay).to_have_attribute("src", drawn)
    own = page.locator("#discover").get_by_role("tab", name="Your own", exact=True)
    expect(own).to_have_attribute("aria-selected", "true")
    expect(said).to_be_visible()
    tab(page, "Compose")
    tab(page, "Discover")
    page.locator("#discover .shape").first.focus()
    page.keyboard.press("Delete")
    expect(page.locator("#discover .shape")).to_have_count(0)

    token, held = page.evaluate("sessionStorage.getItem('visit')"), []
    page.route(
        "**/queue/join*", lambda route: held.append(route) if token in route.request.post_data else route.continue_()
    )
    page.reload()
    expect(page.get_by_role("tab", name="Text edit", exact=True)).to_be_visible()
    page.wait_for_timeout(1000)  # the page is there before it has found its visit
    [asked] = held
    asked.continue_()
    expect(page.get_by_role("tab", name="Discover", exact=True)).to_have_attribute("aria-selected", "true")
    expect(own).to_have_attribute("aria-selected", "true")
    expect(page.locator("#discover .shape")).to_have_count(0)
    tab(page, "Text edit")
    in_text_edit = page.locator("#text-edit").get_by_role("tab", name="Your own", exact=True)
    expect(in_text_edit).to_have_attribute("aria-selected", "true")


def test_own_presets_are_renamed_and_deleted(page: Page, tmp_path: Path) -> None:
    path = presets.save(replace(library.shipped("avatars")["sad"], name="Mine"), tmp_path / "mine.safetensors")
    opener = page.locator("input[type=file][accept*=safetensors]").first
    for _ in range(2):
        opener.set_input_files(path)
        finished(page, "Mine")
        expect(page.locator("#presets .own")).to_have_count(1)
        page.wait_for_timeout(500)
    choose(page, "Old")
    expect(page.locator("#own-preset")).to_be_hidden()
    choose(page, "Mine")
    page.locator("#own-name input, #own-name textarea").fill("Gloomy")
    page.locator("#rename-own").click()
    expect(page.locator("#presets .own")).to_have_text("Gloomy")
    expect(page.locator("#presets .own")).to_have_attribute("aria-checked", "true")
    page.locator("#own-name input, #own-name textarea").fill("another name")
    assert asked(page, agree=False) == "Delete “Gloomy”? What was saved as a file stays."
    page.wait_for_timeout(1000)
    expect(page.locator("#presets .own")).to_have_text("Gloomy")
    tab(page, "Compose")
    page.locator("#palette .own").click()
    expect(page.locator("#mixer .channel")).to_have_count(1)
    tab(page, "Text edit")
    assert asked(page) == "Delete “Gloomy”? It also leaves your composition. What was saved as a file stays."
    expect(page.locator("#presets .own")).to_have_count(0)
    expect(page.locator("#save-preset")).to_be_disabled()
    tab(page, "Compose")
    expect(page.locator("#mixer .channel")).to_have_count(0)


def asked(page: Page, agree: bool = True) -> str:
    """What the page asks before it deletes the chosen preset."""
    questions: list[str] = []

    def answer(dialog: Dialog) -> None:
        questions.append(dialog.message)
        dialog.accept() if agree else dialog.dismiss()

    page.once("dialog", answer)
    with page.expect_event("dialog"):
        page.locator("#remove-own").click()
    return questions[0]


def test_own_presets_are_a_group_of_which_the_first_row_is_shown(page: Page, tmp_path: Path) -> None:
    """The newest first; the others when they are asked for, searched or chosen; what comes with the model in sight."""
    opener = page.locator("input[type=file][accept*=safetensors]").first
    groups = page.locator("#presets .group")
    expect(groups).to_have_count(0)
    for number in range(1, 7):
        made = replace(library.shipped("avatars")["sad"], name=f"Mine {number}")
        opener.set_input_files(presets.save(made, tmp_path / f"{number}.safetensors"))
        expect(page.locator("#presets .own").first).to_have_text(f"Mine {number}")
        finished(page, f"Mine {number}")
        page.wait_for_timeout(500)
    expect(page.locator("#presets").get_by_role("group").first).to_have_attribute("aria-label", "Yours")
    expect(groups.locator("h4")).to_have_text(["Yours", "Included"])
    own = page.locator("#presets .own:visible")
    expect(own).to_have_text([f"Mine {number}" for number in (6, 5, 4, 3)])
    expect(groups.last.locator("[role=radio]").first).to_have_text("Smiling")
    expect(groups.last.locator("[role=radio]").first).to_be_in_viewport()

    own.last.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#presets [aria-checked=true]")).to_have_text("Smiling")
    expect(page.locator("#presets [aria-checked=true]")).to_be_focused()
    assert page.locator("#presets [role=radio][tabindex='0']").count() == 1

    search = page.locator("#presets .search")
    search.fill("Mine 1")
    expect(page.locator("#presets [role=radio]:visible")).to_have_text(["Mine 1"])
    expect(page.locator("#presets [role=radio][tabindex='0']")).to_have_text("Mine 1")
    search.fill("smil")
    expect(page.locator("#presets [role=radio]:visible").first).to_have_text("Smiling")
    search.fill("")
    expect(own).to_have_count(4)
    every = page.get_by_role("button", name="Show all 6")
    expect(every).to_have_attribute("aria-expanded", "false")
    every.click()
    expect(own).to_have_count(6)
    own.last.click()
    finished(page, "Mine 1")
    page.get_by_role("button", name="Show fewer").click()
    expect(own).to_have_text([*(f"Mine {number}" for number in (6, 5, 4, 3)), "Mine 1"])

    tab(page, "Compose")
    expect(page.locator("#palette .own:visible")).to_have_count(4)
    expect(page.locator("#palette .group h4")).to_have_text(["Yours", "Included"])


def test_discarding_a_training_leaves_nothing(page: Page) -> None:
    choose(page, "Angry")
    finished(page, "Angry")
    page.get_by_role("tab", name="From words").click()
    page.locator("#target-text input, #target-text textarea").fill("a dog on a skateboard")
    place = "(button) => button.getBoundingClientRect().top + scrollY"
    before = page.locator("#train").evaluate(place)
    page.locator("#target-text input, #target-text textarea").press("Tab")
    expect(page.locator("#unknown-words")).to_contain_text("has never read “dog”, “skateboard”")
    assert page.locator("#train").evaluate(place) == before, "a button that is being pressed does not move"
    page.get_by_role("button", name="Train this direction").click()
    expect(page.locator("#training .chart")).to_be_visible()
    page.locator("#discard").click()
    expect(page.get_by_role("button", name="Train this direction")).to_be_visible()
    expect(page.locator("#presets .own")).to_have_count(0)
    finished(page, "Angry")


def test_a_reload_keeps_what_a_training_has_learned(page: Page) -> None:
    page.get_by_role("tab", name="From words").click()
    page.locator("#target-text input, #target-text textarea").fill("face with blue hair")
    page.get_by_role("button", name="Train this direction").click()
    expect(page.locator("#training .chart")).to_be_visible()
    page.reload()
    own = page.locator("#presets .own")
    expect(own).to_have_count(1)
    expect(own).to_have_text("Blue hair")
    own.click()
    finished(page, "Blue hair")


def test_presets_are_found(page: Page) -> None:
    cards = page.locator("#presets .cards button")
    expect(cards.first).to_have_text("Smiling")
    scroll = page.locator(".scroll:has(#presets)")
    assert scroll.evaluate("node => node.classList.contains('more')"), "the list says that it goes on"
    page.locator("#presets .search").fill("hair")
    expect(page.locator("#presets .cards button:visible")).to_have_count(2)
    page.locator("#presets .search").fill("zebra")
    expect(page.locator("#presets .none")).to_be_visible()


def test_numbers_beside_the_picture(page: Page) -> None:
    """All numbers of a result as a file; an explanation opens by a click; scales stand beside the numbers."""
    choose(page, "Smiling")
    finished(page, "Smiling")
    with page.expect_download() as download:
        page.locator("#stage [data-part=csv]").click()
    text = Path(download.value.path()).read_text()
    assert text.startswith("strength,measure,before,after")
    assert "\n-1,Smile," in text
    assert "\n2,identity," in text
    with page.expect_download() as download:
        page.locator("#stage [data-part=numbers]").click()
    made = json.loads(Path(download.value.path()).read_text())
    expected = {"result": "Smiling", "model": "avatars", "process": "anchored", "steps": made["steps"], "seed": 0}
    assert {name: made[name] for name in expected} == expected
    tile = page.locator("#stage [data-measure=distance]")
    expect(tile.locator("i")).to_have_text("0 is none")
    tile.click()
    expect(tile.locator(".explanation")).to_contain_text("Perceptual distance")
    tile.press("Enter")
    expect(tile.locator(".explanation")).to_have_count(0)
    expect(page.locator("#stage .row .value").first).to_contain_text("%")
    page.locator("#advanced > button").click()
    expect(page.locator("#in-force")).to_contain_text("no boosting; as “Smiling” suggests")
    page.locator("#sources").get_by_label("From the model's perceptual curves").check()
    page.locator("#apply").click()
    expect(page.locator("#in-force")).to_contain_text("quality boosted below")


def test_every_tab_is_in_the_history(page: Page) -> None:
    choose(page, "Sad")
    finished(page, "Sad")
    page.locator("#stage .strip button").nth(4).click()
    choose(page, "Old")
    finished(page, "Old")
    tab(page, "Compose")
    page.locator("#history > button.label-wrap").click()
    cards = page.locator("#results .cards button")
    expect(cards).to_have_count(2)
    cards.nth(1).click()
    expect(page.locator("#comparison [data-part=title]")).to_contain_text("Sad +1")
    page.locator("#back").click()
    expect(page.get_by_role("tab", name="Text edit", exact=True)).to_have_attribute("aria-selected", "true")
    finished(page, "Sad")
    expect(page.locator("#presets [aria-checked=true]")).to_have_text("Sad")

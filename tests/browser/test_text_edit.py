"""The Text edit tab in a real browser, the way a visitor uses it."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from core import presets
from core.studio import analyses, library
from tabs.text_edit import analyses as analyses_page
from tabs.text_edit import training as training_page

Visit = Callable[..., Page]
EXAMPLES = library.examples("avatars")


def choose(page: Page, name: str) -> None:
    page.locator("#presets .cards").get_by_role("radio", name=name, exact=True).click()


def stage(page: Page) -> Locator:
    return page.locator(".stage")


def edited(page: Page, name: str, whole_strip: bool = True) -> None:
    """Wait until the result of a direction is there."""
    expect(page.locator(".stage [data-part=title]")).to_have_text(name)
    expect(stage(page)).not_to_have_attribute("data-frames", "0")
    if whole_strip:
        expect(page.locator(".stage .strip button[disabled]")).to_have_count(0)
        expect(page.locator(".stage [data-part=note]")).to_have_text("")


def picture(page: Page, which: str = "after") -> str:
    return page.locator(f".stage [data-part={which}]").get_attribute("src") or ""


def set_slider(page: Page, value: float, release: bool = False) -> float:
    """Move the strength slider as a drag does; milliseconds until the page shows the result."""
    return page.evaluate(
        """([value, release]) => {
            const slider = document.querySelector('.stage input[type=range]');
            const start = performance.now();
            slider.value = value;
            slider.dispatchEvent(new Event('input', {bubbles: true}));
            document.querySelector('.stage [data-part=after]').getBoundingClientRect();
            const taken = performance.now() - start;
            if (release) slider.dispatchEvent(new Event('change', {bubbles: true}));
            return taken;
        }""",
        [value, release],
    )


def test_example_preset_slider(page: Page) -> None:
    """Pick an example, apply a preset, move the slider, see the picture change."""
    first = picture(page, "before")
    page.locator(".examples .cards button").nth(2).click()
    expect(page.locator(".stage [data-part=before]")).not_to_have_attribute("src", first)
    choose(page, "Smiling")
    edited(page, "Smiling")
    assert picture(page) != picture(page, "before")

    seen = set()
    for strength in (-1, 0, 1, 2):
        assert set_slider(page, strength) < 200, "moving within the strip asks nobody"
        assert float(stage(page).get_attribute("data-shown")) == strength
        seen.add(picture(page))
    assert len(seen) == 4
    expect(page.locator(".stage [data-part=strength]")).to_have_text("+2.00")


def test_numbers_follow_the_strength(page: Page) -> None:
    choose(page, "Smiling")
    edited(page, "Smiling")
    for key in ("s_dir", "identity", "distance", "seconds"):
        expect(page.locator(f"[data-measure={key}] b")).to_have_text(re.compile(r"-?\d+\.\d+"))
    assert page.locator(".stage .row").count() == 7
    distances = []
    for strength in (0, 1, 2):
        set_slider(page, strength)
        distances.append(float(page.locator("[data-measure=distance] b").inner_text()))
    assert distances[0] < distances[1] < distances[2]


def test_before_and_after_by_mouse_and_keyboard(page: Page) -> None:
    choose(page, "Closed eyes")
    edited(page, "Closed eyes", whole_strip=False)
    handle = page.get_by_role("slider", name="Compare before and after")
    expect(handle).to_have_attribute("aria-valuenow", "50")
    box = page.locator(".stage .canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 120, steps=4)
    page.mouse.up()
    expect(handle).to_have_attribute("aria-valuenow", "20")
    handle.press("ArrowRight")
    expect(handle).to_have_attribute("aria-valuenow", "24")


def test_a_strength_between_the_strip_is_computed(page: Page) -> None:
    choose(page, "Smiling")
    edited(page, "Smiling")
    set_slider(page, 1.3, release=True)
    expect(page.locator(".stage [data-part=after]")).to_have_attribute("alt", re.compile(r"strength 1\.[23]"))
    assert float(stage(page).get_attribute("data-shown")) == pytest.approx(1.3, abs=0.02)


def test_the_last_choice_wins(page: Page) -> None:
    choose(page, "Closed eyes")
    page.wait_for_timeout(700)
    choose(page, "Sad")
    page.wait_for_timeout(300)
    choose(page, "Glasses")
    edited(page, "Glasses")
    page.wait_for_timeout(1500)
    expect(page.locator(".stage [data-part=title]")).to_have_text("Glasses")


def test_choosing_by_keyboard(page: Page) -> None:
    choose(page, "Closed eyes")
    edited(page, "Closed eyes", whole_strip=False)
    page.keyboard.press("ArrowRight")
    chosen = page.locator("#presets [aria-checked=true]")
    expect(chosen).not_to_have_text("Closed eyes")
    expect(page.locator(".stage [data-part=title]")).to_have_text(chosen.inner_text())


def imagined(page: Page, seed: str) -> str:
    before = picture(page, "before")
    page.locator(".seed-number input").fill(seed)
    page.locator(".imagine").click()
    expect(page.locator(".stage [data-part=before]")).not_to_have_attribute("src", before)
    expect(stage(page)).to_have_attribute("aria-busy", "false")
    return picture(page, "before")


def test_imagine_a_picture(page: Page) -> None:
    page.get_by_role("tab", name="New").click()
    example = picture(page, "before")
    seventh, eighth = imagined(page, "7"), imagined(page, "8")
    assert len({example, seventh, eighth}) == 3
    assert imagined(page, "7") == seventh
    words, told = page.locator(".described textarea, .described input").first, page.locator(".told-of-words").first
    words.fill("an old beerd and a xyzzy")
    assert len({imagined(page, "7"), seventh, eighth}) == 3
    expect(told).to_contain_text("never read “beerd”, “xyzzy”")
    expect(told).to_contain_text("beard for “beerd”")
    words.fill("old bald " * 20)
    words.press("Tab")
    expect(told).to_be_empty()
    imagined(page, "8")
    expect(told).to_contain_text("reads the first 30 of its 40 words")


def test_a_bad_upload_says_so_and_loses_nothing(page: Page, tmp_path: Path) -> None:
    before = picture(page, "before")
    page.get_by_role("tab", name="Your own").click()
    chooser = page.locator(".upload input[type=file]")
    (tmp_path / "broken.png").write_text("this is no picture")
    chooser.set_input_files(tmp_path / "broken.png")
    expect(page.locator(".upload-message .message")).to_contain_text("This is not a picture that can be read")
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    chooser.set_input_files(tmp_path / "small.png")
    said = page.locator(".upload-message .message")
    expect(said).to_contain_text("20 x 20 pixels; each side needs at least 48")
    (tmp_path / "notes.txt").write_text("notes")
    chooser.set_input_files(tmp_path / "notes.txt")  # the page refuses it by itself
    expect(page.locator(".toast-body")).to_be_visible()
    expect(said).to_be_hidden()
    chooser.set_input_files(tmp_path / "small.png")
    expect(said).to_be_visible()
    assert picture(page, "before") == before


def test_an_upload_is_cropped_to_what_the_model_sees(page: Page, tmp_path: Path) -> None:
    wide = Image.new("RGB", (400, 200), (200, 30, 30))
    wide.paste((30, 30, 200), (200, 0, 400, 200))
    wide.save(tmp_path / "wide.jpg")
    page.get_by_role("tab", name="Your own").click()
    before = picture(page, "before")
    page.locator(".upload input[type=file]").set_input_files(tmp_path / "wide.jpg")
    square = page.locator(".cropper .square")
    expect(square).to_be_visible()
    page.get_by_role("button", name="Use this").click()
    expect(page.locator(".stage [data-part=before]")).not_to_have_attribute("src", before)
    page.wait_for_function("document.querySelector('.stage [data-part=before]').complete")
    assert colours(page) == ("red", "blue")
    box = square.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"], box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    before = picture(page, "before")
    page.get_by_role("button", name="Use this").click()
    expect(page.locator(".stage [data-part=before]")).not_to_have_attribute("src", before)
    page.wait_for_function("document.querySelector('.stage [data-part=before]').complete")
    assert colours(page) == ("blue", "blue")
    page.get_by_role("button", name="Choose another picture").click()
    expect(page.locator(".upload input[type=file]")).to_be_attached()


COLOURS = """() => {
    const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [100, 100];
    const context = canvas.getContext('2d');
    context.drawImage(document.querySelector('.stage [data-part=before]'), 0, 0, 100, 100);
    return [10, 90].map((x) => {
        const [r, , b] = context.getImageData(x, 50, 1, 1).data;
        return r > b ? 'red' : 'blue';
    });
}"""


def colours(page: Page) -> tuple[str, ...]:
    """What is at the left and at the right of the picture that the model sees."""
    return tuple(page.evaluate(COLOURS))


def test_train_and_stop(page: Page, tmp_path: Path) -> None:
    """A training shows its loss and what it has learned; stopping keeps it, at once usable and as a file."""
    page.get_by_role("tab", name="From words").click()
    page.locator("#target-text input, #target-text textarea").fill("face with blue hair")
    page.get_by_role("button", name="Train this direction").click()
    expect(page.locator("#training .chart")).to_be_visible()
    expect(page.locator("#training .faces img")).to_have_count(2)
    page.get_by_role("button", name="Stop and keep").click()
    expect(page.locator("#training")).to_contain_text("Stopped early: “Blue hair” is among your presets")
    edited(page, "Blue hair")
    expect(page.get_by_role("button", name="Train this direction")).to_be_visible()

    expect(page.locator("#save-preset")).to_be_enabled()
    with page.expect_download() as download:
        page.locator("#save-preset").click()
    path = tmp_path / "mine.safetensors"
    download.value.save_as(path)
    assert presets.load(path).target_text == "face with blue hair"

    page.get_by_role("tab", name="Presets").click()
    expect(page.locator("#presets .own")).to_have_count(1)


def test_on_a_phone_a_training_begins_where_it_can_be_seen(visit: Visit) -> None:
    """Its words go away above it, and there is more below."""
    page = visit(390, 844, has_touch=True, is_mobile=True)
    page.get_by_role("tab", name="From words").tap()
    page.locator("#target-text input, #target-text textarea").fill("face with blue hair")
    page.get_by_role("button", name="Train this direction").tap()
    for part in (page.locator("#training .line"), page.get_by_role("button", name="Stop and keep")):
        expect(part).to_be_in_viewport()
    page.get_by_role("button", name="Discard").tap()


def test_train_without_words(page: Page) -> None:
    page.get_by_role("tab", name="From words").click()
    page.get_by_role("button", name="Train this direction").click()
    expect(page.locator("#training")).to_contain_text("Write both texts")
    expect(page.get_by_role("button", name="Train this direction")).to_be_visible()


def test_open_a_preset_file(page: Page, tmp_path: Path) -> None:
    """A file that another visitor saved works here; its name stays text whatever it says, and rubbish is refused."""
    made = library.shipped("avatars")["smiling"]
    name = "<img src=x onerror=alert(1)>"
    path = presets.save(replace(made, name=name), tmp_path / "odd.safetensors")
    opener = page.locator("#open-preset input[type=file], input[type=file][accept*=safetensors]").first
    opener.set_input_files(path)
    expect(page.locator("#presets .own")).to_have_text(name)
    edited(page, name, whole_strip=False)
    assert page.locator("img[src=x]").count() == 0
    (tmp_path / "rubbish.safetensors").write_bytes(b"\x00" * 100)
    opener.set_input_files(tmp_path / "rubbish.safetensors")
    expect(page.get_by_text("This is not a usable preset file")).to_be_visible()
    link = "<a href='https://example.com'>Mend it</a><img src=x>"
    other = replace(made, name=link, model="avatars-t2i", fingerprint="f" * 16)
    opener.set_input_files(presets.save(other, tmp_path / "other.safetensors"))
    expect(page.get_by_text(f"“{link}” was made for the model Avatars from text (avatars-t2i)")).to_be_visible()
    assert page.locator("a[href='https://example.com'], img[src=x]").count() == 0


def test_a_model_out_of_reach(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.models.folders.hub_answers", lambda patience=0.0: False)
    page.locator("#model input").click()
    page.get_by_role("option", name="Churches").click()
    expect(page.get_by_text("has to be downloaded once")).to_be_visible()
    expect(page.locator("#model input")).to_have_value("Avatars")
    choose(page, "Closed eyes")
    edited(page, "Closed eyes", whole_strip=False)


def test_advanced_settings_apply(page: Page) -> None:
    choose(page, "Closed eyes")
    edited(page, "Closed eyes")
    before = picture(page)
    page.locator("#advanced > button").click()
    expect(page.locator("#intervals .chart")).to_be_visible()
    lines = "nodes => nodes.map((node) => node.getClientRects().length)"
    assert page.locator("#intervals .legend .key").evaluate_all(lines) == [1, 1], "a swatch is beside its label"
    page.get_by_text("The whole step (symmetric)", exact=True).click()
    page.locator("#apply").click()
    page.wait_for_function("before => document.querySelector('.stage [data-part=after]').src !== before", arg=before)
    edited(page, "Closed eyes")


def test_a_closed_tab_stops_its_training(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    begin = training_page.start_training

    def recorded(*arguments: object) -> object:
        started.append(begin(*arguments))
        return started[-1]

    monkeypatch.setattr(training_page, "start_training", recorded)
    page = visit()
    page.get_by_role("tab", name="From words").click()
    page.locator("#target-text input, #target-text textarea").fill("old face")
    page.get_by_role("button", name="Train this direction").click()
    expect(page.locator("#training .chart")).to_be_visible()
    page.context.close()
    deadline, seen = time.monotonic() + 60, -1
    while time.monotonic() < deadline:
        time.sleep(4)
        if len(started[0].losses) == seen:
            break
        seen = len(started[0].losses)
    assert seen < started[0].total, "it ended before it was done"
    assert len(started[0].losses) == seen


@pytest.mark.parametrize("width", [375, 390])
def test_on_a_phone(visit: Visit, width: int) -> None:
    page = visit(width, 812, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.locator("#presets .cards button").first.tap()
    name = page.locator("#presets [aria-checked=true]").inner_text()
    edited(page, name)
    expect(page.locator(".stage .canvas")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    before = picture(page)
    page.locator(".stage .strip button").first.tap()
    assert picture(page) != before
    for tab in ("From words", "Presets", "Your own", "New"):
        page.get_by_role("tab", name=tab).tap()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(visit: Visit, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    shade = "[...getComputedStyle(document.body).backgroundColor.matchAll(/\\d+/g)].slice(0, 3).map(Number)"
    bright = page.evaluate(shade)
    assert (min(bright) > 200) == (scheme == "light")
    page.get_by_role("button", name="Light or dark").click()
    page.wait_for_function(f"(Math.min(...{shade}) > 200) !== {str(scheme == 'light').lower()}")


def test_the_papers_words_and_pictures_to_learn_from(page: Page) -> None:
    """One of the 33 pairs of Asyrp's Table 2 fills both texts; one's own pictures are asked for where they are used."""
    page.get_by_role("tab", name="From words").click()
    page.locator("#paper-texts input").click()
    expect(page.get_by_role("option")).to_have_count(33)
    page.get_by_role("option", name="neanderthal").click()
    expect(page.locator("#source-text").get_by_role("textbox")).to_have_value("human")
    expect(page.locator("#target-text").get_by_role("textbox")).to_have_value("neanderthal")
    page.locator("#training-settings > button").click()
    expect(page.locator("#training-pictures")).to_be_hidden()
    page.locator("#latents").get_by_text("Pictures, inverted first").click()
    expect(page.locator("#training-pictures")).to_be_visible()
    expect(page.locator("#coefficient").get_by_role("spinbutton")).to_have_value("0")


def test_analyses_of_the_direction_that_is_shown(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyses, "STEPS", 6)
    choose(page, "Smiling")
    edited(page, "Smiling", whole_strip=False)
    page.locator("#analyses > button").click()
    page.locator("#imagine-with").click()
    expect(page.locator("#analysis .pairs figure")).to_have_count(4)
    expect(page.locator("#analysis h4")).to_contain_text("without and with Smiling +1")
    page.locator("#thresholds").click()
    expect(page.locator("#analysis .pairs figure")).to_have_count(5)
    expect(page.locator("#analysis figcaption").nth(2)).to_contain_text("0.33, t_edit")
    choose(page, "Beard")
    expect(page.locator("#analysis .pairs")).to_have_count(0)  # it was of another direction
    edited(page, "Beard", whole_strip=False)

    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(analyses_page, "imagined", broken)
    page.locator("#imagine-with").click()
    expect(page.locator(".toast-body")).to_contain_text("not your fault")
    expect(page.locator("#analysis .rail")).to_have_count(0)

"""The Invert tab in a real browser: invert, compare, edit by other words, keep; a small random model stands in."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from core.errors import ResourceError
from core.inversion import methods
from core.inversion.robustness import with_counterpart
from core.models.cards import Embedded
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.progress import Progress

Visit = Callable[..., Page]
NUMBER = re.compile(r"^\d+\.\d+$")


# The names in a drawing that stand on a dot or on another name, by the boxes of their letters.
OVERPRINTED = """(svg) => {
    const box = (node, in_) => {
        const b = node.getBBox();
        return [b.x, b.y + in_, b.x + b.width, b.y + b.height - in_];
    };
    const names = [...svg.querySelectorAll(".name")].map((node) => [node.textContent, box(node, 3)]);
    const dots = [...svg.querySelectorAll("circle")].map((node) => ["", box(node, 0)]);
    const touch = (a, b) => a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1];
    const on = (one, others) => others.some((other) => other !== one && touch(one[1], other[1]));
    return names.filter((one) => on(one, [...names, ...dots])).map((one) => one[0]).join();
}"""


def opened(page: Page, tap: bool = False, steps: int = 5) -> Locator:
    """Open the tab, with as few steps as a test needs."""
    tab = page.get_by_role("tab", name="Invert", exact=True)
    tab.tap() if tap else tab.click()
    root = page.locator("#invert")
    expect(root.locator("#invert-stage [data-part=before]")).to_have_attribute("src", re.compile("^data:"))
    page.locator("#invert-advanced > button").click()
    page.wait_for_timeout(600)  # Gradio makes what is inside only now, and gives it its first values after it
    for name, value in (("Steps", steps), ("Attempts per step (iterations)", 1), ("Starting points (latent-TOP)", 2)):
        field = root.get_by_label(f"number input for {name}", exact=True)
        field.fill(str(value))
        field.press("Tab")
    page.locator("#invert-advanced > button").click()
    return root


def choose(root: Locator, *wanted: str) -> None:
    """These methods and no others."""
    for box in root.locator("#methods label").all():
        box.locator("input").set_checked(box.inner_text().strip() in wanted)


def row(root: Locator, method: str) -> Locator:
    return root.locator(f'#method-table tr[data-method="{method}"]')


def inverted(root: Locator, *expected: str) -> None:
    """Press Invert, and wait until these methods have their numbers."""
    root.locator("#start-invert").click()
    for method in expected:
        expect(row(root, method).locator("td[data-head=PSNR]")).to_have_text(NUMBER)
    expect(root.locator("#start-invert")).to_be_visible()


def panel(root: Locator, name: str) -> None:
    root.locator(".panels").get_by_role("tab", name=name, exact=True).click()


def write_targets(root: Locator, text: str) -> None:
    """In place of what is suggested, once that has come."""
    field = root.locator("#targets textarea")
    expect(field).not_to_have_value("")
    field.fill(text)


def opener(root: Locator) -> Locator:
    """Where a saved inversion is put in."""
    return root.locator("input[type=file][accept*=safetensors]").first


def edited(root: Locator) -> Locator:
    """Press Edit, and wait until every strength is there."""
    root.locator("#edit-inverted").click()
    stage = root.locator("#edit-stage")
    expect(stage.locator(".strip button:not([disabled])")).to_have_count(6)
    expect(root.locator("#edit-inverted")).to_be_visible()
    return stage


def shown(stage: Locator, which: str = "after") -> str:
    return stage.locator(f"[data-part={which}]").get_attribute("src") or ""


def test_invert_compare_edit_save_and_reopen(page: Page, visit: Visit, tmp_path: Path) -> None:
    """An example by two methods; other words for it; the file in another visit."""
    root = opened(page)
    root.locator(".examples .cards button").nth(3).click()
    prompt = root.locator("#source-prompt textarea")
    expect(prompt).to_have_value(re.compile("face with glasses"))
    choose(root, "Anchored", "DDIB")
    inverted(root, "anchored", "DDIB")
    for method in ("anchored", "DDIB"):
        heads = ["PSNR", "SSIM", "Distance", "Seconds", "Evaluations", "Memory"]
        assert [cell.get_attribute("data-head") for cell in row(root, method).locator("td").all()] == heads
        expect(row(root, method).locator("img")).to_have_count(2)
    psnr = [float(row(root, m).locator("td[data-head=PSNR]").inner_text()) for m in ("anchored", "DDIB")]
    assert psnr[0] > psnr[1] + 1
    expect(root.locator("#front svg title").first).to_contain_text("Anchored")
    expect(root.locator("#front circle")).to_have_count(2)
    assert not root.locator("#front svg").evaluate(OVERPRINTED)
    for named, words in (
        ("#method-table thead th:has-text('PSNR')", "More is closer"),
        ("tr[data-method=DDIB]", "noise"),
    ):
        explained = root.locator(f"{named} .explained").first
        expect(explained.locator("small")).to_be_hidden()
        explained.locator("summary").click()
        expect(explained.locator("small")).to_contain_text(words)
        expect(explained.locator("small")).to_be_visible()
    root.locator("#about-methods summary").click()
    expect(root.locator("#about-methods dt")).to_have_count(len(methods.METHODS))
    stage = root.locator("#invert-stage")
    expect(stage.locator("[data-part=title]")).to_have_text("Anchored")
    anchored = shown(stage)
    root.locator("#chosen-method").get_by_label("DDIB").check()
    expect(stage.locator("[data-part=title]")).to_have_text("DDIB")
    assert shown(stage) != anchored
    root.locator("#chosen-method").get_by_label("Anchored").check()
    expect(stage.locator("[data-part=title]")).to_have_text("Anchored")

    root.locator("#save-inversion").click()
    with page.expect_download() as download:
        root.locator("#inversion-file").click()
    assert download.value.suggested_filename == "inverted-anchored.safetensors"
    file = tmp_path / "kept.safetensors"
    download.value.save_as(file)

    panel(root, "Edit")
    write_targets(root, "a smiling face with glasses\na face with <b>red</b> lips")
    stage = edited(root)
    expect(stage.locator("[data-part=title]")).to_have_text("a smiling face with glasses")
    pictures = set()
    for button in stage.locator(".strip button").all():
        button.click()
        pictures.add(shown(stage))
    assert len(pictures) == 6
    cards = root.locator("#edited .cards button")
    expect(cards).to_have_count(2)
    cards.nth(1).click()
    expect(stage.locator("[data-part=title]")).to_have_text("a face with <b>red</b> lips")
    expect(cards.nth(1)).to_have_text("a face with <b>red</b> lips")
    assert shown(stage) not in pictures

    other = visit()
    root = opened(other)
    opener(root).set_input_files(file)
    expect(row(root, "anchored").locator("td[data-head=PSNR]")).to_have_text(f"{psnr[0]:.1f}")
    expect(root.locator("#source-prompt textarea")).to_have_value(re.compile("face with glasses"))
    panel(root, "Edit")
    write_targets(root, "a smiling face with glasses")
    stage = edited(root)
    assert shown(stage) != shown(stage, "before")


def test_the_history_returns_to_an_edit(page: Page) -> None:
    """Its inversion, its words and its strengths are there again, though another picture was inverted since; words that
    the model does not know are marked as soon as they are written; the numbers say what made the picture."""
    root = opened(page)
    choose(root, "DDIB")
    inverted(root, "DDIB")
    panel(root, "Edit")
    write_targets(root, "a smiling face\na xyzzy face")
    root.locator("#targets textarea").blur()
    expect(root.locator("#targets-told .message")).to_contain_text("xyzzy")
    write_targets(root, "a smiling face\nan old face")
    stage = edited(root)
    root.locator("#edited .cards button").nth(1).click()
    expect(stage.locator("[data-part=title]")).to_have_text("an old face")
    after = shown(stage)
    with page.expect_download() as download:
        stage.locator("[data-part=numbers]").click()
    numbers = json.loads(Path(download.value.path()).read_text())
    expected = {"method": "DDIB", "target prompt": "an old face", "steps": 5, "model": "stand-in"}
    assert {name: numbers[name] for name in expected} == expected

    root.locator(".examples .cards button").nth(3).click()
    expect(root.locator("#method-table tr[data-method=DDIB] td[data-head=PSNR]")).to_have_count(0)
    page.get_by_role("tab", name="Compose", exact=True).click()
    page.locator("#history > button.label-wrap").click()
    card = page.locator("#results .cards button").filter(has_text="an old face")
    card.click()
    page.get_by_role("button", name=re.compile(r"Back to No\. \d")).click()
    expect(page.get_by_role("tab", name="Invert", exact=True)).to_have_attribute("aria-selected", "true")
    expect(root.locator(".panels").get_by_role("tab", name="Edit", exact=True)).to_have_attribute(
        "aria-selected", "true"
    )
    expect(stage.locator("[data-part=title]")).to_have_text("an old face")
    expect(stage.locator(".strip button:not([disabled])")).to_have_count(6)
    assert shown(stage) == after
    expect(root.locator(".examples .cards button").first).to_have_attribute("aria-checked", "true")


class Slow:
    """A method that goes on until it is let go; `steps` is what the network was asked for."""

    def __init__(self) -> None:
        self.steps, self.closed = 0, 0

    def __call__(self, task: Any) -> Iterator[Progress]:
        done = task.checkpoint.part("slow")
        try:
            while len(done) < 10_000:
                time.sleep(0.02)
                done.append(1)
                self.steps += 1
                yield task.event(len(done), 10_000, "inverting", task.x0)
        finally:
            self.closed += 1


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    method = Slow()
    monkeypatch.setitem(methods.METHODS, "EDICT", replace(methods.METHODS["EDICT"], invert=method))
    return method


def test_stopping_keeps_what_is_done(page: Page, slow: Slow) -> None:
    root = opened(page)
    choose(root, "Anchored", "EDICT")
    root.locator("#start-invert").click()
    expect(row(root, "anchored").locator("td[data-head=PSNR]")).to_have_text(NUMBER)
    expect(row(root, "EDICT")).to_contain_text("being computed")
    expect(root.locator("#invert-stage .note")).to_contain_text(re.compile(r"EDICT \(2 of 2\).* of 10000"))
    expect(root.locator("#invert-stage .progress")).to_have_class(re.compile("on"))
    root.locator("#stop-invert").click()
    expect(root.locator("#start-invert")).to_be_visible()
    expect(root.locator("#stop-invert")).not_to_be_visible()
    expect(row(root, "EDICT")).to_contain_text("stopped: “Invert” goes on from there")
    expect(row(root, "anchored").locator("td[data-head=PSNR]")).to_have_text(NUMBER)
    stopped = slow.steps
    assert stopped > 0
    root.locator("#start-invert").click()
    expect(root.locator("#invert-stage .note")).to_contain_text(re.compile(r"EDICT: .* of 10000"))
    said = root.locator("#invert-stage .note").inner_text()
    assert int(re.search(r"(\d+) of 10000", said)[1]) > stopped
    choose(root, "Anchored")
    root.locator("#stop-invert").click()
    expect(root.locator("#start-invert")).to_be_visible()


def test_a_closed_tab_frees_the_worker(visit: Visit, slow: Slow) -> None:
    page = visit()
    root = opened(page)
    choose(root, "EDICT")
    root.locator("#start-invert").click()
    expect(root.locator("#invert-stage .note")).to_contain_text("EDICT")
    page.context.close()
    deadline = time.monotonic() + 60
    while not slow.closed and time.monotonic() < deadline:
        time.sleep(0.5)
    assert slow.closed == 1
    assert slow.steps < 10_000


def test_robustness_fills_a_grid(page: Page) -> None:
    root = opened(page)
    choose(root, "Anchored", "DDIM")
    panel(root, "Robustness")
    for sigma in ("σ 5", "σ 10"):
        root.locator("#sigmas").get_by_label(sigma, exact=True).uncheck()
    root.locator("#changed-prompts textarea").fill("a photo of <b>a dog</b>")
    root.locator("#study").click()
    cells = root.locator("#robustness td b")
    expect(cells).to_have_count(6)
    expect(root.locator("#study")).to_be_visible()
    names = [name.inner_text() for name in root.locator("#robustness tbody th span").all()]
    assert names == ["As it is", "σ = 20", "“a photo of <b>a dog</b>”"]
    written = root.locator("#changed-prompts textarea")
    root.locator("#suggest-changed").click()
    expect(written).to_have_value(re.compile("^a photo of <b>a dog</b>\na face\n.+"))  # what was written stays
    numbers = [float(cell.inner_text()) for cell in cells.all()]
    assert numbers[2] < numbers[0]
    assert numbers[1] < numbers[0]
    expect(root.locator("#robustness img")).to_have_count(9)


def test_a_region_and_what_is_wrong_with_an_edit(page: Page) -> None:
    root = opened(page)
    panel(root, "Edit")
    root.locator("#edit-inverted").click()
    expect(root.locator("#edit-said .message")).to_contain_text("Invert the picture first")
    choose(root, "Anchored")
    inverted(root, "anchored")
    panel(root, "Edit")
    # What is suggested is an edit, where a word of what the picture shows has a counterpart.
    source = root.locator("#source-prompt textarea").input_value()
    expect(root.locator("#targets textarea")).to_have_value(with_counterpart(source))
    for text, words in (
        ("", "Write a target prompt"),
        ("\n".join("abcdefgh"), "up to 6 can be used"),
    ):
        root.locator("#targets textarea").fill(text)
        root.locator("#edit-inverted").click()
        expect(root.locator("#edit-said .message")).to_contain_text(words)
    root.locator("#targets textarea").fill("a smiling face " + "with glasses " * 20)
    root.locator("#edit-region > button").click()
    root.locator("#edit-region .chips").get_by_role("button", name="Mouth").click()
    expect(root.locator("#edit-region .overlay")).to_have_attribute("src", re.compile("^data:image/png"))
    stage = edited(root)
    said = root.locator("#edit-said")
    expect(said).to_contain_text(re.compile("ignores the rest, from word \\d+ on: “.*glasses"))
    change = stage.evaluate(
        """async (root) => {
            const load = (src) => new Promise((done) => {
                const image = new Image();
                image.onload = () => done(image);
                image.src = src;
            });
            const zero = root.querySelector('.strip button img').src, one = root.querySelector('[data-part=after]').src;
            const pixels = async (src) => {
                const canvas = new OffscreenCanvas(128, 128).getContext('2d');
                canvas.drawImage(await load(src), 0, 0, 128, 128);
                return canvas.getImageData(0, 0, 128, 128).data;
            };
            const [a, b] = [await pixels(zero), await pixels(one)];
            const mean = (rows) => {
                let sum = 0, n = 0;
                for (let y = rows[0]; y < rows[1]; y++) for (let x = 50; x < 78; x++) {
                    sum += Math.abs(a[4 * (128 * y + x)] - b[4 * (128 * y + x)]); n++;
                }
                return sum / n;
            };
            return [mean([10, 40]), mean([80, 100])];
        }"""
    )
    assert change[0] < 4 < change[1]


def test_words_for_what_goes_wrong(page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty prompt, no method, a damaged file, too little memory, a model that is not here; then it still works."""
    root = opened(page)
    choose(root, "Anchored")
    note = root.locator("#invert-stage .note")
    root.locator("#source-prompt textarea").fill("")
    root.locator("#start-invert").click()
    expect(note).to_contain_text("Write a source prompt")
    root.locator("#source-prompt textarea").fill("a face")
    choose(root)
    root.locator("#start-invert").click()
    expect(note).to_contain_text("Choose at least one method")

    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nothing of the kind")
    opener(root).set_input_files(broken)
    expect(page.get_by_text("not a usable file of an inverted picture")).to_be_visible()

    def never(task: Any) -> Iterator[Progress]:
        yield Progress(0, 1)
        raise ResourceError("The machine ran out of memory. Try fewer target prompts at once.")

    monkeypatch.setitem(methods.METHODS, "null-text", replace(methods.METHODS["null-text"], invert=never))
    choose(root, "Null-text", "DDIM")
    inverted(root, "DDIM")
    expect(row(root, "null-text")).to_contain_text("ran out of memory")

    card = replace(TEXT_TO_IMAGE["stand-in"], source=Embedded(str(tmp_path / "nowhere")))
    with monkeypatch.context() as patch:
        patch.setitem(TEXT_TO_IMAGE, card.id, card)
        root.locator(".examples .cards button").nth(1).click()
        expect(root.locator("#source-prompt textarea")).to_have_value("a face")
        root.locator("#start-invert").click()
        expect(note).to_contain_text("is not part of this copy")
        expect(note).to_contain_text("choose Stable Diffusion 1.5")
    choose(root, "DDIM")
    inverted(root, "DDIM")


def test_the_prompt_follows_the_picture_until_it_is_written(page: Page) -> None:
    root = opened(page)
    prompt = root.locator("#source-prompt textarea")
    first = prompt.input_value()
    assert "face" in first
    root.locator(".examples .cards button").nth(2).click()
    expect(prompt).not_to_have_value(first)
    prompt.fill("somebody I know")
    before = root.locator("#invert-stage [data-part=before]").get_attribute("src")
    root.locator(".examples .cards button").nth(4).click()
    expect(root.locator("#invert-stage [data-part=before]")).not_to_have_attribute("src", before)
    expect(prompt).to_have_value("somebody I know")
    root.locator("#suggest").click()
    expect(prompt).to_have_value(re.compile("face"))


def test_on_a_phone(visit: Visit) -> None:
    page = visit(390, 844, has_touch=True, is_mobile=True, device_scale_factor=2)
    root = opened(page, tap=True)
    choose(root, "Anchored")
    root.locator("#start-invert").tap()
    expect(row(root, "anchored").locator("td[data-head=PSNR]")).to_have_text(NUMBER)
    expect(root.locator("#start-invert")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    root.locator(".panels").get_by_role("tab", name="Edit", exact=True).tap()
    write_targets(root, "a smiling face")
    root.locator("#edit-inverted").tap()
    stage = root.locator("#edit-stage")
    expect(stage.locator(".strip button:not([disabled])")).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    root.locator(".panels").get_by_role("tab", name="Robustness", exact=True).tap()
    expect(root.locator("#study")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_target_is_suggested_where_its_panel_is_open_already(page: Page) -> None:
    root = opened(page)
    choose(root, "Anchored")
    root.locator("#start-invert").click()
    panel(root, "Edit")
    source = root.locator("#source-prompt textarea").input_value()
    expect(root.locator("#targets textarea")).to_have_value(with_counterpart(source))

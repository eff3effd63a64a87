"""The Compose tab in a real browser, the way a visitor uses it."""

import base64
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat
from playwright.sync_api import Page, expect

from benchmarks.domain import drawing
from core import presets
from core.models.loader import models
from core.studio import library

Visit = Callable[..., Page]
NAMES = [preset.name for preset in library.shipped("avatars").values()][:3]
KEYS = list(library.shipped("avatars"))[:3]
LINK = "~".join(["2", "avatars", "portrait-2", "8", "0"])


@pytest.fixture
def composing(visit: Visit) -> Callable[..., Page]:
    """Open Compose with the directions of a link; without one, by the tab."""

    def open_tab(components: str = "", **options: int) -> Page:
        page = visit(**options)
        if components:
            page.goto(f"{page.url}?compose={LINK}~{components}")
            expect(page.get_by_role("tab", name="Compose")).to_have_attribute("aria-selected", "true")
            settled(page, components.count("~") + 1)
        else:
            page.get_by_role("tab", name="Compose").click()
        return page

    return open_tab


def section(page: Page, name: str) -> None:
    page.locator(f"#{name} > button.label-wrap").click()
    page.wait_for_timeout(600)  # Gradio makes what is inside only now, and gives it its first values after that


def settled(page: Page, parts: int) -> None:
    """Wait until the picture of that many directions is there."""
    expect(page.locator("#mixer .channel")).to_have_count(parts)
    expect(page.locator("#compose-stage .stage")).to_have_attribute("data-frames", "1")
    expect(page.locator("#compose-stage .stage")).to_have_attribute("aria-busy", "false")


def picture(page: Page) -> str:
    return page.locator("#compose-stage [data-part=after]").get_attribute("src") or ""


def apart(first: str, second: str) -> float:
    """Mean difference of two pictures on the page, in levels of 255."""
    pictures = [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB") for url in (first, second)]
    return sum(ImageStat.Stat(ImageChops.difference(*pictures)).mean) / 3


def title(page: Page) -> str:
    return page.locator("#compose-stage [data-part=title]").inner_text()


def test_three_directions_sweep_animation_save_and_link(
    composing: Callable[..., Page], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = composing()
    expect(page.locator("#mixer .nothing")).to_be_visible()
    palette = page.locator("#palette .cards")
    for count, name in enumerate(NAMES, start=1):
        palette.get_by_role("checkbox", name=name, exact=True).click()
        expect(palette.get_by_role("checkbox", name=name, exact=True)).to_have_attribute("aria-checked", "true")
        settled(page, count)
        expect(page.locator("#compose-stage [data-part=title]")).to_contain_text(name)
    page.get_by_label(f"Strength of {NAMES[1]} as a number").fill("-0.5")
    page.get_by_label(f"Strength of {NAMES[1]} as a number").press("Enter")
    expect(page.locator("#compose-stage [data-part=title]")).to_contain_text(f"{NAMES[1]} −0.5")
    settled(page, 3)

    section(page, "sweep")
    page.locator("#sweep-count input[type=number]").fill("2")
    page.locator("#sweep-count input[type=number]").press("Enter")
    page.locator("#make-sweep").click()
    expect(page.locator("#sweep-grid .grid")).to_have_attribute("data-done", "yes")
    cells = page.locator("#sweep-grid .cells button img")
    assert len({cells.nth(k).get_attribute("src") for k in range(4)}) == 4

    page.locator("#sweep-count input[type=number]").fill("7")
    page.locator("#sweep-count input[type=number]").press("Enter")
    section(page, "animation")
    page.locator("#film-count input[type=number]").fill("3")
    page.locator("#film-count input[type=number]").press("Enter")
    page.locator("#make-sweep").click()
    expect(page.locator("#sweep-note .rail")).to_be_visible()
    page.locator("#make-film").click()
    expect(page.locator("#sweep-note")).to_contain_text("Stopped for what you asked for after it.")
    expect(page.locator("#sweep-grid .grid")).to_be_hidden()
    expect(page.locator("#film .loop")).to_be_visible()
    with page.expect_download() as download:
        page.locator("#film-loop").click()
    download.value.save_as(tmp_path / "loop.webp")
    loop = Image.open(tmp_path / "loop.webp")
    assert (loop.format, loop.n_frames, loop.info["loop"]) == ("WEBP", 4, 0)

    passes, unet = [], models.get("avatars").unet
    encode = unet.encode
    monkeypatch.setattr(unet, "encode", lambda *given: passes.append(1) or encode(*given))
    page.locator("#film-kind").get_by_label("MP4").check()
    expect(page.locator("#film-loop")).to_contain_text("MP4")
    with page.expect_download() as download:
        page.locator("#film-loop").click()
    assert Path(download.value.path()).read_bytes()[4:8] == b"ftyp"
    page.locator("#film-kind").get_by_label("GIF").check()
    page.locator("#make-film").click()  # as whoever wants another kind of file does
    expect(page.locator("#film-loop")).to_contain_text("GIF")
    expect(page.locator("#film .loop")).to_be_visible()
    with page.expect_download() as download:
        page.locator("#film-loop").click()
    assert Path(download.value.path()).read_bytes()[:4] == b"GIF8"
    assert not passes, "the pictures were there"

    section(page, "share")
    page.locator("#share-name textarea, #share-name input").fill("<b>Mixture</b>")
    page.locator("#save-composition").click()
    with page.expect_download() as download:
        page.locator("#composition-file").click()
    download.value.save_as(tmp_path / "mixture.safetensors")
    saved = presets.load(tmp_path / "mixture.safetensors")
    assert (saved.name, saved.direction.kind, saved.direction.weights) == ("<b>Mixture</b>", "composite", (1, -0.5, 1))
    expect(palette.get_by_role("checkbox", name="<b>Mixture</b>", exact=True)).to_be_visible()

    page.locator("#make-link").click()
    expect(page.locator("#link input")).to_have_value(re.compile("compose=2~avatars~"))
    link = page.locator("#link input").input_value()
    before, words = picture(page), title(page)
    page.goto(link)
    settled(page, 3)
    expect(page.locator("#compose-stage [data-part=title]")).to_have_text(words)
    assert picture(page) == before


def test_the_desk(composing: Callable[..., Page]) -> None:
    """Mute, solo, order, lock and undo; results side by side, and back to one of them."""
    page = composing(f"{KEYS[0]}:1~{KEYS[1]}:0.5")
    both = picture(page)
    page.get_by_role("button", name=f"Mute {NAMES[0]}").click()
    expect(page.locator("#compose-stage [data-part=title]")).to_have_text(f"{NAMES[1]} +0.5")
    settled(page, 2)
    assert picture(page) != both
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#compose-stage [data-part=title]")).to_contain_text(NAMES[0])
    settled(page, 2)
    assert picture(page) == both

    names = page.locator("#mixer .channel .name")
    page.get_by_role("button", name=re.compile(f"Move {NAMES[1]}: drag")).press("ArrowUp")
    expect(names.first).to_have_text(NAMES[1])
    grip = page.get_by_role("button", name=re.compile(f"Move {NAMES[1]}: drag")).bounding_box()
    page.mouse.move(grip["x"] + 8, grip["y"] + 20)
    page.mouse.down()
    page.mouse.move(grip["x"] + 8, grip["y"] + 120, steps=6)
    page.mouse.up()
    expect(names.first).to_have_text(NAMES[0])

    page.get_by_role("button", name="Keep total").click()
    expect(page.get_by_role("button", name="Keep total")).to_have_attribute("aria-pressed", "true")
    page.get_by_label(f"Strength of {NAMES[0]} as a number").fill("0.5")
    page.get_by_label(f"Strength of {NAMES[0]} as a number").press("Enter")
    expect(page.get_by_label(f"Strength of {NAMES[1]} as a number")).to_have_value("1")
    settled(page, 2)

    section(page, "history")
    cards = page.locator("#results .cards button")
    expect(cards).to_have_count(3)
    expect(cards.nth(0)).to_contain_text(f"{NAMES[0]} +0.5, {NAMES[1]} +1")
    cards.nth(0).click()
    expect(page.locator("#comparison .tag").nth(0)).to_have_text("Before")
    expect(page.locator("#comparison .attributes h4")).to_contain_text("before")
    expect(page.locator("#back")).to_have_text("Back to No. 3")
    cards.nth(2).click()
    expect(page.locator("#comparison .tag").nth(0)).to_have_text("A: No. 3")
    expect(page.locator("#comparison .attributes h4")).not_to_contain_text("before")
    expect(page.locator("#comparison .row").first).to_have_attribute("title", re.compile("in A, .* in B, a change"))
    expect(page.locator("#comparison [data-measure=identity]")).to_have_attribute(
        "title", re.compile("between A and B")
    )
    expect(page.locator("#back")).to_have_text("Back to B: No. 1")
    compared = page.locator("#comparison [data-part=after]").get_attribute("src") or ""
    assert compared.startswith("data:image/png"), "what is saved from here is without loss"
    other = page.locator("#comparison [data-part=before]").get_attribute("src") or ""
    assert 1.5 * apart(compared, both) < apart(compared, other), "the same but for what WebP loses"
    page.locator("#back").click()
    expect(page.get_by_label(f"Strength of {NAMES[1]} as a number")).to_have_value("0.5")
    settled(page, 2)
    assert picture(page) == both
    page.get_by_role("button", name=f"Solo {NAMES[0]}").click()
    expect(page.locator("#compose-stage [data-part=title]")).to_have_text(f"{NAMES[0]} +1")
    expect(page.locator("#mixer .channel.silent .name")).to_have_text(NAMES[1])


def test_what_two_directions_share(composing: Callable[..., Page]) -> None:
    page = composing(f"{KEYS[0]}:1~{KEYS[1]}:0.5")
    section(page, "similarity")
    page.get_by_label("What they add inside the model (h-space)").check()
    page.locator("#compare").click()
    expect(page.locator("#matrix tbody td")).to_have_count(4)
    assert page.locator("#matrix tbody td").first.inner_text() == "+1.00"
    expect(page.locator("#removed")).to_be_hidden()
    page.locator("#orthogonalise").click()
    expect(page.locator("#similarity-note")).to_contain_text("have taken their places")
    names = page.locator("#mixer .channel .name")
    expect(names).to_have_text([f"{NAMES[0]} without {NAMES[1]}", f"{NAMES[1]} without {NAMES[0]}"])
    page.get_by_label(f"Strength of {NAMES[0]} without {NAMES[1]} as a number").fill("0.5")
    page.get_by_label(f"Strength of {NAMES[0]} without {NAMES[1]} as a number").press("Enter")
    settled(page, 2)
    expect(page.locator("#similarity-note")).to_contain_text("have taken their places")
    for _ in range(2):
        page.get_by_role("button", name="Undo").click()
    expect(names).to_have_text(NAMES[:2])
    expect(page.locator("#similarity-note")).to_be_empty()

    page.get_by_label("Take out of").click()
    page.get_by_role("option", name=NAMES[1]).click()
    expect(page.locator("#removed")).to_contain_text(NAMES[0])
    page.get_by_label("What each is for").check()
    page.locator("#orthogonalise").click()
    expect(page.locator("#similarity-note")).to_contain_text("has taken its place")
    expect(page.locator("#similarity-note")).to_contain_text("at strength 1")
    expect(names).to_have_text([NAMES[0], f"{NAMES[1]} without {NAMES[0]}"])


def test_the_analysis_of_discover_is_used(composing: Callable[..., Page]) -> None:
    page = composing(f"{KEYS[0]}:1~{KEYS[1]}:0.5")
    section(page, "similarity")
    page.get_by_label("What they do to this picture").check()
    page.locator("#compare").click()
    expect(page.locator("#matrix")).to_contain_text("at 0.6 of the way")
    page.get_by_role("tab", name="Discover").click()
    section(page, "discover-advanced")
    for label, number in (("How fine the search is", "16"), ("How many per region", "1")):
        page.get_by_label(f"number input for {label}").fill(number)
        page.get_by_label(f"number input for {label}").press("Tab")
    page.get_by_role("button", name="Mouth").click()
    page.locator("#find").click()
    expect(page.locator(".found")).to_have_attribute("data-drawn", "1")
    page.get_by_role("tab", name="Compose").click()
    settled(page, 2)
    expect(page.locator("#matrix")).to_contain_text("at 0.6 of the way")  # what was there stays until it is asked anew
    page.locator("#compare").click()
    expect(page.locator("#matrix")).to_contain_text("where Discover has analysed it")
    page.locator("#orthogonalise").click()
    expect(page.locator("#similarity-note")).to_contain_text("where Discover has analysed it")


def test_several_pictures_as_a_zip(composing: Callable[..., Page], tmp_path: Path) -> None:
    page = composing(f"{KEYS[0]}:1")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    section(page, "batch")
    drawing(3).save(foreign := tmp_path / "foreign.png")
    page.locator("#batch-files input[type=file]").set_input_files([library.examples("avatars")[0], broken, foreign])
    expect(page.locator("#batch-files")).to_contain_text("broken")
    page.locator("#make-batch").click()
    with page.expect_download() as download:
        page.locator("#batch-file").click()
    with zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes())) as archive:
        contents = json.loads(archive.read("contents.json"))
        assert [("file" in about, "problem" in about) for about in contents["pictures"]] == [
            (True, False),
            (False, True),
            (True, False),
        ]
        assert contents["unknown_to_model"] == ["foreign.png"]
        assert archive.read(contents["pictures"][0]["file"]).startswith(b"\x89PNG")
    pairs = page.locator("#batch-note .pairs figure")
    expect(pairs.locator("figcaption")).to_have_text([library.examples("avatars")[0].name, "foreign.png"])
    for pair in pairs.all():
        assert len({image.get_attribute("src") for image in pair.locator("img").all()}) == 2
    shown = io.BytesIO(base64.b64decode((pairs.last.locator("img").first.get_attribute("src") or "").split(",")[1]))
    side = Image.open(shown).size
    apart = ImageChops.difference(Image.open(shown).convert("RGB"), drawing(3).convert("RGB").resize(side))
    assert ImageStat.Stat(apart).mean == pytest.approx([0, 0, 0], abs=6), "the first of a pair is the file's picture"
    expect(page.locator("#batch-note .message").last).to_contain_text("cannot draw this picture")
    expect(page.locator("#batch-note .message").last.locator("li")).to_have_text(["foreign.png"])


def test_a_damaged_link_is_told(visit: Visit) -> None:
    page = visit()
    page.goto(f"{page.url}?compose={LINK}~<script>alert(1)</script>:1")
    expect(page.get_by_text("This link is damaged")).to_be_visible()
    expect(page.get_by_role("tab", name="Text edit")).to_have_attribute("aria-selected", "true")


def test_on_a_phone(composing: Callable[..., Page]) -> None:
    page = composing(f"{KEYS[0]}:1~{KEYS[1]}:0.5", width=390, height=844, has_touch=True, is_mobile=True)
    for name in ("sweep", "animation", "similarity", "share", "batch", "history"):
        section(page, name)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for channel in page.locator("#mixer .channel").all():
        slider, number = (channel.locator(kind).bounding_box() for kind in ("input[type=range]", ".exact"))
        assert slider["width"] > 200
        assert slider["x"] + slider["width"] <= number["x"], "its end can be touched"
    scales = "nodes => nodes.map((node) => node.getClientRects().length)"
    assert set(page.locator("#compose-stage .tile i").evaluate_all(scales)) == {1}, "a scale breaks over two lines"
    page.get_by_role("button", name=f"Remove {NAMES[0]}").tap()
    settled(page, 1)

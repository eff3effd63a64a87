"""A photograph of the visitor's own in a real browser: its face found or tapped, edited, and given back."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from core.models.cards import MODELS
from core.photo import weights, yunet
from core.photo.placement import Landmarks, align
from core.photo.record import SUFFIX, Kind, to_file, token_in
from core.studio.compose import link
from core.studio.compose.composition import Component, Composition
from tests.browser.test_invert import write_targets
from tests.photographs import PLAIN, backdrop, pasted, stand_in, with_faces

Visit = Callable[..., Page]
AVATARS = MODELS["avatars"].framing


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faces are found by a stand-in for YuNet."""
    monkeypatch.setattr(yunet, "load", lambda: stand_in)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector is not here, and the Hub does not answer."""
    monkeypatch.setattr(weights, "_here", lambda wanted: None)
    monkeypatch.setattr(weights, "hub_answers", lambda: False)


def give(page: Page, path: Path) -> None:
    page.get_by_role("tab", name="Your own").click()
    page.locator(".upload input[type=file]").set_input_files(path)
    expect(page.locator(".cropper .square")).to_be_visible()
    expect(page.locator(".cropper .said")).not_to_have_text("Looking for faces …")


def square(page: Page) -> dict[str, float]:
    return json.loads(page.locator(".cropper").first.get_attribute("data-square") or "{}")


def on_photo(page: Page, x: float, y: float, width: int, height: int) -> tuple[float, float]:
    """Where a point of the photograph is on the page."""
    box = page.locator(".cropper .inner").bounding_box()
    assert box is not None
    return box["x"] + x / width * box["width"], box["y"] + y / height * box["height"]


def photo_with_face(path: Path, angle: float = 20) -> tuple[Path, Landmarks]:
    photo, landmarks = pasted(backdrop(900, 700), PLAIN, (520.0, 330.0), 380, angle)
    photo.save(path)
    return path, landmarks


def before(page: Page) -> Locator:
    return page.locator(".stage [data-part=before]").first


def used(page: Page, previous: str | None) -> None:
    """Wait until another picture is on the stage."""
    expect(before(page)).not_to_have_attribute("src", previous or "")


def test_a_found_face_is_suggested_and_nothing_runs_before_it_is_used(page: Page, tmp_path: Path, found: None) -> None:
    photo, [landmarks] = with_faces((900, 700), (520.0, 330.0, 380, 20))
    photo.save(tmp_path / "photo.png")
    previous = before(page).get_attribute("src")
    give(page, tmp_path / "photo.png")
    expect(page.locator(".cropper .said")).to_contain_text("A face was found")
    wanted = align(landmarks, 900, 700, AVATARS)
    at = square(page)
    assert abs(at["x"] - wanted.x) < 8
    assert abs(at["side"] / wanted.side - 1) < 0.05
    assert abs(at["angle"] - 20) < 4
    assert before(page).get_attribute("src") == previous, "nothing runs before it is used"
    page.get_by_role("button", name="Use this").click()
    used(page, previous)


def test_one_of_several_faces(page: Page, tmp_path: Path, found: None) -> None:
    photo, marks = with_faces((1000, 600), (260.0, 300.0, 380, 0), (760.0, 300.0, 260, -10))
    photo.save(tmp_path / "two.png")
    give(page, tmp_path / "two.png")
    expect(page.locator(".cropper .said")).to_contain_text("2 faces were found: choose one")
    page.get_by_role("button", name="Face 2").click()
    wanted = align(marks[1], 1000, 600, AVATARS)
    assert abs(square(page)["x"] - wanted.x) < 8
    assert abs(square(page)["angle"] + 10) < 4


def test_three_taps_without_a_network(page: Page, tmp_path: Path, offline: None) -> None:
    path, landmarks = photo_with_face(tmp_path / "photo.png")
    give(page, path)
    expect(page.locator(".cropper .said")).to_contain_text("Tap the two eyes and the mouth")
    page.get_by_role("button", name="Three taps").click()
    expect(page.locator(".cropper .said")).to_contain_text("Tap the eye on the left")
    for point in (landmarks.left_eye, landmarks.right_eye, landmarks.mouth):
        page.mouse.click(*on_photo(page, *point, 900, 700))
        page.wait_for_timeout(200)  # what is said may become a line longer, and the photograph move
    expect(page.locator(".cropper .said")).to_contain_text("follows the three points")
    wanted, at = align(landmarks, 900, 700, AVATARS), square(page)
    a_pixel = 900 / (on_photo(page, 1, 0, 1, 1)[0] - on_photo(page, 0, 0, 1, 1)[0])  # of the page, on the photograph
    for name, pixels in (("x", 2), ("y", 2), ("side", 5)):  # the side is 2.4 times the eyes apart, each a whole pixel
        assert at[name] == pytest.approx(getattr(wanted, name), abs=pixels * a_pixel)
    assert at["angle"] == pytest.approx(wanted.angle, abs=1.5)
    first = before(page).get_attribute("src")
    page.get_by_role("button", name="Use this").click()
    used(page, first)


PREVIEW = """() => {
    const canvas = document.querySelector('.cropper canvas');
    return [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
}"""
STAGE = """async () => {
    const image = document.querySelector('.stage [data-part=before]');
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 128;
    canvas.getContext('2d').drawImage(image, 0, 0, 128, 128);
    return [...canvas.getContext('2d').getImageData(0, 0, 128, 128).data];
}"""


def rgb(values: list[int]) -> np.ndarray:
    return np.array(values, float).reshape(128, 128, 4)[..., :3]


def test_the_preview_is_what_the_model_sees(page: Page, tmp_path: Path, offline: None) -> None:
    path, landmarks = photo_with_face(tmp_path / "photo.png")
    give(page, path)
    page.get_by_role("button", name="Three taps").click()
    for point in (landmarks.left_eye, landmarks.right_eye, landmarks.mouth):
        page.mouse.click(*on_photo(page, *point, 900, 700))
    first, preview = before(page).get_attribute("src"), rgb(page.evaluate(PREVIEW))
    page.get_by_role("button", name="Use this").click()
    used(page, first)
    seen = rgb(page.evaluate(STAGE))
    error = np.abs(preview - seen).mean()
    assert error < 5
    assert np.abs(np.roll(preview, 3, 1) - seen).mean() > 2 * error, "three pixels aside would be seen"


def test_the_square_by_mouse(page: Page, tmp_path: Path, offline: None) -> None:
    path, _ = photo_with_face(tmp_path / "photo.png")
    give(page, path)
    start = square(page)
    page.locator(".cropper .size").fill("0.65")
    smaller = square(page)
    assert smaller["side"] < start["side"]
    page.mouse.move(*on_photo(page, smaller["x"], smaller["y"], 900, 700))
    page.mouse.down()
    page.mouse.move(*on_photo(page, smaller["x"] + 90, smaller["y"] - 40, 900, 700), steps=4)
    page.mouse.up()
    moved = square(page)
    assert (moved["x"] - smaller["x"], moved["y"] - smaller["y"]) == pytest.approx((90, -40), abs=4)

    def drag(handle: str, towards: tuple[float, float]) -> None:
        box = page.locator(f".cropper .handle.{handle}").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(*on_photo(page, *towards, 900, 700), steps=5)
        page.mouse.up()

    drag("scale", (moved["x"] + 200, moved["y"] + 200))
    assert square(page)["side"] > 1.1 * moved["side"]
    drag("turn", (moved["x"] + 210, moved["y"]))
    assert 30 < square(page)["angle"] < 60, "the upper right corner went to the right"
    page.get_by_role("button", name="Largest").click()
    assert square(page) == {"x": 450, "y": 350, "side": 700, "angle": 0}


def test_the_square_by_keyboard(page: Page, tmp_path: Path, offline: None) -> None:
    path, _ = photo_with_face(tmp_path / "photo.png")
    give(page, path)
    handle, first = page.locator(".cropper .square"), before(page).get_attribute("src")
    handle.focus()
    start = square(page)
    for key in ("-", "-", "ArrowRight", "ArrowDown", "]", "]", "["):
        handle.press(key)
    at = square(page)
    assert at["side"] == pytest.approx(start["side"] / 1.05**2)
    assert at["x"] > start["x"]
    assert at["y"] > start["y"]
    assert at["angle"] == 2
    handle.press("+")
    assert square(page)["side"] > at["side"]
    page.get_by_role("button", name="Three taps").press("Enter")
    eye = page.get_by_role("button", name="The eye on the left: move with the arrow keys")
    eye.focus()
    narrow = square(page)
    mouth = page.get_by_role("button", name="The mouth: move with the arrow keys")
    for _ in range(6):
        eye.press("ArrowRight")
        mouth.press("ArrowUp")
    assert square(page)["side"] < narrow["side"], "all nearer to each other: a smaller face"
    eye.press("Enter")
    used(page, first)


def test_a_large_photograph_is_reduced_before_it_is_sent(page: Page, tmp_path: Path, offline: None) -> None:
    """Over 10 MB and 50 megapixels, and sideways as a phone stores it."""
    coarse = np.random.default_rng(0).integers(0, 256, (1024, 775, 3), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((6200, 8192), Image.Resampling.NEAREST)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.jpg"
    large.save(path, quality=97, exif=exif)
    assert path.stat().st_size > 10 * 2**20
    assert large.width * large.height > 50_000_000
    with page.expect_request("**/upload*") as sent:
        give(page, path)
    assert int(sent.value.all_headers()["content-length"]) < 6.1 * 2**20
    expect(page.locator(".cropper .said")).to_contain_text("Tap the two eyes and the mouth")
    ratio = page.evaluate("getComputedStyle(document.querySelector('.cropper .frame')).aspectRatio")
    assert ratio == "4096 / 3100"


LARGE = """async (side) => {
    const paper = new OffscreenCanvas(side, 128), context = paper.getContext("2d");
    const picture = context.createImageData(side, 128);
    picture.data.forEach((_, i) => { picture.data[i] = i % 4 === 3 ? 255 : 256 * Math.random(); });
    context.putImageData(picture, 0, 0);
    window.large = new File([await paper.convertToBlob()], "large.png", { type: "image/png" });
    return window.large.size;
}"""
DROPPED = """() => {
    const carried = new DataTransfer();
    carried.items.add(window.large);
    const how = { bubbles: true, cancelable: true, dataTransfer: carried };
    document.querySelector(".upload button").dispatchEvent(new DragEvent("drop", how));
}"""
PASTED = """() => {
    const carried = new DataTransfer();
    carried.items.add(window.large);
    const how = { bubbles: true, cancelable: true, clipboardData: carried };
    document.body.dispatchEvent(new ClipboardEvent("paste", how));
}"""
COPIED = 'async () => navigator.clipboard.write([new ClipboardItem({ "image/png": window.large })])'


def test_what_is_dropped_or_pasted_is_reduced_too(visit: Visit, offline: None) -> None:
    """Dropped, pasted by keys, and pasted by the chooser's button: 8192 pixels become 4096 before they are sent."""
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("tab", name="Your own").click()
    for way in (DROPPED, PASTED, COPIED):
        assert page.evaluate(LARGE, 8192) > 2**20
        page.evaluate(way)
        if way is COPIED:
            page.locator(".upload").get_by_label("clipboard").click()
        expect(page.locator(".cropper .square")).to_be_visible()
        frame = page.locator(".cropper .frame")
        assert frame.evaluate("frame => getComputedStyle(frame).aspectRatio") == "4096 / 64"
        page.get_by_role("button", name="Choose another picture").click()
        expect(page.locator(".cropper .square")).to_be_hidden()


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_made_a_large_picture_is_still_said_when_it_is_reduced(
    page: Page, tmp_path: Path, offline: None, kind: Kind
) -> None:
    """A saved photograph of over 6 MB and 4096 pixels is encoded anew in the browser, and what made it stays in it."""
    token = link.encode(Composition((Component("smiling", 1.25),)), "avatars", "portrait-3", 12, 5)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 4800, 3), dtype=np.uint8))
    path = tmp_path / f"saved{SUFFIX[kind]}"
    path.write_bytes(to_file(noise, kind, token))
    assert path.stat().st_size > 6 * 2**20
    give(page, path)
    ratio = page.evaluate("getComputedStyle(document.querySelector('.cropper .frame')).aspectRatio")
    assert ratio == "4096 / 512"
    expect(page.locator(".upload-message .message")).to_contain_text("says what made it")
    page.get_by_role("button", name="Restore what made it").click()
    expect(page.get_by_role("tab", name="Compose")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#mixer:visible")).to_contain_text("Smiling")
    expect(page.locator("#mixer:visible")).not_to_contain_text("Old")


@pytest.mark.parametrize("width", [390])
def test_the_square_by_touch(visit: Visit, tmp_path: Path, offline: None, width: int) -> None:
    """On a phone: three taps, then two fingers that spread and turn."""
    path, landmarks = photo_with_face(tmp_path / "photo.png")
    page = visit(width, 844, has_touch=True, is_mobile=True, device_scale_factor=2)
    give(page, path)
    page.locator(".cropper .frame").scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Three taps").tap()
    for point in (landmarks.left_eye, landmarks.right_eye, landmarks.mouth):
        page.touchscreen.tap(*on_photo(page, *point, 900, 700))
    wanted = align(landmarks, 900, 700, AVATARS)
    assert square(page)["side"] == pytest.approx(wanted.side, abs=14)
    page.get_by_role("button", name="Three taps").tap()
    start = square(page)
    touch = page.context.new_cdp_session(page)
    middle = on_photo(page, start["x"], start["y"], 900, 700)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    (x, y), reach = middle, 30
    fingers("touchStart", (x - reach, y))
    fingers("touchStart", (x - reach, y), (x + reach, y))
    for part in range(1, 6):
        turn, long = np.radians(6 * part), reach * (1 + 0.06 * part)
        c, s = long * np.cos(turn), long * np.sin(turn)
        fingers("touchMove", (x - c, y - s), (x + c, y + s))
    fingers("touchEnd")
    at = square(page)
    assert at["side"] / start["side"] == pytest.approx(1.3, abs=0.06)
    assert at["angle"] - start["angle"] == pytest.approx(30, abs=4)
    for button in page.locator(".cropper button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 44 - 0.5


def test_on_a_phone_the_crop_is_confirmed_first_and_the_result_has_sizes(
    visit: Visit, tmp_path: Path, found: None
) -> None:
    """With a direction chosen, a photograph waits for its square: the page stays there, and nothing is edited."""
    photo, _ = with_faces((900, 700), (520.0, 330.0, 380, 0))
    photo.save(tmp_path / "photo.png")
    page = visit(390, 844, has_touch=True, is_mobile=True)
    page.locator("#presets .cards button").first.tap()
    stage = page.locator("#stage .stage")
    expect(stage.locator(".strip button:not([disabled])")).to_have_count(7)
    first = before(page).get_attribute("src")
    page.get_by_role("tab", name="Your own").scroll_into_view_if_needed()
    give(page, tmp_path / "photo.png")
    expect(page.locator(".cropper .said")).to_contain_text("A face was found")
    page.wait_for_timeout(1000)  # in which it would jump, or begin
    frame = page.locator(".cropper .frame").bounding_box()
    assert 0 <= frame["y"] < 844 - frame["height"] / 2, "the square is in view"
    assert before(page).get_attribute("src") == first
    expect(stage).to_have_attribute("aria-busy", "false")
    side = round(square(page)["side"])
    page.get_by_role("button", name="Use this").tap()
    used(page, first)
    expect(stage.locator(".strip button:not([disabled])")).to_have_count(7)

    save = stage.locator("[data-part=photo]")
    assert min(save.bounding_box()["width"], save.bounding_box()["height"]) >= 44
    save.tap()
    panel = page.locator("#text-edit-keeping")
    expect(panel.get_by_role("button", name="Download the photo (JPEG, 900 x 700)")).to_be_visible()
    expect(panel.locator(".take-away")).to_be_in_viewport()
    assert all(label.bounding_box()["height"] >= 44 for label in panel.locator("label:has(input):visible").all())
    for words, size in (("Only the square, as large as in the photo", side), ("As the model made it", 128)):
        panel.get_by_text(f"{words} ({size} x {size})").tap()
        expect(panel.get_by_role("button", name=f"Download it (JPEG, {size} x {size})")).to_be_visible()
    assert taken(page, tmp_path / "square.jpg").size == (128, 128)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def taken(page: Page, path: Path) -> Image.Image:
    """Press the download button and read what comes."""
    with page.expect_download() as download:
        page.locator(".keeping:visible .take-away").click()
    download.value.save_as(path)
    with Image.open(path) as opened:
        opened.load()
        return opened


def placed_by_taps(page: Page, landmarks: Landmarks) -> None:
    page.get_by_role("button", name="Three taps").click()
    for point in (landmarks.left_eye, landmarks.right_eye, landmarks.mouth):
        page.mouse.click(*on_photo(page, *point, 900, 700))
    first = before(page).get_attribute("src")
    page.get_by_role("button", name="Use this").click()
    used(page, first)


def test_the_whole_way_photo_in_photo_out(page: Page, tmp_path: Path, offline: None) -> None:
    """Taps, an edit, the photograph with it at its own size, as JPEG and PNG; the file says what made it only on
    request, and dropping it restores that."""
    path, landmarks = photo_with_face(tmp_path / "photo.png")
    original = np.asarray(Image.open(path), int)
    give(page, path)
    placed_by_taps(page, landmarks)
    page.locator("#presets .cards").get_by_role("radio", name="Smiling", exact=True).click()
    expect(page.locator(".stage .strip button[disabled]")).to_have_count(0)
    page.get_by_role("button", name="Back into the photo").click()
    panel = page.locator("#text-edit-keeping")
    expect(panel.locator("[data-part=after]")).to_have_attribute("src", re.compile("^data:"))
    expect(panel.locator("[data-part=canvas]")).to_be_in_viewport(ratio=0.3)  # the page goes there
    expect(panel.get_by_role("button", name="Download the photo (JPEG, 900 x 700)")).to_be_visible()
    photo = taken(page, tmp_path / "out.jpg")
    assert (photo.format, photo.size) == ("JPEG", (900, 700))
    assert token_in(tmp_path / "out.jpg") == ""

    panel.get_by_text("PNG", exact=True).click()
    panel.get_by_text("The file says what made it").click()
    expect(panel.get_by_role("button", name="Download the photo (PNG, 900 x 700)")).to_be_visible()
    page.wait_for_timeout(1500)
    photo = taken(page, tmp_path / "out.png")
    result = np.asarray(photo.convert("RGB"), int)
    changed = (result != original).any(-1)
    x, y = np.meshgrid(np.arange(900) + 0.5, np.arange(700) + 0.5)
    wanted = align(landmarks, 900, 700, AVATARS)
    away = np.hypot(x - wanted.x, y - wanted.y) > 0.76 * wanted.side
    assert not changed[away].any()
    assert changed[~away].mean() > 0.2
    assert "smiling:1" in token_in(tmp_path / "out.png")

    page.get_by_role("button", name="Choose another picture").click()
    give(page, tmp_path / "out.png")
    expect(page.locator(".upload-message .message")).to_contain_text("says what made it")
    page.get_by_role("button", name="Restore what made it").click()
    expect(page.get_by_role("tab", name="Compose")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#mixer:visible")).to_contain_text("Smiling")


@pytest.mark.parametrize("tab", ["Discover", "Compose", "Invert"])
def test_back_into_the_photo_in_every_tab(page: Page, tmp_path: Path, offline: None, tab: str) -> None:
    path, landmarks = photo_with_face(tmp_path / "photo.png")
    give(page, path)
    placed_by_taps(page, landmarks)
    page.get_by_role("tab", name=tab).click()
    if tab == "Compose":
        page.locator("#palette .cards").get_by_role("checkbox", name="Smiling", exact=True).click()
        area = page.locator("#compose")
    elif tab == "Discover":
        area = page.locator("#discover")
        area.locator(".chips").get_by_role("button", name="Mouth").click()
        page.locator("#find").click()
        area.locator(".found .row").first.click()
    else:
        area = page.locator("#invert")
        page.locator("#start-invert").click()
        expect(area.locator("td[data-head=PSNR]").first).to_have_text(re.compile(r"\d"))
        expect(page.locator("#start-invert")).to_be_visible()
        area.get_by_role("tab", name="Edit").click()
        write_targets(area, "a smiling face")
        page.locator("#edit-inverted").click()
    button = area.locator(".stage .photo:visible")
    button.click()
    keeping = area.locator(".keeping")
    expect(keeping.get_by_role("button", name="Download the photo (JPEG, 900 x 700)")).to_be_visible()
    assert taken(page, tmp_path / "out.jpg").size == (900, 700)

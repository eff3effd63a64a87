"""Directions from and to the Hub in a real browser: the app in a process of its own, set up as on a Space, and a
stand-in for the Hub on loopback that its client talks to."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core import presets
from core.studio import library
from tests.unit.hub_stand_in import StandIn, running

ROOT = Path(__file__).parents[2]
LIBRARY = list(library.shipped("avatars").values())
THEIRS, MINE, TOKEN = "someone/directions", "me/directions", "hf_SecretSecretSecret"
HOSTILE = "<img src=x onerror=alert(1)>"
STARTING = 120  # seconds
SCOPE = "openid profile contribute-repos"


@dataclass
class Space:
    """The app and its Hub, which can be stopped."""

    address: str
    hub: StandIn
    up: contextlib.ExitStack

    @contextlib.contextmanager
    def without_hub(self) -> Iterator[None]:
        self.up.close()
        try:
            yield
        finally:
            self.up.enter_context(running(self.hub))


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    with contextlib.ExitStack() as up, socket.socket() as free:
        hub = up.enter_context(running())
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        settings = {
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SSR_MODE": "false",
            "HF_ENDPOINT": hub.address,
            "HF_HOME": str(tmp_path_factory.mktemp("hub")),
            "HF_HUB_DISABLE_XET": "1",
            "SYSTEM": "spaces",
            "SPACE_ID": "me/studio",
            "OAUTH_CLIENT_ID": "studio",
            "OAUTH_CLIENT_SECRET": "secret",
            "OAUTH_SCOPES": SCOPE,
            "OPENID_PROVIDER_URL": hub.address,
        }
        log = (tmp_path_factory.mktemp("log") / "app.txt").open("w+")
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=os.environ | settings, stdout=log, stderr=log)
        try:
            address, until = f"http://127.0.0.1:{port}/", time.monotonic() + STARTING
            while True:
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                assert app.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < until, Path(log.name).read_text()
                time.sleep(0.5)
            yield Space(address, hub, up)
        finally:
            app.terminate()
            app.wait(20)
        assert TOKEN not in Path(log.name).read_text()


@pytest.fixture
def hub(space: Space) -> StandIn:
    """The Hub with two directions of somebody's, one of another model, and a file that is none."""
    hub = space.hub
    hub.status, hub.headers, hub.grants = None, {}, None
    hub.repositories.clear()
    hub.requests.clear()
    hub.accounts[TOKEN] = "me"
    first, second = (replace(preset, name=name) for preset, name in zip(LIBRARY[:2], ("Hub one", HOSTILE), strict=True))
    other = replace(first, model="another-model", fingerprint="0" * 16)
    files = {"a.safetensors": first, "b.safetensors": second, "c.safetensors": other}
    hub.repository(THEIRS, {p: presets.to_bytes(one) for p, one in files.items()} | {"d.safetensors": b"nothing"})
    return hub


@pytest.fixture
def compose(space: Space, browser: Browser) -> Iterator[Page]:
    """The Compose tab of a new visitor."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(90_000)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.goto(space.address)
    page.get_by_role("tab", name="Compose").click()
    yield page
    context.close()
    assert not errors


def look(page: Page, repository: str) -> None:
    page.get_by_role("tab", name="From the Hub").click()
    field = page.locator("#hub-repository").locator("input, textarea")
    for _ in range(10):  # what is typed while the tab is being made can be overwritten by its first value
        field.fill(repository)
        page.wait_for_timeout(500)
        if field.input_value() == repository:
            break
    page.locator("#hub-look").click()


def settled(page: Page, parts: int) -> None:
    expect(page.locator("#mixer .channel")).to_have_count(parts)
    expect(page.locator("#compose-stage .stage")).to_have_attribute("data-frames", "1")
    expect(page.locator("#compose-stage .stage")).to_have_attribute("aria-busy", "false")


def saved(page: Page, name: str) -> None:
    """A direction of the visitor's own, ready to be published."""
    page.locator("#palette .cards").get_by_role("checkbox", name=LIBRARY[0].name, exact=True).click()
    settled(page, 1)
    page.locator("#share > button.label-wrap").click()
    page.locator("#share-name").locator("input, textarea").fill(name)
    page.locator("#save-composition").click()
    expect(page.locator("#share-note")).to_contain_text(f"“{name}” is among your directions")
    page.locator("#publish > button.label-wrap").click()
    page.locator("#publish-chosen").get_by_label(name, exact=True).check()


def test_a_direction_from_the_hub_and_offline_afterwards(space: Space, hub: StandIn, compose: Page) -> None:
    look(compose, f"{hub.address}/{THEIRS}".replace(hub.address, "https://huggingface.co"))
    cards = compose.locator("#hub-cards .cards button")
    expect(cards).to_have_count(2)
    expect(cards.filter(has_text=HOSTILE)).to_have_count(1)
    expect(compose.locator("#hub-note")).to_contain_text("1 file there cannot be used")
    expect(compose.locator("#hub-note")).to_contain_text("1 more for other models: another-model.")
    assert all(cards.nth(k).locator("img").get_attribute("src").startswith("data:image/") for k in range(2))
    one = compose.locator("#hub-cards").get_by_role("checkbox", name="Hub one")
    expect(one).to_contain_text(f"avatars · asyrp, {LIBRARY[0].direction.kind}")
    one.click()
    expect(one).to_have_attribute("aria-checked", "true")
    settled(compose, 1)
    assert hub.asked("/resolve/", hub.repositories[THEIRS].head, "a.safetensors"), "asked for by its commit"
    shown = compose.locator("#compose-stage [data-part=after]").get_attribute("src")
    compose.locator("#share > button.label-wrap").click()
    compose.locator("#make-link").click()
    expect(compose.locator("#link input")).to_have_value(re.compile(hub.repositories[THEIRS].head))
    link = compose.locator("#link input").input_value()

    with space.without_hub():
        compose.goto(link)
        settled(compose, 1)
        assert compose.locator("#compose-stage [data-part=after]").get_attribute("src") == shown
        compose.get_by_role("button", name="Remove Hub one").click()
        expect(compose.locator("#mixer .channel")).to_have_count(0)
        look(compose, THEIRS)
        expect(compose.locator("#hub-note .message")).to_contain_text("The Hugging Face Hub cannot be reached")
        expect(compose.locator("#hub-note")).to_contain_text("These were downloaded before")
        expect(cards).to_have_count(1)
        cards.first.click()
        settled(compose, 1)


def test_the_hubs_refusals_have_their_words(hub: StandIn, compose: Page) -> None:
    said = compose.locator("#hub-note .message")
    look(compose, "someone/nothing")
    expect(said).to_contain_text("There is no someone/nothing on the Hub")
    hub.repositories[THEIRS].commit({"notes.md": b"of this test alone"})  # what was seen of a commit is still known
    hub.repositories[THEIRS].gated = True
    look(compose, THEIRS)
    expect(said).to_contain_text("is gated: ask for access on its page")
    hub.status, hub.headers = 429, {"Retry-After": "17"}
    look(compose, THEIRS)
    expect(said).to_contain_text("limits the number of requests, and the limit is reached. Try again in 17 s")
    hub.status = 503
    look(compose, THEIRS)
    expect(said).to_contain_text("The Hub has a fault of its own")
    look(compose, "not a name")
    expect(compose.get_by_text("is not the name of a repository. Write it as owner/name.")).to_be_visible()


def test_publishing_with_a_token(hub: StandIn, compose: Page) -> None:
    saved(compose, "Mine alone")
    token, note = compose.locator("#publish-token input"), compose.locator("#publish-note")
    compose.locator("#publish-to").locator("input, textarea").fill(MINE)
    token.fill("hf_of_nobody")
    compose.locator("#publish-now").click()
    expect(note).to_contain_text("The Hub does not accept this token")
    expect(token).to_have_value("")
    token.fill(TOKEN)
    compose.locator("#publish-author").locator("input, textarea").fill("<b>Me</b>")
    compose.locator("#publish-licence input").click()
    compose.get_by_role("option", name="cc-by-4.0", exact=True).click()
    compose.locator("#publish-now").click()
    expect(note.get_by_role("link")).to_have_attribute("href", f"{hub.address}/{MINE}")
    expect(token).to_have_value("")
    assert TOKEN not in compose.content()
    _, files = hub.repositories[MINE].commits[-1]
    assert {"directions/avatars/mine-alone.safetensors", "thumbnails/avatars/mine-alone.webp"} < files.keys()
    mine = presets.from_bytes(files["directions/avatars/mine-alone.safetensors"])
    assert (mine.name, mine.author, mine.licence) == ("Mine alone", "<b>Me</b>", "cc-by-4.0")
    card = files["README.md"].decode()
    assert "[Mine alone](directions/avatars/mine-alone.safetensors)" in card
    assert "## How to use" in card
    assert "license: cc-by-4.0" in card
    assert "<b>" not in card


def test_publishing_after_logging_in(hub: StandIn, compose: Page) -> None:
    """The Hub's page opens beside this one, which keeps the visitor's own directions."""
    hub.grants = TOKEN
    saved(compose, "By login")
    with compose.expect_popup() as popup:
        compose.get_by_role("link", name="Log in with Hugging Face").click()
    if not popup.value.is_closed():
        popup.value.wait_for_event("close")
    assert hub.asked_for["scope"] == SCOPE
    compose.evaluate("window.dispatchEvent(new Event('focus'))")  # a headless window never loses it
    expect(compose.locator("#login")).to_contain_text("Logged in as me")
    compose.locator("#publish-now").click()
    expect(compose.locator("#publish-note").get_by_role("link")).to_have_attribute("href", f"{hub.address}/{MINE}")
    assert "directions/avatars/by-login.safetensors" in hub.repositories[MINE].commits[-1][1]
    assert TOKEN not in compose.content()
    compose.locator("#login").get_by_role("button", name="Log out").click()
    expect(compose.get_by_role("link", name="Log in with Hugging Face")).to_be_visible()
    compose.locator("#publish-to").locator("input, textarea").fill(MINE)
    compose.locator("#publish-now").click()
    expect(compose.locator("#publish-note")).to_contain_text("Publishing needs a token with write access")

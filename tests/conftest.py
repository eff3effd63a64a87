"""Shared by every test: one thread per process, no telemetry, and plain words when no browser can be found."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("GRADIO_IS_E2E_TEST", "1")

import pytest
from gradio_client import Client

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def find_chromium() -> str | None:
    """Path of the system's Chromium, else of the one that Playwright downloaded, else None."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the browser tests; without a browser skip them at a desk and fail under CI."""
    browser_tests = [item for item in items if "browser" in Path(item.path).parent.name]
    for item in browser_tests:
        item.add_marker(pytest.mark.browser)
    if not browser_tests or find_chromium():
        return
    words = "no Chromium here: install it (Debian: apt-get install chromium) or run `playwright install chromium`"
    if IN_CI:
        raise pytest.UsageError(f"The browser tests must run under CI, but there is {words}.")
    config.stash[_NO_BROWSER] = f"{len(browser_tests)} browser tests did not run: {words}"
    for item in browser_tests:
        item.add_marker(pytest.mark.skip(reason=words))


_NO_BROWSER = pytest.StashKey[str]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say plainly at the end that the browser tests did not run."""
    if words := config.stash.get(_NO_BROWSER, ""):
        terminalreporter.write_sep("!", words)


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the small text-to-image model "stand-in", quicker than `avatars-t2i` and random."""
    from dataclasses import replace

    from core.models.cards import Embedded
    from core.models.t2i_cards import TEXT_TO_IMAGE
    from tests.text_model import save_text_model

    folder = save_text_model(tmp_path_factory.mktemp("stand-in"))
    with pytest.MonkeyPatch.context() as patch:
        card = replace(TEXT_TO_IMAGE["avatars-t2i"], id="stand-in", title="Stand-in", source=Embedded(str(folder)))
        patch.setitem(TEXT_TO_IMAGE, card.id, card)
        yield folder


@pytest.fixture(scope="session")
def served(text_model: Path) -> Iterator[str]:
    """Address of the whole app, running in this process, with the stand-in as the first model of Invert."""
    import app
    from tabs.invert import endpoints as invert_endpoints
    from tabs.invert import tab as invert

    with pytest.MonkeyPatch.context() as patch:
        for tab in (invert, invert_endpoints):
            patch.setattr(tab, "FIRST", "stand-in")
        page = app.build()
        _, address, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
        yield address
        page.close()


@pytest.fixture
def client(served: str) -> Client:
    """A program that calls the app, in a session of its own."""
    return Client(served, verbose=False)

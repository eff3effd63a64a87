"""A real Chromium, one fresh visitor per test; a failing test leaves a screenshot."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from core.models.loader import models
from tests.conftest import NO_BROWSER, find_chromium, running_app

SCREENSHOTS = Path(__file__).parent / "screenshots"
PATIENCE = 90_000  # milliseconds; an edit takes seconds, and the machine may be busy
STEPS = 10  # of an analysis, in place of 40: enough to see what the page does; how good it is, other tests measure

# The first two are pages that Chromium makes for the address bar of every new window, which nobody sees here: a second
# of computing per test. Chromium heeds the last such list only, so what Playwright switches off is repeated.
SWITCHED_OFF = (
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "OptimizationHints",
)

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.fail(f"The browser tests must run in CI, but there is {NO_BROWSER}.")
    flags = ["--no-sandbox", "--disable-background-networking", "--disable-dev-shm-usage"]
    flags.append(f"--disable-features={','.join(SWITCHED_OFF)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def served(text_model: Path) -> Iterator[str]:
    """Address of an app for browsers."""
    with running_app() as address:
        yield address


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a visitor is not asked the steps of, such as the analysis in Discover, takes few as well."""
    model = models.get("avatars")
    monkeypatch.setattr(model, "card", replace(model.card, steps=STEPS))


@pytest.fixture
def visit(browser: Browser, served: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Open the app as a new visitor: `visit(width, height, **context options)`. Script errors fail the test."""
    pages: list[Page] = []
    errors: list[str] = []

    def open_page(width: int = 1440, height: int = 900, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(served)
        page.wait_for_selector("#presets .cards button")
        page.wait_for_selector(".stage img[src^='data:']")
        pages.append(page)
        return page

    yield open_page
    failed = request.node.stash.get(FAILED, False)
    for number, page in enumerate(pages):
        if failed and not page.is_closed():
            SCREENSHOTS.mkdir(exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"{request.node.name}-{number}.png")
        page.context.close()
    assert not errors


@pytest.fixture
def page(visit: Callable[..., Page]) -> Page:
    return visit()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        item.stash[FAILED] = report.failed

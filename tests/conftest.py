"""Shared by every test: one thread per process, which tests share a worker, no telemetry, and plain words when no
browser can be found."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch, numpy and scipy read it when they are imported
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("GRADIO_IS_E2E_TEST", "1")
os.environ.setdefault("HSPACE_CACHE", tempfile.mkdtemp(prefix="hspace-"))

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


NO_BROWSER = "no Chromium here: install it (Debian: apt-get install chromium) or run `playwright install chromium`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first. Mark the browser tests; without a browser skip them, but not in CI."""
    browser_tests = [item for item in items if part(item) == "browser"]
    for item in browser_tests:
        item.add_marker(pytest.mark.browser)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (part(item) != "browser", part(item) != "app", item.path not in slow))
    if browser_tests and not IN_CI and not find_chromium():
        for item in browser_tests:
            item.add_marker(pytest.mark.skip(reason=NO_BROWSER))


def part(item: pytest.Item) -> str:
    """The folder that a test is in."""
    return Path(item.path).parent.name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker gets all browser tests, all app tests, or another file as a whole: what these share is made once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in ("tests/browser", "tests/app") if file.startswith(folder)), file)

    config.option.loadscopereorder = False  # in the order of the collection
    return ByPart(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    if error:
        node.config.stash[_CRASHED] = True


_CRASHED = pytest.StashKey[bool]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker that crashes between two tests or after the last one makes the run fail too."""
    if session.config.stash.get(_CRASHED, False) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say plainly at the end that the browser tests did not run, or that the run failed without a failed test."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if NO_BROWSER in str(report.longrepr)]
    if skipped:
        terminalreporter.write_sep("!", f"{len(skipped)} browser tests did not run: {NO_BROWSER}")
    if config.stash.get(_CRASHED, False):
        terminalreporter.write_sep("!", "A worker crashed: this run has failed")


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


@contextlib.contextmanager
def running_app() -> Iterator[str]:
    """Address of the whole app, running in this process, with the stand-in as the first model of Invert."""
    import app
    from tabs.compose import words_endpoint
    from tabs.invert import endpoints as invert_endpoints
    from tabs.invert import tab as invert

    with pytest.MonkeyPatch.context() as patch:
        for tab in (invert, invert_endpoints, words_endpoint):
            patch.setattr(tab, "FIRST", "stand-in")
        page = app.build()
        _, address, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
        yield address
        page.close()


@pytest.fixture(scope="session")
def served(text_model: Path) -> Iterator[str]:
    """Address of the app, for the tests that call it as a program does."""
    with running_app() as address:
        yield address


@pytest.fixture
def client(served: str) -> Client:
    """A program that calls the app, in a session of its own."""
    return Client(served, verbose=False)

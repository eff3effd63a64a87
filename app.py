"""Builds the page from its tabs, sets the limits, and launches. `python app.py` is all there is to it."""

from __future__ import annotations

import logging
import os
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")  # after every event it summarises all that it keeps

if os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true"):
    import spaces  # noqa: F401  before everything else: from here on this thread, and no other, seems to have a GPU

import gradio as gr

from core.errors import VisitorError
from core.imaging import MAX_BYTES
from core.studio.edit import warm_up
from core.studio.known_models import bound_model, is_loaded
from core.studio.visit.session import Session
from tabs import hub_login, opening, opening_endpoints, parts_endpoints, photo_endpoints, restoring, serving
from tabs.compose import endpoints as compose_endpoints
from tabs.compose import tab as compose
from tabs.compose import table_endpoints, words_endpoint
from tabs.discover import endpoints as discover_endpoints
from tabs.discover import tab as discover
from tabs.invert import endpoints as invert_endpoints
from tabs.invert import tab as invert
from tabs.notices import warn
from tabs.shell import FAULT, Shell
from tabs.text_edit import analyses as text_edit_analyses
from tabs.text_edit import endpoints as text_edit_endpoints
from tabs.text_edit import tab as text_edit
from tabs.theme import theme
from tabs.visits import KEEP_IDLE, VisitedPage
from tabs.widgets import asset

ON_ZEROGPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
if ON_ZEROGPU:
    from tabs import zerogpu

TABS = [text_edit, discover, compose, invert]
ENDPOINTS = [
    text_edit_endpoints,
    text_edit_analyses,
    compose_endpoints,
    table_endpoints,
    words_endpoint,
    discover_endpoints,
    invert_endpoints,
    photo_endpoints,
    parts_endpoints,
    opening_endpoints,
]
STYLES = ["page.css", "compose.css", "discover.css", "invert.css"]
DEFAULT_MODEL = "avatars"
LIGHTS = (
    '<button type="button" aria-label="Light or dark" title="Light or dark">'
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.7"><circle cx="12" cy="12" r="8.2"/>'
    '<path d="M12 3.8a8.2 8.2 0 0 1 0 16.4z" fill="currentColor"/></svg></button>'
)
BRAND = '<div class="brand"><b><i>h</i>-space studio</b><span>Edit pictures where a diffusion model thinks</span></div>'
FOOT = (
    '<div class="foot"><span>Pictures are kept for this visit only. An edited face is evidence of nothing.</span>'
    '<span><button type="button">Use it from a program</button></span></div>'
)


def build() -> VisitedPage:
    """The page."""
    with VisitedPage(title="h-space studio", delete_cache=(3600, KEEP_IDLE), analytics_enabled=False) as page:
        session, model = gr.State(Session(DEFAULT_MODEL)), gr.State(DEFAULT_MODEL)
        shell = Shell(session, model, page, restoring.build(page, session, model))
        with gr.Row(elem_id="top"):
            gr.HTML(BRAND)
            chosen = gr.Dropdown(
                opening.choices(),
                value=DEFAULT_MODEL,
                show_label=False,
                label="Model",
                container=False,
                elem_id="model",
            )
            gr.HTML(html_template=LIGHTS, js_on_load=asset("lights.js"), elem_id="lights")
        opening.build(shell, chosen)
        with gr.Tabs(elem_id="tabs"):
            for tab in TABS:
                with gr.Tab(tab.TITLE, id=tab.TITLE) as opened:
                    tab.build(shell, opened)
        gr.HTML(html_template=FOOT, js_on_load=asset("foot.js"), elem_id="foot")
        for script in ("places", "alerts"):
            gr.HTML(html_template="<i></i>", js_on_load=asset(f"{script}.js"), elem_id=script)
        for endpoints in ENDPOINTS:
            endpoints.build(shell)
        if hub_login.offered():
            page.load(hub_login.welcome, None, None, api_visibility="private")
        shell.model.change(show_chosen, shell.model, chosen, api_visibility="private")
        chosen.select(choose_model, [chosen, shell.model], [chosen, shell.model], api_visibility="private")
    return page


def show_chosen(model_id: str) -> Any:
    """The model in the list, which may have been opened since."""
    return gr.update(choices=opening.choices(), value=model_id)


def choose_model(wanted: str, current: str) -> tuple[str, str]:
    """Load a model; one that cannot be had leaves the current one in place and says why."""
    if wanted == current:
        return current, current
    known = is_loaded(wanted)
    try:
        model = bound_model(wanted)
    except VisitorError as error:
        warn(error.message, seconds=12)
        return current, current
    except Exception:
        logging.getLogger(__name__).exception("loading %s failed", wanted)
        warn(FAULT)
        return current, current
    if not known or opening.verdict(model)[0] == "fail":
        opening.tell_verdict(model)
    return wanted, wanted


def launch(page: VisitedPage, **settings: Any) -> Any:
    """Launch with the limits that a public page needs."""
    if ON_ZEROGPU:
        zerogpu.prepare(DEFAULT_MODEL)
    page.queue(max_size=32, default_concurrency_limit=8)
    served = page.launch(
        theme=theme(),
        css="".join(map(asset, STYLES)),
        head=hub_login.CLOSE if hub_login.offered() else None,
        max_file_size=MAX_BYTES,
        footer_links=["api"],
        run_history=False,
        show_error=False,
        app_kwargs=serving.settings(),
        **settings,
    )
    page.hold_visits()
    return served


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    page = build()
    launch(page, prevent_thread_lock=True)
    if not ON_ZEROGPU:  # there it was done before
        warm_up(DEFAULT_MODEL)
    page.block_thread()


if __name__ == "__main__":
    main()

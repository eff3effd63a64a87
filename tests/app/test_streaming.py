"""What the page is told of an event that yields: see `tabs.streaming`."""

import asyncio
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio_client.utils import apply_diff

from tabs.streaming import Page


def yielding() -> Iterator[tuple[Any, Any]]:
    yield {"note": "Starting", "parts": [1, 2]}, "one"
    yield {"note": "Done", "parts": [1]}, gr.skip()
    yield gr.skip(), "two"


def told(kind: type[gr.Blocks], api_visibility: str) -> list[list[Any]]:
    """The data of every message about one run of `yielding`, as the page gets them."""
    with kind() as page:
        button, shown, other = gr.Button(), gr.HTML(), gr.Textbox()
        button.click(yielding, None, [shown, other], api_visibility=api_visibility)

    async def run() -> list[list[Any]]:
        messages, iterator = [], None
        while True:
            message = await page.process_api(0, [], iterator=iterator, session_hash="visit", event_id="event")
            messages.append(message["data"])
            if not message["is_generating"]:
                return messages
            iterator = message["iterator"]

    return asyncio.run(run())


SKIP = {"__type__": "update"}


def test_the_page_is_told_whole_values_and_nothing_at_the_end() -> None:
    first, *others, end = told(Page, "private")
    assert first == [{"note": "Starting", "parts": [1, 2]}, "one"]
    assert others == [
        [[["replace", [], {"note": "Done", "parts": [1]}]], [["replace", [], SKIP]]],
        [[["replace", [], SKIP]], [["replace", [], "two"]]],
    ]
    assert end == [SKIP, SKIP]


def test_clients_of_named_endpoints_are_told_the_last_values_at_the_end() -> None:
    *_, end = told(Page, "public")
    assert end[1] == "two"


def test_what_is_told_adds_up_to_what_was_yielded() -> None:
    first, *others, _ = told(Page, "private")
    shown, texts = [first[0]], [first[1]]
    for message in others:
        shown.append(apply_diff(shown[-1], message[0]))
        texts.append(apply_diff(texts[-1], message[1]))
    assert shown == [{"note": "Starting", "parts": [1, 2]}, {"note": "Done", "parts": [1]}, SKIP]
    assert texts == ["one", SKIP, "two"]

"""What an event that yields tells the page."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction

# What becomes of `gr.skip()` for an HTML component, whose properties an update replaces.
EMPTY = {**gr.skip(), "props": gr.skip()}


class Page(gr.Blocks):
    """A page on which a value that was shown stays as it is until another is shown in its place.

    Gradio tells a page only what differs from the value that the same event yielded before, and the page applies that
    to the value itself, even while it is on show or still waits to be: of a value and a `gr.skip()` yielded soon after
    it, nothing is left. And when an event has ended, Gradio says what it yielded last once more, over whatever other
    events have shown meanwhile. A `gr.skip()` for an HTML component sends it empty properties. Here every value is told
    whole, a skip tells nothing, and nor does the end of an event of the page. Clients of the named endpoints get what
    Gradio tells them.
    """

    async def postprocess_data(self, block_fn: BlockFunction, predictions: Any, state: Any) -> list[Any]:
        values = await super().postprocess_data(block_fn, predictions, state)
        return [gr.skip() if value == EMPTY else value for value in values]

    def handle_streaming_diffs(
        self,
        block_fn: BlockFunction,
        data: list,
        session_hash: str | None,
        run: str | None,
        final: bool,
        simple_format: bool = False,
    ) -> list:
        if simple_format or session_hash is None or run is None or block_fn.api_visibility != "private":
            return super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format)
        first = run not in self.pending_diff_streams[session_hash]
        values: list[Any] = super().handle_streaming_diffs(block_fn, data, session_hash, run, final, simple_format=True)
        if final:
            return [gr.skip()] * len(values)
        return values if first else [[["replace", [], value]] for value in values]

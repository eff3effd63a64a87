"""Notices over the page, as plain text: Gradio shows them as HTML, and they repeat what files and links say."""

from __future__ import annotations

import html

import gradio as gr

TITLE = "That did not work"


def warn(words: str, title: str = TITLE, seconds: float = 9) -> None:
    """Tell the visitor of this event what did not work."""
    gr.Warning(html.escape(words, quote=False), duration=seconds, title=html.escape(title, quote=False))


def inform(words: str, title: str = "Info", seconds: float = 10) -> None:
    """Tell the visitor of this event what they may want to know."""
    gr.Info(html.escape(words, quote=False), duration=seconds, title=html.escape(title, quote=False))

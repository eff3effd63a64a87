"""What every tab is given, and the one place where errors become words."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from core.errors import VisitorError
from core.studio.turns import Outdated, Turns
from core.studio.visit.session import Session
from tabs.notices import warn

log = logging.getLogger(__name__)

FAULT = "Something went wrong here, and it is not your fault. Nothing was lost; please try again."

# Settings of the page's events, which are no endpoints. Heavy ones use the device; one may begin while an older one of
# the same visitor still runs, which then stops by itself.
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
HEAVY: dict[str, Any] = {**QUIET, "trigger_mode": "multiple", "concurrency_id": "edit", "concurrency_limit": 4}


@dataclass(frozen=True)
class Shell:
    """session: the visitor's `Session`. model: the chosen model's id; `.change` tells of another one. page: all of it.
    found: `.then` tells that a visitor has opened the page, and that the visit is known."""

    session: gr.State
    model: gr.State
    page: gr.Blocks
    found: Dependency


def in_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    """For events of the page: an error becomes a notice, and everything on the page stays as it was. A request that is
    out of date ends without a word."""

    def tell(error: Exception) -> None:
        if isinstance(error, VisitorError):
            warn(error.message)
        else:
            log.exception("%s failed", handler.__name__)
            warn(FAULT)

    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def steps(*arguments: Any) -> Iterator[Any]:
            silent = True
            try:
                for values in handler(*arguments):
                    silent = False
                    yield values
            except Outdated:
                pass
            except Exception as error:
                tell(error)
            if silent:  # Gradio empties the outputs of a generator that yields nothing
                yield gr.skip()

        return steps

    @functools.wraps(handler)
    def once(*arguments: Any) -> Any:
        try:
            return handler(*arguments)
        except Outdated:
            return gr.skip()
        except Exception as error:
            tell(error)
            return gr.skip()

    return once


def clearing(turns_of: Callable[[Session], Turns]) -> Callable[[Callable[..., Iterator[str]]], Callable[..., Any]]:
    """`in_words` for what fills a section of its own: none of its progress is left when it fails or is forgotten. Its
    first argument is the session; turns_of: the requests for the section."""

    def wrapped(handler: Callable[..., Iterator[str]]) -> Callable[..., Any]:
        @functools.wraps(handler)
        def steps(session: Session, *arguments: Any) -> Iterator[str]:
            try:
                yield from handler(session, *arguments)
            except Outdated:
                if turns_of(session).are_forgotten:  # the last progress may have crossed the answer to that
                    yield ""
                raise
            except Exception:
                yield ""
                raise

        return in_words(steps)

    return wrapped


def forget_after(events: Sequence[Any], shell: Shell, turns_of: Callable[[Session], Turns], section: gr.HTML) -> None:
    """After events by which it is about something else, a section is empty and what runs for it ends. To be declared
    before what else these events do: the page begins events of one click one after the other."""

    def forget(session: Session) -> str:
        turns_of(session).forget()
        return ""

    gr.on(events, forget, shell.session, section, queue=False, **QUIET)


def for_clients(handler: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """For named endpoints, which are generators: a visitor's error reaches the client as its message."""

    @functools.wraps(handler)
    def endpoint(*arguments: Any) -> Iterator[Any]:
        try:
            yield from handler(*arguments)
        except VisitorError as error:
            raise gr.Error(error.message, print_exception=False) from error

    return endpoint

"""Reaching the Hugging Face Hub: whether it answers, how long to wait, and words for whatever its client raises."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import httpx2
import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.utils import parse_ratelimit_headers

from .errors import HubError, ResourceError, VisitorError

# In seconds. With all else an unreachable Hub costs less than 3.
ANSWER_TIMEOUT = 2.5  # of the first sign of life
REQUEST_TIMEOUT = 10.0  # of one request
BROWSE_DEADLINE = 60.0  # of everything that browsing takes
TRANSFER_DEADLINE = 300.0  # of one file

T = TypeVar("T")


class TookTooLong(Exception):
    """The client did not come back in time."""


def hub_answers(timeout: float = ANSWER_TIMEOUT) -> bool:
    """Whether the Hub gives any answer within `timeout` seconds (its client alone would retry for 23).

    Asked through the client's own session, so that proxies, endpoint and offline mode count.
    """

    def ask() -> None:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=timeout)

    try:
        with_deadline(ask, timeout)
    except Exception:  # no answer, whatever the reason
        return False
    return True


def require_hub() -> None:
    """Raises HubError: the Hub cannot be reached."""
    if not hub_answers():
        raise HubError(unreachable())


def ask_hub(work: Callable[[], T], seconds: float, repository: str, revision: str = "main") -> T:
    """What `work` returns within so many seconds; its failures as errors that a visitor can read.

    Raises:
        HubError: the Hub refused, failed or took too long. ResourceError: the disk is full. Whatever VisitorError
            `work` raises.
    """
    try:
        return with_deadline(work, seconds)
    except VisitorError:
        raise
    except Exception as error:  # the client's errors come from three libraries and share no base
        on_disk = isinstance(error, OSError) and error.errno is not None
        raise (ResourceError if on_disk else HubError)(explain(error, repository, revision)) from error


def with_deadline(work: Callable[[], T], seconds: float) -> T:
    """What `work` returns or raises, if it does so in time: parts of the client wait for minutes or without a limit.

    Raises:
        TookTooLong: it did not. It goes on in a thread of its own, and its result is dropped.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise
        raise TookTooLong from None


def unreachable() -> str:
    """Words for a Hub that gives no sign of life."""
    if huggingface_hub.is_offline_mode():
        return "This machine is set to work without the Hub (HF_HUB_OFFLINE). Unset that, or use what is here already."
    return "The Hugging Face Hub cannot be reached from here. Connect to the internet and try again."


def explain(error: BaseException, repository: str, revision: str = "main") -> str:
    """What an error of the Hub's client means for a visitor, and what to do about it, as one or two sentences.

    Nothing of the error's own text is repeated: it can hold addresses with signatures and the headers of a request.
    """
    match error:
        case errors.OfflineModeIsEnabled():
            return unreachable()
        case errors.GatedRepoError():
            return (
                f"{repository} is gated: ask for access on its page on the Hub, then use a token of the account that "
                "was given it."
            )
        case errors.RepositoryNotFoundError():
            return f"There is no {repository} on the Hub. Check the name; a private one needs a token that may read it."
        case errors.RevisionNotFoundError():
            return f"{repository} has no revision “{revision}”. Check it, or use “main”."
        case errors.RemoteEntryNotFoundError():
            return f"{repository} does not have that file at revision “{revision}”. Look at its list again."
        case errors.DisabledRepoError():
            return f"{repository} has been disabled on the Hub. Choose another one."
        case errors.HfHubHTTPError():
            return _explain_status(error, repository)
        case TookTooLong() | httpx2.TimeoutException():
            return "The Hub began to answer and then took too long. Try again in a while."
        case httpx2.ConnectError() | httpx2.ProxyError():
            return unreachable()
        case httpx2.TransportError() | httpx2.StreamError():
            return "The connection to the Hub was interrupted. Try again; what was there before is unharmed."
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return "The disk is full. Free some space and try again."
        case OSError(errno=int()):
            return f"The file could not be kept on this machine ({error.strerror})."
        case OSError() if "Consistency check failed" in str(error):
            return "The download was interrupted: the file is incomplete. Try again."
        case Exception(__cause__=Exception() as cause):
            return explain(cause, repository, revision)
        case _:
            return f"The exchange with the Hub failed ({type(error).__name__}). Try again later."


def _explain_status(error: errors.HfHubHTTPError, repository: str) -> str:
    response = error.response
    match response.status_code:
        case 401:
            return (
                "The Hub does not accept this token. Make a new one in your settings there (huggingface.co/settings)."
            )
        case 402:
            return "The Hub wants to be paid for that. Choose other hardware, or see the plans on your settings there."
        case 403:
            return f"This token may not do that with {repository}. Use one with write access to it."
        case 409 | 412:
            return f"{repository} was changed by someone else meanwhile. Try again."
        case 429:
            limit, wait = parse_ratelimit_headers(response.headers), response.headers.get("Retry-After", "")
            seconds = limit.reset_in_seconds if limit else int(wait) if wait.isdigit() else None
            when = "in a few minutes" if seconds is None else f"in {max(seconds, 1)} s"
            return f"The Hub limits the number of requests, and the limit is reached. Try again {when}."
        case status if status >= 500:
            return f"The Hub has a fault of its own at the moment (status {status}). Try again later."
        case status:
            return f"The Hub refused the request for {repository} (status {status})."

"""ZeroGPU: device jobs get a GPU for as long as they last, in a process of their own. Imported on such a Space only.

`core.studio.elsewhere` does the work. Here is what Gradio and `spaces` have to do with it: the one function that runs
with a GPU, and their refusals in words. Everything that a job needs goes in as bytes and comes out as bytes.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Iterator

import gradio as gr
import spaces

from core.errors import DeviceRefused, ResourceError, VisitorError
from core.forking import forget_imports_of_others
from core.models import placing
from core.studio import jobs
from core.studio.edit import warm_up
from core.studio.elsewhere import TAKEN_AWAY, Elsewhere, place_models, serve

log = logging.getLogger(__name__)

OTHERWISE = "Choose one of the avatars, which do without a GPU, or ask for fewer steps or pictures."
LOG_IN = "With a Hugging Face account you have more GPU time: log in there, then open this page anew."


placing.keep_to("cpu")  # from the beginning: what the page loads while it is built would be of zeros

LATE_IMPORTS = ("lpips", "open_clip")  # by functions, so that other starts are quick


def prepare(model_id: str) -> None:
    """Before the launch, on the main thread: models onto the GPU, jobs to it.

    What functions import late is imported now, so that not every process has to.

    model_id: of the model that visitors find.
    """
    forget_imports_of_others()
    for name in LATE_IMPORTS:
        importlib.import_module(name)
    warm_up(model_id)
    place_models("cuda")
    jobs.run_elsewhere(Elsewhere(granted))


def needed(payload: bytes, seconds: int) -> int:
    """For how long the GPU is asked for."""
    return seconds


@spaces.GPU(duration=needed)
def with_gpu(payload: bytes, seconds: int) -> Iterator[bytes]:
    """Everything that runs with a GPU."""
    yield from serve(payload)


def granted(payload: bytes, seconds: int) -> Iterator[bytes]:
    """The same; a refusal is in words.

    Raises:
        DeviceRefused: there is no GPU. ResourceError: it was taken away.
    """
    begun = False
    try:
        for message in with_gpu(payload, seconds):
            begun = True
            yield message
    except gr.Error as error:
        raise refusal(error.title, str(error.message), seconds) from error
    except Exception as error:  # the service cannot be reached, or says something that `spaces` does not know
        if begun:
            raise
        log.warning("no GPU: %s", error)
        reason = "The GPU service does not answer."
        raise DeviceRefused(f"{reason} Try again in a minute. {OTHERWISE}", reason) from error


def refusal(title: str, message: str, seconds: int) -> VisitorError:
    """What `spaces` says, in words for a visitor. title, message: of its error. seconds: that were asked for."""
    if title == "ZeroGPU worker error":
        log.error("a GPU job broke off: %s", message)
        return ResourceError(TAKEN_AWAY)
    asked = re.search(r"\((\d+)s requested vs\. (\d+)s left\)", message)
    wait = re.search(r"Try again in ([^.]+?)\. ?", message)
    again = f" You have more in {wait[1]}." if wait else ""
    left = None
    if "No GPU was available" in message:
        reason, way = "No GPU is free now.", f"Try again in a minute. {OTHERWISE}"
    elif title == "ZeroGPU illegal duration":
        reason, way = f"This needs a GPU for about {seconds} seconds, more than is allowed at once.", OTHERWISE
    elif title == "ZeroGPU pending credits exceeded":
        reason, way = "Your other GPU jobs are still running.", f"Wait until they are done. {OTHERWISE}"
    elif "runs limit" in message:
        reason, way = "You have used the GPU as often as you may today.", f"{OTHERWISE} {LOG_IN}"
    elif asked:
        left = int(asked[2]) * seconds / max(1, int(asked[1]))
        reason = f"You have {int(left)} seconds of GPU time left today, and this needs about {seconds}."
        reason, way = f"{reason}{again}", f"{OTHERWISE} {LOG_IN}"
    elif title == "ZeroGPU quota exceeded":
        reason, way = "The GPU time of this Space is used up for today.", f"{OTHERWISE} {LOG_IN}"
    elif "Expired" in message:
        reason, way = "This page has been open for too long to get a GPU.", "Open it anew."
    else:
        reason, way = "There is no GPU now.", f"Try again in a minute. {OTHERWISE}"
    return DeviceRefused(f"{reason} {way}", reason, left)

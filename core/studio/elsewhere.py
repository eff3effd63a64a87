"""Device jobs in a process that has a GPU for as long as a job lasts (ZeroGPU), on behalf of this one.

A job goes there as its name and its arguments (`core.studio.wire`); its events come back, and with those that are
`kept`, what it has filled in so far. At its end its result comes home, and what it has put into the caches of all
visitors. Here nothing runs on the GPU: the models of this process stay on the CPU, for their descriptions, and for
small jobs when there is no GPU.

`Elsewhere` is this side, `serve` is the other one. Between them is a transport: a function that starts `serve` in
another process and passes its messages on as bytes.
"""

from __future__ import annotations

import contextvars
import dataclasses
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, cast

import torch

from ..cache import Cache
from ..clip import ImageText
from ..conditional_unet import PromptedUNet
from ..errors import DeviceRefused, ResourceError
from ..instruments import Instruments
from ..models import loader as unconditional
from ..models import pipelines as from_text
from ..models import placing
from ..models.cards import MODELS, Embedded
from ..models.loader import DiffusionModel, models
from ..models.pipelines import pipelines
from ..models.t2i_cards import TEXT_TO_IMAGE
from ..progress import Job, Progress
from ..prompted import with_prompt
from ..text_to_image import TextToImage, load_text_to_image, missing_words
from . import jobs, measuring
from .discover.analysis import ANALYSES
from .discover.search import PREPARED
from .jobs import JOBS, DeviceJob
from .latents import KEPT
from .wire import Line, joined, parted

log = logging.getLogger(__name__)

# (payload, seconds that the GPU is needed) -> messages of `serve`. Raises DeviceRefused before the first one.
Transport = Callable[[bytes, int], Iterator[bytes]]

HEARTBEAT = 1.0  # seconds after which an event is told once more, so that whoever follows it can stop
MAX_SHARE = 0.1  # of the time, for sending home what is filled in along the way

# Seconds to ask for. The GPU was not there to measure them on; what jobs really take corrects them (`Pace`).
START = 8.0  # a new process, the models onto the card, the first kernels
PER_CALL = 0.03  # of a network
PER_OPERATION = 1 / 2e13
OPERATIONS = 0.15  # of one row: per parameter and place of the network's input
RESERVE = 1.3
GRANT = 60  # at most, for a job that can be done in slices
MIN_GRANT = 20
MAX_SECONDS = 120  # for any other

MAX_ON_CPU = 128 * 2**20  # bytes of a network; larger ones wait for a GPU

TAKEN_AWAY = "The GPU was taken away before this was done. Try again, or with fewer steps or pictures."

CACHES: dict[str, Cache[Any]] = {
    "latents": KEPT.latents,
    "paths": KEPT.paths,
    "analyses": ANALYSES,
    "prepared": PREPARED,
}


# ------------------------------------------------------------------------------------------------------ what has a name


class Named:
    """Models and instruments by their names, each side's own."""

    def name_of(self, value: object) -> Hashable | None:
        if isinstance(value, DiffusionModel) and isinstance(value.unet, PromptedUNet):
            bound = value.unet.prompt
            return "prompted", (value.card.id, bound.words, bound.guidance, bound.shifted, bound.empty_words)
        if isinstance(value, DiffusionModel):
            return "model", value.card
        if isinstance(value, TextToImage):
            return "text-to-image", (value.id, value.rows)
        if isinstance(value, ImageText | Instruments) or (
            isinstance(value, FunctionType) and value.__name__ == "<lambda>"
        ):
            name = measuring.name_of(value)
            return None if name is None else ("instrument", name)
        return None

    def named(self, name: Any) -> Any:
        kind, of = name
        if kind == "model":
            MODELS.setdefault(of.id, of)  # it may have been opened since this process was made
            model = models.get(of.id)
            return model if model.card == of else replace(model, card=of)
        if kind == "prompted":
            model_id, *bound = of
            return with_prompt(load_text_to_image(TEXT_TO_IMAGE[model_id]), *bound)
        if kind == "text-to-image":
            model_id, rows = of
            return replace(load_text_to_image(TEXT_TO_IMAGE[model_id]), rows=rows)
        return measuring.named(of)


# --------------------------------------------------------------------------------------------------------- models there


@dataclass
class Placed:
    """Models that were put on the GPU before the app was launched; here they are of no use."""

    models: dict[str, DiffusionModel] = field(default_factory=dict)
    pipelines: dict[str, from_text.LoadedPipeline] = field(default_factory=dict)


PLACED = Placed()


def place_models(device: str) -> None:
    """Put the models that come with the app on a device, for the processes of jobs. On the main thread, before the app
    is launched: ZeroGPU then packs them, and every process has them from its beginning."""
    for card in MODELS.values():
        if isinstance(card.source, Embedded):
            PLACED.models[card.id] = unconditional.load(card, device)
    for text_card in TEXT_TO_IMAGE.values():
        if isinstance(text_card.source, Embedded) and not missing_words(text_card):
            PLACED.pipelines[text_card.id] = from_text.load(text_card, device)


_settled = False


def _settle() -> None:
    """Make a fork of the main process one that uses its own device."""
    global _settled
    if _settled:
        return
    jobs.run_elsewhere(None)
    placing.keep_to(None)
    models.adopt({key: replace(model, device=model.unet.device) for key, model in PLACED.models.items()})
    pipelines.adopt({key: replace(kept, device=kept.pipeline.unet.device) for key, kept in PLACED.pipelines.items()})
    measuring.move_kept()
    torch.seed()  # or every process draws the same
    _settled = True


# ------------------------------------------------------------------------------------------------------- the other side


def serve(payload: bytes) -> Iterator[bytes]:
    """Run a job in this process, which is a fork of the main one or was forked earlier. Yields messages: (kind,
    its content, what the arguments have in them or None)."""
    _settle()
    line = Line("there", Named())
    name, arguments, seconds = line.unpack(payload)
    job = JOBS[name]
    began, sent, took = time.monotonic(), -math.inf, 0.0
    deadline = began + max(0.25 * seconds, seconds - START)
    known = {cache: {key: id(value) for key, value in CACHES[cache].items()} for cache in CACHES}
    running = job.start(**arguments)

    def message(kind: str, content: Any, home: bool, remember: bool = True) -> bytes:
        parts = line.pack(content, remember), line.pack(filled_in(arguments)) if home else None
        return joined((kind, *parts))

    def new_in_caches() -> dict[str, list[tuple[Hashable, Any]]]:
        return {
            name: [(key, value) for key, value in cache.items() if known[name].get(key) != id(value)]
            for name, cache in CACHES.items()
        }

    try:
        while True:
            try:
                event = next(running)
            except StopIteration as end:
                result = next((("argument", key) for key, value in arguments.items() if value is end.value), None)
                result = result or ("value", end.value)
                yield message("end", (result, new_in_caches(), time.monotonic() - began), home=True)
                return
            now = time.monotonic()
            if job.resumable and event.kept and now > deadline:
                running.close()
                yield message("slice", (event, new_in_caches(), now - began), home=True)
                return
            home = event.kept and took <= MAX_SHARE * (now - sent)
            made = message("event", event, home, remember=False)
            if home:
                sent, took = time.monotonic(), time.monotonic() - now
            yield made
    except Exception as error:
        try:
            yield message("error", error, home=True)
        except Exception:
            log.exception("%s failed, and how cannot be told", name)
            yield message("error", RuntimeError(f"{type(error).__name__}: {error}"), home=False)
    finally:
        running.close()


def filled_in(arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of a job's arguments that it may change."""
    return {name: value for name, value in arguments.items() if _can_change(value)}


def _can_change(value: object) -> bool:
    if isinstance(value, list | dict):
        return True
    if not dataclasses.is_dataclass(value) or isinstance(value, type | DiffusionModel):
        return False
    return not cast(Any, value).__dataclass_params__.frozen


# ------------------------------------------------------------------------------------------------------------ this side


class Pace:
    """How long jobs take, as a multiple of what was expected of them, by job and model."""

    MIN, MAX = 0.25, 4.0

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], float] = {}

    def of(self, job: DeviceJob, model: str) -> float:
        return self._known.get((job.name, model), 1.0)

    def learn(self, job: DeviceJob, model: str, factor: float) -> None:
        """factor: of the last time. Longer ones are believed at once, shorter ones by and by."""
        before = self.of(job, model)
        factor = factor if factor > before else 0.5 * (before + factor)
        self._known[job.name, model] = min(max(factor, self.MIN), self.MAX)


class Elsewhere:
    """Runs device jobs through a transport. Called by any thread, one job each."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.pace = Pace()

    def __call__(self, job: DeviceJob, arguments: dict[str, Any]) -> Job[Any]:
        """The same job: its events, and its result.

        Raises:
            DeviceRefused: there is no GPU, and the model is too large to do without. ResourceError: the GPU was taken
            away. And what the job raises.
        """
        model, less = model_of(arguments), None
        yield Progress(0, 1, "Waiting for a GPU")
        while True:
            seconds = less or seconds_for(job, arguments, self.pace.of(job, model.id))
            try:
                done, result = yield from self._slice(job, arguments, seconds, model)
            except DeviceRefused as refusal:
                if job.resumable and less is None and refusal.left is not None and refusal.left >= MIN_GRANT:
                    less = int(min(refusal.left, seconds))
                    continue
                if model.nbytes > MAX_ON_CPU:
                    raise
                yield Progress(0, 1, f"{refusal.reason} Going on without it, which takes longer")
                return (yield from job.start(**arguments))
            if done:
                return result
            less = min(2 * seconds, GRANT)  # it takes longer than was expected

    def _slice(
        self, job: DeviceJob, arguments: dict[str, Any], seconds: int, model: Described
    ) -> Job[tuple[bool, Any]]:
        """As much of a job as fits in one grant. Returns whether it is done, and its result."""
        line = Line("here", Named())
        payload = line.pack((job.name, arguments, seconds))
        last = Progress(0, 1, "Waiting for a GPU")
        for message in followed(lambda: self.transport(payload, seconds)):
            if message is None:
                yield replace(last, preview=None, loss=None, kept=False)
                continue
            kind, content, home = parted(message)
            told = line.unpack(content)
            for name, state in ({} if home is None else line.unpack(home)).items():
                receive(arguments[name], state)
            if kind == "event":
                last = told
                yield told
                continue
            if kind == "error":
                raise told
            result, new, took = told
            for name, entries in new.items():
                for key, value in entries:
                    CACHES[name].put(key, value)
            if kind == "slice":
                yield result
                return False, None
            expected = seconds_for(job, arguments, 1.0, within_limits=False) - START
            self.pace.learn(job, model.id, took / max(expected, 1.0))
            return True, arguments[result[1]] if result[0] == "argument" else result[1]
        self.pace.learn(job, model.id, 2 * self.pace.of(job, model.id))
        raise ResourceError(TAKEN_AWAY)


def receive(argument: Any, state: Any) -> None:
    """Put what a job has filled in into the argument that it was given."""
    if isinstance(argument, list):
        argument[:] = state
    elif isinstance(argument, dict):
        argument.clear()
        argument.update(state)
    elif hasattr(argument, "receive"):
        argument.receive(state)
    else:
        vars(argument).update(vars(state))


def followed(start: Callable[[], Iterator[bytes]]) -> Iterator[bytes | None]:
    """Messages of a transport, which is started and closed by a thread of its own: whoever asks for the next message or
    closes this never waits for the other process for longer than a heartbeat. None: there was no message in this time.

    The thread runs in the caller's context, by which ZeroGPU knows the visitor.
    """
    messages: queue.SimpleQueue[bytes | BaseException | None] = queue.SimpleQueue()
    over = threading.Event()

    def pump() -> None:
        try:
            transport = start()
            try:
                for message in transport:
                    if over.is_set():
                        return
                    messages.put(message)
            finally:
                if hasattr(transport, "close"):
                    transport.close()
            messages.put(None)
        except BaseException as error:
            messages.put(error)

    threading.Thread(target=contextvars.copy_context().run, args=(pump,), name="gpu-job", daemon=True).start()
    try:
        while True:
            try:
                message = messages.get(timeout=HEARTBEAT)
            except queue.Empty:
                yield None
                continue
            if message is None:
                return
            if isinstance(message, BaseException):
                raise message
            yield message
    finally:
        over.set()


# ------------------------------------------------------------------------------------------------------------- how long


@dataclass(frozen=True)
class Described:
    """A network: its model's id, its size in bytes, its parameters and the places of its input."""

    id: str
    nbytes: int
    parameters: int
    places: int


def model_of(arguments: dict[str, Any]) -> Described:
    """The model that a job's arguments are about."""
    for value in arguments.values():
        for candidate in (value, getattr(value, "model", None)):
            if isinstance(candidate, DiffusionModel):
                return _described(candidate.card.id, candidate.unet.unet, candidate.x_shape)
            if isinstance(candidate, TextToImage):
                return _described(candidate.id, candidate.unet, candidate.latent_shape)
    raise TypeError("a device job has a model among its arguments")


def _described(model_id: str, network: torch.nn.Module, shape: tuple[int, int, int]) -> Described:
    parameters = list(network.parameters())
    size = sum(p.numel() * p.element_size() for p in parameters)
    return Described(model_id, size, sum(p.numel() for p in parameters), shape[1] * shape[2])


def seconds_for(job: DeviceJob, arguments: dict[str, Any], pace: float, within_limits: bool = True) -> int:
    """How long a job needs the GPU, at most, from its steps, its rows and its model."""
    model, work = model_of(arguments), job.work(**arguments)
    row = PER_OPERATION * OPERATIONS * model.parameters * model.places
    needed = START + RESERVE * pace * (PER_CALL * work.calls + row * work.rows)
    if not within_limits:
        return math.ceil(needed)
    return math.ceil(min(needed, GRANT if job.resumable else MAX_SECONDS))

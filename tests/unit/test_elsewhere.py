"""Jobs in a fork of this process: what travels, what comes home, slices, refusals, an end before the end."""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import os
import pkgutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import make
from small_text_models import small_pipeline, small_text_model
from torch import Tensor, nn

from core import studio
from core.asyrp import sources
from core.asyrp.fitted_shift import Fitting
from core.cache import Cache
from core.errors import DeviceRefused, RequestError, ResourceError
from core.models.cards import Embedded
from core.models.cards import Folder as ModelFolder
from core.models.loader import DiffusionModel, Loader, models
from core.models.opening import describe
from core.models.pipelines import PipelineLoader
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.progress import Job, Progress, finish
from core.prompted import with_prompt
from core.regions import Region
from core.studio import elsewhere, jobs, library, measuring
from core.studio.between_prompts import fit_to_prompts
from core.studio.discover.exploration import Exploration
from core.studio.discover.search import explore
from core.studio.edit import edit_frames
from core.studio.elsewhere import CACHES, Elsewhere, Named, serve
from core.studio.frames import EditOptions
from core.studio.jobs import JOBS, Work, device_job
from core.studio.known_models import bound_model
from core.studio.latents import KEPT
from core.studio.train import learn, start_training, training_settings
from core.studio.wire import Line

EXAMPLE = library.examples("avatars")[0]
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def avatars() -> DiffusionModel:
    return models.get("avatars")


# ------------------------------------------------------------------------------------------------------- the transport


@dataclass
class Forked:
    """A fork for each job. refusals: what the next requests are answered with. asked: seconds. processor_threads: with
    which a fork computes, by default as many as here; in bfloat16 their number decides how sums are rounded."""

    refusals: list[Exception] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    processor_threads: int | None = None

    def __call__(self, payload: bytes, seconds: int) -> Iterator[bytes]:
        self.threads.append(threading.current_thread())
        if self.refusals:
            raise self.refusals.pop(0)
        self.asked.append(seconds)
        here, there = FORK.Pipe()
        process = FORK.Process(target=self._run, args=(there, payload), daemon=True)
        process.start()
        there.close()
        try:
            while True:
                try:
                    message = here.recv_bytes()
                except EOFError:
                    return
                yield message
        finally:
            process.kill()
            process.join()
            self.closed.append(time.monotonic())

    def _run(self, there: Any, payload: bytes) -> None:
        if self.processor_threads is not None:
            torch.set_num_threads(self.processor_threads)
        for message in serve(payload):
            there.send_bytes(message)
        there.close()
        os._exit(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For what is compared to the last digit: the first step of Adam is the sign of the gradient, rounding and all."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forked]:
    """From here on jobs run in forks."""
    transport = Forked()
    jobs.run_elsewhere(Elsewhere(transport))
    try:
        yield transport
    finally:
        jobs.run_elsewhere(None)


# ------------------------------------------------------------------------------------------------------- what travels


@dataclass(frozen=True)
class Point:
    x: Tensor
    name: str = "p"


def ends() -> tuple[Line, Line]:
    return Line("a", Named()), Line("b", Named())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_tensors_travel(dtype: torch.dtype) -> None:
    a, b = ends()
    tensor = (torch.arange(12).view(3, 4).T % 3).to(dtype)
    there = b.unpack(a.pack({"x": [tensor]}))["x"][0]
    assert there.dtype == dtype
    assert torch.equal(there, tensor)


def test_what_comes_back_is_the_same_object() -> None:
    a, b = ends()
    point, loose = Point(torch.ones(1000)), torch.zeros(1000)
    there = b.unpack(a.pack([point, loose, [point]]))
    assert there[0] is there[2][0]
    home = b.pack([there[0], there[1], there[0].x])
    assert len(home) < 1000, "nothing of it travels again"
    back = a.unpack(home)
    assert back[0] is point
    assert back[1] is loose
    assert back[2] is point.x
    made = Point(torch.ones(1000), "made there")
    first, again = a.unpack(b.pack([made])), a.unpack(b.pack([made]))
    assert first[0] is again[0]


def test_what_was_changed_travels_anew() -> None:
    a, b = ends()
    tensor = torch.zeros(3)
    there = b.unpack(a.pack(tensor))
    there += 1
    assert torch.equal(a.unpack(b.pack(there)), torch.ones(3))
    assert torch.equal(tensor, torch.zeros(3))
    parameter = nn.Parameter(torch.zeros(2))
    received = b.unpack(a.pack(nn.ParameterList([parameter])))
    assert received[0].requires_grad
    with torch.no_grad():
        received[0].add_(2)
    assert a.unpack(b.pack(received))[0].tolist() == [2, 2]


def test_models_and_instruments_travel_by_name(avatars: DiffusionModel) -> None:
    a, b = ends()
    instruments, words = measuring.probe(avatars.card), measuring.image_text(avatars.card)
    packed = a.pack([avatars, instruments, words, torch.device("cpu")])
    assert len(packed) < 20_000
    there = b.unpack(packed)
    assert there[0] is avatars
    assert there[1] is instruments
    assert there[2] is words
    assert there[3] == torch.device("cpu")


def test_a_model_that_is_bound_to_a_prompt_travels_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    text_model = small_text_model()
    monkeypatch.setitem(TEXT_TO_IMAGE, "small", replace(TEXT_TO_IMAGE["avatars-t2i"], id="small"))
    monkeypatch.setattr(elsewhere, "load_text_to_image", lambda card: text_model)
    bound, (a, b) = with_prompt(text_model, "a cat", 3.0, "conditional", "a dog"), ends()
    packed = a.pack([bound])
    assert len(packed) < 20_000
    [there] = b.unpack(packed)
    assert (there.key, there.fingerprint) == (bound.key, bound.fingerprint)
    assert there.unet.unet is text_model.unet
    assert torch.equal(there.unet.prompt.empty, bound.unet.prompt.empty)


# -------------------------------------------------------------------------------------------------- models in a process


META = torch.device("meta")  # another device than the one that models are loaded to here


def devices(*networks: nn.Module) -> set[tuple[torch.device, torch.dtype]]:
    return {(p.device, p.dtype) for network in networks for p in (*network.parameters(), *network.buffers())}


def test_models_loaded_after_the_launch_move_to_the_device_of_a_process(tmp_path: Path) -> None:
    """Once, when they are asked for, autoencoder and all; those that were placed there before are used as they are."""
    folder, other = make("latent, VQ", tmp_path / "late"), make("subfolders", tmp_path / "placed")
    cards = {path.name: describe(path, path.name, ModelFolder(str(path)), "cat") for path in (folder, other)}
    loader = Loader(cards, device="cpu", dtype=torch.bfloat16)
    late, here = loader.get("late"), loader.get("placed")
    assert late.unet.in_float32().unet.conv_in.weight.device == torch.device("cpu")
    placed = replace(here, device=META)

    loader._device = META
    loader.adopt({"placed": placed})
    assert loader.get("placed") is placed
    assert devices(late.unet.unet) == {(torch.device("cpu"), torch.bfloat16)}, "nobody has asked for it yet"
    moved = loader.get("late")
    assert (moved.device, moved.dtype, moved.fingerprint) == (META, torch.bfloat16, late.fingerprint)
    assert devices(moved.unet.unet) == {(META, torch.bfloat16)}
    assert devices(moved.unet.in_float32().unet, moved.codec.network) == {(META, torch.float32)}
    assert loader.get("late") is moved
    loader._device = torch.device("cpu")
    assert loader.get("late").device == META, "one that is there does not move again"


def test_text_to_image_models_move_whole(tmp_path: Path) -> None:
    small_pipeline().save_pretrained(tmp_path)
    card = replace(TEXT_TO_IMAGE["avatars-t2i"], id="small", source=Embedded(str(tmp_path)))
    loader = PipelineLoader({"small": card}, device="cpu", dtype=torch.float32)
    loader.get("small")
    loader._device = META
    loader.adopt({})
    moved = loader.get("small")
    networks = moved.pipeline.vae, moved.pipeline.unet, moved.pipeline.text_encoder
    assert {device for device, _ in devices(*networks)} == {moved.device} == {META}
    assert loader.get("small") is moved


# ---------------------------------------------------------------------------------------------------- jobs to try it on


@dataclass
class Counting:
    """Something that a job fills in."""

    model: DiffusionModel
    count: int = 0
    pids: list[int] = field(default_factory=list)


def little_work(*values: Any, **named: Any) -> Work:
    return Work(10, 10)


@device_job(little_work, resumable=True)
def count(counting: Counting, to: int, seconds: float = 0.05) -> Job[Counting]:
    while counting.count < to:
        time.sleep(seconds)
        counting.count += 1
        counting.pids.append(os.getpid())
        yield Progress(counting.count, to, "counting", kept=True)
    return counting


@device_job(little_work)
def fail(model: DiffusionModel, done: list[int], error: Exception) -> Job[None]:
    done.append(1)
    yield Progress(0, 1)
    raise error


def test_results_and_what_was_filled_in_come_home(forked: Forked, avatars: DiffusionModel) -> None:
    counting = Counting(avatars)
    assert finish(count(counting, 3)) is counting
    assert counting.count == 3
    assert os.getpid() not in counting.pids
    assert counting.model is avatars


def test_errors_cross_whole(forked: Forked, avatars: DiffusionModel) -> None:
    done: list[int] = []
    with pytest.raises(RequestError, match="smaller, please") as raised:
        finish(fail(avatars, done, RequestError("smaller, please")))
    assert raised.value.message == "smaller, please"
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        finish(fail(avatars, done, ZeroDivisionError("by zero")))


def test_a_process_that_dies(forked: Forked, avatars: DiffusionModel) -> None:
    job = count(Counting(avatars), 1000)
    for event in job:
        if event.note == "counting":
            break
    [child] = multiprocessing.active_children()
    child.kill()
    with pytest.raises(ResourceError, match="taken away"):
        finish(job)


def test_slices(forked: Forked, avatars: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process after another, nothing done twice, and longer grants where the first was too short."""
    monkeypatch.setattr(elsewhere, "START", 0.5)
    counting = Counting(avatars)
    assert finish(count(counting, 12, 0.25)).count == 12
    assert len(set(counting.pids)) > 1
    assert len(counting.pids) == 12
    assert forked.asked[1] == 2 * forked.asked[0]


def test_a_refusal(forked: Forked, avatars: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model goes on here; a large one does not; what is left is used where the work can be cut."""
    monkeypatch.setattr(elsewhere, "MAX_ON_CPU", 10**9)
    forked.refusals = [DeviceRefused("Nothing left. Log in.", "Nothing left.", 0)]
    counting, notes = Counting(avatars), []
    for event in (job := count(counting, 2)):
        notes.append(event.note)
    assert any("Nothing left. Going on without it" in note for note in notes)
    assert set(counting.pids) == {os.getpid()}

    monkeypatch.setattr(elsewhere, "MAX_ON_CPU", 0)
    forked.refusals = [DeviceRefused("Nothing left. Log in.", "Nothing left.", 0)]
    with pytest.raises(DeviceRefused, match="Log in"):
        finish(count(Counting(avatars), 2))

    monkeypatch.setattr(elsewhere, "START", 50)
    forked.refusals = [DeviceRefused("Little left.", "", 25)]
    assert finish(count(Counting(avatars), 2)).count == 2
    assert forked.asked[-1] == 25
    del job


def test_closing_waits_for_nobody(forked: Forked, avatars: DiffusionModel) -> None:
    """The transport is closed by its own thread, once the step that is under way is done."""
    job = count(Counting(avatars), 100, 1.5)
    assert next(event for event in job if event.note == "counting")
    began = time.monotonic()
    job.close()
    assert time.monotonic() - began < 0.2
    assert not forked.closed
    forked.threads[-1].join(20)
    assert forked.closed
    assert forked.threads[-1] is not threading.current_thread()


def test_events_are_told_again_while_nothing_happens(
    forked: Forked, avatars: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that whoever waits learns within a moment that it is of no use any more."""
    monkeypatch.setattr(elsewhere, "HEARTBEAT", 0.05)
    events = list(count(Counting(avatars), 2, 0.5))
    assert len(events) > 8
    assert [event.step for event in events] == sorted(event.step for event in events)


SLOW = "import time; time.sleep(1); made = True"


def test_imports_under_way_do_not_cross(tmp_path: Path) -> None:
    """In a process of its own, for what is registered at forks stays so."""
    (tmp_path / "slow_module.py").write_text(SLOW)
    program = """
import os, threading, time
from core.forking import forget_imports_of_others
forget_imports_of_others()
threading.Thread(target=lambda: __import__("slow_module"), daemon=True).start()
time.sleep(0.5)
child = os.fork()
import slow_module
assert slow_module.made
if not child:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    paths = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0", done.stderr


def test_locks_that_others_hold_do_not_cross(forked: Forked, avatars: DiffusionModel) -> None:
    cache: Cache[Any] = Cache(1)
    held: list[Callable[[], Any]] = [cache._lock.acquire, models._lock.acquire, measuring._LOADING._lock.acquire]
    for acquire in held:
        acquire()
    try:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            cache.get("x")
            models.loaded()
            with measuring._LOADING:
                os.write(writer, b"y")
            os._exit(0)
        os.close(writer)
        assert os.read(reader, 1) == b"y"
        os.waitpid(child, 0)
    finally:
        cache._lock.release()
        models._lock.release()
        measuring._LOADING._lock.release()


# ---------------------------------------------------------------------------------------------------- the studio's jobs


def test_every_job_knows_its_work() -> None:
    """A grant is asked for before anything is begun: the arguments of both are the same."""
    for module in pkgutil.walk_packages(studio.__path__, f"{studio.__name__}."):
        importlib.import_module(module.name)
    ours = [job for job in JOBS.values() if job.work is not little_work]
    assert len(ours) >= 16
    for job in ours:
        assert list(inspect.signature(job.work).parameters) == list(inspect.signature(job.start).parameters)


def test_an_edit_leaves_its_path_here(forked: Forked, avatars: DiffusionModel) -> None:
    picture, preset = library.open_picture(EXAMPLE, "avatars"), library.named_preset("avatars", "smiling")
    KEPT.paths.clear()
    there = finish(edit_frames(avatars, picture, preset, [1.0], EditOptions(5)))
    assert len(KEPT.paths) == 1
    jobs.run_elsewhere(None)
    KEPT.paths.clear()
    here = finish(edit_frames(avatars, picture, preset, [1.0], EditOptions(5)))
    assert torch.allclose(there[0].pixels, here[0].pixels, atol=2e-3)
    assert there[0].measures.s_dir == pytest.approx(here[0].measures.s_dir, abs=1e-3)


def test_a_search_and_a_visitor_who_names_what_it_finds(forked: Forked, avatars: DiffusionModel) -> None:
    """Rows come along the way; what the visitor has named here meanwhile is still named so at the end."""
    mask = torch.zeros(128, 128, dtype=torch.bool)
    mask[76:103, 38:90] = True
    picture = library.open_picture(EXAMPLE, "avatars")
    exploration = Exploration(avatars, picture, [Region("mouth", mask.numpy())], size=8)
    exploration.settings = replace(exploration.settings, count=2)
    CACHES["analyses"].clear()
    named = False
    for _ in (job := explore(exploration, refining=False)):
        if exploration.rows and not named:
            named = True
            exploration.rename(1, "my own")
    assert named
    assert exploration.refined
    assert exploration.rows[1].name == "my own"
    assert all(row.frames is not None for row in exploration.rows)
    assert exploration.rows[0].region is exploration.regions[0]
    assert exploration.picture is picture
    assert len(CACHES["analyses"]) == 1
    del job


def test_a_training_goes_on_from_where_its_slice_ended(
    forked: Forked, one_thread: None, avatars: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slices it learns what it learns in one go; its preparation is done in slices as well. Half precision rounds
    differently here and there, and the first steps of Adam are the signs of gradients."""
    forked.processor_threads = 1
    settings = training_settings("implicit", 8, 8, 0.8)
    monkeypatch.setattr(elsewhere, "GRANT", 1)
    monkeypatch.setattr(sources, "CHUNK", 4)
    training = start_training(avatars, "face", "smiling face", settings)
    prepared = []
    for _ in learn(training, None):
        prepared += [(training.unprepared, len(forked.asked))] if not training.losses else []
    assert (4, 2) in prepared, "the second half of the pictures was prepared in a second grant"
    assert len(forked.asked) > 2
    jobs.run_elsewhere(None)
    whole = start_training(avatars, "face", "smiling face", settings)
    finish(whole.run())
    assert training.losses == pytest.approx(whole.losses, rel=0.03)
    assert training.step == whole.step
    for mine, theirs in zip(training.parameters, whole.parameters, strict=True):
        assert (mine - theirs).abs().mean() < 0.3 * theirs.abs().mean() + 1e-3


@pytest.mark.parametrize("of_picture", [False, True])
def test_a_fit_goes_on_from_where_its_slice_ended(
    forked: Forked, one_thread: None, of_picture: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every slice adds a noise level, however short it is."""
    forked.processor_threads = 1
    monkeypatch.setattr(elsewhere, "GRANT", 1)
    pair = [bound_model("avatars-t2i", prompt) for prompt in ("a sad face", "a smiling face")]
    picture = library.open_picture(EXAMPLE, "avatars").pixels if of_picture else None
    about = picture, bound_model("avatars-t2i", "a face")
    made = finish(fit_to_prompts(*pair, 1, 4, Fitting(), *about))
    assert 1 < len(forked.asked) <= 5, "the last one brings the result home"
    jobs.run_elsewhere(None)
    whole = finish(fit_to_prompts(*pair, 1, 4, Fitting(), *about))
    deltas = whole.direction.deltas
    assert (made.direction.deltas - deltas).norm() < 0.1 * deltas.norm()
    assert made.explained == pytest.approx(whole.explained, abs=0.05)

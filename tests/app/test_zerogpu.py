"""The app on a Space with ZeroGPU, in a process of its own against a stand-in for the device service.

A network that is used outside its GPU process computes with weights that are all zero, without an error: so pictures
are compared with those that the same code makes here.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from gradio_client import Client, handle_file
from gradio_client.client import Job
from gradio_client.exceptions import AppError
from PIL import Image

from core import presets
from core.api_directions import prompted_model
from core.asyrp.fitted_shift import fitted_shift
from core.imaging import to_pil
from core.models.cards import MODELS, Folder
from core.models.loader import DiffusionModel, load
from core.models.opening import describe
from core.progress import finish
from core.sampling import sample
from core.studio import library
from core.studio.compose.applying import apply
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions
from core.studio.known_models import described
from core.studio.train import start_training, training_settings
from tests.app.zerogpu_service import SOME_LEFT, DeviceService
from tests.unit.small_models import small_unet

pytest.importorskip("spaces")

EXAMPLE = library.examples("avatars")[0]
FAST = 5  # steps that are enough to see that it works
SAME = 40.0  # dB; the same network in the same precision on the same picture
MOUTH = [{"label": "mouth", "boxes": [[0.3, 0.6, 0.7, 0.8]], "strokes": []}]


def logged_in(name: str) -> dict[str, str]:
    """Headers of a visitor who is."""
    payload = base64.urlsafe_b64encode(json.dumps({"user": name}).encode()).decode().rstrip("=")
    return {"x-ip-token": f"e30.{payload}.x"}


KNOWN, ANOTHER = logged_in("somebody"), logged_in("another")
START = 280  # seconds, on a machine that has other things to do


class Space:
    """The app on such a Space. small: bytes of a network up to which it goes on without a GPU."""

    def __init__(self, service: DeviceService, folder: Path, text_model: Path) -> None:
        self.service, self.log, self.slow = service, folder / "log", folder / "slow"
        self.slow.write_text("0")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        own = {
            "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": service.address,
            "ZEROGPU_OFFLOAD_DIR": str(folder / "tensors"),
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_TEMP_DIR": str(folder / "gradio"),
            "TEXT_MODEL": str(text_model),
            "SLOW": str(self.slow),  # a file with the seconds that a step takes longer
            "MAX_ON_CPU": str(4 * 2**20),  # the stand-in is smaller, the avatars are not
        }
        with self.log.open("w") as log:
            program = [sys.executable, str(Path(__file__).with_name("zerogpu_service.py"))]
            self.process = subprocess.Popen(
                program, env=os.environ | own, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self) -> None:
        """Until it answers."""
        limit = time.monotonic() + START
        while time.monotonic() < limit:
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            try:
                httpx.get(f"{self.address}/config").raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.2)
        raise AssertionError(self.log.read_text()[-4000:])

    def client(self, **headers: str) -> Client:
        return Client(self.address, verbose=False, headers=headers)

    def workers(self) -> set[int]:
        """Processes that jobs run in."""
        mine = set()
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == self.process.pid and fields[0] != "Z":
                mine.add(int(stat.parent.name))
        return mine


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, text_model: Path) -> Iterator[Space]:
    service, folder = DeviceService(), tmp_path_factory.mktemp("space")
    started = Space(service, folder, text_model)
    try:
        started.wait()
        yield started
    finally:
        os.killpg(started.process.pid, signal.SIGKILL)
        started.process.wait()
        service.close()


@pytest.fixture(autouse=True)
def agreeable(space: Space) -> Iterator[None]:
    yield
    space.service.mode, space.service.idle = "ok", False
    space.slow.write_text("0")


@pytest.fixture(scope="module")
def avatars() -> DiffusionModel:
    """In the precision that it has in the processes of the stand-in."""
    return load(MODELS["avatars"], "cpu", torch.float32)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=float)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(max(np.mean((a - b) ** 2), 1e-9) / 255**2))


def soon(holds: Callable[[], bool], seconds: float = 60) -> bool:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if holds():
            return True
        time.sleep(0.05)
    return False


def edit(client: Client, **more: Any) -> tuple[np.ndarray, dict[str, Any]]:
    path, about = client.predict(handle_file(EXAMPLE), "smiling", steps=FAST, api_name="/edit_text", **more)
    return pixels(path), about


def test_edit(space: Space, avatars: DiffusionModel) -> None:
    """The same picture as here; and what was asked for, and given back."""
    before, released = len(space.service.granted), space.service.released
    edited, about = edit(space.client())
    options, preset = EditOptions(FAST), library.named_preset("avatars", "smiling")
    [frame] = finish(edit_frames(avatars, library.open_picture(EXAMPLE, "avatars"), preset, [1.0], options))
    assert psnr(edited, np.asarray(to_pil(frame.pixels)[0], float)) > SAME
    assert about["s_dir"] == pytest.approx(frame.measures.s_dir, abs=0.02)
    assert space.service.reported
    [grant] = space.service.granted[before:]
    assert 5 < float(grant["durationSeconds"]) < 30
    assert "token" not in grant
    assert soon(lambda: space.service.released == released + 1)
    assert space.service.failed == 0


def test_a_process_that_is_there_is_used_again(space: Space) -> None:
    client, space.service.idle = space.client(), True
    first, _ = edit(client, strength=0.5)
    processes = space.workers()
    second, _ = edit(client, strength=0.5)
    assert space.workers() == processes
    assert psnr(first, second) > SAME


def test_composition(space: Space, avatars: DiffusionModel) -> None:
    parts = {"smiling": 0.8, "glasses": 1.0}
    path, _ = space.client().predict(handle_file(EXAMPLE), json.dumps(parts), steps=FAST, api_name="/compose")
    columns = [(library.named_preset("avatars", name), [strength]) for name, strength in parts.items()]
    [frame] = finish(apply(avatars, library.open_picture(EXAMPLE, "avatars"), columns, EditOptions(FAST)))
    assert psnr(pixels(path), np.asarray(to_pil(frame.pixels)[0], float)) > SAME


def test_search(space: Space) -> None:
    """Directions that change their region, of a picture that is the picture."""
    client = space.client()
    asked = {"count": 2, "size": 8, "refine": False, "api_name": "/discover"}
    files, strips, about = client.predict(handle_file(EXAMPLE), MOUTH, "contrast", **asked)
    picture = np.asarray(to_pil(library.open_picture(EXAMPLE, "avatars").pixels)[0], float)
    assert len(files) == len(strips) == len(about["directions"]) == 2
    for strip in strips:
        low, middle, high = np.split(pixels(strip["image"]), 3, axis=1)
        assert psnr(middle, picture) > 25
        assert np.abs(high - low)[76:103, 38:90].mean() > 3
    assert all(row["linear_roir"] < 2 for row in about["directions"])


def test_inversion(space: Space) -> None:
    client = space.client()
    asked = {"steps": FAST, "guidance": 3.0, "model": "avatars-t2i", "api_name": "/invert"}
    file, shown, about = client.predict(handle_file(EXAMPLE), "a smiling face", "EDICT", **asked)
    assert about["psnr"] > 25
    picture = pixels(shown)
    again, measures = client.predict(handle_file(file), api_name="/reconstruct")
    assert psnr(pixels(again), picture) > 35
    assert measures["psnr"] == pytest.approx(about["psnr"], abs=0.5)
    edited, words = client.predict(handle_file(file), "a smiling face with glasses", api_name="/edit_inverted")
    assert words["edits"][0]["attributes"]
    assert 8 < psnr(pixels(edited[0]["image"]), picture) < 40


def test_directions_of_a_text_to_image_model(space: Space) -> None:
    """Fitted to two prompts, and found in a region; pictures are those that the same code makes here."""
    client, model = space.client(), {"model": "avatars-t2i"}
    before = len(space.service.granted)
    asked = {"form": "fitted", "samples": 1, "steps": 4, "api_name": "/train_direction"}
    file, _ = client.predict("a sad face", "a smiling face", **asked, **model)
    assert len(space.service.granted) > before
    preset, bound = (
        presets.load(file),
        [
            prompted_model("avatars-t2i", prompt, 1.0, "cpu", torch.float32)
            for prompt in ("a sad face", "a smiling face")
        ],
    )
    explained = finish(fitted_shift(*bound, samples=1, steps=4)).explained
    assert preset.measured["explained"] == pytest.approx(explained, abs=0.05)

    asked = {"prompt": "a sad face", "steps": FAST, "api_name": "/edit_text"}
    path, _ = client.predict(handle_file(EXAMPLE), preset.name, **asked, **model)
    picture = described(library.open_picture(EXAMPLE, "avatars-t2i"), "a sad face")
    [frame] = finish(edit_frames(bound[0], picture, preset, [1.0], EditOptions(FAST)))
    assert psnr(pixels(path), np.asarray(to_pil(frame.pixels)[0], float)) > SAME

    asked = {"count": 1, "size": 8, "refine": False, "prompt": "a sad face", "api_name": "/discover"}
    _, [strip], about = client.predict(handle_file(EXAMPLE), MOUTH, "contrast", **asked, **model)
    low, middle, high = np.split(pixels(strip["image"]), 3, axis=1)
    assert psnr(middle, np.asarray(to_pil(picture.pixels)[0], float)) > 25
    assert np.abs(high - low)[76:103, 38:90].mean() > 3
    assert all(row["linear_roir"] < 2 for row in about["directions"])


def test_training_in_slices(space: Space, avatars: DiffusionModel) -> None:
    """More than one grant, and what one training without a break learns."""
    before = len(space.service.granted)
    asked = {"samples": 8, "steps": 8, "api_name": "/train_direction"}
    _, about = space.client().predict("face", "face with a beard", **asked)
    assert len(space.service.granted) > before + 2  # the last one looks at it
    training = start_training(avatars, "face", "face with a beard", training_settings("global", 8, 8, 0.8))
    finish(training.run())
    assert about["losses"] == pytest.approx(training.losses, abs=0.002)


def begin(client: Client, target: str, samples: int = 200) -> Job:
    """A long training that has begun."""
    job = client.submit("face", target, samples=samples, steps=20, api_name="/train_direction")
    assert soon(lambda: any(told[1]["note"] == "preparing" for told in job.outputs() if told[1]))
    return job


def test_cancelling_stops_the_work_and_nobody_waits(space: Space) -> None:
    """While the job is in the middle of a long step."""
    space.slow.write_text("6")
    released, failed = space.service.released, space.service.failed
    job = begin(space.client(), "old face")
    job.cancel()
    slowest = 0.0
    for _ in range(10):
        asked = time.monotonic()
        httpx.get(f"{space.address}/theme.css", timeout=30).raise_for_status()
        slowest = max(slowest, time.monotonic() - asked)
    assert slowest < 3
    space.slow.write_text("0")
    edit(space.client(), strength=0.7)
    assert soon(lambda: space.service.released == released + 2), "both were given back"
    assert space.service.failed == failed


def test_another_visitor_is_answered_meanwhile(space: Space) -> None:
    job = begin(space.client(), "angry face")
    try:
        edit(space.client(), strength=0.3)
        assert not job.done()
    finally:
        job.cancel()


def test_the_visitor_stays_known(space: Space) -> None:
    """Also in a thread of our own: quotas are the visitor's."""
    edit(space.client(**KNOWN), strength=0.2)
    assert space.service.granted[-1]["token"] == KNOWN["x-ip-token"]


def test_waiting_in_the_queue(space: Space) -> None:
    space.service.mode = "queued"
    edited, _ = edit(space.client(), strength=0.4)
    assert edited.std() > 20


@pytest.mark.parametrize(
    ("mode", "visitor", "words"),
    [
        ("quota", KNOWN, r"0 seconds of GPU time left.*more in 1:00:00.*avatars.*fewer steps.*log in"),
        ("quota", {}, r"GPU time of this Space is used up for today.*avatars.*fewer steps.*log in"),
        ("queue timeout", KNOWN, r"No GPU is free now.*Try again.*avatars"),
        ("queue timeout", {}, r"No GPU is free now.*Try again.*avatars"),
        ("duration", KNOWN, r"more than is allowed at once.*fewer steps"),
        ("runs", KNOWN, r"You have used the GPU as often as you may today.*fewer steps.*log in"),
        ("credits", KNOWN, r"still running.*Wait"),
        ("none", KNOWN, r"No GPU is free now.*fewer steps"),
        ("expired", KNOWN, r"page has been open for too long.*Open it anew"),
        ("broken", KNOWN, r"does not answer.*Try again"),
    ],
)
def test_refusals_are_in_words_with_a_way_on(space: Space, mode: str, visitor: dict[str, str], words: str) -> None:
    space.service.mode = mode
    for _ in range(2):  # on a busy machine an answer may come too late for `spaces`, which is then another refusal
        with pytest.raises(AppError) as refused:
            edit(space.client(**visitor), strength=0.1)
        if re.search(words, str(refused.value)):
            return
    raise AssertionError(str(refused.value))


def test_what_is_left_of_a_quota_is_used(space: Space) -> None:
    """By what needs no more, at once; by a long training in slices of it."""
    space.service.mode = "some left"
    edited, _ = edit(space.client(**KNOWN), strength=0.9)
    assert edited.std() > 20
    granted, refused = len(space.service.granted), len(space.service.refused)
    job = begin(space.client(**KNOWN), "surprised face", samples=2000)
    try:
        [too_long] = space.service.refused[refused:]
        assert float(too_long["durationSeconds"]) > SOME_LEFT
        assert [float(one["durationSeconds"]) for one in space.service.granted[granted:]] == [SOME_LEFT]
    finally:
        job.cancel()
    space.service.mode = "ok"  # whoever asked now would be given it
    assert soon(lambda: space.service.released == len(space.service.granted)), "it was given back"
    assert len(space.service.granted) == granted + 1, "what was cancelled asks for nothing more"


@pytest.fixture
def opened(space: Space, tmp_path: Path) -> tuple[str, Path]:
    """Id and folder of a model that is opened in the running app."""
    folder = tmp_path / "network"
    DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler()).save_pretrained(folder)
    return space.client().predict(str(folder), "cat", api_name="/open_model")["id"], folder


def test_a_model_that_was_opened_after_the_launch(space: Space, opened: tuple[str, Path]) -> None:
    """In a new process, which has it from the main one, and in one from before it was opened: as here."""
    model_id, folder = opened
    card = describe(folder, model_id, Folder(str(folder)), "cat")
    [expected] = to_pil(finish(sample(load(card, "cpu", torch.float32), 1, steps=FAST)))
    asked = {"seed": 1, "steps": FAST, "model": model_id, "api_name": "/sample"}
    granted = len(space.service.granted)
    path, _ = space.client().predict(**asked)
    assert len(space.service.granted) == granted + 1
    assert psnr(pixels(path), np.asarray(expected, float)) > SAME

    client, space.service.idle = space.client(), True
    edit(client, strength=0.5)
    processes = space.workers()
    other = folder.with_name("another")
    DDPMPipeline(small_unet(channels=3, size=32, seed=1), DDPMScheduler()).save_pretrained(other)
    asked["model"] = client.predict(str(other), "cat", api_name="/open_model")["id"]
    path, _ = client.predict(**asked)
    assert space.workers() == processes
    card = describe(other, "another", Folder(str(other)), "cat")
    [expected] = to_pil(finish(sample(load(card, "cpu", torch.float32), 1, steps=FAST)))
    assert psnr(pixels(path), np.asarray(expected, float)) > SAME


def test_a_small_model_goes_on_without_a_gpu(space: Space) -> None:
    """With its weights, which are not those that are packed for the GPU."""
    assert soon(lambda: space.service.released == len(space.service.granted)), "nothing runs any more"
    client, before = space.client(**ANOTHER), len(space.service.granted)
    asked = {"steps": FAST, "guidance": 3.0, "model": "stand-in", "api_name": "/invert"}
    _, with_gpu, _ = client.predict(handle_file(EXAMPLE), "a face", "EDICT", **asked)
    granted = space.service.granted[before:]
    assert [one.get("token") for one in granted] == [ANOTHER["x-ip-token"]], granted
    space.service.mode = "quota"
    _, without, _ = client.predict(handle_file(EXAMPLE), "a face", "EDICT", **asked)
    assert psnr(pixels(with_gpu), pixels(without)) > 30


def test_a_gpu_that_is_taken_away(space: Space) -> None:
    assert soon(lambda: space.service.released == len(space.service.granted)), "nothing runs any more"
    before = space.workers()
    job = begin(space.client(), "sad face")
    for pid in space.workers() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(AppError, match="taken away before this was done"):
        job.result(timeout=60)
    edit(space.client(), strength=0.6)

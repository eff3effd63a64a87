"""Whether the app keeps what it has no more use for: many visits, each with a request, and the memory after them.

    python -m benchmarks.soak                        # 1,000 requests from as many visits; about half an hour
    python -m benchmarks.soak --requests 200         # fewer
    python -m benchmarks.soak --only edit discover   # of some kinds alone, to see which of them grows
    python -m benchmarks.soak --write                # all, also into docs/benchmarks.md

The app runs in a process of its own, as `python app.py` does, and is asked through its endpoints by `gradio_client`,
and through the events of its page as a browser does. A visit is closed after its request, or in the middle of it.
Prints the resident memory of the app every 50 requests with what its caches and visits say they hold, then the verdict:
no failure, and memory after the last request at most 1.15 times that after a tenth of them, and under 2.5 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import httpx
from gradio_client import Client, handle_file
from PIL import Image

from benchmarks.report import HELP, reported
from core.studio import library

ROOT = Path(__file__).resolve().parents[1]
REQUESTS, ROW, AT_ONCE = 1000, 50, 2
MAX_RATIO, MAX_GIGABYTES = 1.15, 2.5
AT_MOMENTS = 9  # the memory after a request is the median of the last so many: others are under way
PATIENCE = 180  # seconds for an answer
STEPS = 4  # of sampling and editing
MODEL, TEXT_MODEL = "avatars", "avatars-t2i"
DIRECTIONS = ["smiling", "old", "glasses", "beard", "red-lips", "sad"]
MOUTH = [{"label": "mouth", "boxes": [[0.3, 0.6, 0.7, 0.85]]}]


# ------------------------------------------------------------------------------------------------------------- the app


def serve() -> None:
    """Run the app; for every line that comes in, one goes out: what it holds, as JSON of bytes by name."""
    import app
    from core.studio.edit import warm_up

    page = app.build()
    _, address, _ = app.launch(page, prevent_thread_lock=True, quiet=True)
    warm_up(MODEL)
    print(address, flush=True)
    for _ in sys.stdin:
        print(json.dumps(held()), flush=True)
    page.close()


def held() -> dict[str, int]:
    """Bytes by what holds them, as the app counts them."""
    try:
        from core.memory import held_by_name
    except ImportError:  # a build before it counted
        return {}
    return held_by_name()


class App:
    """The app in its own process. pid, address: where it is."""

    def __init__(self, output: Path) -> None:
        command = [sys.executable, "-m", "benchmarks.soak", "--serve"]
        environment = {**os.environ, "GRADIO_TEMP_DIR": str(output / "gradio")}
        self.log = (output / "app.log").open("w")
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.address = self._line().strip()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The app has ended; see {self.log.name}")
        return line

    def held(self) -> dict[str, int]:
        """Bytes by what holds them."""
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return json.loads(self._line())

    def resident(self) -> int:
        """Bytes of memory that the process has."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


# ------------------------------------------------------------------------------------------------------------ visitors


class Tab:
    """A visit with a browser, as the app sees it: a heartbeat, events of the page, a stream of their messages."""

    def __init__(self, address: str, events: dict[str, int]) -> None:
        self.events, self.session_hash = events, uuid4().hex[:11]
        self.http = httpx.Client(base_url=f"{address.rstrip('/')}/gradio_api", timeout=PATIENCE)
        request = self.http.build_request("GET", f"/heartbeat/{self.session_hash}")
        self._heartbeat = self.http.send(request, stream=True)

    def messages(self, event: str, *data: Any, **event_data: Any) -> Iterator[dict[str, Any]]:
        """What the app says of an event until it is over; left early, the stream is closed.

        Raises:
            RuntimeError: the event failed.
        """
        body = {"fn_index": self.events[event], "session_hash": self.session_hash, "data": [None, *data]}
        body |= {"event_data": event_data or None, "trigger_id": None}
        self.http.post("/queue/join", json=body).raise_for_status()
        with self.http.stream("GET", "/queue/data", params={"session_hash": self.session_hash}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                message = json.loads(line.removeprefix("data:"))
                yield message
                if message["msg"] in ("process_completed", "unexpected_error"):
                    if not message.get("success", False):
                        raise RuntimeError(f"{event}: {message.get('output') or message.get('message')}")
                    return

    def close(self) -> None:
        """Leave without a word, as one does."""
        self._heartbeat.close()
        self.http.close()


class Visitors:
    """What visitors ask for, a method for each kind; `number` makes each request another one.

    folder: for their files. text_model: the text-to-image model that they invert with.
    """

    def __init__(self, address: str, folder: Path, text_model: str = TEXT_MODEL) -> None:
        self.address, self.folder, self.text_model = address, folder, text_model
        self.examples = library.examples(MODEL)
        self.closing = ThreadPoolExecutor(8)
        config = httpx.get(f"{address.rstrip('/')}/config", timeout=PATIENCE).json()
        self.events = {event["api_name"]: event["id"] for event in config["dependencies"]}
        client = Client(address, verbose=False, download_files=folder)
        given = {"image": handle_file(self.examples[0]), "prompt": "a face", "method": "DDIM", "steps": STEPS}
        self.inverted, *_ = client.predict(api_name="/invert", model=text_model, **given)
        client.close()

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A program's visit."""
        client = Client(self.address, verbose=False, download_files=False)
        try:
            yield client
        finally:
            self.closing.submit(client.close)  # its heartbeat takes a second to end

    @contextmanager
    def tab(self) -> Iterator[Tab]:
        """A browser's visit."""
        tab = Tab(self.address, self.events)
        try:
            yield tab
        finally:
            tab.close()

    @contextmanager
    def picture(self, number: int) -> Iterator[Any]:
        """A picture that nobody has asked about: a part of an example."""
        chosen = random.Random(number)
        with Image.open(self.examples[number % len(self.examples)]) as example:
            side, left, top = 110 + chosen.random() * 16, chosen.random(), chosen.random()
            part = example.convert("RGB").resize((128, 128), box=(left, top, left + side, top + side))
        path = self.folder / f"picture-{number}.png"
        part.save(path)
        try:
            yield handle_file(path)
        finally:
            path.unlink()

    def edit(self, number: int) -> None:
        with self.client() as client, self.picture(number) as image:
            direction = DIRECTIONS[number % len(DIRECTIONS)]
            how = {"process": "paper", "steps": STEPS} if number % 4 == 0 else {}
            client.predict(image=image, direction=direction, api_name="/edit_text", **how)

    def compose(self, number: int) -> None:
        with self.client() as client, self.picture(number) as image:
            composition = json.dumps({"smiling": 1, DIRECTIONS[1 + number % 5]: -0.5})
            client.predict(image=image, composition=composition, api_name="/compose")

    def sweep(self, number: int) -> None:
        with self.client() as client, self.picture(number) as image:
            across, down = DIRECTIONS[number % 5 : number % 5 + 2]
            client.predict(
                image=image, across=across, down=down, count=2, steps=STEPS, composition="", api_name="/sweep"
            )

    def sample(self, number: int) -> None:
        with self.client() as client:
            client.predict(seed=number, steps=STEPS, model=MODEL, words="", api_name="/sample")

    def discover(self, number: int) -> None:
        with self.client() as client, self.picture(number) as image:
            client.predict(image=image, regions=MOUTH, count=1, refine=False, size=8, api_name="/discover")

    def invert(self, number: int) -> None:
        with self.client() as client, self.picture(number) as image:
            method = ["anchored", "DDIM", "null-text", "EDICT"][number % 4]
            given = {"prompt": "a face", "method": method, "steps": STEPS, "iterations": 1, "model": self.text_model}
            client.predict(image=image, api_name="/invert", **given)

    def edit_inverted(self, number: int) -> None:
        with self.client() as client:
            prompts = f"a face with {['glasses', 'a beard', 'red hair'][number % 3]}"
            client.predict(inversion=handle_file(self.inverted), prompts=prompts, api_name="/edit_inverted")

    def cancelled_training(self, number: int) -> None:
        with self.client() as client:
            texts = {"source_text": "face", "target_text": f"face with a hat, no. {number}"}
            job = client.submit(samples=16, steps=10, api_name="/train_direction", **texts)
            deadline = time.monotonic() + PATIENCE
            while not job.outputs() and not job.done() and time.monotonic() < deadline:
                time.sleep(0.05)
            job.cancel()

    def closed_tab(self, number: int) -> None:
        with self.tab() as tab:
            events = tab.messages("choose_example", *self._strip(number, "paper", 40))
            for _, message in zip(range(4), events, strict=False):
                if message["msg"] == "process_completed":
                    raise RuntimeError("the event was over before the tab was closed")
            events.close()

    def page_edit(self, number: int) -> None:
        with self.tab() as tab:
            for _ in tab.messages("choose_example", *self._strip(number, "anchored", 7)):
                pass

    def page_compose(self, number: int) -> None:
        with self.tab() as tab:
            for key in DIRECTIONS[number % 4 : number % 4 + 2]:
                for _ in tab.messages("toggle", "anchored", 7, 0, id=key):
                    pass

    def page_invert(self, number: int) -> None:
        with self.tab() as tab:
            methods = [["anchored", "null-text"], ["DDIM", "fixed point"]][number % 2]
            for _ in tab.messages("run", "a face", self.text_model, methods, STEPS, 5, 0, 1, 2, number):
                pass

    def page_discover(self, number: int) -> None:
        with self.tab() as tab:
            events = tab.messages("search", MOUTH, "contrast", 1, 600, "symmetric", 8, *(5,) * 5)
            for _ in events:
                pass

    def _strip(self, number: int, process: str, steps: int) -> list[Any]:
        """Values of the Text edit tab for an example and a direction."""
        example = self.examples[number % len(self.examples)].stem
        return [example, DIRECTIONS[number % 6], process, steps, "trained", "", "preset", 500, 0, number]


# In the order of a round, which is shuffled; a kind that stands several times is asked for as often.
KINDS = [
    *("edit",) * 5,
    *("compose",) * 2,
    "sweep",
    *("sample",) * 2,
    "discover",
    *("invert",) * 2,
    "edit_inverted",
    *("cancelled_training",) * 2,
    *("closed_tab",) * 2,
    "page_edit",
    "page_compose",
    "page_invert",
]


def schedule(requests: int, kinds: Sequence[str]) -> list[str]:
    """The kind of every request: rounds of all kinds, each shuffled."""
    chosen, order = random.Random(0), []
    while len(order) < requests:
        order += chosen.sample(list(kinds), len(kinds))
    return order[:requests]


# -------------------------------------------------------------------------------------------------------------- the run


def soak(requests: int, kinds: Sequence[str], at_once: int, folder: Path) -> bool:
    """Ask, print a row every `ROW` requests and the verdict. Returns whether it is good."""
    app = App(folder)
    try:
        visitors = Visitors(app.address, folder)
        order, asked, lock = schedule(requests, kinds), queue.SimpleQueue[int](), threading.Lock()
        failures: list[str] = []
        memory: dict[int, int] = {}
        recent = deque[int](maxlen=AT_MOMENTS)
        done, seconds, began = 0, Counter[str](), time.monotonic()
        for number in range(requests):
            asked.put(number)
        print("| requests | seconds | resident | counted | of it |\n|---|---|---|---|---|", flush=True)

        def note(count: int) -> None:
            recent.append(app.resident())
            memory[count] = int(median(recent))
            if count % ROW == 0 or count == requests:
                counted = app.held()
                parts = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in counted.items() if size >= 2**19)
                total = f"{sum(counted.values()) / 2**20:.0f} MB" if counted else ""
                passed, resident = time.monotonic() - began, memory[count] / 2**20
                print(f"| {count} | {passed:.0f} | {resident:.0f} MB | {total} | {parts} |", flush=True)

        def visit() -> None:
            nonlocal done
            while True:
                try:
                    number = asked.get_nowait()
                except queue.Empty:
                    return
                kind, started = order[number], time.monotonic()
                try:
                    getattr(visitors, kind)(number)
                except Exception as error:
                    failures.append(f"request {number + 1}, {kind}: {type(error).__name__}: {str(error)[:300]}")
                    print(failures[-1], file=sys.stderr, flush=True)
                with lock:
                    done += 1
                    seconds[kind] += time.monotonic() - started
                    note(done)

        note(0)
        visits = [threading.Thread(target=visit) for _ in range(at_once)]
        for one in visits:
            one.start()
        for one in visits:
            one.join()
        counts = Counter(order)
        print()
        print("Seconds of a request: " + ", ".join(f"{kind} {seconds[kind] / counts[kind]:.1f}" for kind in counts))
        return verdict(memory, requests, failures)
    finally:
        app.close()


def verdict(memory: dict[int, int], requests: int, failures: Sequence[str]) -> bool:
    """Print it. memory: resident bytes by the number of requests that were over. Returns whether it is good."""
    first = max(1, requests // 10)
    ratio, gigabytes = memory[requests] / memory[first], max(memory.values()) / 2**30
    good = not failures and ratio <= MAX_RATIO and gigabytes <= MAX_GIGABYTES
    for failure in failures[:20]:
        print(f"- {failure}")
    print(
        f"\n{requests} requests, {len(failures)} failures; resident memory after the last {ratio:.2f} times that after "
        f"{first} (at most {MAX_RATIO}), {gigabytes:.2f} GB at most (at most {MAX_GIGABYTES}): "
        f"{'ok' if good else 'MISSED'}"
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="from as many visits")
    parser.add_argument(
        "--only", nargs="+", choices=sorted(set(KINDS)) + ["page_discover"], help="of these kinds alone"
    )
    parser.add_argument("--at-once", type=int, default=AT_ONCE, help="visits at the same time")
    parser.add_argument("--write", action="store_true", help=HELP)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        with reported("benchmarks.soak", arguments.write):
            good = soak(arguments.requests, arguments.only or KINDS, arguments.at_once, folder)
        if not good:
            print((folder / "app.log").read_text()[-4000:], file=sys.stderr)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

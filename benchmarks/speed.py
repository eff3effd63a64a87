"""How long a visitor waits, with the embedded model.

    python -m benchmarks.speed              # everything; about ten minutes on two cores
    python -m benchmarks.speed edit         # some of: start, edit, discover, train-global, train-implicit
    python -m benchmarks.speed --write      # everything, also into docs/benchmarks.md

Prints one row per claim: what was measured, the median of the runs, the worst of them, and the goal.
"""

from __future__ import annotations

import argparse
import os
import resource
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from benchmarks.report import HELP, reported
from core.models.loader import models
from core.progress import finish
from core.regions import ready_made_region
from core.studio import library
from core.studio.discover.exploration import Exploration
from core.studio.discover.search import explore
from core.studio.edit import edit_frames, strip_strengths
from core.studio.frames import Picture
from core.studio.sample import sample_picture
from core.studio.train import SUGGESTED, start_training, train_preset, training_settings

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120


def report(claim: str, seconds: list[float], goal: float) -> None:
    verdict = "ok" if median(seconds) <= goal else "MISSED"
    print(f"| {claim} | {median(seconds):.2f} s | {max(seconds):.2f} s | {goal:g} s | {verdict} |", flush=True)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def start(runs: int = 3) -> None:
    """From `python app.py` until the page answers."""
    seconds = []
    for _ in range(runs):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {**os.environ, "GRADIO_SERVER_PORT": str(port)}
        app = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        try:
            seconds.append(timed(lambda p=port: _answers(f"http://127.0.0.1:{p}/")))
        finally:
            app.terminate()
            app.wait()
    report("app answers after its start", seconds, 20)


def _answers(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer within {PATIENCE} s")


def edit(runs: int = 5) -> None:
    """A new picture at one strength, with what is measured of it; then the strip and one strength outside it."""
    model = models.get("avatars")
    preset = next(iter(library.shipped("avatars").values()))
    pictures = [finish(sample_picture(model, seed, steps=10)) for seed in range(runs + 1)]
    new = [Picture(picture.pixels, picture.model_id) for picture in pictures]
    first, strip, other = [], [], []
    for k, picture in enumerate(new):
        rows = strip_strengths(preset)
        a = timed(lambda p=picture: finish(edit_frames(model, p, preset, [1.0])))
        b = timed(lambda p=picture, r=rows: finish(edit_frames(model, p, preset, r)))
        c = timed(lambda p=picture: finish(edit_frames(model, p, preset, [1.3])))
        if k:  # the first round warms up
            first.append(a)
            strip.append(b)
            other.append(c)
    fresh = [timed(lambda s=seed: finish(sample_picture(model, s))) for seed in range(1000, 1001 + runs)]
    report("a fresh sample", fresh[1:], 4)
    report("first edited picture of a new one, 7 anchored steps", first, 1.5)
    report(f"strip of {len(rows)} strengths, 7 anchored steps", strip, 3)
    report("another strength, 7 anchored steps", other, 1)


def discover(runs: int = 3) -> None:
    """A new picture analysed for the eyes; then, on the same picture, the mouth as well: directions and thumbnails."""
    model = models.get("avatars")
    eyes, mouth = (ready_made_region("face", label, model.card.resolution) for label in ("Eyes", "Mouth"))
    pictures = [finish(sample_picture(model, seed, steps=10)) for seed in range(100, 101 + runs)]
    analysis, directions, thumbnails = [], [], []
    for k, picture in enumerate(pictures):
        found, _ = timed_search(Exploration(model, picture, [eyes]))
        again, drawn = timed_search(Exploration(model, picture, [eyes, mouth]))
        if k:  # the first round warms up
            analysis.append(found)
            directions.append(again)
            thumbnails.append(drawn)
    report("analysis of a new picture, and the directions of a region", analysis, 8)
    report("directions of a new region on the same picture", directions, 0.2)
    report("their thumbnails", thumbnails, 6)


def timed_search(exploration: Exploration) -> tuple[float, float]:
    """Seconds until the directions are there, and from then until they are drawn."""
    began, found = time.perf_counter(), None
    for _ in explore(exploration, refining=False):
        if found is None and exploration.rows:
            found = time.perf_counter()
    return found - began, time.perf_counter() - found


def train(form: str) -> None:
    """A direction from a new text pair with the app's own settings."""
    model = models.get("avatars")
    chosen = training_settings(form, *SUGGESTED[form])
    training = start_training(model, "face", "face with thick eyebrows", chosen)
    seconds = timed(lambda: finish(train_preset(training)))
    report(f"{form} direction trained from a new text pair", [seconds], {"global": 90, "implicit": 300}[form])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = ["start", "edit", "discover", "train-global", "train-implicit"]
    parser.add_argument("what", nargs="*", choices=[*everything, []], default=everything)
    parser.add_argument("--write", action="store_true", help=HELP)
    arguments = parser.parse_args()
    if arguments.write and list(arguments.what) != everything:
        parser.error("--write writes the whole table: measure everything")
    with reported("benchmarks.speed", arguments.write):
        measure(arguments.what)


def measure(parts: Sequence[str]) -> None:
    """A row for each claim of these parts, and the peak memory."""
    print("| what | median | worst | goal | |\n|---|---|---|---|---|")
    for what in parts:
        name, _, form = what.partition("-")
        train(form) if name == "train" else {"start": start, "edit": edit, "discover": discover}[name]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| peak memory of this process | {peak:.2f} GB | | 3 GB | {'ok' if peak <= 3 else 'MISSED'} |")


if __name__ == "__main__":
    main()

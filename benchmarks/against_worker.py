"""Does what `benchmarks.against` asks for, in whatever build it is started: reads "TASK NUMBER", writes JSON.

It is run by its path from the root of a checkout, and knows the names of 9a230fe and those of today.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel

from core import editing
from core.directions import GlobalDirection
from core.intervals import Intervals
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, models
from core.progress import finish
from core.schedule import Schedule
from core.unet import SplitUNet

with contextlib.suppress(ImportError):  # 9a230fe
    from core.composing import pictures

    from core import studio
    from core.models.codec import Identity
    from core.studio import EditOptions, Picture, edit_frames, strip_strengths

    shipped, TODAY = studio.library, False
with contextlib.suppress(ImportError):
    from core.models.codec import Identity
    from core.studio.compose import pictures
    from core.studio.edit import edit_frames, strip_strengths
    from core.studio.frames import EditOptions, Picture
    from core.studio.library import shipped

    TODAY = True

VISITORS = 20
SMALL = {"sample_size": 64, "block_out_channels": (16, 16, 32, 32, 64, 64), "norm_num_groups": 8}
FIVE = [-1.0, -0.5, 0.0, 0.5, 1.0]
HUB_SHAPE: dict[str, Any] = {  # google/ddpm-ema-celebahq-256
    "sample_size": 256,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    "attention_head_dim": None,
    "norm_eps": 1e-6,
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
}


def new_picture(number: int) -> Any:
    generator = torch.Generator().manual_seed(number + 1000)
    small = torch.rand(1, 3, 8, 8, generator=generator) * 2 - 1
    return Picture(torch.nn.functional.interpolate(small, (128, 128), mode="bicubic").clamp(-1, 1), "avatars")


def options(**values: Any) -> Any:
    return EditOptions(**values) if TODAY else EditOptions(**{k: v for k, v in values.items() if k != "process"})


def first(number: int) -> dict[str, float]:
    return timed(lambda: finish(edit_frames(MODEL, new_picture(number), A, [1.0])))


def second(number: int) -> dict[str, float]:
    finish(edit_frames(MODEL, new_picture(number), A, [1.0]))
    return timed(lambda: finish(edit_frames(MODEL, new_picture(number), B, [1.0])))


def strip(number: int) -> dict[str, float]:
    finish(edit_frames(MODEL, new_picture(number), A, [1.0]))
    return timed(lambda: finish(edit_frames(MODEL, new_picture(number), A, strip_strengths(A))))


def sweep(number: int) -> dict[str, float]:
    finish(edit_frames(MODEL, new_picture(number), A, [1.0]))
    chosen = EditOptions() if TODAY else EditOptions(steps=20)
    job = pictures.sweep(MODEL, new_picture(number), [(A, 0.0), (B, 0.0)], 0, 1, FIVE, FIVE, chosen)
    return timed(lambda: finish(job))


def at_once(visit: Callable[[int], object]) -> dict[str, float]:
    """Twenty visitors: seconds until the last is served, the slowest wait, the mean one."""
    waited: list[float] = []

    def one(k: int) -> None:
        began = time.perf_counter()
        visit(k)
        waited.append(time.perf_counter() - began)

    threads = [threading.Thread(target=one, args=(k,)) for k in range(VISITORS)]

    def all_of_them() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return timed(all_of_them) | {"slowest": max(waited), "mean": sum(waited) / len(waited)}


def twenty(number: int, **values: Any) -> dict[str, float]:
    def visit(k: int) -> None:
        finish(edit_frames(MODEL, new_picture(100 * (number + 2) + k), A, [1.0], options(**values)))

    return at_once(visit)


def twenty_same(number: int) -> dict[str, float]:
    return twenty(number + 50, steps=10, process="paper")


def large_network() -> DiffusionModel:
    """Of google/ddpm-ema-celebahq-256's shape, or a small one of the same kind where HSPACE_SMALL is set."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    unet = UNet2DModel(**HUB_SHAPE | (SMALL if os.environ.get("HSPACE_SMALL") else {}))
    torch.nn.Module.to(unet, device, torch.bfloat16, memory_format=torch.channels_last)
    card = next(card for card in MODELS.values() if card.resolution == 256)
    schedule = Schedule.from_scheduler(DDPMScheduler())
    return DiffusionModel(card, SplitUNet(unet), schedule, Identity(), device, torch.bfloat16, "0" * 16)


def large(number: int, strengths: Sequence[float] = (1.0,), process: str = "anchored") -> dict[str, float]:
    """An edit with the large network, without measures, which need files of the Hub."""
    if not LARGE:
        LARGE["model"] = large_network()
    model = LARGE["model"]
    side, channels = model.x_shape[1], model.unet.unet.config.block_out_channels[-1]
    generator = torch.Generator().manual_seed(number)
    picture = torch.rand(1, 3, side, side, generator=generator) * 2 - 1
    delta = torch.randn(1, channels, side // 32, side // 32, generator=generator)
    weighted = [(GlobalDirection(delta, 40), list(strengths))]
    intervals = Intervals(500, 167)

    def in_the_paper() -> None:
        latent = finish(editing.invert(model, picture, 40))
        settings = editing.EditSettings(40, intervals)
        finish(editing.edit(model, latent.repeat(len(strengths)), weighted, settings))

    def today() -> None:
        from core.process import USUAL_STEPS
        from core.studio.latents import edit_together

        settings = editing.EditSettings(USUAL_STEPS["anchored"], intervals)
        finish(edit_together(model, picture, len(strengths), weighted, settings, "anchored"))

    return timed(today if TODAY and process == "anchored" else in_the_paper)


def large_paper(number: int) -> dict[str, float]:
    return large(number, process="paper")


def large_strip(number: int) -> dict[str, float]:
    large(number)
    return large(number, [-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0])


def large_twenty(number: int) -> dict[str, float]:
    large(number)  # the network is there before the clock runs
    return at_once(lambda k: large(100 * (number + 2) + k))


def timed(work: Callable[[], object]) -> dict[str, float]:
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return {
        "seconds": time.perf_counter() - began,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


LARGE: dict[str, DiffusionModel] = {}
MODEL = models.get("avatars")
A, B, *_ = shipped("avatars").values()

if __name__ == "__main__":
    for line in sys.stdin:
        task, number = line.split()
        print(json.dumps(globals()[task](int(number))), flush=True)

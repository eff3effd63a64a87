"""One search in Discover on a 256x256 network with random weights, until it has its first rows.

    PYTHONPATH=CHECKOUT python benchmarks/large_search.py [--tell]

Runs with any checkout of this project since commit 9a230fe, whatever its modules are called, and prints the seconds and
the seconds of processor time as JSON. The network has the shape of google/ddpm-ema-celebahq-256. --tell: every step of
the search too.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from importlib import import_module
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DModel

SIZE = 256
MOUTH = (0.33, 0.57, 0.67, 0.82)  # left, top, right, bottom


def first_of(name: str, *modules: str) -> Any:
    """What has this name in the first of the modules that there is. Raises ModuleNotFoundError: there is none."""
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError:
            if module == modules[-1]:
                raise
    return None


def large_network() -> Any:
    """A `DiffusionModel` in the precision that its loader would choose on this machine."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=SIZE,
        block_out_channels=(128, 128, 256, 256, 512, 512),
        layers_per_block=2,
        down_block_types=("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
        attention_head_dim=None,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )
    device = import_module("core.models.placing").best_device()
    dtype = import_module("core.models.placing").best_dtype(device)
    import_module("core.models.placing").place(unet, device, dtype)
    card = import_module("core.models.cards").MODELS["avatars"]
    card = replace(card, id="large", resolution=SIZE, h_shape=(512, 8, 8), codec="identity")
    schedule = import_module("core.schedule").Schedule.from_scheduler(DDIMScheduler())
    codec = import_module("core.models.codec").CODECS["identity"]()
    network = import_module("core.unet").SplitUNet(unet)
    return import_module("core.models.loader").DiffusionModel(card, network, schedule, codec, device, dtype, "0" * 16)


def large_picture() -> torch.Tensor:
    """A smooth random picture (1, 3, SIZE, SIZE)."""
    coarse = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=SIZE, mode="bicubic").div(2).clamp(-1, 1)


def search(method: str = "contrast", tell: bool = False) -> tuple[Any, float, float]:
    """(the exploration with its first rows, seconds, seconds of processor time)."""
    explore = first_of("explore", "core.studio.discover.search", "core.exploring.search")
    exploration_of = first_of("Exploration", "core.studio.discover.exploration", "core.exploring.exploration")
    picture_of = first_of("Picture", "core.studio.frames", "core.visit")
    region_of, mask_of = (first_of(name, "core.regions", "core.discovery.regions") for name in ("Region", "box_mask"))
    model = large_network()
    region = region_of("Mouth", mask_of(MOUTH, SIZE), (MOUTH,))
    exploration = exploration_of(model, picture_of(large_picture(), model.card.id), [region], method)
    began = time.perf_counter(), time.process_time()
    job = explore(exploration)
    for event in job:
        if tell:
            spent = time.process_time() - began[1]
            print(f"{spent:.1f} s of processor time: {event.note} {event.step}/{event.total}", file=sys.stderr)
        if exploration.rows:
            break
    job.close()
    return exploration, time.perf_counter() - began[0], time.process_time() - began[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tell", action="store_true")
    exploration, seconds, processor = search(tell=parser.parse_args().tell)
    basis = exploration.analysis.basis
    result = {"seconds": seconds, "processor": processor, "vectors": len(basis)}
    print(json.dumps(result | {"products": basis.forwards + basis.reverses}))


if __name__ == "__main__":
    main()

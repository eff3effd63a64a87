"""Evaluations of a small random model, with instruments whose figures are known: for tests of how they are shared out,
resumed and joined."""

import numpy as np
import torch
from PIL import Image
from small_models import small_model
from torch import Tensor
from torch.nn import functional as F

from core.directions import GlobalDirection
from core.evaluation.evaluate import evaluate
from core.evaluation.gauges import Gauges
from core.evaluation.results import Evaluation
from core.evaluation.subject import Subject
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.progress import finish
from core.recipes.pictures import Readable, readable_pictures
from core.recipes.recipe import PictureSource
from core.studio.frames import EditOptions

STRENGTHS = (-1.0, 0.0, 2.0)
STEPS = 4


def preset(name: str = "Wider", seed: int = 1) -> Preset:
    delta = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Preset(
        direction=GlobalDirection(delta, 40),
        name=name,
        model="small",
        fingerprint="0" * 16,
        t_edit=300,
        t_boost=0,
        region=[{"label": "middle", "box": [0.25, 0.25, 0.75, 0.75]}],
    )


def gauges() -> Gauges:
    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).abs().mean((1, 2, 3))

    def features(x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 2).flatten(1)

    return Gauges(distance=distance, features=features, names=(("distance", "mean change"),))


def pictures(folder, count: int, seed: int = 0):  # type: ignore[no-untyped-def]
    """Pictures 0000.png, 0001.png, ... of 64 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for n in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{n:04d}.png")
    return folder


def found_in(folder) -> Readable:  # type: ignore[no-untyped-def]
    """All pictures of a folder that can be read."""
    return finish(readable_pictures(PictureSource(folder), 32))


def run(folder, out, subjects=None, model: DiffusionModel | None = None, batch: int = 4, **how) -> Evaluation:  # type: ignore[no-untyped-def]
    """Measure everything in a folder."""
    subjects = subjects or [Subject(preset("Wider", 1), STRENGTHS), Subject(preset("Lower", 2), STRENGTHS)]
    options = EditOptions(steps=STEPS, **how)
    pictures = found_in(folder)
    job = evaluate(model or small_model(), subjects, pictures, "pictures", out, gauges(), options, batch=batch)
    found = finish(job)
    assert found is not None
    return found

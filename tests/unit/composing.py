"""What the tests of composing start from: a small model, its picture, and presets for it."""

from pathlib import Path

import pytest
import torch

from core.directions import GlobalDirection
from core.errors import ModelUnavailable
from core.models.cards import MODELS
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.process import Kept
from core.studio import latents, library, measuring
from core.studio.frames import EditOptions, Picture
from tests.unit.small_models import small_model

FAST = EditOptions(steps=8)


def isolated_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DiffusionModel:
    """A small model without instruments; nothing that comes with the app is there, and no latent is kept yet."""

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(library, "PRESETS", tmp_path / "presets")
    monkeypatch.setattr(measuring, "_lpips", missing)
    monkeypatch.setattr(latents, "KEPT", Kept())
    model = small_model()
    monkeypatch.setitem(MODELS, model.card.id, model.card)
    return model


def vector(seed: int) -> torch.Tensor:
    return torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(seed))


def preset(name: str, seed: int, steps: int = 8, **values: object) -> Preset:
    known = {"model": "small", "fingerprint": "0" * 16, "t_edit": 300, "t_boost": 0, "name": name}
    return Preset(**{"direction": GlobalDirection(vector(seed), steps), **known, **values})


def small_picture() -> Picture:
    return Picture(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1, "small")

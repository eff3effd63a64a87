"""Values that are not numbers stop the work, in float32 after half precision; measures that cannot be had do not."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from small_models import small_model

from core.directions import GlobalDirection
from core.editing import EditSettings, edit, invert, sample_latent
from core.errors import ModelUnavailable, NumberError
from core.imaging import to_pil
from core.intervals import PUBLISHED, Typical
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.process import Process, edit_pictures
from core.progress import finish
from core.studio import measuring
from core.studio.edit import edit_frames, intervals_for, what_is_assumed
from core.studio.frames import EditOptions, Picture

PIXELS = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
FLOAT16_OVERFLOWS = 1e5  # more than 65504


def overflowing(model: DiffusionModel) -> DiffusionModel:
    """Its first features are beyond float16 and within float32; the next layer divides them again."""
    with torch.no_grad():
        model.unet.unet.conv_in.weight.mul_(FLOAT16_OVERFLOWS)
        model.unet.unet.conv_in.bias.mul_(FLOAT16_OVERFLOWS)
    return model


def halved(model: DiffusionModel) -> DiffusionModel:
    """The network pretends to be one in half precision that overflows: float16 is too slow, or absent, on CPUs."""
    model.unet.unet.to(torch.bfloat16)
    model.dtype = torch.bfloat16
    model.unet.unet.conv_in = Limited(model.unet.unet.conv_in)
    return model


class Limited(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        return torch.where(y.abs() > 65504, torch.inf, y) if y.dtype == torch.bfloat16 else y


def test_no_picture_is_made_of_nothing() -> None:
    for value in (math.nan, math.inf):
        broken = PIXELS.clone()
        broken[0, 0, 0, 0] = value
        with pytest.raises(NumberError, match="not numbers"):
            to_pil(broken)


@pytest.mark.parametrize("process", ["anchored", "paper"])
def test_a_broken_network_stops_at_its_first_step(process: Process) -> None:
    model = small_model()
    torch.nn.init.constant_(model.unet.unet.conv_out.bias, math.nan)
    calls = 0
    forward = model.unet.unet.conv_in.forward

    def counted(x: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return forward(x)

    model.unet.unet.conv_in.forward = counted
    with pytest.raises(NumberError, match="float32.*no picture"):
        finish(edit_pictures(model, PIXELS, 1, [], EditSettings(6), process))
    assert calls == 1


@torch.no_grad()
def test_what_half_precision_cannot_hold_is_computed_in_float32() -> None:
    model = halved(overflowing(small_model()))
    assert not model.unet.decode(model.features(torch.randn(1, 12, 16, 16), 500)).isfinite().all()
    latent = finish(invert(model, PIXELS, 6))
    assert latent.x_T.isfinite().all()
    assert model.nbytes > 2 * sum(p.nbytes for p in model.unet.unet.parameters())
    pixels = finish(edit(model, latent, settings=EditSettings(6)))

    # As the same rounded weights give in float32.
    exact = small_model()
    exact.unet.unet.load_state_dict(overflowing(small_model()).unet.unet.to(torch.bfloat16).state_dict())
    expected = finish(edit(exact, finish(invert(exact, PIXELS, 6)), settings=EditSettings(6)))
    assert torch.allclose(pixels, expected, atol=1e-4)


def test_finite_half_precision_stays_half() -> None:
    model = small_model(dtype=torch.bfloat16)
    finish(edit(model, sample_latent(model, 0), settings=EditSettings(4)))
    assert model.unet._wide is None


# ------------------------------------------------------------------------------------------------------------ measures


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[DiffusionModel]:
    """A model whose CLIP and LPIPS are not here."""

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "_image_text", missing)
    monkeypatch.setattr(measuring, "_lpips", missing)
    model = small_model()
    model.card = replace(model.card, curves=None)
    return model


def made(model: DiffusionModel, **values: object) -> Preset:
    direction = GlobalDirection(torch.randn(1, *model.card.h_shape, generator=torch.Generator().manual_seed(0)), 10)
    about = {"name": "Happy", "model": model.card.id, "fingerprint": model.fingerprint}
    return Preset(direction, **about, source_text="face", target_text="happy face", **values)


def test_an_edit_needs_neither_clip_nor_lpips_nor_curves(bare: DiffusionModel) -> None:
    preset, picture = made(bare), Picture(PIXELS, bare.card.id)
    [frame] = finish(edit_frames(bare, picture, preset, [1.0], EditOptions(4)))
    assert frame.pixels.isfinite().all()
    assert (frame.measures.s_dir, frame.measures.distance) == (None, None)
    said = " ".join(frame.measures.missing)
    for words in ("fits the words is not measured", "visible the change", "curves are not known", "Without CLIP"):
        assert words in said
    assert frame.measures.as_json()["missing"]


def test_what_is_known_is_not_assumed(bare: DiffusionModel) -> None:
    given = made(bare, t_edit=300, t_boost=100)
    assert what_is_assumed(bare.card, given, EditOptions()) == ()
    assert what_is_assumed(bare.card, made(bare), EditOptions(t_edit=1, t_boost=2)) == ()
    card = replace(bare.card, curves=PUBLISHED["AFHQ"])
    assert [words.split()[0] for words in what_is_assumed(card, made(bare), EditOptions())] == ["Without"]
    # Between happy (0.883) and sleepy dogs (0.866), as printed in table 2.
    assert 422 < intervals_for(card, made(bare), EditOptions()).t_edit < 430


def test_a_typical_model_is_the_middle_one() -> None:
    assert Typical().t_boost() == 180  # of 167, 167, 180, 221, 293
    tables = sorted(table.t_edit(0.9) for table in PUBLISHED.values())
    assert Typical().t_edit(0.9) == tables[2]


def test_what_failed_is_not_tried_at_every_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def load(key: str) -> None:
        tries.append(key)
        raise ModelUnavailable("not today")

    get = measuring._once(load)
    for _ in range(3):
        with pytest.raises(ModelUnavailable, match="not today"):
            get("clip")
    assert tries == ["clip"]
    monkeypatch.setattr(measuring, "AGAIN", 0.0)
    with pytest.raises(ModelUnavailable):
        get("clip")
    assert tries == ["clip", "clip"]

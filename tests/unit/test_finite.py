"""Values that are not numbers stop the work, in float32 after half precision; measures that cannot be had do not."""

import math
import pickle
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from small_models import small_model
from small_text_models import small_text_model
from test_asyrp import LinearImageText

from core.asyrp.forms import mean_direction
from core.asyrp.train import Training, TrainingSettings
from core.attention_control import StepControl
from core.directions import GlobalDirection, ImplicitDirection
from core.discovery import global_jacobian
from core.discovery.interface import DiscoverySettings
from core.discovery.jacobian_operator import Jacobian, place
from core.discovery.pca import principal_components
from core.editing import EditSettings, edit, invert, sample_latent
from core.errors import ModelUnavailable, NumberError
from core.imaging import to_pil
from core.intervals import PUBLISHED, Typical
from core.models.loader import DiffusionModel
from core.presets import Preset
from core.process import Process, edit_pictures
from core.progress import finish
from core.studio import measuring
from core.studio.discover.search import Exploration, explore
from core.studio.edit import edit_frames, intervals_for, what_is_assumed
from core.studio.frames import EditOptions, Picture

PIXELS = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
FLOAT16_OVERFLOWS = 1e5  # more than 65504


ENCODER, DECODER = "conv_in", "up_blocks.0.resnets.0.conv1"


def overflowing(model: DiffusionModel, layer: str = ENCODER) -> DiffusionModel:
    """The features of one layer are beyond float16 and within float32; the next one divides them again."""
    with torch.no_grad():
        for value in model.unet.unet.get_submodule(layer).parameters():
            value.mul_(FLOAT16_OVERFLOWS)
    return model


def halved(model: DiffusionModel, layer: str = ENCODER, gradient: bool = False) -> DiffusionModel:
    """The network pretends to be one in half precision that overflows: float16 is too slow, or absent, on CPUs.

    gradient: only its gradient does."""
    model.unet.unet.to(torch.bfloat16)
    model.dtype = torch.bfloat16
    model.unet.unet.set_submodule(layer, Limited(model.unet.unet.get_submodule(layer), gradient))
    return model


def exactly(model: DiffusionModel, layer: str = ENCODER) -> DiffusionModel:
    """In float32, with the same rounded weights."""
    model.unet.unet.load_state_dict(overflowing(small_model(), layer).unet.unet.to(torch.bfloat16).state_dict())
    return model


class Limited(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module, gradient: bool = False) -> None:
        super().__init__()
        self.inner, self.gradient = inner, gradient

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.inner(x)
        if y.dtype != torch.bfloat16:
            return y
        if self.gradient:
            if y.requires_grad:
                y.register_hook(lambda gradient: gradient * torch.inf)
            return y
        return torch.where(y.abs() > 65504, torch.inf, y)


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
    x = torch.randn(1, 12, 16, 16, dtype=torch.bfloat16)
    assert not model.unet.decode(model.unet.encode(x, 500)).isfinite().all()
    latent = finish(invert(model, PIXELS, 6))
    assert latent.x_T.isfinite().all()
    assert model.nbytes > 2 * sum(p.nbytes for p in model.unet.unet.parameters())
    pixels = finish(edit(model, latent, settings=EditSettings(6)))

    exact = exactly(small_model())
    expected = finish(edit(exact, finish(invert(exact, PIXELS, 6)), settings=EditSettings(6)))
    assert torch.allclose(pixels, expected, atol=1e-4)


def test_finite_half_precision_stays_half() -> None:
    model = small_model(dtype=torch.bfloat16)
    finish(edit(model, sample_latent(model, 0), settings=EditSettings(4)))
    assert model.unet._wide is None


def start(model: DiffusionModel, form: str, x_T: torch.Tensor) -> Training:
    torch.manual_seed(0)
    settings = TrainingSettings(form=form, steps=8, samples=4, epochs=2, batch=2, t_edit=400, augment=0.0)
    return Training(model, LinearImageText(torch.float32), "face", "smiling face", settings, x_T)


def trained(model: DiffusionModel, form: str, x_T: torch.Tensor) -> Training:
    training = start(model, form, x_T)
    finish(training.run())
    return training


@pytest.mark.parametrize("form", ["global", "implicit"])
@pytest.mark.parametrize("layer", [ENCODER, DECODER])
def test_training_goes_on_in_float32(form: str, layer: str) -> None:
    """What is learned is what the same rounded weights teach in float32."""
    x_T = torch.randn(4, 12, 16, 16, generator=torch.Generator().manual_seed(2))
    half = trained(halved(overflowing(small_model(), layer), layer), form, x_T)
    exact = trained(exactly(small_model(), layer), form, x_T)
    assert half.wide
    assert not exact.wide
    assert half.losses == pytest.approx(exact.losses, rel=1e-3)
    for learned, expected in zip(half.parameters, exact.parameters, strict=True):
        assert torch.allclose(learned, expected, rtol=0.02, atol=1e-3 * float(expected.detach().abs().max()))
    assert half.sources is not None
    assert half.sources.P.isfinite().all()
    if isinstance(direction := half.direction(), ImplicitDirection):
        assert mean_direction(half.model, direction, x_T, 400).deltas.isfinite().all()


def test_gradients_that_half_precision_cannot_hold() -> None:
    """The loss is finite, its gradient is not: the first step is made once more in float32."""
    x_T = torch.randn(4, 12, 16, 16, generator=torch.Generator().manual_seed(2))
    half = trained(halved(small_model(), DECODER, gradient=True), "global", x_T)
    assert half.wide
    assert half.delta is not None
    assert half.delta.isfinite().all()
    assert half.delta.abs().max() > 0
    again = pickle.loads(pickle.dumps(half.__getstate__()["begun"][-1]))
    assert again is True, "another process goes on in float32"


def test_a_gradient_that_is_no_number_stops_a_training() -> None:
    model = small_model()

    def spoil(_: torch.nn.Module, __: object, y: torch.Tensor) -> None:
        if y.requires_grad:
            y.register_hook(lambda gradient: gradient * torch.nan)

    model.unet.unet.get_submodule(DECODER).register_forward_hook(spoil)
    training = start(model, "global", torch.randn(4, 12, 16, 16))
    with pytest.raises(NumberError, match="float32"):
        finish(training.run())
    assert training.delta is not None
    assert training.delta.isfinite().all(), "what was learned before stays"


@pytest.mark.parametrize("layer", [ENCODER, DECODER])
def test_discovery_goes_on_in_float32(layer: str) -> None:
    half, exact = halved(overflowing(small_model(), layer), layer), exactly(small_model(), layer)
    picture, t = Picture(PIXELS, half.card.id), 600
    x_t = finish(place(half, PIXELS, t))
    assert torch.allclose(x_t, finish(place(exact, PIXELS, t)), atol=1e-4)
    V = torch.randn(3, *half.card.h_shape, generator=torch.Generator().manual_seed(4))
    expected = Jacobian(exact, x_t, t).forward(V)
    near = 1e-4 if layer == ENCODER else 0.05  # features that half precision holds are as it rounds them
    assert (Jacobian(half, x_t, t).forward(V) - expected).norm() < near * expected.norm()
    exploration = Exploration(half, picture, [], global_jacobian.METHOD.name, DiscoverySettings(count=2), size=8)
    finish(explore(exploration, refining=False))
    assert exploration.rows
    components = finish(principal_components(half, [999], samples=4, components=2, steps=4))
    assert components.components.isfinite().all()


def test_words_under_attention_control_go_on_in_float32() -> None:
    """As without control: an edit by words gives the source's maps to its targets."""
    half, exact = small_text_model(dtype=torch.bfloat16), small_text_model(dtype=torch.bfloat16)
    for model in (half, exact):
        for value in model.unet.conv_in.parameters():
            value.data.mul_(FLOAT16_OVERFLOWS)
    half.unet.conv_in = Limited(half.unet.conv_in)
    exact.unet.float()
    x, text = torch.randn(1, 4, 8, 8).expand(2, -1, -1, -1), half.embed(["a cat", "a dog"])
    control = StepControl(1, self_tokens=64)
    with torch.no_grad():
        expected = exact.eps(x, 500, text, control)
        assert torch.allclose(half.eps(x, 500, text, control), expected, atol=1e-4)


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

"""Every kind of model goes through everything: load, invert, edit, discover, compose, train, save, reload."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from layouts import LAYOUTS, make
from model_folders import opened_models_closed
from test_asyrp import LinearImageText

from core import kept_on_disk, presets
from core.api import load_model, wrap_model
from core.asyrp.train import Training, TrainingSettings
from core.curves import measure_curves
from core.directions import GlobalDirection
from core.discovery import global_jacobian
from core.discovery.interface import DiscoverySettings
from core.discovery.jacobian_operator import Jacobian
from core.editing import EditSettings, edit, invert
from core.errors import ModelUnavailable
from core.intervals import Curves, Intervals
from core.models.cards import MODELS
from core.models.loader import DiffusionModel, Loader
from core.models.opening import open_model
from core.presets import Preset
from core.process import edit_pictures
from core.progress import finish
from core.sampling import sample
from core.studio import first_use, measuring
from core.studio.compose.applying import apply, combine
from core.studio.discover.exploration import Exploration
from core.studio.discover.preset import as_preset
from core.studio.discover.search import explore
from core.studio.edit import edit_frames
from core.studio.effect import MONOTONE, OWN_CHANGE, Effect, measure_effect, with_effect
from core.studio.frames import EditOptions, Picture

SETTINGS = EditSettings(6, Intervals(300, 0))


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).abs().mean((1, 2, 3))


@pytest.fixture(autouse=True)
def own_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What has to be downloaded has stand-ins, and nothing is left behind."""
    monkeypatch.setattr(measuring, "_image_text", lambda _: LinearImageText(torch.float32))
    monkeypatch.setattr(measuring, "_lpips", lambda _: distance)
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "kept"))
    with opened_models_closed():
        yield


@pytest.fixture
def loader() -> Loader:
    return Loader(device="cpu", dtype=torch.float32)


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(request.param, tmp_path / "model")


def direction(model: DiffusionModel, seed: int = 0) -> GlobalDirection:
    generator = torch.Generator().manual_seed(seed)
    return GlobalDirection(3 * torch.randn(1, *model.card.h_shape, generator=generator), SETTINGS.steps)


def preset(model: DiffusionModel, seed: int = 0) -> Preset:
    return Preset(
        direction(model, seed),
        name=f"Number {seed}",
        model=model.card.id,
        fingerprint=model.fingerprint,
        t_edit=300,
        t_boost=0,
        source_text="cat",
        target_text="happy cat",
    )


@torch.no_grad()
def as_by_hand(model: DiffusionModel, pixels: torch.Tensor) -> None:
    """Plain DDIM inversion and the way back against both written out, with the network as diffusers runs it. The same
    with timesteps that are one step off is far away."""
    steps, a = 6, model.schedule.alphas_cumprod
    times = [round(i * (len(a) - 1) / (steps - 1)) for i in range(steps)]

    def eps(x: torch.Tensor, t: int) -> torch.Tensor:
        output = model.unet.unet(x, t).sample[:, : x.shape[1]].double()
        match model.schedule.prediction_type:
            case "v_prediction":
                return (1 - a[t]).sqrt() * x + a[t].sqrt() * output
            case "sample":
                return (x - a[t].sqrt() * output) / (1 - a[t]).sqrt()
        return output

    def moved(x: torch.Tensor, e: torch.Tensor, before: int | None, after: int | None) -> torch.Tensor:
        here, there = (torch.tensor(1.0) if t is None else a[t] for t in (before, after))
        clean = (x - (1 - here).sqrt() * e) / here.sqrt()
        return (there.sqrt() * clean + (1 - there).sqrt() * e).float()

    def up(off: int) -> torch.Tensor:
        x, levels = model.codec.encode(pixels), [None, *times]
        for k, (before, after) in enumerate(pairwise(levels)):
            x = moved(x, eps(x, times[min(max(k + off, 0), steps - 1)]), before, after)
        return x

    def down(x: torch.Tensor, off: int) -> torch.Tensor:
        for k, (before, after) in enumerate(pairwise([*reversed(times), None])):
            x = moved(x, eps(x, times[min(max(steps - 1 - k + off, 0), steps - 1)]), before, after)
        return model.codec.decode(x).clamp(-1, 1)

    x_T = up(0)
    found = finish(invert(model, pixels, steps, iterations=0)).x_T
    back, expected = finish(edit(model, x_T, settings=EditSettings(steps))), down(x_T, 0)
    assert (found - x_T).abs().max() < 1e-5
    assert (back - expected).abs().max() < 5e-5
    assert all((up(off) - x_T).abs().max() > 1e-4 for off in (-1, 1))
    assert (down(x_T, -1) - expected).abs().max() > 1e-2


def test_everything(folder: Path, loader: Loader, tmp_path: Path) -> None:
    # Load.
    card = finish(open_model(str(folder), "cat", loader=loader))
    model = loader.get(card.id)
    side = card.resolution
    pixels = sample_pixels(side)
    picture = Picture(pixels, card.id)

    # Invert: as by hand, and what comes back is what the codec alone makes of the picture. Random weights contradict
    # themselves from step to step, small ones do not; of those that predict the picture none know this one.
    last = model.unet.unet.conv_out
    kept = {name: value.clone() for name, value in last.state_dict().items()}
    for value in last.parameters():
        value.mul_(0.02)
    as_by_hand(model, pixels)
    for value in last.parameters():
        value.mul_(0.005)
    bound = model.codec.decode(model.codec.encode(pixels)).clamp(-1, 1)
    back = finish(edit(model, finish(invert(model, pixels, 12)), settings=EditSettings(12)))
    if model.schedule.prediction_type != "sample":
        assert (back - bound).square().mean() < 0.01
    last.load_state_dict(kept)

    # Edit, in both processes: strength 0 is no edit, and more is more.
    for process in ("anchored", "paper"):
        strip = finish(edit_pictures(model, pixels, 3, [(direction(model), [0.0, 0.5, 1.0])], SETTINGS, process))
        assert strip.shape == (3, 3, side, side)
        assert strip.isfinite().all()
        change = distance(strip, strip[:1].expand_as(strip))
        assert 0 == change[0] < change[1] < change[2]

    # Discover.
    exploration = Exploration(model, picture, [], global_jacobian.METHOD.name, DiscoverySettings(count=2), size=8)
    finish(explore(exploration, refining=False))
    assert exploration.rows
    found = as_preset(exploration, exploration.rows[0])
    assert (found.model, found.fingerprint, found.certainty) == (card.id, model.fingerprint, "exact")

    # Compose.
    chosen = [preset(model, 1), preset(model, 2)]
    columns = [(one, [0.0, 1.0]) for one in chosen]
    none, both = finish(apply(model, picture, columns, EditOptions(6)))
    assert not torch.equal(none.pixels, both.pixels)
    combined = combine(card, [(one, 1.0) for one in chosen], "Both")
    [once] = finish(edit_frames(model, picture, combined, [1.0], EditOptions(6)))
    assert (once.pixels - both.pixels).abs().mean() < 0.02 * (both.pixels - none.pixels).abs().mean()

    # Train.
    settings = TrainingSettings(form="global", steps=8, samples=2, epochs=1, batch=2, t_edit=400, augment=0.0)
    training = Training(model, LinearImageText(torch.float32), "cat", "happy cat", settings)
    finish(training.run())
    trained = replace(preset(model), direction=training.direction(), name="Happy")
    assert trained.direction.delta.abs().max() > 0

    # Save.
    file = presets.save(trained, tmp_path / "happy.safetensors")
    expected = finish(edit_frames(model, picture, trained, [1.0], EditOptions(6)))[0].pixels

    # Reload, both: the same weights, the same edit, under whatever name.
    again = Loader(device="cpu", dtype=torch.float32).get(card.id)
    assert again.fingerprint == model.fingerprint
    other = finish(open_model(str(folder), "kitten", loader=loader))
    for reloaded in (again, loader.get(other.id)):
        frames = finish(edit_frames(reloaded, picture, presets.load(file), [1.0], EditOptions(6)))
        assert torch.allclose(frames[0].pixels, expected, atol=1e-5)


def sample_pixels(side: int) -> torch.Tensor:
    """Something smooth, as pictures are."""
    rough = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return torch.nn.functional.interpolate(rough, (side, side), mode="bicubic").clamp(-1, 1)


def test_products_with_the_jacobian_are_differences(folder: Path, loader: Loader) -> None:
    """J v against a difference quotient of the whole decoder, codec and all; J^T by its definition."""
    model = loader.get(finish(open_model(str(folder), loader=loader)).id)
    clean = model.codec.encode(sample_pixels(model.card.resolution))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    x_t = model.schedule.noised(clean, noise, 600)
    jacobian = Jacobian(model, x_t, 600)
    with torch.no_grad():
        features = model.features(x_t, 600)
    v = torch.randn(2, *model.card.h_shape, generator=torch.Generator().manual_seed(4))

    @torch.no_grad()
    def picture(shift: torch.Tensor) -> torch.Tensor:
        rows = features.repeat(len(shift))
        x = x_t.expand(len(shift), -1, -1, -1)
        return model.codec.decode(model.schedule.predicted_x0(x, model.eps(rows, x, 600, shift), 600))

    size = 1e-2
    quotient = (picture(size * v) - picture(-size * v)) / (2 * size)
    product = jacobian.forward(v)
    assert (product - quotient).norm() < 2e-2 * quotient.norm()
    Y = torch.randn(product.shape, generator=torch.Generator().manual_seed(5))
    assert torch.allclose((jacobian.reverse(Y) * v).sum(), (Y * product).sum(), rtol=1e-3, atol=1e-3)


# ----------------------------------------------------------------------------------------------------------- first use


def test_curves_are_measured_once_and_kept(tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_use, "ON_CPU", (2, 8))
    monkeypatch.setattr(first_use, "SAMPLING_STEPS", 6)
    folder = make("subfolders", tmp_path / "model")
    card = finish(open_model(str(folder), loader=loader))
    model = loader.get(card.id)
    assert card.curves is None
    events = list(first_use.measure_first(model))
    assert events[-1].step == events[-1].total == 14
    measured = MODELS[card.id].interval_source()
    assert isinstance(measured, Curves)
    pictures = finish(sample(model, 0, 2, 6))
    expected = finish(measure_curves(model, pictures, distance, 8))
    assert torch.allclose(torch.tensor(measured.predicted_x0), torch.tensor(expected.predicted_x0), atol=1e-4)
    assert not first_use.lacks_curves(model)
    assert not list(first_use.measure_first(model))

    # A later process finds them, whatever the model is called; one without them measures anew.
    MODELS[card.id] = card
    assert Loader(device="cpu", dtype=torch.float32).get(card.id).card.curves == model.card.curves
    assert isinstance(MODELS[card.id].interval_source(), Curves)
    for other in (load_model(folder, device="cpu"), wrap_model(model.unet.unet, DDPMScheduler())):
        assert other.fingerprint == model.fingerprint
        assert other.card.curves == model.card.curves
        assert isinstance(other.card.known_or_typical(), Curves)
    assert kept_on_disk.place("curves", model.fingerprint) is not None


def test_a_model_whose_curves_cannot_be_measured(
    tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: object) -> None:
        raise ModelUnavailable("LPIPS is not here")

    monkeypatch.setattr(measuring, "_lpips", missing)
    model = loader.get(finish(open_model(str(make("subfolders", tmp_path / "model")), loader=loader)).id)
    with pytest.raises(ModelUnavailable, match="LPIPS"):
        finish(first_use.measure_first(model))
    without = replace(preset(model), t_edit=None, t_boost=None)
    [frame] = finish(edit_frames(model, Picture(sample_pixels(32), model.card.id), without, [1.0], EditOptions(6)))
    assert any("typical model" in words for words in frame.measures.missing)


# ---------------------------------------------------------------------------------------------------------- provenance


def test_an_effect_is_trusted_if_it_rises_and_is_no_chance() -> None:
    good = Effect((-1.0, 0.0, 1.0), (-0.1, 0.0, 0.12), 0.01)
    assert good.trusted
    assert "works with these weights" in good.words
    assert not replace(good, change=(0.05, 0.0, 0.12)).monotone
    assert "does not rise" in replace(good, change=(0.05, 0.0, 0.12)).words
    chance = replace(good, error=0.1)
    assert not chance.trusted
    assert "told from chance" in chance.words


def test_the_effect_of_a_direction_is_its_own_change(tmp_path: Path, loader: Loader) -> None:
    """A direction that was trained on these weights, and a random one."""
    model = loader.get(finish(open_model(str(make("flat, 2022", tmp_path / "model")), "cat", loader=loader)).id)
    settings = TrainingSettings(
        form="global", steps=8, samples=8, epochs=12, batch=4, t_edit=300, augment=0.0, l_recon=0.0, rate=0.1
    )
    training = Training(model, LinearImageText(torch.float32), "cat", "happy cat", settings)
    finish(training.run())
    trained = replace(preset(model), direction=training.direction(), certainty="unknown")
    effect = finish(measure_effect(model, trained))
    assert effect.strengths == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert effect.change[2] == 0
    assert effect.change[-1] > 0
    kept = with_effect(trained, effect)
    assert kept.measured[OWN_CHANGE] == pytest.approx(effect.change[-1])
    assert kept.measured[MONOTONE] == float(effect.monotone)
    opposite = finish(measure_effect(model, replace(trained, strength=-1.0)))
    assert opposite.strengths == effect.strengths
    assert opposite.change == pytest.approx(effect.change, abs=1e-5)


def test_how_sure_the_weights_are_is_kept_and_said(tmp_path: Path, loader: Loader) -> None:
    model = loader.get(finish(open_model(str(make("subfolders", tmp_path / "model")), "cat", loader=loader)).id)
    exact, unsure = preset(model), replace(preset(model), certainty="unknown")
    assert b"certainty" not in presets.to_bytes(exact)
    for one in (exact, unsure):
        assert presets.from_bytes(presets.to_bytes(one)).certainty == one.certainty
    picture = Picture(sample_pixels(32), model.card.id)
    for one, said in ((exact, False), (unsure, True)):
        [frame] = finish(edit_frames(model, picture, one, [1.0], EditOptions(6)))
        assert any("not known whether it was made" in words for words in frame.measures.missing) is said
    both = combine(model.card, [(exact, 1.0), (replace(unsure, certainty="claimed"), 1.0)], "Both")
    assert both.certainty == "claimed"

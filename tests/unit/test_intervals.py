"""Editing and boosting intervals: the paper's table 2 from the authors' curves, and the knots in their place."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asyrp_files import ASYRP
from diffusers import DDPMPipeline, DDPMScheduler
from model_folders import opened_models_closed
from small_models import small_model, small_unet

from core.api import load_model
from core.curves import measure_curves
from core.directions import GlobalDirection
from core.editing import edit, invert
from core.errors import ModelUnavailable
from core.intervals import PUBLISHED, Curves, Intervals, Typical, first_reaching, intervals
from core.models.cards import MODELS
from core.models.loader import Loader
from core.models.opening import open_model
from core.presets import Preset
from core.progress import finish
from core.studio import measuring
from core.studio.edit import edit_frames, intervals_for, what_is_assumed
from core.studio.frames import EditOptions, Picture

FILES = {
    "CelebA-HQ": "celeba",
    "LSUN-church": "church",
    "LSUN-bedroom": "bedroom",
    "AFHQ": "afhq",
    "METFACES": "metface",
}


def authors_curves(dataset: str) -> Curves:
    t, predicted_x0, noisy = (
        np.loadtxt(ASYRP / f"{FILES[dataset]}_lpips_{kind}.csv", delimiter=",", skiprows=1)[:, column]
        for kind, column in (("predicted_x0", 0), ("predicted_x0", 1), ("x_t", 1))
    )
    return Curves(t.astype(int), predicted_x0, noisy)


@pytest.mark.parametrize("dataset", FILES)
def test_the_formulas_give_table_2(dataset: str) -> None:
    curves, table = authors_curves(dataset), PUBLISHED[dataset]
    for similarity, t_edit in table.knots:
        assert abs(curves.t_edit(similarity) - t_edit) <= 1, similarity
    assert curves.t_boost() == table.t_boost()


def test_reference_points_of_celeba() -> None:
    curves = authors_curves("CelebA-HQ")
    assert [curves.t_edit(s) for s in (1.0, 0.9, 0.7)] == [538, 514, 459]


@pytest.mark.parametrize("dataset", FILES)
def test_knots_stand_in_for_the_curves(dataset: str) -> None:
    """Within 8 of 1000 timesteps between the knots, within 25 (one step of 40) some way beyond them."""
    curves, table = authors_curves(dataset), PUBLISHED[dataset]
    similarities = [similarity for similarity, _ in table.knots]
    inside = np.linspace(min(similarities), max(similarities), 200)
    assert max(abs(table.t_edit(s) - curves.t_edit(s)) for s in inside) <= 8
    below = np.linspace(min(similarities) - 0.05, min(similarities), 20)
    above = np.linspace(max(similarities), 1, 20)
    assert max(abs(table.t_edit(s) - curves.t_edit(s)) for s in (*below, *above)) <= 25


def test_table_2_is_complete() -> None:
    """All 33 rows as printed, t_boost per dataset."""
    assert {name: len(table.knots) for name, table in PUBLISHED.items()} == {
        "CelebA-HQ": 16,
        "LSUN-church": 7,
        "LSUN-bedroom": 2,
        "AFHQ": 5,
        "METFACES": 3,
    }
    assert {name: table.t_boost() for name, table in PUBLISHED.items()} == {
        "CelebA-HQ": 167,
        "LSUN-church": 293,
        "LSUN-bedroom": 221,
        "AFHQ": 167,
        "METFACES": 180,
    }
    celeba = MODELS["ddpm-ema-celebahq-256"].interval_source()
    assert intervals(celeba, 0.899) == Intervals(t_edit=513, t_boost=167)
    assert MODELS["ddpm-ema-church-256"].interval_source().t_edit(0.702) == 301
    assert MODELS["ddpm-ema-bedroom-256"].interval_source().t_edit(0.917) == 371


def test_knots_in_between_and_beyond() -> None:
    table = PUBLISHED["LSUN-church"]
    assert table.t_edit((0.841 + 0.793) / 2) == (349 + 333) / 2
    assert 371 < table.t_edit(1.0) < 420
    assert 0 <= table.t_edit(0.0) < table.t_edit(0.5) < 301
    assert PUBLISHED["METFACES"].t_edit(0.0) == 0


def test_first_reaching() -> None:
    t, curve = np.array([0, 10, 20, 30]), np.array([0.0, 0.2, 0.4, 0.3])
    assert first_reaching(t, curve, 0.2) == 10
    assert first_reaching(t, curve, 0.3) == 15
    assert first_reaching(t, curve, 0.25) == 13  # 12.5, and the first integer t at which it is reached
    assert first_reaching(t, curve, 0.0) == 0
    assert first_reaching(t, curve, 0.5) == 30  # never reached: the shortest interval there is


def test_curves_in_a_file(tmp_path: Path) -> None:
    curves = Curves(np.array([0, 500, 999]), np.array([0.0, 0.25, 1.0]), np.array([0.0, 1.0, 1.5]), 0.4, 1.1)
    path = tmp_path / "curves.json"
    curves.save(path)
    again = Curves.load(path)
    assert intervals(again, 0.8) == intervals(curves, 0.8)
    assert again.edit_threshold == 0.4
    path.write_text('{"t": [0]}')
    with pytest.raises(ModelUnavailable, match="measure them again"):
        Curves.load(path)
    with pytest.raises(ModelUnavailable):
        Curves.load(tmp_path / "missing.json")


def test_measured_curves() -> None:
    """Against the definition, level by level, with a mean absolute distance."""
    model, steps = small_model(), 8
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean(dim=(1, 2, 3))

    curves = finish(measure_curves(model, pixels, distance, steps=steps, chunk=2, edit_threshold=0.5))
    assert curves.t.tolist() == model.schedule.timesteps(steps)
    assert curves.edit_threshold == 0.5

    x_T = finish(invert(model, pixels, steps)).x_T
    assert curves.noisy[-1] == pytest.approx(distance(pixels, model.codec.decode(x_T)).mean().item(), rel=1e-4)
    first = next(iter(edit(model, x_T))).preview  # no preview after one step of 40
    assert first is None
    with torch.no_grad():
        eps = model.eps(model.features(x_T, 999), x_T, 999)
    x0 = model.codec.decode(model.schedule.predicted_x0(x_T, eps, 999))
    assert curves.predicted_x0[-1] == pytest.approx(distance(pixels, x0).mean().item(), rel=1e-4)


# ------------------------------------------------------------------------------------------------- other noise levels

PAPER = DDPMScheduler().alphas_cumprod
OTHERS = {
    "100 steps": {"num_train_timesteps": 100, "beta_start": 0.001, "beta_end": 0.2},
    "4000 steps": {"num_train_timesteps": 4000, "beta_start": 0.000025, "beta_end": 0.005},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


@pytest.mark.parametrize("betas", OTHERS)
def test_a_model_with_other_noise_levels_is_edited_where_there_is_as_much_noise(
    betas: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By loading from a folder and by opening; the edit does something."""

    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "_image_text", missing)
    monkeypatch.setattr(measuring, "_lpips", missing)
    scheduler = DDPMScheduler(**OTHERS[betas])
    DDPMPipeline(small_unet(channels=3, size=32), scheduler).save_pretrained(tmp_path / "model")
    with opened_models_closed():
        loader = Loader(device="cpu", dtype=torch.float32)
        opened = finish(open_model(str(tmp_path / "model"), "face", loader=loader))
        model = loader.get(opened.id)
    wrapped = load_model(tmp_path / "model", device="cpu")
    direction = GlobalDirection(torch.randn(1, *model.card.h_shape, generator=torch.Generator().manual_seed(0)), 40)
    preset = Preset(direction, name="Any", model=model.card.id, fingerprint=model.fingerprint)
    expected = Typical()
    for card in (opened, model.card, wrapped.card):
        found = intervals_for(card, preset, EditOptions())
        for t, at_thousand in ((found.t_edit, expected.t_edit(1.0)), (found.t_boost, expected.t_boost())):
            assert scheduler.alphas_cumprod[t] <= PAPER[at_thousand] < scheduler.alphas_cumprod[t - 1]
    assert not any("Nothing is edited" in words for words in what_is_assumed(model.card, preset, EditOptions()))
    picture = Picture(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1, model.card.id)
    plain, edited = finish(edit_frames(model, picture, preset, [0.0, 3.0], EditOptions(8)))
    assert (plain.pixels - edited.pixels).abs().max() > 0.001
    # A table of the paper's is read likewise.
    assert replace(PUBLISHED["AFHQ"], levels=model.card.levels).t_boost() == next(
        t for t, a in enumerate(scheduler.alphas_cumprod) if a <= PAPER[167]
    )


def test_the_papers_own_noise_levels_are_left_alone(tmp_path: Path) -> None:
    DDPMPipeline(small_unet(channels=3, size=32), DDPMScheduler()).save_pretrained(tmp_path / "model")
    card = load_model(tmp_path / "model", device="cpu").card
    assert (card.levels, card.last_timestep) == (None, 999)
    assert intervals(card.known_or_typical(), 0.9) == intervals(Typical(), 0.9)


def test_a_model_that_never_has_so_much_noise_is_edited_at_its_most(tmp_path: Path) -> None:
    """100 steps whose betas were not stretched: a_T = 0.36, where the paper's models are at t = 320."""
    scheduler = DDPMScheduler(num_train_timesteps=100)
    DDPMPipeline(small_unet(channels=3, size=32), scheduler).save_pretrained(tmp_path / "model")
    assert intervals(load_model(tmp_path / "model", device="cpu").card.known_or_typical(), 1.0).t_edit == 99


def test_an_edit_of_nothing_says_so() -> None:
    """Where T is smaller than t_edit, and where a direction begins to act below it."""
    model = small_model()
    direction = GlobalDirection(torch.ones(1, *model.card.h_shape), 40)
    preset = Preset(direction, name="Any", model=model.card.id, fingerprint=model.fingerprint, t_edit=362, t_boost=0)
    assert what_is_assumed(model.card, preset, EditOptions()) == ()
    short = replace(model.card, levels=tuple(np.linspace(0.99, 0.01, 100)))
    for card, about in ((short, preset), (model.card, replace(preset, direction=replace(direction, t_start=300)))):
        [words] = what_is_assumed(card, about, EditOptions())
        assert words.startswith("Nothing is edited")
        assert f"acts from t = {99 if card is short else 300} down" in words
        assert what_is_assumed(card, about, EditOptions(t_edit=50)) == ()

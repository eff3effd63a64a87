"""The recipe of the shipped directions: it says what their files say."""

from pathlib import Path

import numpy as np
import pytest

from core import instruments, presets
from core.asyrp.prompts import coefficients
from core.editing import EditSettings
from core.models.cards import MODELS, PRESETS
from core.process import edit_pictures
from core.progress import finish
from core.recipes.reading import read_recipe
from core.studio import library
from core.studio.known_models import bound_model
from training.dataset import to_pixels
from training.make_directions import PLAIN, RECIPE, RECIPES, preset_path
from training.portraits import HELD_OUT, PARTS, render, sample, varied

ROOT = Path(__file__).parents[2]
SHIPPED = read_recipe(RECIPE)
PROMPTS = read_recipe(PRESETS / "avatars-t2i.yaml")
PAPER = read_recipe(ROOT / "training" / "avatars_paper.yaml")


def test_every_shipped_direction_is_in_it() -> None:
    files = {path.stem for path in (PRESETS / "directions" / "avatars").glob("*.safetensors")}
    assert {presets.file_name(one.name).removesuffix(presets.SUFFIX) for one in SHIPPED.texts} == files
    assert len(SHIPPED.directions) == 15


AS_THE_PAPER = {"beard", "tanned"}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_it_says_how_the_file_was_made(name: str) -> None:
    preset, one = presets.load(preset_path(name)), SHIPPED.direction(name)
    training, said = one.training, preset.parameters
    assert (one.source, one.target) == (preset.source_text, preset.target_text)
    curves = MODELS["avatars"].interval_source()
    t_edit = curves.t_edit(said["similarity"]) if training.t_edit is None else training.t_edit
    t_boost = curves.t_boost() if one.t_boost is None else one.t_boost
    assert (t_edit, t_boost, training.t_start) == (preset.t_edit, preset.t_boost, preset.direction.t_start)
    assert training.steps == preset.direction.steps
    assert [training.samples, training.epochs, training.augment] == [said[k] for k in ("samples", "epochs", "augment")]
    l_clip = coefficients(one.source, one.target).l_clip if training.l_clip is None else training.l_clip
    assert (l_clip, list(training.strengths)) == (said["l_clip"], said["strengths"])
    if training.l_recon is not None:
        assert training.l_recon == said["l_recon"]
    assert (one.strength_range or (-1.0, 2.0)) == preset.strength_range
    assert one.corrections == said.get("corrections", {})
    assert one.purpose is not None
    assert one.purpose.part in PARTS


@pytest.mark.parametrize("name", sorted(AS_THE_PAPER))
def test_what_does_as_well_is_made_as_the_paper_does(name: str) -> None:
    ours, paper = SHIPPED.direction(name), PAPER.direction(name)
    assert (ours.training, ours.t_boost, ours.corrections) == (paper.training, paper.t_boost, paper.corrections)


def test_every_direction_says_why_it_is_made_so() -> None:
    assert all(one.note for one in SHIPPED.texts)


def test_the_papers_settings_are_told_by_what_is_left_out() -> None:
    assert [one.name for one in PAPER.texts] == [one.name for one in SHIPPED.texts]
    for one, ours in zip(PAPER.texts, SHIPPED.texts, strict=True):
        training = one.training
        assert (one.source, one.target, one.purpose) == (ours.source, ours.target, ours.purpose)
        assert (training.l_clip, training.l_recon, training.t_edit, training.t_start, one.t_boost) == (None,) * 5
        assert (training.strengths, training.augment, one.corrections) == ((1.0,), 0, {})
        same = [(getattr(one.training, name), getattr(ours.training, name)) for name in ("steps", "samples", "epochs")]
        assert all(a == b for a, b in same), "so that the two can be compared"


# ------------------------------------------------------------------------------------------------ text-to-image model

T2I = library.shipped(PROMPTS.model)


def test_every_shipped_direction_of_the_text_to_image_model_is_in_its_recipe() -> None:
    assert set(T2I) == {presets.file_name(one.name).removesuffix(presets.SUFFIX) for one in PROMPTS.directions}
    order = PRESETS / "directions" / PROMPTS.model / library.ORDER
    assert set(order.read_text().split()) == set(T2I)


@pytest.mark.parametrize("key", sorted(T2I))
def test_a_direction_of_two_prompts_does_what_its_file_says(key: str) -> None:
    """A third of what was measured, at least, on the mean of four plain portraits that are held out."""
    preset = T2I[key]
    one = PROMPTS.direction(preset.name.lower())
    assert (one.source, one.target) == (preset.source_text, preset.target_text)
    assert (preset.model, preset.prompt, preset.injection) == (PROMPTS.model, PROMPTS.prompt, "symmetric")
    assert one.purpose is not None
    model = bound_model(PROMPTS.model, PROMPTS.prompt)
    assert model.fingerprint == preset.fingerprint
    plain = [np.asarray(render(varied(sample(HELD_OUT + 2559 + k), **PLAIN))) for k in range(4)]
    portraits, probe = to_pixels(np.stack(plain)), instruments.load(PRESETS / str(model.card.instruments))
    weighted = [(preset.direction, [preset.strength] * 4)]
    settings = EditSettings(7, injection=preset.injection)
    made = finish(edit_pictures(model, portraits, 1, weighted, settings))
    name = one.purpose.attribute
    before, after = (probe.attributes(pixels)[name] for pixels in (portraits, made))
    own = one.purpose.sign * (after - before) / probe.known[name].spread
    assert own.mean() > preset.measured["own_change"] / 3, own
    same = (probe.identity(portraits) * probe.identity(made)).sum(1)
    assert same.mean() > 0.9, same

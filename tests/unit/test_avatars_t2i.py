"""The embedded text-to-image model: prompts decide what it draws, and portraits that nothing was trained on come back
from their inversion and change with a word of their prompt."""

from functools import cache

import pytest
import torch
from torch import Tensor

from core import instruments
from core.inversion.editing import PromptEditSettings, Target, edit
from core.inversion.inversion import Inversion
from core.inversion.methods import invert
from core.inversion.solution import InversionSettings
from core.metrics import psnr
from core.models.cards import PRESETS
from core.models.pipelines import load
from core.models.t2i_cards import TEXT_TO_IMAGE
from core.progress import finish
from core.text_to_image import TextToImage
from tests.unit.held_out import pixels
from training.evaluate_t2i import sampled
from training.portraits import HELD_OUT, sample, varied

CARD = TEXT_TO_IMAGE["avatars-t2i"]  # other tests put a smaller model in its place
PROMPT, OTHER = "the smiling face", "the sad face"
SETTINGS = InversionSettings(steps=20, guidance=CARD.working_guidance)


@cache
def model() -> TextToImage:
    loaded = load(CARD)
    return TextToImage.from_pipeline(loaded.pipeline, CARD.id, loaded.fingerprint)


@cache
def probe() -> instruments.Instruments:
    return instruments.load(PRESETS / CARD.instruments)


@cache
def pictures() -> Tensor:
    """Three smiling portraits."""
    people = [varied(sample(HELD_OUT + 4000 + k), smile=0.8, mouth_open=0.0, beard=0.0, glasses=0.0) for k in range(3)]
    return pixels(people)


@cache
def inverted() -> list[Inversion]:
    return [finish(invert(model(), picture, PROMPT, "anchored", SETTINGS)) for picture in pictures().split(1)]


def read(made: Tensor, attribute: str) -> Tensor:
    """In standard deviations of the population."""
    return probe().attributes(made)[attribute] / probe().known[attribute].spread


@pytest.mark.slow
def test_prompts_decide_what_is_drawn() -> None:
    pipeline = load(CARD, dtype=torch.float32).pipeline
    for attribute, more, less in (
        ("smile", "a smiling face", "a sad face"),
        ("eye_open", "a face with open eyes", "a face with closed eyes"),
        ("brow_angle", "an angry face", "a worried face"),
        ("glasses", "a face with glasses", "a face without glasses"),
        ("skin", "a tanned face", "a pale face"),
    ):
        seen = read(sampled(pipeline, [more] * 3 + [less] * 3, 7.5, 10, batch=6), attribute)
        assert seen[:3].mean() - seen[3:].mean() > 1, attribute


@pytest.mark.slow
def test_an_anchored_portrait_comes_back_as_the_autoencoder_has_it() -> None:
    for inversion in inverted():
        assert inversion.measures["psnr bound"] > 33
        assert inversion.measures["psnr"] == pytest.approx(inversion.measures["psnr bound"], abs=0.1)


@pytest.mark.slow
def test_a_word_of_the_prompt_changes_what_it_means_and_not_the_person() -> None:
    kept = []
    for picture, inversion in zip(pictures().split(1), inverted(), strict=True):
        made = finish(edit(model(), inversion, [Target(OTHER)], PromptEditSettings(attention="swap"))).cpu()
        assert read(made, "smile") < read(picture, "smile") - 1
        assert (probe().identity(made) * probe().identity(picture)).sum() > 0.8
        hair = slice(0, 30)
        kept.append(psnr(made[..., hair, :], picture[..., hair, :]))
    assert torch.cat(kept).mean() > 25


@pytest.mark.slow
def test_what_both_prompts_say_stays_at_every_strength() -> None:
    """Also where the target has a word more, and words have other places in it."""
    person = varied(sample(HELD_OUT + 4001), skin=0.55, glasses=1, gray=0.9, lip_red=0.8, hair_style=0, beard=0)
    picture = pixels([varied(person, eye_open=0.6)])
    source, target = (f"a tanned {old}face with glasses, gray hair and red lips" for old in ("", "old "))
    inversion = finish(invert(model(), picture, source, "anchored", SETTINGS))
    made = finish(edit(model(), inversion, [Target(target, strength) for strength in (0.25, 0.5, 0.75)])).cpu()
    assert probe().attributes(made)["glasses"].min() > 0.8

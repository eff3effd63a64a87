"""Finding directions from programs: in a picture, and between two prompts; and models that are bound to a prompt."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image
from small_models import small_unet
from small_text_models import small_text_model
from test_presets import TEXT_TO_IMAGE

import hspace
from core import api_directions, presets
from core.asyrp.fitted_shift import fitted_shift
from core.cli import main
from core.discovery.basis import krylov_basis
from core.discovery.interface import DiscoverySettings
from core.discovery.jacobian_operator import Jacobian
from core.discovery.methods import discover
from core.imaging import to_pixels
from core.models.loader import DiffusionModel
from core.presets import Preset, from_bytes, to_bytes
from core.progress import finish
from core.prompted import with_prompt
from core.regions import Region, ready_made_region
from core.studio import library
from core.studio.discover.analysis import ANALYSES, analyse_picture
from core.studio.frames import Picture
from core.text_to_image import TextToImage

ROOT = Path(__file__).resolve().parents[2]
SIZE = 16


@pytest.fixture(scope="module")
def text_model() -> TextToImage:
    return small_text_model("v_prediction")


@pytest.fixture(params=["unconditional", "text-to-image"])
def model(request: pytest.FixtureRequest, text_model: TextToImage) -> DiffusionModel:
    if request.param == "text-to-image":
        return with_prompt(text_model, "a cat", 2.0)
    return hspace.wrap_model(small_unet(), DDIMScheduler(prediction_type="v_prediction"), domain_word="face")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    ANALYSES.clear()


@pytest.fixture
def portrait() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 64, 3), dtype=np.uint8))


BOX = (0.25, 0.5, 0.75, 0.9)


def test_what_is_found_is_what_the_method_finds(model: DiffusionModel, portrait: Image.Image) -> None:
    events: list[hspace.Progress] = []
    found = hspace.discover(model, portrait, BOX, count=2, size=SIZE, on_progress=events.append)
    assert len(found) == 2
    assert events
    picture = Picture(hspace.imaging.to_pixels(portrait, model.card.resolution), model.card.id)
    x_t = finish(analyse_picture(model, picture, None, SIZE)).x_t  # kept
    basis = finish(krylov_basis(Jacobian(model, x_t, found[0].timestep), SIZE))
    [region] = api_directions._places(BOX)
    expected = discover(basis, [api_directions._region(region, "mine", model)], "contrast", DiscoverySettings(count=2))
    for one, other in zip(found, expected, strict=True):
        cosine = (one.direction.delta * other.direction.delta).sum().abs().item()
        assert cosine == pytest.approx(1, abs=1e-3)
    family = "text-to-image" if model.conditioning else "unconditional"
    assert {one.family for one in found} == {family}
    assert from_bytes(to_bytes(found[0])).family == family
    plain, shifted = hspace.edit(model, portrait, found[0], [0, 3 * found[0].strength], steps=5)
    assert plain.size == (model.card.resolution,) * 2
    assert np.abs(np.asarray(plain, int) - np.asarray(shifted, int)).max() > 2


def test_regions_in_every_form(model: DiffusionModel, portrait: Image.Image) -> None:
    side = model.card.resolution
    mask = np.zeros((side, side), bool)
    mask[side // 2 :, side // 4 : -side // 4] = True
    given: tuple[Any, ...] = (mask, Region("mine", mask), [mask, (0.0, 0.0, 1.0, 0.3)])
    one, same, two = (hspace.discover(model, portrait, region, count=1, size=SIZE) for region in given)
    assert torch.allclose(one[0].direction.delta, same[0].direction.delta)
    assert len(two) == 2
    whole = hspace.discover(model, portrait, method="global", count=3, size=SIZE)
    assert len(whole) == 3
    if model.card.domain_word == "face":
        eyes = hspace.discover(model, portrait, "Eyes", count=1, size=SIZE)
        same = hspace.discover(model, portrait, ready_made_region("face", "Eyes", side), count=1, size=SIZE)
        assert torch.allclose(eyes[0].direction.delta, same[0].direction.delta)
    else:
        with pytest.raises(hspace.RequestError, match="no ready-made region"):
            hspace.discover(model, portrait, "Eyes", size=SIZE)
    with pytest.raises(hspace.RequestError, match="Draw a region first"):
        hspace.discover(model, portrait, size=SIZE)


def test_between_two_prompts(text_model: TextToImage, portrait: Image.Image) -> None:
    made = hspace.between_prompts(text_model, "a cat", "a smiling cat", samples=2, steps=4, fit=False)
    assert (made.source_text, made.target_text, made.family, made.prompt) == (
        "a cat",
        "a smiling cat",
        "text-to-image",
        "a cat",
    )
    again = from_bytes(to_bytes(made))
    assert torch.equal(again.direction.deltas, made.direction.deltas)
    everywhere = hspace.between_prompts(
        text_model, "a cat", "a smiling cat", samples=2, steps=4, fit=False, per_timestep=False
    )
    torch.testing.assert_close(everywhere.direction.delta[0], made.direction.deltas.mean(0))
    picture = hspace.edit(with_prompt(text_model, "a photo"), portrait, made, 3.0, steps=5)
    assert picture.size == (16, 16)
    fitted = hspace.between_prompts(text_model, "a cat", "a smiling cat", samples=2, steps=4)
    assert (made.method, fitted.method) == ("prompt shift", "fitted prompt shift")
    assert fitted.description.endswith(" on 2 pictures."), "of others the share says nothing"
    assert fitted.measured["explained"] <= 1
    assert not torch.equal(fitted.direction.deltas, made.direction.deltas)
    here = hspace.between_prompts(text_model, "a cat", "a smiling cat", picture=portrait, prompt="a photo", steps=4)
    assert (here.method, here.parameters["samples"]) == ("prompt shift fitted to a picture", 1)
    assert (here.source_text, here.prompt, fitted.prompt) == ("a cat", "a photo", "a cat")
    explained = max(0.0, here.measured["explained"])
    assert f"on one picture; there it explains {explained:.0%} of what the words do" in here.description
    source, target, bound = (with_prompt(text_model, words) for words in ("a cat", "a smiling cat", "a photo"))
    pixels = to_pixels(portrait, 16)
    asked = fitted_shift(source, target, steps=4, picture=pixels, bound=bound)
    torch.testing.assert_close(here.direction.deltas, finish(asked).direction.deltas)
    with pytest.raises(hspace.RequestError, match="no model"):
        hspace.between_prompts("nothing", "a", "b")


def test_a_model_with_its_prompt(monkeypatch: pytest.MonkeyPatch, text_model: TextToImage) -> None:
    monkeypatch.setattr(api_directions, "load_text_to_image", lambda card: text_model)
    model = hspace.load_model("avatars-t2i", prompt="a cat", guidance=3)
    assert model.key == with_prompt(text_model, "a cat", 3).key
    assert hspace.load_model("avatars-t2i", prompt="a cat").unet.passes == 1
    with pytest.raises(hspace.RequestError, match="give the prompt"):
        hspace.load_model("avatars-t2i")
    with pytest.raises(hspace.RequestError, match="takes no prompt"):
        hspace.load_model("avatars", prompt="a face")


def test_the_command_refuses_such_a_preset_of_other_weights(
    tmp_path: Path, portrait: Image.Image, capsys: pytest.CaptureFixture[str]
) -> None:
    direction = hspace.directions.GlobalDirection(torch.zeros(1, 192, 8, 8), 40)
    about = {"name": "Smile", "model": "avatars-t2i", "fingerprint": "0" * 16}
    file = presets.save(Preset(direction, **about, **TEXT_TO_IMAGE), tmp_path / "smile.safetensors")
    portrait.save(tmp_path / "a.png")
    assert main(["apply", str(file), str(tmp_path / "a.png"), str(tmp_path / "b.png")]) == 1
    assert "“Smile” was made for other weights of avatars-t2i" in capsys.readouterr().err


@pytest.mark.slow
def test_the_embedded_model_as_the_document_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    section = text.partition("### Directions of a text-to-image model")[2].partition("\n### ")[0]
    [lines] = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    shutil.copy(library.examples("avatars")[0], tmp_path / "portrait.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api_directions, "HERE", replace(api_directions.HERE, steps=4))  # to see that it works
    names: dict[str, Any] = {"hspace": hspace, "Image": Image}
    exec(lines, names)
    before = np.asarray(Image.open("portrait.png").convert("RGB").resize((128, 128)), int)
    for name in ("mouth.png", "smile.png"):
        assert np.abs(np.asarray(Image.open(name), int) - before).max() > 50
    mouth = names["mouth"][0]
    assert (mouth.model, mouth.prompt, mouth.method) == ("avatars-t2i", "a face", "contrast")

"""The library: models, presets and edits as a program asks for them."""

import importlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, EDMEulerScheduler, UNet2DModel
from hub_stand_in import StandIn, stand_in
from PIL import Image
from small_models import small_unet
from test_asyrp import LinearImageText

import core
import hspace
from core import presets
from core.directions import GlobalDirection
from core.errors import HubError, ImageError, ModelUnavailable, PresetError, RequestError, VisitorError
from core.hub import files as hub_files
from core.imaging import to_pil
from core.models.cards import MODELS, PRESETS
from core.models.folders import fingerprint_of
from core.models.loader import DiffusionModel, models
from core.photo import yunet
from core.presets import Preset
from core.progress import Progress, finish
from core.studio import measuring
from core.studio.edit import edit_frames
from core.studio.frames import EditOptions, Picture
from tests.photographs import stand_in as faces_stand_in
from tests.photographs import with_faces

ROOT = Path(__file__).resolve().parents[2]
REPO, PATH = "someone/directions", "directions/small/smiling.safetensors"


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return hspace.wrap_model(small_unet(), DDIMScheduler(prediction_type="v_prediction"))


def preset(fingerprint: str, **values: Any) -> Preset:
    delta = torch.randn(1, 32, 4, 4, generator=torch.Generator().manual_seed(3))
    values = {"name": "Smiling", "model": "elsewhere", "t_edit": 300, "t_boost": 250} | values
    return Preset(GlobalDirection(delta, 40), fingerprint=fingerprint, **values)


@pytest.fixture
def smiling(model: DiffusionModel) -> Preset:
    return preset(model.fingerprint)


@pytest.fixture
def portrait() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 64, 3), dtype=np.uint8))


def pixels(*pictures: Image.Image) -> np.ndarray:
    return np.stack([np.asarray(picture, dtype=int) for picture in pictures])


# ---------------------------------------------------------------------------------------------------------------- names


def test_importing_it_is_quick() -> None:
    ran = (
        "import hspace, hspace.errors, core.errors, sys; sys.exit(bool({'torch', 'PIL', 'httpx'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", ran], cwd=ROOT).returncode == 0


def test_it_is_the_same_library_under_both_names() -> None:
    for name in core.__all__:
        assert getattr(hspace, name) is getattr(core, name)
        assert name in dir(core)
    for module in ("presets", "hub", "hub.names", "models.cards", "studio.edit"):
        assert importlib.import_module(f"hspace.{module}") is importlib.import_module(f"core.{module}")
    assert importlib.import_module("core.presets").__spec__.name == "core.presets"
    assert hspace.__version__ == core.__version__
    with pytest.raises(AttributeError, match="nothing"):
        hspace.nothing  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("hspace.nothing")


# ----------------------------------------------------------------------------------------------------------------- edit


def test_an_edit_is_that_of_the_app(
    model: DiffusionModel, smiling: Preset, portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise ModelUnavailable("not here")

    monkeypatch.setattr(measuring, "_lpips", missing)
    edited = hspace.edit(model, portrait, smiling, 1.5, steps=6, seed=3)
    assert (edited.size, edited.mode) == ((32, 32), "RGB")
    own = replace(smiling, model=model.card.id)
    picture = Picture(hspace.imaging.to_pixels(portrait, 32), model.card.id)
    (frame,) = finish(edit_frames(model, picture, own, [1.5], EditOptions(steps=6, seed=3)))
    assert np.array_equal(pixels(edited), pixels(*to_pil(frame.pixels)))


def test_strengths(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    strip = hspace.edit(model, portrait, smiling, [0, 1.5, np.float32(-1)], steps=6)
    assert len(strip) == 3
    for strength, edited in zip([0, 1.5, -1], strip, strict=True):
        single = hspace.edit(model, portrait, smiling, strength, steps=6)
        assert np.abs(pixels(single) - pixels(edited)).max() <= 1
    assert np.abs(pixels(strip[1]) - pixels(strip[0])).mean() > 3
    suggested = hspace.edit(model, portrait, replace(smiling, strength=1.5), steps=6)
    assert np.abs(pixels(suggested) - pixels(strip[1])).max() <= 1
    for strength in ([], [1, 1e9], float("nan"), 101):
        with pytest.raises(RequestError, match="strength"):
            hspace.edit(model, portrait, smiling, strength, steps=6)


def test_how_it_is_applied(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    plain = pixels(hspace.edit(model, portrait, smiling, 1.5, steps=6, process="paper"))
    for options in (
        {"process": "anchored"},
        {"injection": "symmetric"},
        {"t_edit": 700},
        {"t_boost": 600},
        {"seed": 1},
        {"crop": hspace.Crop(0.5, 1.0)},
    ):
        assert (
            np.abs(
                pixels(hspace.edit(model, portrait, smiling, 1.5, **{"steps": 6, "process": "paper", **options}))
                - plain
            ).max()
            > 1
        )
    for options in ({"steps": 1}, {"seed": -1}, {"t_edit": 2000}, {"injection": "none"}, {"process": "magic"}):
        with pytest.raises(RequestError):
            hspace.edit(model, portrait, smiling, 1.5, **options)


def test_pictures_of_every_kind(model: DiffusionModel, smiling: Preset, portrait: Image.Image, tmp_path: Path) -> None:
    portrait.save(tmp_path / "portrait.png")
    expected = pixels(hspace.edit(model, portrait, smiling, steps=4))
    file = tmp_path / "portrait.png"
    for source in (file, str(file), file.read_bytes(), np.asarray(portrait), np.asarray(portrait) / 255):
        assert np.array_equal(pixels(hspace.edit(model, source, smiling, steps=4)), expected)
    with pytest.raises(ImageError):
        hspace.edit(model, b"no picture", smiling)


def test_a_photograph_comes_back_whole(model: DiffusionModel, smiling: Preset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way to say where the square is cuts out that square, and outside it not one level of the photograph
    changes."""
    monkeypatch.setattr(yunet, "load", lambda: faces_stand_in)
    photo, [face] = with_faces((400, 300), (230.0, 150.0, 200, 25))
    [found] = hspace.find_faces(photo, model)
    assert found.angle == pytest.approx(25, abs=3)
    points = {"left_eye": face.left_eye, "right_eye": face.right_eye, "mouth": face.mouth}
    square = hspace.edit(model, photo, smiling, 3, steps=4, placement="face")
    assert square.size == (32, 32)
    again = hspace.edit(model, photo, smiling, 3, steps=4, placement=found)
    assert np.abs(pixels(again) - pixels(square)).max() <= 1
    near = hspace.edit(model, photo, smiling, 3, steps=4, placement=points)
    assert np.abs(pixels(near) - pixels(square)).mean() < 12

    original = pixels(photo)[0]
    x, y = np.meshgrid(np.arange(400) + 0.5, np.arange(300) + 0.5)
    away = np.hypot(x - found.x, y - found.y) > found.side * 0.7072
    strip = hspace.edit(model, photo, smiling, [0, 3], steps=4, placement="face", returned="photo")
    changed = pixels(strip[1])[0]
    given = {"placement": found.as_json(), "returned": "photo with the whole square"}
    whole = pixels(hspace.edit(model, photo, smiling, 3, steps=4, **given))[0]
    for result in (changed, whole):
        assert result.shape == original.shape
        assert not (result != original)[away].any()
        assert (result != original).any(-1).mean() > 0.02
    assert np.abs(changed - whole).max() > 1
    cropped = hspace.edit(model, photo, smiling, 3, steps=4, crop=hspace.Crop(1.0, 0.0, 0.5), returned="photo")
    assert (pixels(cropped)[0] != original).any(-1).nonzero()[1].min() >= 250


def test_words_on_placements(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    for values, words in (
        ({"placement": "face", "crop": hspace.Crop()}, "either with crop or with placement"),
        ({"placement": 3}, "placement is “face”"),
        ({"placement": {"x": 1}}, "not understood"),
        ({"placement": "everywhere"}, "not understood"),
        ({"returned": "nothing"}, "There is no 'nothing' to return"),
    ):
        with pytest.raises(RequestError, match=words):
            hspace.edit(model, portrait, smiling, **values)


def test_progress(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    events: list[Progress] = []
    hspace.edit(model, portrait, smiling, steps=4, on_progress=events.append)
    assert [event.step for event in events] == list(range(1, 9))
    assert {event.total for event in events} == {8}


def test_a_preset_of_other_weights(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    with pytest.raises(PresetError, match="made for the model elsewhere"):
        hspace.edit(model, portrait, replace(smiling, fingerprint="0" * 16))
    with pytest.raises(PresetError, match="other weights"):
        hspace.edit(model, portrait, replace(smiling, fingerprint="0" * 16, model=model.card.id))


def test_intervals_that_nobody_knows(
    model: DiffusionModel, smiling: Preset, portrait: Image.Image, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of a typical model, and it is said."""
    without = replace(smiling, t_edit=None, t_boost=None)
    hspace.edit(model, portrait, without, steps=6)
    assert "intervals are those of a typical model" in caplog.text
    given = hspace.edit(model, portrait, without, steps=6, t_edit=300, t_boost=250)
    assert np.array_equal(pixels(given), pixels(hspace.edit(model, portrait, smiling, steps=6)))


@pytest.mark.parametrize(
    "strength",
    ["1.2", b"1", "strong", {"smiling": 1}, {1, 2}, [[1, 2]], 1 + 2j, [np.complex64(1)], ["1"], [None], object()],
)
def test_strengths_that_are_no_numbers(
    model: DiffusionModel, smiling: Preset, portrait: Image.Image, strength: Any
) -> None:
    with pytest.raises(RequestError, match="strength must be a number or a list of numbers, not"):
        hspace.edit(model, portrait, smiling, strength, steps=4)
    with pytest.raises(RequestError, match="strength must lie between"):
        hspace.edit(model, portrait, smiling, 10**400, steps=4)


def test_strengths_of_numpy_and_torch(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    expected = pixels(hspace.edit(model, portrait, smiling, 1.5, steps=4))
    for strength in (np.float32(1.5), np.array(1.5), torch.tensor(1.5)):
        assert np.array_equal(pixels(hspace.edit(model, portrait, smiling, strength, steps=4)), expected)
    for several in (np.array([1.5]), torch.tensor([1.5]), (1.5,), (c for c in [1.5])):
        (edited,) = hspace.edit(model, portrait, smiling, several, steps=4)
        assert np.array_equal(pixels(edited), expected)
    assert np.array_equal(
        pixels(hspace.edit(model, portrait, smiling, 1.5, steps=np.int64(4), seed=np.int64(0))), expected
    )


def test_arguments_that_are_mixed_up(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    for something in ("smiling", None, smiling.direction, Path("a.safetensors"), model):
        with pytest.raises(RequestError, match="is no preset. Load it with load_preset"):
            hspace.edit(model, portrait, something)
    for something in ("avatars", None, portrait, small_unet()):
        with pytest.raises(
            RequestError, match="a model, a picture and a preset, in this order.*is no model.*load_model"
        ):
            hspace.edit(something, portrait, smiling)
    with pytest.raises(RequestError, match="in this order: Image is no model"):
        hspace.edit(portrait, model, smiling)
    for something in (None, torch.zeros(3, 64, 64), 7, model, smiling):
        with pytest.raises(ImageError, match="A picture is needed"):
            hspace.edit(model, something, smiling)
    for crop in ((0, 0, 1), "middle", hspace.Crop("left"), hspace.Crop(size=None)):
        with pytest.raises(RequestError, match="crop is a Crop"):
            hspace.edit(model, portrait, smiling, crop=crop)
    for options in (
        {"steps": 10.5},
        {"steps": "10"},
        {"seed": None},
        {"seed": 0.5},
        {"t_edit": 300.5},
        {"t_boost": "a"},
    ):
        with pytest.raises(RequestError, match="must be a whole number"):
            hspace.edit(model, portrait, smiling, **options)
    with pytest.raises(RequestError, match="on_progress"):
        hspace.edit(model, portrait, smiling, on_progress=1)


# --------------------------------------------------------------------------------------------------------------- models


def test_a_model_by_its_name_is_loaded_once() -> None:
    assert hspace.load_model("avatars") is models.get("avatars")
    with pytest.raises(RequestError, match="There is no model and no folder 'zebras'. Choose one of: avatars, "):
        hspace.load_model("zebras")


@pytest.mark.parametrize("name", [None, "", 7, MODELS["avatars"], object()])
def test_a_model_of_no_name(name: Any) -> None:
    with pytest.raises(RequestError, match="by its name or from its folder.*Choose one of: avatars"):
        hspace.load_model(name)


def test_a_device_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_gpu = "meta" if torch.cuda.is_available() else "cuda"
    for device in ("bogus", without_gpu, "cuda:99", 3.5, object()):
        for name in ("avatars", tmp_path):
            with pytest.raises(RequestError, match="cannot be used on this machine"):
                hspace.load_model(name, device=device)
    for dtype in ("float32", torch.int64, 32):
        with pytest.raises(RequestError, match="such as torch.float32"):
            hspace.load_model("avatars", dtype=dtype)
    with pytest.raises(RequestError, match="There is no model and no folder"):
        hspace.load_model("x" * 5000)


def test_a_model_as_it_is_wished() -> None:
    model = hspace.load_model("avatars", device="cpu", dtype=torch.float64)
    assert (model.dtype, model.device, model.card) == (torch.float64, torch.device("cpu"), MODELS["avatars"])
    assert model is not models.get("avatars")


def test_the_same_network_wrapped_and_from_its_folder(tmp_path: Path, portrait: Image.Image) -> None:
    unet, scheduler = small_unet(), DDPMScheduler(prediction_type="v_prediction")
    pipeline = DDPMPipeline(unet, scheduler)
    pipeline.save_pretrained(tmp_path / "model")
    wished = [
        hspace.wrap_model(unet, scheduler),
        hspace.wrap_model(unet, dict(scheduler.config)),
        hspace.wrap_model(pipeline),
        hspace.wrap_model(DDIMPipeline(unet, DDIMScheduler.from_config(scheduler.config))),
        hspace.load_model(tmp_path / "model", device="cpu"),
        hspace.load_model(str(tmp_path / "model"), device="cpu", dtype=torch.float32),
    ]
    smiling = preset(fingerprint_of(unet))
    edits = [hspace.edit(model, portrait, smiling, steps=6) for model in wished]
    assert all(np.abs(pixels(edits[0]) - pixels(edit)).max() <= 1 for edit in edits)
    card = wished[0].card
    assert {model.card.id for model in wished} == {f"unet-{fingerprint_of(unet)}"}
    assert (card.resolution, card.h_shape, card.codec, card.domain_word) == (32, (32, 4, 4), "haar", "picture")
    half = hspace.load_model(tmp_path / "model", device="cpu", dtype=torch.bfloat16)
    assert (half.dtype, half.fingerprint) == (torch.bfloat16, fingerprint_of(unet)), "the weights of the file"


@pytest.mark.slow
def test_a_network_of_your_own_as_the_document_has_it(
    portrait: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Curves, training and an edit, on a small network; what would be downloaded has a stand-in."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    section = text.partition("### A network of your own")[2].partition("\n## ")[0]
    wrapping, measuring_curves, training = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert "hspace.wrap_model(" in wrapping
    monkeypatch.setattr("core.clip.load_open_clip", lambda *_: LinearImageText(torch.float32))
    monkeypatch.setattr("core.metrics.perceptual", lambda _: lambda a, b: 20 * (a - b).abs().mean((1, 2, 3)))
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for n in range(3):
        portrait.rotate(90 * n).save(f"pictures/{n}.png")
    portrait.save("portrait.png")

    model = hspace.wrap_model(small_unet(), DDIMScheduler(prediction_type="v_prediction"))
    names: dict[str, Any] = {"hspace": hspace, "Image": Image, "model": model}
    exec(measuring_curves + training, names)

    assert names["curves"].t.tolist() == model.schedule.timesteps(100)
    saved = hspace.load_preset("smiling.safetensors")
    assert (saved.t_edit, saved.t_boost) == (names["t_edit"], names["t_boost"])
    assert saved.direction.delta.abs().max() > 0
    as_documented, strong, plain = hspace.edit(model, portrait, saved, strength=[1, 100, 0])
    assert np.abs(pixels(Image.open("smiling.png")) - pixels(as_documented)).max() <= 1
    assert np.abs(pixels(strong) - pixels(plain)).max() > 3, (saved.t_edit, saved.t_boost)


def test_what_is_said_of_a_network() -> None:
    pixel_model = hspace.wrap_model(small_unet(channels=3), DDIMScheduler(), domain_word="church", id="mine")
    card = pixel_model.card
    assert (card.id, card.domain_word, card.codec, card.resolution) == ("mine", "church", "identity", 16)
    assert not any(weight.requires_grad for weight in pixel_model.unet.unet.parameters())


def test_a_shipped_network_that_the_caller_loaded() -> None:
    folder = PRESETS / "models" / "avatars"
    unet = UNet2DModel.from_pretrained(folder / "unet")
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    model = hspace.wrap_model(unet, scheduler, id="avatars")
    assert (model.card, model.fingerprint) == (MODELS["avatars"], models.get("avatars").fingerprint)
    presets.require_model(hspace.load_preset("smiling"), model)
    assert torch.equal(model.schedule.alphas_cumprod, models.get("avatars").schedule.alphas_cumprod)
    with pytest.raises(RequestError, match="is not avatars"):
        hspace.wrap_model(small_unet(), scheduler, id="avatars")


def fourier() -> UNet2DModel:
    """As NCSN++: told how much noise there is."""
    config = {key: value for key, value in small_unet().config.items() if not key.startswith("_")}
    return UNet2DModel(**config | {"time_embedding_type": "fourier"})


@pytest.mark.parametrize(
    ("network", "scheduler", "words"),
    [
        (lambda: torch.nn.Linear(2, 2), DDIMScheduler(), "UNet2DModel of diffusers|diffusers UNet2DModel"),
        (small_unet, None, "scheduler as well"),
        (small_unet, EDMEulerScheduler(), "not those of a DDPM"),
        (small_unet, DDIMScheduler(rescale_betas_zero_snr=True), "end in noise alone"),
        (small_unet, {"prediction_type": "flow"}, "DDPMScheduler that predicts flow are not those of a DDPM"),
        (small_unet, {"num_train_timesteps": "many"}, "scheduler cannot be used"),
        (small_unet, object(), "are not those|cannot be used"),
        (fourier, DDIMScheduler(), "in place of a timestep"),
        (lambda: small_unet(channels=4), DDIMScheduler(), "4 channels"),
        (lambda: small_unet(size=None), DDIMScheduler(), "known picture size"),
        (lambda: small_unet(channels=3, size=(16, 32)), DDIMScheduler(), "Squares are needed"),
    ],
)
def test_networks_that_cannot_be_used(network: Any, scheduler: Any, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        hspace.wrap_model(network(), scheduler)


def test_a_class_conditional_network_cannot_be_used() -> None:
    config = {key: value for key, value in small_unet().config.items() if not key.startswith("_")}
    with pytest.raises(RequestError, match="unconditional"):
        hspace.wrap_model(UNet2DModel(**config | {"num_class_embeds": 4}), DDIMScheduler())


def test_a_codec_that_does_not_fit() -> None:
    with pytest.raises(RequestError, match="12 channels"):
        hspace.wrap_model(small_unet(), DDIMScheduler(), codec="identity")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="does not hold a diffusion model"):
        hspace.load_model(tmp_path)


# -------------------------------------------------------------------------------------------------------------- presets


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    hub_files.DESCRIBED.clear()
    with stand_in(monkeypatch) as running:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        running.repository(REPO, {PATH: presets.to_bytes(preset("f" * 16))})
        yield running


def test_a_preset_that_comes_with_the_package() -> None:
    smiling = hspace.load_preset("smiling")
    assert (smiling.name, smiling.model, smiling.fingerprint) == (
        "Smiling",
        "avatars",
        models.get("avatars").fingerprint,
    )
    with pytest.raises(RequestError, match="There is no direction “flying” for avatars. Known ones: Smiling"):
        hspace.load_preset("flying")
    with pytest.raises(RequestError, match="for zebras"):
        hspace.load_preset("smiling", model="zebras")


@pytest.mark.parametrize("source", [None, "", "  ", 7, {}, object()])
def test_a_preset_of_no_name(source: Any) -> None:
    with pytest.raises(RequestError, match="the name of a direction, such as “smiling”, a file, or owner/name"):
        hspace.load_preset(source)
    with pytest.raises(RequestError, match="the id of a model"):
        hspace.load_preset("smiling", model=None)
    with pytest.raises(VisitorError):
        hspace.load_preset("x" * 5000)


def test_a_preset_from_a_file(smiling: Preset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = presets.save(smiling, tmp_path / "some" / "where" / "a.safetensors")
    monkeypatch.chdir(tmp_path)
    for source in (file, str(file), "some/where/a.safetensors", Path("some/where/a.safetensors")):
        assert hspace.load_preset(source).fingerprint == smiling.fingerprint
    for missing in (
        tmp_path / "b.safetensors",
        str(tmp_path / "b.safetensors"),
        "../b/c/d.safetensors",
        "b.safetensors",
    ):
        with pytest.raises(PresetError, match="could not be read"):
            hspace.load_preset(missing)


def test_a_preset_from_the_hub(served: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = served.repositories[REPO].head
    assert hspace.load_preset(f"{REPO}/{PATH}").name == "Smiling"
    served.repositories[REPO].commit({PATH: presets.to_bytes(preset("f" * 16, name="Sad"))})
    assert hspace.load_preset(f"{REPO}/{PATH}@main").name == "Sad"
    monkeypatch.setattr("core.hub_access.hub_answers", lambda: False)
    assert hspace.load_preset(f"{REPO}/{PATH}@{commit}").name == "Smiling", "without a network"
    with pytest.raises(HubError, match="There is no file .* here.*cannot be reached"):
        hspace.load_preset(f"{REPO}/{PATH}")
    assert {request.token for request in served.requests} == {None}


def test_a_private_preset_needs_a_token(served: StandIn) -> None:
    served.accounts["hf_mine"] = "someone"
    served.repositories[REPO].private = True
    with pytest.raises(HubError, match="needs a token"):
        hspace.load_preset(f"{REPO}/{PATH}")
    assert hspace.load_preset(f"{REPO}/{PATH}", token="hf_mine").name == "Smiling"


def test_the_result_can_be_saved(model: DiffusionModel, smiling: Preset, portrait: Image.Image) -> None:
    file = io.BytesIO()
    hspace.edit(model, portrait, smiling, strength=1.2, steps=4).save(file, "PNG")
    assert Image.open(file).size == (32, 32)

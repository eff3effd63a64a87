"""Converting iDDPM and ADM networks, against their arithmetic written out (`openai_unet`)."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from asyrp_files import ASYRP
from diffusers import DDPMPipeline
from openai_unet import Settings, forward, random_weights

from core.api import load_model
from core.asyrp.released import read_released
from core.cli import main
from core.errors import ModelUnavailable, RequestError
from core.models import adm
from core.models.conversion import Training, convert_file
from core.models.opening import shapes

ADM = Settings()
KINDS = {
    "adm": ADM,
    "adm, new order": replace(ADM, new_order=True),
    "adm, two blocks, more attention": replace(ADM, blocks=2, attention=(2, 4), mult=(1, 2, 3)),
    "attention nowhere but in the middle": replace(ADM, attention=()),
    "added time embedding": replace(ADM, scale_shift=False),
    "iddpm: conv, heads of one width": replace(ADM, resampling="conv", heads=4, head_channels=None),
    "iddpm: conv, heads of two widths": replace(
        ADM, resampling="conv", heads=4, head_channels=None, attention=(2, 4), mult=(1, 2, 3), scale_shift=False
    ),
    "iddpm, new order": replace(ADM, resampling="conv", heads=4, head_channels=None, attention=(2, 4), new_order=True),
    "plain resampling": replace(ADM, resampling="plain", heads=4, head_channels=None),
    "no learned variance": replace(ADM, out_channels=3),
    "classes": replace(ADM, classes=5),
}


def convert(s: Settings, chosen_class: int | None = None, seed: int = 0):
    w = random_weights(s, seed)
    found, guesses = adm.infer(w, heads=s.heads, head_channels=s.head_channels, new_order=s.new_order)
    return w, adm.convert(w, found, chosen_class), found, guesses


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_the_same_function(kind: str) -> None:
    s = KINDS[kind]
    label = 3 if s.classes else None
    w, unet, found, _ = convert(s, label)
    assert (found.channels, found.blocks) == (tuple(m * s.model_channels for m in s.mult), s.blocks)
    assert (found.resampling, found.scale_shift, found.classes) == (s.resampling, s.scale_shift, s.classes)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for t in (0, 17, 999):
        expected, _ = forward(w, s, x, t, label)
        assert (unet(x, t).sample - expected).abs().max() <= 1e-5 * expected.abs().max()


@torch.no_grad()
def test_to_the_last_digit_in_double_precision() -> None:
    w, unet, _, _ = convert(replace(ADM, attention=(2, 4)))
    w = {name: value.double() for name, value in w.items()}
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    # The sinusoids of diffusers are float32.
    assert torch.allclose(unet.double()(x, 0).sample, forward(w, replace(ADM, attention=(2, 4)), x, 0)[0], atol=1e-12)


@torch.no_grad()
def test_the_wrong_order_of_attention_is_seen() -> None:
    w = random_weights(ADM)
    found, _ = adm.infer(w, head_channels=16, new_order=True)
    x = torch.randn(1, 3, 32, 32)
    assert (adm.convert(w, found)(x, 5).sample - forward(w, ADM, x, 5)[0]).abs().max() > 1e-2


def test_guesses_are_said_and_can_be_replaced() -> None:
    s = Settings(model_channels=64, mult=(1, 1, 2, 2, 4), head_channels=64)
    found, guesses = adm.infer(random_weights(s))
    assert (found.head_channels, found.heads, found.size) == (64, None, 128)
    assert [guess.split()[0] for guess in guesses] == ["attention", "attention", "pictures"]
    assert all("--" in guess for guess in guesses)
    found, guesses = adm.infer(random_weights(s), heads=2, size=64, new_order=True)
    assert (found.heads, found.size, found.new_order, guesses) == (2, 64, True, [])
    assert adm.infer(random_weights(replace(s, resampling="conv")))[0].heads == 4


def test_the_networks_of_the_p2_authors() -> None:
    """256x256, one block per level, attention at 16: 93.6 million parameters (GROUND of Choi et al.'s release)."""
    s = Settings(128, (1, 1, 2, 2, 4, 4), 1, (16,), head_channels=64)
    w = random_weights(s)
    assert sum(value.numel() for value in w.values()) == pytest.approx(93.6e6, rel=1e-3)
    found, _ = adm.infer(w)
    assert (found.size, found.attention) == (256, (False,) * 4 + (True, False))
    assert found.config()["attention_head_dim"] == 64


@pytest.mark.parametrize("name", ["dog_happy_LC_dog.pth", "metface_smiling_LC_metfaces.pth"])
@torch.no_grad()
def test_the_authors_directions_fit_the_networks_of_the_p2_authors(name: str) -> None:
    """Theirs are 512 channels wide; the files beside the tests are cut down to the first eighth of them."""
    found, _ = adm.infer(random_weights(Settings(128, (1, 1, 2, 2, 4, 4), 1, (16,), head_channels=64)))
    channels, side, h_shape = shapes(found.config())
    assert (channels, side, h_shape) == (3, 256, (512, 8, 8))
    direction, emb_width = read_released(ASYRP / name), 4 * found.channels[0]
    kept = direction.f_t.conv1.in_channels / h_shape[0]
    assert kept == direction.f_t.temb_proj.in_features / emb_width
    assert kept in (1, 1 / 8)
    h, emb = torch.randn(1, *h_shape)[:, : round(kept * h_shape[0])], torch.randn(1, round(kept * emb_width))
    shift = direction.delta_h(h, emb, 500)
    assert shift.shape == h.shape
    assert shift.abs().max() > 0


def test_classes_are_chosen_or_refused() -> None:
    w = random_weights(KINDS["classes"])
    found, _ = adm.infer(w, head_channels=16)
    for wrong in (None, -1, 5):
        with pytest.raises(RequestError, match="5 classes.*0 to 4"):
            adm.convert(w, found, wrong)
    with pytest.raises(RequestError, match="no classes"):
        adm.convert(random_weights(ADM), adm.infer(random_weights(ADM), head_channels=16)[0], 1)


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"state_dict": {f"module.{n}": v for n, v in w.items()}}])
def test_checkpoints_as_they_come(wrap) -> None:
    w = random_weights(ADM)
    assert adm.network_state(wrap(w)).keys() == w.keys()
    average = {name: value + 1 for name, value in w.items()}
    both = adm.network_state({"model": w, "ema": average})
    assert torch.equal(both["out.0.bias"], average["out.0.bias"])


def test_other_files_are_refused_in_words(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    for name, words in (("other.pt", "other names"), ("broken.pt", "damaged"), ("none.pt", "no file")):
        with pytest.raises(ModelUnavailable, match=words):
            convert_file(tmp_path / name, tmp_path / "out")
    w = random_weights(ADM)
    for change, words in (
        ({"out.0.bias": None}, "not quite"),
        ({"input_blocks.2.0.in_layers.2.weight": None}, "not quite"),
        ({"time_embed.0.weight": torch.zeros(128, 64)}, "another width"),
        ({"input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}, "more than one picture"),
        ({"out.0.bias": torch.full((32,), torch.nan)}, "not numbers"),
    ):
        torch.save({name: value for name, value in (w | change).items() if value is not None}, tmp_path / "x.pt")
        with pytest.raises(ModelUnavailable, match=words):
            convert_file(tmp_path / "x.pt", tmp_path / "out", head_channels=16)
    assert not (tmp_path / "out").exists()


def test_latent_diffusion_is_refused(tmp_path: Path) -> None:
    """A checkpoint as CompVis writes it: the network, its average under names without dots, and the autoencoder."""
    w = random_weights(ADM)
    names = {f"model.diffusion_model.{name}": value for name, value in w.items()}
    names |= {f"model_ema.diffusion_model{name.replace('.', '')}": value for name, value in w.items()}
    names["first_stage_model.encoder.conv_in.weight"] = torch.zeros(32, 3, 3, 3)
    torch.save({"epoch": 3, "state_dict": names}, tmp_path / "model.ckpt")
    with pytest.raises(ModelUnavailable, match="latents of an autoencoder"):
        convert_file(tmp_path / "model.ckpt", tmp_path / "out", head_channels=16)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--train-steps", "0"], "cannot be 0: it lies between 21 and 100000"),
        (["--train-steps", "20"], "cannot be 20"),
        (["--train-steps", "1", "--noise-schedule", "cosine"], "between 2 and"),
        (["--train-steps", "1000000000"], "cannot be 1000000000"),
        (["--heads", "0"], "--heads is a whole number from 1 up, not 0"),
        (["--head-channels", "0"], "--head-channels is a whole number from 1 up, not 0"),
        (["--head-channels", "-16"], "not -16"),
        (["--head-channels", "16", "--resolution", "0"], "up to 1024x1024 pixels, not 0x0"),
        (["--head-channels", "16", "--resolution", "2048"], "not 2048x2048"),
        (["--head-channels", "16", "--domain-word", "x" * 300], "one or two words"),
        (["--head-channels", "16", "--domain-word", "{}"], "one or two words"),
        (["--head-channels", "16", "--licence", "mit\ntags: [x]"], "on one line"),
    ],
)
def test_options_that_cannot_be(options: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save(random_weights(ADM), tmp_path / "dog.pt")
    assert main(["convert", str(tmp_path / "dog.pt"), str(tmp_path / "out"), *options]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@torch.no_grad()
def test_the_command_makes_a_folder_that_everybody_loads(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    s = replace(ADM, classes=4)
    w = random_weights(s)
    torch.save(w, tmp_path / "dog.pt")
    out = tmp_path / "made" / "dog"
    command = ["convert", str(tmp_path / "dog.pt"), str(out), "--head-channels", "16", "--domain-word", "dog"]
    assert main(command) == 1
    assert "--class" in capsys.readouterr().err
    assert main([*command, "--class", "2", "--curves", "AFHQ"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out)
    assert all(words in printed.err for words in ("older order", "32x32", "linear"))
    assert "older order" in (out / "README.md").read_text()
    assert json.loads((out / "hspace.json").read_text())["domain_word"] == "dog"
    assert main([*command, "--class", "2"]) == 1  # it is there already

    model = load_model(out, device="cpu", dtype=torch.float32)
    x = torch.randn(1, 3, 32, 32)
    expected, h = forward(w, s, x, 300, 2)
    features = model.features(x, 300)
    assert torch.allclose(features.h, h, atol=1e-5 * float(h.abs().max()))
    assert torch.allclose(model.eps(features, x, 300), expected[:, :3], atol=2e-5)
    pipeline = DDPMPipeline.from_pretrained(out)
    assert torch.allclose(pipeline.unet(x, 300).sample, expected, atol=2e-5)


@torch.no_grad()
def test_heads_of_several_widths_survive_the_folder(tmp_path: Path) -> None:
    s = KINDS["iddpm: conv, heads of two widths"]
    w = random_weights(s)
    torch.save(w, tmp_path / "x.pt")
    convert_file(tmp_path / "x.pt", tmp_path / "out", heads=4)
    model = load_model(tmp_path / "out", device="cpu", dtype=torch.float32)
    x = torch.randn(1, 3, 32, 32)
    assert torch.allclose(model.unet.decode(model.features(x, 9)), forward(w, s, x, 9)[0], atol=2e-5)
    assert "diffusers cannot be told" in (tmp_path / "out" / "README.md").read_text()


def test_noise_levels() -> None:
    """Against the definitions: linear betas of 1000 steps; cosine levels; every fourth level of 4000."""
    linear = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    assert np.allclose(Training().scheduler().alphas_cumprod, linear, rtol=1e-4)
    t = np.arange(4001) / 4000
    level = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - level[1:] / level[:-1], 0.999)
    cosine = np.cumprod(1 - betas)
    assert np.allclose(Training(4000, "cosine").scheduler().alphas_cumprod, cosine, rtol=1e-3, atol=1e-7)
    rescaled = Training(4000, "cosine", rescaled=True).scheduler()
    assert rescaled.config.num_train_timesteps == 1000
    assert np.allclose(rescaled.alphas_cumprod, cosine[::4], rtol=1e-3, atol=1e-7)
    with pytest.raises(RequestError, match="1500"):
        Training(1500, rescaled=True).scheduler()

"""The listed models at their full size, with random weights: read, edited with, saved and read again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel, VQModel
from model_folders import names_of_2022, opened_models_closed

from core import presets
from core.directions import GlobalDirection
from core.editing import EditSettings, edit
from core.intervals import Intervals
from core.models.cards import MODELS
from core.models.loader import Loader
from core.models.opening import open_model, shapes
from core.models.reading import read_codec
from core.presets import Preset
from core.progress import finish

STEM = "diffusion_pytorch_model"
GOOGLE = {  # the configuration of google/ddpm-*-256
    "sample_size": 256,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "layers_per_block": 2,
    "attention_head_dim": None,
    "down_block_types": ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A new one, which half a gigabyte does not stay in."""
    (tmp_path / "model").mkdir()
    with opened_models_closed():
        yield tmp_path / "model"
    shutil.rmtree(tmp_path / "model")


@pytest.mark.slow
@torch.no_grad()
def test_googles_network(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 113.7 million parameters, on pictures of half the side: two steps against DDIM written out with the network
    as diffusers made it."""
    monkeypatch.setenv("HSPACE_CACHE", str(tmp_path / "kept"))
    assert shapes(GOOGLE) == (3, 256, MODELS["ddpm-ema-celebahq-256"].h_shape)
    torch.manual_seed(0)
    unet = UNet2DModel(**(GOOGLE | {"sample_size": 128})).eval()
    assert sum(p.numel() for p in unet.parameters()) == 113_673_219
    for value in unet.conv_out.parameters():  # or the random network, which predicts no noise, makes black and white
        value.mul_(0.005)
    unet.save_config(folder)
    DDPMScheduler(clip_sample=True).save_config(folder)
    torch.save(names_of_2022(unet.state_dict()), folder / f"{STEM}.bin")

    loader = Loader(device="cpu", dtype=torch.float32)
    card = finish(open_model(str(folder), "face", loader=loader))
    model = loader.get(card.id)
    assert (card.resolution, card.h_shape, card.codec) == (128, (512, 4, 4), "identity")
    generator = torch.Generator().manual_seed(1)
    x_T = 0.003 * torch.randn(1, 3, 128, 128, generator=generator)
    direction = GlobalDirection(50 * torch.randn(1, *card.h_shape, generator=generator), 2)
    settings = EditSettings(2, Intervals(500, 0))
    plain, edited = finish(edit(model, x_T.repeat(2, 1, 1, 1), [(direction, [0.0, 1.0])], settings))

    a = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    eps = unet(x_T, 999).sample
    x_0 = ((a[0] / a[999]).sqrt() * (x_T - (1 - a[999]).sqrt() * eps) + (1 - a[0]).sqrt() * eps).float()
    by_hand = ((x_0 - (1 - a[0]).sqrt() * unet(x_0, 0).sample) / a[0].sqrt()).clamp(-1, 1)
    assert (plain - by_hand[0]).abs().max() < 2e-3
    assert (by_hand.abs() < 1).float().mean() > 0.8, "or this compares black and white"
    assert (edited - plain).abs().mean() > 0.01

    made = Preset(direction, name="Random", model=card.id, fingerprint=model.fingerprint, t_edit=500, t_boost=0)
    file = presets.save(made, tmp_path / "random.safetensors")
    del model, unet, loader
    again, read = Loader(device="cpu", dtype=torch.float32).get(card.id), presets.load(file)
    assert (again.fingerprint, read.t_edit) == (made.fingerprint, 500)
    [once_more] = finish(edit(again, x_T, [(read.direction, [1.0])], settings))
    torch.testing.assert_close(once_more, edited, atol=1e-5, rtol=0)


@pytest.mark.slow
@torch.no_grad()
def test_the_autoencoder_of_the_latent_model(folder: Path) -> None:
    """The VQ model of CompVis/ldm-celebahq-256 at its width, as diffusers runs it without quantising."""
    torch.manual_seed(0)
    network = VQModel(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(128, 256, 512),
        layers_per_block=2,
        num_vq_embeddings=8192,
        norm_num_groups=32,
        sample_size=256,
    ).eval()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(55.3e6, rel=0.01)
    network.save_pretrained(folder / "vqvae", safe_serialization=False)
    config = json.loads((folder / "vqvae" / "config.json").read_text())
    del config["scaling_factor"]  # the file of CompVis is older than that
    (folder / "vqvae" / "config.json").write_text(json.dumps(config))
    weights = folder / "vqvae" / f"{STEM}.bin"
    torch.save(names_of_2022(network.state_dict()), weights)

    codec = read_codec("vq", folder)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = codec.encode(pixels)
    assert latents.shape == (1, 3, 16, 16)
    expected = network.encode(pixels).latents
    torch.testing.assert_close(latents, expected, atol=1e-5, rtol=1e-5)
    decoded = network.decode(expected, force_not_quantize=True).sample
    torch.testing.assert_close(codec.decode(latents), decoded, atol=1e-4, rtol=1e-4)
    assert decoded.std() > 0.1

"""Networks of the released sizes through `hspace convert`: what is guessed, how large they are, what they compute."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from openai_unet import Settings, forward, random_weights

from core.api import load_model
from core.cli import main
from core.intervals import PUBLISHED
from core.models import adm
from core.models.heads import build_unet
from core.models.opening import shapes

# Choi et al. 2022: FFHQ, MetFaces, CelebA-HQ, AFHQ-dog; Dhariwal and Nichol 2021, table 11 (256x256, no classes).
P2 = Settings(128, (1, 1, 2, 2, 4, 4), 1, (16,), head_channels=64)
ADM = Settings(256, (1, 1, 2, 2, 4, 4), 2, (8, 16, 32), head_channels=64)


@pytest.mark.slow
@pytest.mark.parametrize("s", [P2, replace(ADM, model_channels=32)], ids=["P2", "ADM"])
@torch.no_grad()
def test_a_checkpoint_through_the_command(s: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All levels, blocks and attentions, of ADM an eighth as wide: no option says anything of the architecture,
    and the network computes what the original does."""
    w = random_weights(s)
    torch.save(w, tmp_path / "ema.pt")
    out = tmp_path / "model"
    command = ["convert", tmp_path / "ema.pt", out, "--domain-word", "face", "--curves", "METFACES", "--licence", "mit"]
    assert main([str(argument) for argument in command]) == 0
    said = capsys.readouterr().err
    assert f"channels {tuple(m * s.model_channels for m in s.mult)}, {s.blocks} residual blocks per level" in said
    assert "one head per 64 channels" in said
    assert "pictures are 256x256" in said
    card = (out / "README.md").read_text()
    sides = ", ".join(str(256 // factor) for factor in sorted(s.attention))
    assert f"256x256 pixels, {tuple(m * s.model_channels for m in s.mult)} channels, {s.blocks} residual" in card
    assert f"attention at {sides} and in the middle; resampled with residual blocks" in card
    assert "license: mit" in card
    assert json.loads((out / "hspace.json").read_text())["curves"] == "METFACES"

    model = load_model(out, device="cpu", dtype=torch.float32)
    assert (model.card.resolution, model.card.h_shape) == (256, (4 * s.model_channels, 8, 8))
    assert model.card.curves == PUBLISHED["METFACES"]
    assert sum(p.numel() for p in model.unet.unet.parameters()) == sum(value.numel() for value in w.values())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))  # it knows no size
    expected, _ = forward(w, s, x, 300)
    assert (model.unet.unet(x, 300).sample - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(("s", "millions"), [(P2, 93.6), (ADM, 552.8)])
def test_their_sizes(s: Settings, millions: float) -> None:
    """At their true widths, shapes alone."""
    w = random_weights(s, shapes_alone=True)
    found, _ = adm.infer(w)
    assert (found.size, found.channels[-1], found.head_channels) == (256, 4 * s.model_channels, 64)
    with torch.device("meta"):
        unet = build_unet(found.config())
    count = sum(p.numel() for p in unet.parameters())
    assert count == sum(value.numel() for value in w.values()) == pytest.approx(millions * 1e6, rel=1e-3)
    assert shapes(found.config()) == (3, 256, (4 * s.model_channels, 8, 8))

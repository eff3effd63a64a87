"""The authors' directions for networks of OpenAI's kind, all the way: a checkpoint is converted, a direction imported,
a picture edited with them; against the same by hand, with nothing of the app in it."""

from pathlib import Path

import pytest
import torch
from asyrp_files import ASYRP
from openai_unet import Settings, Weights, embedded, forward, random_weights
from test_released import State, theirs
from torch import Tensor

from core.api import load_model, load_preset
from core.cli import main
from core.editing import EditSettings, edit
from core.intervals import Intervals
from core.progress import finish

STEPS, TRAINED, T_EDIT = 5, 40, 400
FILES = {
    "dog": ("dog_happy_LC_dog.pth", "AFHQ"),
    "painting of a person": ("metface_smiling_LC_metfaces.pth", "METFACES"),
}


def network_for(file: Path, folder: Path) -> tuple[Settings, Path]:
    """An architecture whose h has the channels of a direction, and the direction's file for it. Of the files that were
    cut down, the time embedding has fewer channels than 32 groups allow: the others weigh nothing."""
    content = torch.load(file, weights_only=True, map_location="cpu")
    name = "emb_layers.1.weight"
    channels, width = content["0"][name].shape
    model_channels = max(32, width // 4)
    settings = Settings(model_channels, (1, channels // model_channels), 1, (2,), head_channels=32)
    content["0"][name] = torch.nn.functional.pad(content["0"][name], (0, 4 * model_channels - width))
    torch.save(content, folder / file.name)
    return settings, folder / file.name


def edited_by_hand(w: Weights, s: Settings, state: State, x: Tensor, strength: float) -> Tensor:
    """Asyrp Algorithm 1 without boosting: the shift acts on P_t alone, at t >= T_EDIT."""
    levels = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    times = [round(i * 999 / (STEPS - 1)) for i in reversed(range(STEPS))]
    for t, before in zip(times, [*times[1:], None], strict=True):
        a, a_before = levels[t], torch.tensor(1.0) if before is None else levels[before]
        output, h = forward(w, s, x, t)
        eps_D = eps_P = output[:, :3]
        if t >= T_EDIT:
            shift = strength * TRAINED / STEPS * theirs(state, h, embedded(w, s, t).expand(len(x), -1))
            eps_P = forward(w, s, x, t, shift=shift.float())[0][:, :3]
        P_t = (x - (1 - a).sqrt() * eps_P) / a.sqrt()
        x = (a_before.sqrt() * P_t + (1 - a_before).sqrt() * eps_D).float()
    return x.clamp(-1, 1)


@pytest.mark.parametrize("word", FILES)
@torch.no_grad()
def test_converted_imported_edited(word: str, tmp_path: Path) -> None:
    name, curves = FILES[word]
    s, file = network_for(ASYRP / name, tmp_path)
    w = random_weights(s)
    for name in ("out.2.weight", "out.2.bias"):  # or the random network, which predicts no noise, makes black and white
        w[name] *= 0.003
    torch.save(w, tmp_path / "ema.pt")
    convert = ["convert", tmp_path / "ema.pt", tmp_path / "model", "--domain-word", word, "--curves", curves]
    convert += ["--resolution", 16, "--head-channels", 32]
    assert main([str(argument) for argument in convert]) == 0
    preset_file = tmp_path / "direction.safetensors"
    imported = ["import-asyrp", file, preset_file, "--model", tmp_path / "model", "--name", "Theirs"]
    assert main([*map(str, imported), "--weights", "claimed"]) == 0

    model, preset = load_model(tmp_path / "model", device="cpu", dtype=torch.float32), load_preset(preset_file)
    assert (preset.fingerprint, preset.direction.steps) == (model.fingerprint, TRAINED)
    x_T = 0.003 * torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    settings = EditSettings(STEPS, Intervals(T_EDIT, 0))
    strengths = [0.0, 1.0, -2.0]
    strip = finish(edit(model, x_T.repeat(3, 1, 1, 1), [(preset.direction, strengths)], settings))
    state = torch.load(file, weights_only=True, map_location="cpu")["0"]
    by_hand = torch.cat([edited_by_hand(w, s, state, x_T, strength) for strength in strengths])
    assert (strip - by_hand).abs().max() < 2e-3
    change = (by_hand - by_hand[:1]).abs().mean((1, 2, 3))
    assert 0 == change[0] < change[1]
    assert change[1] > 0.05
